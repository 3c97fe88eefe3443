//! Points in time and lengths of time, as plain values. Not a clock: `now` is always an argument.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in whole milliseconds since the Unix epoch (UTC). Written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch; before it when negative.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// From fractional seconds since the Unix epoch; `None` when not finite or out of range.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        let millis = (secs * 1000.0).round();
        #[expect(clippy::cast_possible_truncation, reason = "range checked in the same expression")]
        (millis.is_finite() && millis.abs() < 9.0e15).then_some(Self(millis as i64))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit in 53 bits")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The start of the step that holds this time; steps are counted from the epoch. A zero step leaves it as it is.
    #[must_use]
    pub fn floor_to(self, step: Duration) -> Self {
        let step = millis_of(step);
        if step == 0 { self } else { Self(self.0 - self.0.rem_euclid(step)) }
    }

    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This time moved back by `span`, saturating.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(span)))
    }
}

fn millis_of(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(span)))
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// A text is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as 2026-01-31T08:00:00Z, got {0:?}")]
pub struct ParseTimestampError(String);

impl FromStr for Timestamp {
    type Err = ParseTimestampError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError(text.to_owned()))?;
        Ok(Self(time.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A length of time as people write it in a configuration: `250ms`, `30s`, `5m`, `1h30m`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// From a whole number of seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// As a standard duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(span: Duration) -> Self {
        Self(span)
    }
}

/// A text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a length of time such as 250ms, 30s, 5m or 1h30m, got {0:?}")]
pub struct ParseSpanError(String);

/// Units that a [`Span`] may be written in, with their length in milliseconds; longest first for printing.
const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = ParseSpanError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSpanError(text.to_owned());
        let mut rest = text;
        let mut millis = 0u64;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit = &rest[..letters];
            let (_, size) = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            millis = number.checked_mul(*size).and_then(|part| millis.checked_add(part)).ok_or_else(wrong)?;
            rest = &rest[letters..];
            parts += 1;
        }
        if parts == 0 { Err(wrong()) } else { Ok(Self(Duration::from_millis(millis))) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, size) in SPAN_UNITS {
            if left >= size {
                write!(f, "{}{name}", left / size)?;
                left %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Bounded, so that whatever fits the pattern can also be read.
        schemars::json_schema!({ "type": "string", "maxLength": 32, "pattern": "^([0-9]{1,9}(ms|s|m|h|d))+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timestamp_reads_what_it_writes() {
        let at = Timestamp::from_millis(1_627_862_405_250);
        assert_eq!(at.to_string(), "2021-08-02T00:00:05.250Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert_eq!(Timestamp::from_secs_f64(f64::NAN), None);
    }

    #[test]
    fn floors_before_the_epoch_too() {
        let step = Duration::from_secs(60);
        assert_eq!(Timestamp::from_secs(119).floor_to(step), Timestamp::from_secs(60));
        assert_eq!(Timestamp::from_secs(-1).floor_to(step), Timestamp::from_secs(-60));
    }

    #[test]
    fn a_span_refuses_what_has_no_unit() {
        for wrong in ["", "30", "s", "1.5s", "-1s", "5 m", "3w", "99999999999999999999s"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong:?} was accepted");
        }
        assert_eq!("1h30m".parse::<Span>().unwrap().get(), Duration::from_secs(5400));
    }

    proptest! {
        #[test]
        fn a_span_of_the_schemas_form_can_be_read(text in "([0-9]{1,9}(ms|s|m|h|d)){1,16}") {
            prop_assume!(text.len() <= 32);
            prop_assert!(text.parse::<Span>().is_ok());
        }

        #[test]
        fn a_span_reads_what_it_writes(millis in 0u64..1_000_000_000_000) {
            let span = Span::from(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }
}
