//! A regular series with gaps: the form in which history reaches the models.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Most steps that a series is made with from points: 19 years of minutes. Two points far apart must not fill the memory.
const STEPS_MAX: usize = 10_000_000;

/// Values at a regular step from `start`; entry `i` covers `[start + i·step, +step)`. A gap is unknown, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    start: Timestamp,
    step: Duration,
    values: Vec<Option<f64>>,
}

impl Series {
    /// An empty series.
    ///
    /// # Panics
    /// When `step` is shorter than a millisecond.
    #[must_use]
    pub fn new(start: Timestamp, step: Duration) -> Self {
        assert!(step >= Duration::from_millis(1), "a series needs a step of at least a millisecond");
        Self { start, step, values: Vec::new() }
    }

    /// A series of these values; what is not finite becomes a gap.
    #[must_use]
    pub fn from_values(
        start: Timestamp,
        step: Duration,
        values: impl IntoIterator<Item = Option<f64>>,
    ) -> Self {
        let mut series = Self::new(start, step);
        series.values.extend(values.into_iter().map(known));
        series
    }

    /// The mean of the points in each step, from the first to the last point; steps without a point are gaps. Points need no order.
    /// `None` without points, or when they span more than ten million steps.
    #[must_use]
    pub fn from_points(points: &[(Timestamp, f64)], step: Duration) -> Option<Self> {
        let first = points.iter().map(|p| p.0).min()?.floor_to(step);
        let last = points.iter().map(|p| p.0).max()?;
        let length = steps_between(first, last, step) + 1;
        if length > STEPS_MAX {
            return None;
        }
        let mut sums = vec![(0.0, 0u32); length];
        for (at, value) in points.iter().filter(|p| p.1.is_finite()) {
            let slot = &mut sums[steps_between(first, *at, step)];
            *slot = (slot.0 + value, slot.1 + 1);
        }
        let means = sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / f64::from(n)));
        Some(Self::from_values(first, step, means))
    }

    /// Start of the first step.
    #[must_use]
    pub const fn start(&self) -> Timestamp {
        self.start
    }

    /// Length of a step.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.step
    }

    /// End of the last step.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.time(self.values.len())
    }

    /// Start of step `index`.
    #[must_use]
    pub fn time(&self, index: usize) -> Timestamp {
        self.start + self.step.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Number of steps, gaps included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no step at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of step `index`; `None` for a gap or beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<f64> {
        self.values.get(index).copied().flatten()
    }

    /// The value of the step that `time` lies in; `None` for a gap or outside.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> Option<f64> {
        if time < self.start {
            return None;
        }
        let index = time.since(self.start).as_millis() / self.step.as_millis().max(1);
        self.get(usize::try_from(index).ok()?)
    }

    /// All steps.
    #[must_use]
    pub fn values(&self) -> &[Option<f64>] {
        &self.values
    }

    /// Appends one step; what is not finite becomes a gap.
    pub fn push(&mut self, value: Option<f64>) {
        self.values.push(known(value));
    }

    /// Drops the oldest steps beyond `steps_max`.
    pub fn keep_last(&mut self, steps_max: usize) {
        let surplus = self.values.len().saturating_sub(steps_max);
        if surplus > 0 {
            self.start = self.time(surplus);
            self.values.drain(..surplus);
        }
    }

    /// The first `steps` steps.
    #[must_use]
    pub fn truncated(&self, steps: usize) -> Self {
        Self {
            start: self.start,
            step: self.step,
            values: self.values[..steps.min(self.values.len())].to_vec(),
        }
    }

    /// The last known value and how many steps before the end it stands (0: it is the last step).
    #[must_use]
    pub fn last_known(&self) -> Option<(f64, usize)> {
        self.values.iter().rev().enumerate().find_map(|(back, value)| value.map(|v| (v, back)))
    }

    /// Number of steps that are not gaps.
    #[must_use]
    pub fn known_len(&self) -> usize {
        self.values.iter().flatten().count()
    }
}

fn known(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

fn steps_between(start: Timestamp, at: Timestamp, step: Duration) -> usize {
    (at.since(start).as_millis() / step.as_millis().max(1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    #[test]
    fn a_step_without_points_is_a_gap() {
        let at = Timestamp::from_secs;
        let series =
            Series::from_points(&[(at(31), 4.0), (at(2), 1.0), (at(8), 3.0), (at(12), f64::NAN)], STEP)
                .unwrap();
        assert_eq!(series.values(), [Some(2.0), None, None, Some(4.0)]);
        assert_eq!(series.start(), Timestamp::EPOCH);
        assert_eq!(series.end(), at(40));
    }

    #[test]
    fn what_is_not_finite_becomes_a_gap() {
        let mut series = Series::from_values(Timestamp::EPOCH, STEP, [Some(f64::NAN), Some(1.0)]);
        series.push(Some(f64::INFINITY));
        assert_eq!(series.values(), [None, Some(1.0), None]);
        assert_eq!(series.last_known(), Some((1.0, 1)));
        assert_eq!(series.known_len(), 1);
    }

    #[test]
    fn keeping_the_last_steps_moves_the_start() {
        let mut series = Series::from_values(Timestamp::EPOCH, STEP, [Some(1.0), Some(2.0), Some(3.0)]);
        series.keep_last(2);
        assert_eq!((series.start(), series.get(0)), (Timestamp::from_secs(10), Some(2.0)));
        assert_eq!(Series::from_points(&[], STEP), None);
    }
}
