//! The only place of the binary that reads the clock.

use tidegate_core::Timestamp;

/// The present time.
pub(crate) fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// A point in time to measure from; says nothing of the date.
pub(crate) fn monotonic() -> std::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    let now = std::time::Instant::now();
    now
}
