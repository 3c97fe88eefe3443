//! The one place of this crate that reads the wall clock. Durations are taken from the runtime's steady clock.

/// The wall clock as RFC 3339 in UTC with milliseconds, for log lines.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn timestamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_timestamp_has_milliseconds_and_says_utc() {
        let text = super::timestamp();
        assert_eq!(text.len(), "2026-01-02T03:04:05.678Z".len(), "{text}");
        assert!(text.ends_with('Z'));
    }
}
