//! The history as models read it: bounded, gaps carried forward, on a scale on which noise grows little with the level.
//! Entry `t` is counted from the start of the history that was fitted. Not a store: old entries are dropped.

use serde::{Deserialize, Serialize};

use crate::grid::steps;
use crate::packed;

/// Steps beyond the bound before the oldest are dropped, so that an append is cheap on average.
const SLACK: usize = 256;

/// Values with gaps, and their carried-forward transform `ln(1 + value / scale)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub(crate) struct History {
    first: usize,
    phase: u64,
    scale: f64,
    capacity: usize,
    /// 16 significant bits; NaN is a gap.
    raw: Vec<f32>,
    carried: Vec<f32>,
}

/// The form in which a history is kept: without what can be computed again.
#[derive(Serialize, Deserialize)]
struct Packed {
    first: usize,
    phase: u64,
    scale: f64,
    capacity: usize,
    /// The transform before the first value kept, when that is a gap.
    before: f32,
    /// Four characters a value: see [`crate::packed`].
    values: String,
}

impl History {
    /// An empty history; `phase` is the number of steps from the epoch to its start, `scale` (positive) where the
    /// transform turns from linear to logarithmic, `capacity` the steps it must keep.
    pub(crate) const fn new(phase: u64, scale: f64, capacity: usize) -> Self {
        Self { first: 0, phase, scale, capacity, raw: Vec::new(), carried: Vec::new() }
    }

    /// Appends a step; a gap carries the last value forward.
    pub(crate) fn push(&mut self, value: Option<f64>) {
        let kept = value.map_or(f32::NAN, packed::narrowed);
        let before = self.carried.last().copied().unwrap_or(0.0);
        self.carried.push(if kept.is_nan() { before } else { narrow(self.forward(f64::from(kept))) });
        self.raw.push(kept);
        if self.raw.len() > self.capacity + SLACK {
            self.bound(self.capacity);
        }
    }

    /// Keeps the last `capacity` steps from now on.
    pub(crate) fn bound(&mut self, capacity: usize) {
        self.capacity = capacity;
        let surplus = self.raw.len().saturating_sub(capacity);
        self.first += surplus;
        self.raw.drain(..surplus);
        self.carried.drain(..surplus);
    }

    /// One past the last step.
    pub(crate) fn end(&self) -> usize {
        self.first + self.raw.len()
    }

    /// The value of step `t`; `None` for a gap, or when it is not kept.
    pub(crate) fn value(&self, t: usize) -> Option<f64> {
        let value = *self.raw.get(t.checked_sub(self.first)?)?;
        (!value.is_nan()).then_some(f64::from(value))
    }

    /// The transform of the last known value at step `t`; before what is kept, the oldest.
    pub(crate) fn z(&self, t: usize) -> f64 {
        let at = t.saturating_sub(self.first).min(self.carried.len().saturating_sub(1));
        self.carried.get(at).map_or(0.0, |z| f64::from(*z))
    }

    /// Mean of the transform over `from..=to`.
    pub(crate) fn z_mean(&self, from: usize, to: usize) -> f64 {
        let sum: f64 = (from..=to).map(|t| self.z(t)).sum();
        sum / steps(to + 1 - from)
    }

    /// Mean of the transform around step `t`, `half` steps to each side but none after `now`.
    pub(crate) fn z_around(&self, t: usize, half: usize, now: usize) -> f64 {
        let t = t.min(now);
        self.z_mean(t.saturating_sub(half), (t + half).min(now))
    }

    /// The largest known value of `from..=to`; `None` when more than a fifth of it is unknown.
    pub(crate) fn max(&self, from: usize, to: usize) -> Option<f64> {
        let (mut known, mut max) = (0, f64::NEG_INFINITY);
        for value in (from..=to).filter_map(|t| self.value(t)) {
            known += 1;
            max = max.max(value);
        }
        (known * 5 >= (to + 1 - from) * 4).then_some(max)
    }

    /// Steps since the last known value at step `t`; `None` when none is kept.
    pub(crate) fn staleness(&self, t: usize) -> Option<usize> {
        (self.first..=t).rev().position(|at| self.value(at).is_some())
    }

    /// Root mean square one-step change of the transform from step `from` to step `to`.
    pub(crate) fn volatility(&self, from: usize, to: usize) -> f64 {
        let sum: f64 = (from..to).map(|at| (self.z(at + 1) - self.z(at)).powi(2)).sum();
        (sum / steps(to.saturating_sub(from).max(1))).sqrt()
    }

    /// Steps from the start of a cycle of `season` steps (counted from the epoch) to step `t`.
    pub(crate) fn phase(&self, t: usize, season: usize) -> usize {
        let season = u64::try_from(season).unwrap_or(1).max(1);
        usize::try_from((self.phase + u64::try_from(t).unwrap_or(0)) % season).unwrap_or(0)
    }

    /// From the unit of the series to the scale on which models work.
    pub(crate) fn forward(&self, value: f64) -> f64 {
        (value / self.scale).ln_1p()
    }

    /// Back to the unit of the series; never negative, and finite.
    pub(crate) fn backward(&self, z: f64) -> f64 {
        (self.scale * z.min(100.0).exp_m1()).max(0.0)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough here")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

impl From<History> for Packed {
    fn from(history: History) -> Self {
        Self {
            first: history.first,
            phase: history.phase,
            scale: history.scale,
            capacity: history.capacity,
            before: history.carried.first().copied().unwrap_or(0.0),
            values: packed::text(&history.raw),
        }
    }
}

impl From<Packed> for History {
    fn from(packed: Packed) -> Self {
        let mut history = Self::new(packed.phase, packed.scale, packed.capacity);
        history.first = packed.first;
        let mut last = packed.before;
        for value in packed::values(&packed.values) {
            last = if value.is_nan() { last } else { narrow(history.forward(f64::from(value))) };
            history.raw.push(value);
            history.carried.push(last);
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[Option<f64>]) -> History {
        let mut history = History::new(3, 2.0, 10_000);
        values.iter().for_each(|v| history.push(*v));
        history
    }

    #[test]
    fn a_gap_carries_the_last_value_and_stays_unknown() {
        let h = history(&[Some(4.0), None, Some(6.0)]);
        assert_eq!((h.value(1), h.z(1)), (None, h.z(0)));
        assert!((h.backward(h.z(2)) - 6.0).abs() < 1e-5);
        assert_eq!((h.staleness(1), h.max(0, 2), h.max(2, 2)), (Some(1), None, Some(6.0)));
    }

    #[test]
    fn is_bounded_and_keeps_its_counting() {
        let mut h = history(&[]);
        h.bound(10);
        (0..1000u32).for_each(|i| h.push(Some(f64::from(i))));
        assert!(h.raw.len() <= 10 + SLACK);
        assert_eq!(
            (h.end(), h.value(999), h.value(0), h.phase(999, 7)),
            (1000, Some(999.0), None, (999 + 3) % 7)
        );
    }

    #[test]
    fn reads_back_what_was_kept() {
        let mut h = history(&[Some(1.0 / 3.0), None, Some(1e18), Some(0.0)]);
        h.bound(3);
        let text = serde_json::to_string(&h).unwrap();
        let back: History = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (back.carried.clone(), back.end(), back.value(2)),
            (h.carried.clone(), h.end(), h.value(2))
        );
    }
}
