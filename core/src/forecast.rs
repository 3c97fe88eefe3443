//! A forecast: distributions of future values per step, and of their maximum over a window from now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::signals::Signal;
use crate::time::Timestamp;

/// Quantile levels of the grids: dense above, because a decision looks there.
pub const LEVELS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.8, 0.9, 0.95, 0.975, 0.98, 0.99, 0.995, 0.999];

/// A distribution as its quantiles at [`LEVELS`], rising. Kept to seven digits: a forecast of two hours has hundreds of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles([f32; LEVELS.len()]);

impl Quantiles {
    /// From values at [`LEVELS`]. They are sorted, and negative ones raised to zero: a demand is never negative.
    /// `None` when one is no number, or too large for one.
    #[must_use]
    pub fn new(values: [f64; LEVELS.len()]) -> Option<Self> {
        // Also what is too large becomes no number.
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are more than is known")]
        let mut values =
            values.map(|value| if value > 0.0 || !value.is_finite() { value as f32 } else { 0.0 });
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f32::total_cmp);
        Some(Self(values))
    }

    /// The values at [`LEVELS`].
    #[must_use]
    pub fn values(&self) -> [f64; LEVELS.len()] {
        self.0.map(f64::from)
    }

    /// The `p` quantile: linear between levels, level below the first, and above the last along the exponential tail
    /// that the last two levels span. `p` is clamped to 0..=0.9999; NaN reads as the median.
    #[must_use]
    pub fn quantile(&self, p: f64) -> f64 {
        let p = if p.is_nan() { 0.5 } else { p.clamp(0.0, 0.9999) };
        let last = LEVELS.len() - 1;
        let value = |at: usize| f64::from(self.0[at]);
        if p > LEVELS[last] {
            let scale =
                (value(last) - value(last - 1)) / ((1.0 - LEVELS[last - 1]) / (1.0 - LEVELS[last])).ln();
            return value(last) + scale * ((1.0 - LEVELS[last]) / (1.0 - p)).ln();
        }
        let above = LEVELS.partition_point(|level| *level < p);
        if above == 0 {
            return value(0);
        }
        let (from, to) = (LEVELS[above - 1], LEVELS[above]);
        let share = (p - from) / (to - from);
        value(above - 1) + share * (value(above) - value(above - 1))
    }
}

/// How well the model in use did lately, judged at origins that it had not seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean pinball loss over the levels 0.5, 0.9, 0.95 and 0.99, in the signal's unit.
    pub pinball: f64,
    /// That loss against the loss of the last value with residual quantiles; below 1 is better.
    pub pinball_ratio: f64,
    /// Share of values at or below the forecast 0.95 quantile.
    pub coverage95: f64,
    /// Forecasts judged.
    pub origins: u32,
}

/// A row of the league table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Name of the model.
    pub model: String,
    /// Its score; `None`: it had no opinion.
    pub score: Option<Score>,
    /// Whether its forecasts are the ones in use.
    pub in_use: bool,
}

/// Distributions of the future of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// What is forecast.
    pub signal: Signal,
    /// When it was made; nothing later was used.
    pub issued_at: Timestamp,
    /// Start of the first step.
    pub start: Timestamp,
    /// Length of a step; entry `k` covers `[start + k·step, +step)`.
    pub step: Duration,
    /// Name of the model that made it.
    pub model: String,
    /// The value of each step.
    pub steps: Vec<Quantiles>,
    /// The largest value of steps `0..=k`.
    pub window_max: Vec<Quantiles>,
    /// How far it can be trusted; `None` while nothing could be judged.
    pub score: Option<Score>,
}

impl Forecast {
    /// The `p` quantile of the largest value from `now` to `now + window`; beyond the last step, that of all steps.
    /// `None` when it covers nothing after `now`.
    #[must_use]
    pub fn max_quantile(&self, now: Timestamp, window: Duration, p: f64) -> Option<f64> {
        let step = self.step.as_secs_f64();
        if step <= 0.0 || now >= self.end() {
            return None;
        }
        let until = (now + window).since(self.start).as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "non-negative and saturating"
        )]
        let steps = ((until / step).ceil() as usize).clamp(1, self.window_max.len().max(1));
        self.window_max.get(steps - 1).map(|q| q.quantile(p))
    }

    /// End of the last step.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.start + self.step.saturating_mul(u32::try_from(self.steps.len()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp(scale: f64) -> Quantiles {
        Quantiles::new(LEVELS.map(|level| level * scale)).unwrap()
    }

    fn forecast() -> Forecast {
        Forecast {
            signal: Signal::RequestsPerSecond,
            issued_at: Timestamp::from_secs(600),
            start: Timestamp::from_secs(600),
            step: Duration::from_secs(60),
            model: "test".into(),
            steps: vec![ramp(1.0), ramp(5.0), ramp(3.0)],
            window_max: vec![ramp(1.0), ramp(5.0), ramp(6.0)],
            score: None,
        }
    }

    #[test]
    fn a_window_reads_the_maximum_up_to_its_last_step() {
        let (now, at) = (Timestamp::from_secs(600), |s| Duration::from_secs(s));
        let f = forecast();
        assert_eq!(f.max_quantile(now, at(0), 0.5), Some(0.5));
        assert_eq!(f.max_quantile(now, at(60), 0.5), Some(0.5));
        assert_eq!(f.max_quantile(now, at(61), 0.5), Some(2.5));
        assert_eq!(f.max_quantile(now, at(9999), 0.5), Some(3.0));
        assert_eq!(f.max_quantile(Timestamp::from_secs(780), at(60), 0.5), None);
    }

    #[test]
    fn refuses_what_is_not_finite_and_mends_the_rest() {
        let mut values = [1.0; LEVELS.len()];
        values[0] = f64::NAN;
        assert_eq!(Quantiles::new(values), None);
        values[0] = -3.0;
        assert_eq!(Quantiles::new(values).unwrap().values()[0], 0.0);
    }

    proptest! {
        #[test]
        fn a_quantile_never_falls_as_its_level_rises(values in prop::array::uniform13(-10.0f64..100.0), a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let q = Quantiles::new(values).unwrap();
            prop_assert!(q.quantile(a.min(b)) <= q.quantile(a.max(b)) + 1e-9);
        }
    }
}
