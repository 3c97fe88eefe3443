//! The tiers: how finely and for how long samples are kept. Not what a bucket holds.

use std::time::Duration;

/// One resolution at which everything is kept, for a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Seconds, kept for an hour: what a page shows live.
    Second,
    /// Ten seconds, kept for six hours.
    TenSeconds,
    /// Minutes, kept for 35 days: what the models learn from.
    Minute,
    /// Five minutes, kept for 180 days.
    FiveMinutes,
}

impl Tier {
    /// Every tier, finest first.
    pub const ALL: [Self; 4] = [Self::Second, Self::TenSeconds, Self::Minute, Self::FiveMinutes];

    /// Length of its buckets.
    #[must_use]
    pub const fn resolution(self) -> Duration {
        Duration::from_secs(self.seconds().unsigned_abs())
    }

    /// How long its buckets are kept.
    #[must_use]
    pub const fn retention(self) -> Duration {
        const HOUR: u64 = 3600;
        Duration::from_secs(match self {
            Self::Second => HOUR,
            Self::TenSeconds => 6 * HOUR,
            Self::Minute => 35 * 24 * HOUR,
            Self::FiveMinutes => 180 * 24 * HOUR,
        })
    }

    /// Seconds in a bucket.
    pub(crate) const fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::TenSeconds => 10,
            Self::Minute => 60,
            Self::FiveMinutes => 300,
        }
    }

    /// Seconds in a chunk, a whole number of buckets of every coarser tier. About a thousand buckets carry a column's fixed cost, and are few
    /// enough to be rewritten when a checkpoint adds to the newest chunk.
    pub(crate) const fn chunk_seconds(self) -> i64 {
        match self {
            Self::Second => 900,
            Self::TenSeconds => 7200,
            Self::Minute => 86_400,
            Self::FiveMinutes => 432_000,
        }
    }

    /// Its place in [`Tier::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Its number in keys on disk.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// The start of the bucket that holds a time in milliseconds, in seconds.
    pub(crate) const fn bucket_start(self, at_millis: i64) -> i64 {
        at_millis.div_euclid(self.seconds() * 1000) * self.seconds()
    }

    /// The start of the chunk that holds a bucket.
    pub(crate) const fn chunk_start(self, bucket_start: i64) -> i64 {
        bucket_start.div_euclid(self.chunk_seconds()) * self.chunk_seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_divides_the_next_and_its_chunks_hold_whole_buckets_of_it() {
        for pair in Tier::ALL.windows(2) {
            assert_eq!(pair[1].seconds() % pair[0].seconds(), 0);
            assert_eq!(pair[0].chunk_seconds() % pair[1].seconds(), 0);
            assert!(pair[0].retention() < pair[1].retention());
        }
    }

    #[test]
    fn a_time_before_the_epoch_falls_into_the_bucket_that_holds_it() {
        assert_eq!(Tier::TenSeconds.bucket_start(-1), -10);
        assert_eq!(Tier::Minute.bucket_start(59_999), 0);
    }
}
