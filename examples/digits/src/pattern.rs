//! How many requests arrive when: a steady rate, a made-up day, or a recorded trace. Pure and seeded: a rate is a function of time.
//!
//! Times are seconds since the start of the load; negative ones lie before it, for a history of the same pattern.

mod arrivals;
mod daily;
mod trace;

use std::ops::Range;

use rand::RngExt;
use rand_distr::Poisson;

use crate::seeds;

pub use self::arrivals::{Arrivals, Next};
pub use self::daily::DailyPattern;
pub use self::trace::TracePattern;

/// Rates within a step that its mean is taken of: enough for a burst's flank at the steps in use.
const SAMPLES_PER_STEP: u32 = 8;
/// Most steps of one history: two weeks of seconds.
const STEPS_MAX: f64 = 1_209_600.0;

/// Requests per second as a function of time.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// The same rate at all times, in requests per second.
    Steady(f64),
    /// A made-up day, over and over.
    Daily(DailyPattern),
    /// A recorded trace, over and over.
    Trace(TracePattern),
}

/// A pattern's parameters are out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct PatternError(pub(crate) &'static str);

impl Pattern {
    /// Expected requests per second at `t` seconds; finite and never negative.
    #[must_use]
    pub fn rate_at(&self, t: f64) -> f64 {
        let rate = match self {
            Self::Steady(rate) => *rate,
            Self::Daily(day) => day.rate_at(t),
            Self::Trace(trace) => trace.rate_at(t),
        };
        if rate.is_finite() { rate.max(0.0) } else { 0.0 }
    }

    /// Seconds after which the pattern repeats, noise and bursts aside; `None` for a steady rate.
    #[must_use]
    pub fn period_s(&self) -> Option<f64> {
        match self {
            Self::Steady(_) => None,
            Self::Daily(day) => Some(day.day.as_secs_f64()),
            Self::Trace(trace) => Some(trace.length_s()),
        }
    }

    /// Arrivals in each `step_s` seconds of `span`, as if they had been counted: Poisson around the pattern. The same seed and step give
    /// the same count, whichever span it is part of. A last part shorter than a step is left out.
    ///
    /// # Errors
    /// When the step is not a positive number of seconds, or the span is not finite or has more than two weeks of seconds in steps.
    pub fn counts(&self, seed: u64, span: Range<f64>, step_s: f64) -> Result<Vec<u64>, PatternError> {
        let steps = (span.end - span.start) / step_s;
        if !(step_s > 0.0 && steps.is_finite() && steps <= STEPS_MAX) {
            return Err(PatternError("a finite span and a positive step, at most 1,209,600 steps"));
        }
        // A step's end may miss the span's by rounding alone.
        let steps = whole(steps + 1e-9);
        Ok((0..steps).map(|step| self.count(seed, step_start(span.start, step, step_s), step_s)).collect())
    }

    fn count(&self, seed: u64, from: f64, step_s: f64) -> u64 {
        let samples = f64::from(SAMPLES_PER_STEP);
        let offsets = (0..SAMPLES_PER_STEP).map(|k| (f64::from(k) + 0.5) / samples);
        let mean: f64 = offsets.map(|offset| self.rate_at(from + offset * step_s)).sum::<f64>() / samples;
        // Milliseconds name the place: the same for a step however it was reached.
        let place = ((from * 1000.0).round()).to_bits();
        let mut rng = seeds::stream(seeds::mix(seed, place));
        // No expectation, no arrivals; the distribution has no such case.
        Poisson::new(mean * step_s).map_or(0, |arrivals| whole(rng.sample(arrivals)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
fn step_start(start: f64, step: u64, step_s: f64) -> f64 {
    start + step as f64 * step_s
}

/// The whole part of a number; 0 for what is negative or not a number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and NaN gives 0"
)]
const fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_follow_the_rate_and_agree_wherever_a_step_is_asked_for() {
        let day = DailyPattern::new(10.0, 80.0, Duration::from_secs(600), 3).unwrap();
        let pattern = Pattern::Daily(day);
        let counts = pattern.counts(3, -1200.0..0.0, 5.0).unwrap();
        assert_eq!(counts.len(), 240);
        let expected: f64 = (0..12_000).map(|k| pattern.rate_at(-1200.0 + f64::from(k) / 10.0) / 10.0).sum();
        let counted = counts.iter().map(|count| f64::from(u32::try_from(*count).unwrap())).sum::<f64>();
        // Six standard deviations of a Poisson count, and a little for the integration.
        assert!(
            (counted - expected).abs() < 6.0 * expected.sqrt() + 0.01 * expected,
            "{counted}, {expected}"
        );
        assert_eq!(counts[100..110], pattern.counts(3, -700.0..-650.0, 5.0).unwrap());
        assert_ne!(counts, pattern.counts(4, -1200.0..0.0, 5.0).unwrap());
    }

    #[test]
    fn no_rate_gives_no_arrivals_and_no_step_is_refused() {
        assert_eq!(Pattern::Steady(0.0).counts(1, 0.0..3.0, 1.0).unwrap(), [0, 0, 0]);
        assert_eq!(Pattern::Steady(f64::NAN).rate_at(0.0), 0.0);
        assert!(Pattern::Steady(1.0).counts(1, 0.0..3.0, 0.0).is_err());
        assert!(Pattern::Steady(1.0).counts(1, 0.0..1e12, 1.0).is_err());
        assert!(Pattern::Steady(1.0).counts(1, 0.0..f64::NAN, 1.0).is_err());
    }
}
