//! The times that log lines bear, in their usual forms. A time without a zone is read as UTC.

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use tidegate_core::Timestamp;

/// Earliest and latest time believed, in milliseconds: 1990 and 2100. What lies outside is a counter or a duration.
const BELIEVED_MS: std::ops::Range<i64> = 631_152_000_000..4_102_444_800_000;

/// From RFC 3339, or its kin with a space, a comma or no zone.
pub(super) fn from_text(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if !(8..=64).contains(&text.len()) {
        return None;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return believed(at.as_millis());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    believed(TimeZone::UTC.to_timestamp(civil).ok()?.as_millisecond())
}

/// From a number since the epoch: its size tells seconds, milli-, micro- and nanoseconds apart.
pub(super) fn from_epoch(number: f64) -> Option<Timestamp> {
    let millis = match number.abs() {
        size if size < 1e11 => number * 1e3,
        size if size < 1e14 => number,
        size if size < 1e17 => number / 1e3,
        _ => number / 1e6,
    };
    believed(Timestamp::from_secs_f64(millis / 1e3)?.as_millis())
}

/// From the form of access logs: `10/Oct/2000:13:55:36 -0700`.
pub(super) fn from_access(text: &str) -> Option<Timestamp> {
    let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?;
    believed(time.to_timestamp().ok()?.as_millisecond())
}

fn believed(millis: i64) -> Option<Timestamp> {
    BELIEVED_MS.contains(&millis).then(|| Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_mean_the_same_time() {
        let at = Timestamp::from_millis(1_769_846_400_250);
        for text in [
            "2026-01-31T08:00:00.250Z",
            "2026-01-31T09:00:00.25+01:00",
            "2026-01-31 08:00:00,250",
            "2026-01-31T08:00:00.250",
        ] {
            assert_eq!(from_text(text), Some(at), "{text}");
        }
        for number in [1_769_846_400.25, 1_769_846_400_250.0, 1_769_846_400_250_000.0, 1.769_846_400_25e18] {
            assert_eq!(from_epoch(number), Some(at), "{number}");
        }
    }

    #[test]
    fn what_is_no_time_of_these_days_is_none() {
        for text in ["", "yesterday", "12:00:00", "0001-01-01T00:00:00Z"] {
            assert_eq!(from_text(text), None, "{text}");
        }
        for number in [0.0, -5.0, 3.0, f64::NAN, f64::INFINITY] {
            assert_eq!(from_epoch(number), None, "{number}");
        }
    }
}
