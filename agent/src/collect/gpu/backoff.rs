//! When to try again: at once, then after ever longer waits up to a bound. No clock.

use std::time::Duration;

/// Waits between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// After the first failure.
    pub first: Duration,
    /// No wait is longer; each is twice the one before it.
    pub most: Duration,
}

/// The state of trying.
#[derive(Debug)]
pub(super) struct Backoff {
    waits: Waits,
    /// The wait in force, and when it ends on the steady clock.
    waiting: Option<(Duration, Duration)>,
}

impl Backoff {
    pub(super) const fn new(waits: Waits) -> Self {
        Self { waits, waiting: None }
    }

    /// Whether it may be tried now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.waiting.is_none_or(|(_, until)| now >= until)
    }

    /// Whether a wait is in force, over or not.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// A try has failed, or a new one begins from which a wait counts.
    pub(super) fn wait(&mut self, now: Duration) {
        let wait =
            self.waiting.map_or(self.waits.first, |(wait, _)| wait.saturating_mul(2)).min(self.waits.most);
        self.waiting = Some((wait, now.saturating_add(wait)));
    }

    /// All is well again.
    pub(super) const fn clear(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_begin_anew_after_success() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(Waits { first: seconds(1), most: seconds(5) });
        assert!(backoff.is_due(seconds(0)) && !backoff.is_waiting());
        for (now, wait) in [(0, 1), (1, 2), (3, 4), (7, 5), (12, 5)] {
            assert!(backoff.is_due(seconds(now)));
            backoff.wait(seconds(now));
            assert!(!backoff.is_due(seconds(now + wait - 1)), "after {now}");
            assert!(backoff.is_due(seconds(now + wait)), "after {now}");
        }
        backoff.clear();
        backoff.wait(seconds(20));
        assert!(backoff.is_due(seconds(21)));
    }
}
