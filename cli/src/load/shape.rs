//! The shape of a load, as commands and the demo give it.

use std::path::Path;
use std::time::Duration;

use tidegate_digits::pattern::{Arrivals, DailyPattern, Pattern, TracePattern};

use crate::trace::{self, Unit};

/// Share of a trace's values that a demand is scaled by: its highest one may be a single flood.
const PEAK_QUANTILE: f64 = 0.99;

/// Requests per second over time.
#[derive(Debug, Clone)]
pub(crate) struct Shape(Pattern);

impl Shape {
    /// Always the same.
    pub(crate) const fn steady(rate_rps: f64) -> Self {
        Self(Pattern::Steady(rate_rps))
    }

    /// The daily pattern, with its usual noise and burst.
    ///
    /// # Panics
    /// When the rates are not finite and positive with the peak at or above the base, or a day is shorter than a second.
    pub(crate) fn daily(base_rps: f64, peak_rps: f64, day: Duration, seed: u64) -> Self {
        Self(Pattern::Daily(
            DailyPattern::new(base_rps, peak_rps, day, seed).expect("the caller's rates are checked"),
        ))
    }

    /// A trace with its own rates.
    ///
    /// # Errors
    /// When the file is not a trace.
    pub(crate) fn recorded(file: &Path, unit: Unit, speed: f64) -> anyhow::Result<Self> {
        let points = points(file, unit)?;
        Ok(Self(Pattern::Trace(TracePattern::new(&points, speed, 1.0)?)))
    }

    /// A trace, scaled so that all but the highest hundredth of its values lie below `peak_rps`.
    ///
    /// # Errors
    /// When the file is not a trace, or nearly all of its values are 0.
    pub(crate) fn trace(file: &Path, unit: Unit, speed: f64, peak_rps: f64) -> anyhow::Result<Self> {
        let points = points(file, unit)?;
        let high = high(&points);
        anyhow::ensure!(
            high > 0.0,
            "{}: nearly all values are 0, so there is no load to send",
            file.display()
        );
        Ok(Self(Pattern::Trace(TracePattern::new(&points, speed, peak_rps / high)?)))
    }

    /// Time after which it repeats, chance aside.
    pub(crate) fn period(&self) -> Option<Duration> {
        self.0.period_s().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Arrivals in each second of the `span` before `begins`, as if they had been counted. Empty for a span of more than two weeks.
    pub(crate) fn counts_before(&self, begins: Duration, span: Duration, seed: u64) -> Vec<u32> {
        let end = begins.as_secs_f64();
        // Other chance than that of the arrivals that follow.
        let counts = self.0.counts(!seed, end - span.as_secs_f64()..end, 1.0).unwrap_or_default();
        counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX)).collect()
    }

    pub(super) fn arrivals(self, seed: u64, begins: Duration) -> Arrivals {
        Arrivals::new(self.0, seed, begins.as_secs_f64())
    }
}

fn points(file: &Path, unit: Unit) -> Result<Vec<(f64, f64)>, trace::TraceError> {
    let points = trace::read(file, unit)?;
    Ok(points.iter().map(|point| (point.timestamp_s, point.value)).collect())
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list of bounded length"
)]
fn high(points: &[(f64, f64)]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * PEAK_QUANTILE) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn a_flood_does_not_make_the_rest_of_a_trace_small() {
        let mut text = "timestamp_s,value\n".to_owned();
        for minute in 0..200 {
            let value = if minute == 100 { 90_000 } else { minute % 50 };
            writeln!(text, "{},{value}", minute * 60).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("trace.csv");
        std::fs::write(&file, text).unwrap();
        let shape = Shape::trace(&file, Unit::PerMinute, 60.0, 98.0).unwrap();
        assert_eq!(shape.0.rate_at(49.0), 98.0);
        assert_eq!(shape.period(), Some(Duration::from_secs(200)));
        assert_eq!(shape.counts_before(Duration::from_secs(400), Duration::from_secs(300), 1).len(), 300);
    }
}
