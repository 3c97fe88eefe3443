//! The size that a target had before its policy set another, for whoever wants it back. It is written down before it is needed: a
//! leader that ended between the first size and the record of the one before would leave its successor to take the new for the old.

use std::time::Duration;

use tidegate_core::{Mode, Timestamp};

/// A size that is wanted waits for the record for at most so long; then the load counts more.
const STORED_WITHIN: Duration = Duration::from_secs(10);

/// What is remembered of it from round to round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SizeBefore {
    size: Option<u32>,
    /// Whether the policy's status lacks it, and this controller may write another size.
    is_lacking: bool,
    /// Since when another size waits for that.
    held_since: Option<Timestamp>,
}

/// One look at a policy and its target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) mode: Mode,
    /// What the policy's status says.
    pub(super) stored: Option<u32>,
    /// The target's size, where the policy sets it.
    pub(super) set: Option<u32>,
    /// Whether this controller writes.
    pub(super) leads: bool,
}

impl SizeBefore {
    /// After a look. What is stored counts, whoever stored it; a pause and another way to act change nothing of it.
    #[must_use]
    pub(super) fn seen(self, look: &Look) -> Self {
        if look.mode == Mode::Shadow {
            return Self::default();
        }
        let size = look.stored.or(self.size).or(look.set);
        let is_lacking = look.leads && size.is_some() && look.stored.is_none();
        Self { size, is_lacking, held_since: self.held_since.filter(|_| is_lacking) }
    }

    /// For the policy's status.
    pub(super) const fn size(self) -> Option<u32> {
        self.size
    }

    /// Whether a size that is to be set now has to wait.
    pub(super) fn holds_back(&mut self, now: Timestamp) -> bool {
        self.is_lacking && now.since(*self.held_since.get_or_insert(now)) < STORED_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1000 + second)
    }

    fn look(stored: Option<u32>, set: Option<u32>) -> Look {
        Look { mode: Mode::Active, stored, set, leads: true }
    }

    #[test]
    fn no_size_is_set_until_the_one_before_is_stored() {
        let mut first = SizeBefore::default().seen(&look(None, Some(2)));
        assert_eq!((first.size(), first.holds_back(at(0))), (Some(2), true));
        let mut stored = first.seen(&look(Some(2), Some(2)));
        assert!(!stored.holds_back(at(1)));
        let mut resized = stored.seen(&look(Some(2), Some(9)));
        assert_eq!((resized.size(), resized.holds_back(at(2))), (Some(2), false));
    }

    #[test]
    fn a_status_that_cannot_be_written_holds_up_no_load_for_long() {
        let mut before = SizeBefore::default();
        // For half a minute no other size is wanted: its time begins when one is.
        for _ in 0..30 {
            before = before.seen(&look(None, Some(2)));
        }
        let set: Vec<_> = (30..42)
            .filter(|second| {
                before = before.seen(&look(None, Some(2)));
                !before.holds_back(at(*second))
            })
            .collect();
        assert_eq!(set, [40, 41]);
        assert_eq!(before.seen(&look(None, Some(9))).size(), Some(2), "it is remembered all the same");
    }

    #[test]
    fn another_leader_believes_what_is_stored() {
        let mut fresh = SizeBefore::default().seen(&look(Some(2), Some(9)));
        assert_eq!((fresh.size(), fresh.holds_back(at(0))), (Some(2), false));
        // One that watched while another wrote, and saw the new size sooner than the record.
        let watching = Look { leads: false, ..look(None, Some(9)) };
        let mut late = SizeBefore::default().seen(&watching);
        assert!(!late.holds_back(at(0)), "it does not write");
        assert_eq!(late.seen(&look(Some(2), Some(9))).size(), Some(2));
        // And where nothing is stored it has as long as any other.
        assert!(late.seen(&look(None, Some(9))).holds_back(at(60)));
    }

    #[test]
    fn a_pause_and_another_way_keep_it_and_shadow_forgets_it() {
        let kept = SizeBefore::default().seen(&look(Some(2), None));
        assert_eq!(kept.size(), Some(2));
        let shadow = kept.seen(&Look { mode: Mode::Shadow, ..look(Some(2), None) });
        assert_eq!(shadow, SizeBefore::default());
        assert_eq!(shadow.seen(&look(None, Some(5))).size(), Some(5), "a new beginning");
    }

    #[test]
    fn a_target_without_a_size_has_none_to_come_back_to() {
        let mut none = SizeBefore::default().seen(&look(None, None));
        assert_eq!((none.size(), none.holds_back(at(0))), (None, false));
    }
}
