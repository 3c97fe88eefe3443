//! How many requests arrived in each second, for replaying them. Not a time series: it lives in memory, for a day.

use std::collections::VecDeque;

use tidegate_core::Timestamp;

/// Seconds of arrivals kept: a day, 340 KB at most.
const ARRIVAL_SECONDS: usize = 86_400;

/// Arrivals per second, for replaying them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrivals {
    /// Start of the first second.
    pub start: Timestamp,
    /// Arrivals in it and in each after it; 0 is a true zero.
    pub counts: Vec<u32>,
}

/// Arrivals per second, the latest last; bounded.
#[derive(Debug)]
pub(super) struct Seconds {
    /// Second since the epoch of the first count.
    first: i64,
    counts: VecDeque<u32>,
    kept: usize,
}

impl Seconds {
    /// Empty, from this second on.
    pub(super) fn since_now(now: Timestamp) -> Self {
        Self::new(now, ARRIVAL_SECONDS)
    }

    fn new(now: Timestamp, kept: usize) -> Self {
        Self { first: second_of(now), counts: VecDeque::from([0]), kept }
    }

    pub(super) fn count(&mut self, now: Timestamp) {
        self.advance(now);
        if let Some(last) = self.counts.back_mut() {
            *last = last.saturating_add(1);
        }
    }

    /// Adds empty seconds up to now. A clock that goes back counts into the last second that there was.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let last = self.first + i64::try_from(self.counts.len()).unwrap_or(i64::MAX) - 1;
        let missing = usize::try_from(second_of(now) - last).unwrap_or(0);
        if missing > self.kept {
            *self = Self::new(now, self.kept);
            return;
        }
        self.counts.extend(std::iter::repeat_n(0, missing));
        while self.counts.len() > self.kept {
            self.counts.pop_front();
            self.first += 1;
        }
    }

    pub(super) fn since(&self, from: Timestamp) -> Arrivals {
        let skip = usize::try_from(second_of(from) - self.first).unwrap_or(0);
        let whole = self.counts.len().saturating_sub(1);
        let counts: Vec<u32> = self.counts.iter().take(whole).skip(skip).copied().collect();
        let skipped = i64::try_from(whole.min(skip)).unwrap_or(i64::MAX);
        Arrivals { start: Timestamp::from_secs(self.first + skipped), counts }
    }
}

const fn second_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000 + 400)
    }

    #[test]
    fn seconds_without_arrivals_are_true_zeros_and_the_running_one_is_left_out() {
        let mut seconds = Seconds::new(at(10), 100);
        seconds.count(at(10));
        seconds.count(at(10));
        seconds.count(at(13));
        seconds.count(at(14));
        let all = Arrivals { start: Timestamp::from_secs(10), counts: vec![2, 0, 0, 1] };
        assert_eq!(seconds.since(at(0)), all);
        assert_eq!(seconds.since(at(13)).counts, [1]);
        assert!(seconds.since(at(99)).counts.is_empty());
    }

    #[test]
    fn a_clock_that_jumps_changes_no_other_second() {
        let mut seconds = Seconds::new(at(10), 5);
        seconds.count(at(12));
        seconds.count(at(3));
        assert_eq!(seconds.counts, [0, 0, 2]);
        seconds.advance(at(16));
        assert_eq!((seconds.first, seconds.counts.len()), (12, 5));
        seconds.count(at(1_000_000));
        assert_eq!((seconds.first, seconds.counts.len()), (1_000_000, 1));
    }
}
