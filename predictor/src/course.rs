//! The course: how far the present has strayed so far from what a model said of it that does not look at it, and from
//! where on that is too far for the model to be heard alone. Not a detector of change points; those shorten memory.

use crate::empirical::Errors;

/// Index of 0.99 in the levels of a forecast.
const LEVEL_99: usize = 10;
/// Beyond the 0.99 quantile of the deviations by this factor, the series is off its course: never by chance alone.
const SLACK: f64 = 1.5;

/// Deviations so far.
#[derive(Debug, Default)]
pub(crate) struct Course {
    seen: Errors,
}

impl Course {
    /// Whether the deviation of an origin is within what was seen before it, of which it is part from then on.
    pub(crate) fn takes(&mut self, deviation: Option<f64>) -> bool {
        let on = is_on(self.tolerance(), deviation);
        deviation.into_iter().for_each(|d| self.seen.insert(d));
        on
    }

    /// The largest deviation on the course; `None` while too few are known.
    pub(crate) fn tolerance(&self) -> Option<f64> {
        self.seen.quantiles().map(|q| SLACK * q[LEVEL_99])
    }
}

/// Whether a deviation is within a tolerance. One that is not known never strays.
pub(crate) fn is_on(tolerance: Option<f64>, deviation: Option<f64>) -> bool {
    tolerance.zip(deviation).is_none_or(|(tolerance, deviation)| deviation <= tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_seen_is_off_the_course() {
        let mut course = Course::default();
        assert!((0..100).all(|i| course.takes(Some(f64::from(i % 10)))));
        assert!(course.takes(Some(12.0)) && course.takes(None) && !course.takes(Some(40.0)));
    }
}
