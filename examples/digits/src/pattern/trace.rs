//! A recorded trace as a pattern: its time runs faster, its rates stay as they were, or are scaled.

use super::PatternError;

/// The pattern. Time 0 is the trace's first value; after its last, and before its first, it repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct TracePattern {
    /// Seconds since the first value, and requests per second from there to the next; rising.
    points: Vec<(f64, f64)>,
    /// Seconds of the trace, the last value's time included.
    recorded_s: f64,
    speed: f64,
}

impl TracePattern {
    /// From points of rising time in seconds and requests per second, `speed` times as fast as recorded, with the rates times `scale`. A
    /// value holds until the next one; the last holds for as long as most do.
    ///
    /// # Errors
    /// With fewer than two points, times that do not rise, values that are negative or not finite, or a speed or scale that is not positive.
    pub fn new(points: &[(f64, f64)], speed: f64, scale: f64) -> Result<Self, PatternError> {
        let &[(first, _), .., (last, _)] = points else {
            return Err(PatternError("a trace of two values or more"));
        };
        if points.iter().any(|(t, value)| !(t.is_finite() && value.is_finite() && *value >= 0.0)) {
            return Err(PatternError("values that are finite and not negative"));
        }
        if !points.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(PatternError("times that rise"));
        }
        if !(speed.is_finite() && speed > 0.0 && scale.is_finite() && scale > 0.0) {
            return Err(PatternError("a speed and a scale above 0"));
        }
        let usual = usual_step(points);
        let points = points.iter().map(|(t, value)| (t - first, value * scale));
        Ok(Self { points: points.collect(), recorded_s: last - first + usual, speed })
    }

    /// Seconds that one run through the trace takes.
    #[must_use]
    pub fn length_s(&self) -> f64 {
        self.recorded_s / self.speed
    }

    pub(super) fn rate_at(&self, t: f64) -> f64 {
        let recorded = (t * self.speed).rem_euclid(self.recorded_s);
        let after = self.points.partition_point(|(at, _)| *at <= recorded);
        self.points[after.saturating_sub(1)].1
    }
}

/// The median time between two values.
fn usual_step(points: &[(f64, f64)]) -> f64 {
    let mut steps: Vec<f64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    steps.sort_by(f64::total_cmp);
    steps[steps.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [(f64, f64); 4] = [(1000.0, 1.0), (1060.0, 2.0), (1120.0, 0.5), (1240.0, 0.0)];

    #[test]
    fn time_runs_faster_and_rates_stay() {
        let trace = TracePattern::new(&POINTS, 60.0, 2.0).unwrap();
        assert_eq!(trace.length_s(), 5.0);
        let rates: Vec<f64> = [0.0, 0.99, 1.5, 2.5, 3.9, 4.5].map(|t| trace.rate_at(t)).into();
        assert_eq!(rates, [2.0, 2.0, 4.0, 1.0, 1.0, 0.0]);
        assert_eq!((trace.rate_at(5.5), trace.rate_at(-0.5)), (2.0, 0.0), "it repeats both ways");
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let wrong: [&[(f64, f64)]; 5] = [
            &[],
            &[(0.0, 1.0)],
            &[(0.0, 1.0), (0.0, 2.0)],
            &[(0.0, 1.0), (1.0, -2.0)],
            &[(0.0, 1.0), (f64::NAN, 2.0)],
        ];
        for points in wrong {
            assert!(TracePattern::new(points, 1.0, 1.0).is_err(), "{points:?}");
        }
        assert!(TracePattern::new(&POINTS, 0.0, 1.0).is_err());
        assert!(TracePattern::new(&POINTS, 1.0, f64::NAN).is_err());
    }
}
