//! The one place of this crate that reads a clock. Logic is given the time as an argument.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::Timestamp;

/// The wall clock, in whole milliseconds. May jump: for showing and storing, never for measuring.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Steady time since some moment of this process; never goes back.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn steady() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    // One hour ahead of zero, so that "so long ago" can be subtracted from any reading.
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(3600)
}

/// Wall time that advances steadily from the moment it was made: for deadlines that are stored as wall time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchored {
    wall: Timestamp,
    steady: Duration,
}

impl Anchored {
    /// Anchored now.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { wall: wall(), steady: steady() }
    }

    /// The anchor plus the steady time since.
    #[must_use]
    pub(crate) fn now(self) -> Timestamp {
        self.wall + steady().saturating_sub(self.steady)
    }
}
