//! Time within a simulation: whole microseconds since its start, so that events have one order and runs repeat exactly.

use std::time::Duration;

/// Microseconds since the start of the simulation.
pub(crate) type Micros = u64;

/// Microseconds of a second.
pub(crate) const SECOND: Micros = 1_000_000;

/// A length of time; saturating.
pub(crate) fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}

/// A length of time from seconds; nothing for what is negative or NaN, saturating.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub(crate) fn micros_of(seconds: f64) -> Micros {
    (seconds * 1e6 + 0.5) as Micros
}

/// As seconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a century fit in 53 bits")]
pub(crate) fn seconds(span: Micros) -> f64 {
    span as f64 / 1e6
}
