//! Units of the signals, and numbers that carry their range in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The unit of a signal or metric. Base units only: seconds, bytes, ratios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// A plain count.
    #[serde(rename = "1")]
    One,
    /// A share from 0 to 1.
    #[serde(rename = "ratio")]
    Ratio,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Hours.
    #[serde(rename = "h")]
    Hours,
    /// Bytes.
    #[serde(rename = "B")]
    Bytes,
    /// Requests per second.
    #[serde(rename = "req/s")]
    RequestsPerSecond,
    /// Tokens per second.
    #[serde(rename = "tok/s")]
    TokensPerSecond,
    /// Events per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Bytes per second.
    #[serde(rename = "B/s")]
    BytesPerSecond,
    /// CPU cores in use.
    #[serde(rename = "cores")]
    Cores,
    /// Watts.
    #[serde(rename = "W")]
    Watts,
    /// Joules.
    #[serde(rename = "J")]
    Joules,
    /// Degrees Celsius.
    #[serde(rename = "°C")]
    Celsius,
    /// Hertz.
    #[serde(rename = "Hz")]
    Hertz,
}

impl Unit {
    /// The short form shown beside a value.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Ratio => "ratio",
            Self::Seconds => "s",
            Self::Hours => "h",
            Self::Bytes => "B",
            Self::RequestsPerSecond => "req/s",
            Self::TokensPerSecond => "tok/s",
            Self::PerSecond => "1/s",
            Self::BytesPerSecond => "B/s",
            Self::Cores => "cores",
            Self::Watts => "W",
            Self::Joules => "J",
            Self::Celsius => "°C",
            Self::Hertz => "Hz",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// A share from 0 to 1, finite: checked on construction and on reading.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

/// A number is not a share.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("expected a number from 0 to 1, got {0}")]
pub struct RatioError(f64);

impl Ratio {
    /// Checks that `value` is finite and within 0 to 1.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(value: f64) -> Result<Self, RatioError> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(RatioError(value)) }
    }

    /// The number, from 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Ratio {
    type Error = RatioError;
    fn try_from(value: f64) -> Result<Self, Self::Error> {
        Self::new(value)
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

impl schemars::JsonSchema for Ratio {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ratio".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// The smallest whole number of replicas that is at least `value`; 0 for negative or NaN, [`u32::MAX`] when beyond.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub fn replicas_ceil(value: f64) -> u32 {
    // A value that is whole but for rounding noise must not cost one replica more.
    (value - 1e-9).ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_refuses_what_is_not_a_share() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Ratio::new(wrong).is_err());
        }
        assert_eq!(Ratio::new(0.99).unwrap().get(), 0.99);
    }

    #[test]
    fn replicas_round_up_but_not_for_noise() {
        assert_eq!(replicas_ceil(2.000_000_000_1), 2);
        assert_eq!(replicas_ceil(2.01), 3);
        assert_eq!(replicas_ceil(-1.0), 0);
        assert_eq!(replicas_ceil(f64::NAN), 0);
        assert_eq!(replicas_ceil(f64::INFINITY), u32::MAX);
    }
}
