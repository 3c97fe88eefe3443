//! The one place of this crate that reads a clock. Everything else is given a [`Moment`].

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::Timestamp;

/// One point in time, on both clocks: the wall's, which may jump, and the steady one, which rates are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall time, for samples.
    pub at: Timestamp,
    /// Steady time since some start of this process; never goes back.
    pub steady: Duration,
}

impl Moment {
    /// Steady seconds since `earlier`; `None` unless more than zero, so that it may be divided by.
    #[must_use]
    pub fn seconds_since(&self, earlier: &Self) -> Option<f64> {
        let seconds = self.steady.checked_sub(earlier.steady)?.as_secs_f64();
        (seconds > 0.0).then_some(seconds)
    }
}

/// Reads both clocks.
#[must_use]
pub fn now() -> Moment {
    Moment { at: wall(), steady: steady() }
}

/// The wall clock, in whole milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The steady clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn steady() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_taken_over_no_time() {
        let earlier = now();
        assert_eq!(earlier.seconds_since(&earlier), None);
        let later = Moment { steady: earlier.steady + Duration::from_secs(2), ..earlier };
        assert_eq!(later.seconds_since(&earlier), Some(2.0));
        assert_eq!(earlier.seconds_since(&later), None);
    }
}
