//! The history as models read it: bounded, gaps carried forward, on a scale on which noise grows little with the level.
//! Entry `t` is counted from the start of the history that was fitted. Not a store: old entries are dropped.

use tidegate_core::{BLOCK, Block};

use crate::grid::steps;

/// Values with gaps, and their carried-forward transform `ln(1 + value / scale)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    /// Steps that were dropped; whole blocks of them.
    first: usize,
    phase: u64,
    scale: f64,
    /// `None`: nothing is dropped or packed, which is for learning.
    capacity: Option<usize>,
    /// Transforms of the older steps, carried over gaps.
    packed: Vec<Block>,
    /// Transform and value of the later ones; NaN is a gap.
    open: Vec<[f32; 2]>,
}

impl History {
    /// An empty history; `phase` is the number of steps from the epoch to its start, `scale` (positive) where the
    /// transform turns from linear to logarithmic.
    pub(crate) const fn new(phase: u64, scale: f64) -> Self {
        Self { first: 0, phase, scale, capacity: None, packed: Vec::new(), open: Vec::new() }
    }

    /// Appends a step; a gap carries the last value forward.
    pub(crate) fn push(&mut self, value: Option<f64>) {
        let known = value.map(narrow).filter(|value| value.is_finite());
        let carried = known.map(|value| narrow(self.forward(f64::from(value))));
        let z = carried.unwrap_or_else(|| self.end().checked_sub(1).map_or(0.0, |last| self.entry(last)));
        if self.open.len() == self.open.capacity() && self.capacity.is_some() {
            self.open.reserve_exact(BLOCK);
        }
        self.open.push([z, known.unwrap_or(f32::NAN)]);
        self.pack();
    }

    /// Keeps the last `capacity` steps from now on, a block more at most, and packs the older of them.
    pub(crate) fn bound(&mut self, capacity: usize) {
        self.capacity = Some(capacity);
        self.pack();
    }

    fn pack(&mut self) {
        let Some(capacity) = self.capacity else { return };
        let blocks = self.open.len() / BLOCK;
        if blocks == 0 {
            return;
        }
        let surplus = (self.end() - self.first).saturating_sub(capacity) / BLOCK;
        let old = self.packed.len().min(surplus);
        self.packed.drain(..old);
        self.first += surplus * BLOCK;
        let fresh = surplus - old..blocks;
        self.packed.reserve_exact(fresh.len());
        for entries in self.open.as_chunks::<BLOCK>().0.get(fresh).unwrap_or_default() {
            let known =
                |bits: u64, (at, entry): (usize, &[f32; 2])| bits | u64::from(!entry[1].is_nan()) << at;
            let known = entries.iter().enumerate().fold(0, known);
            self.packed.push(Block::new(&entries.map(|[z, _]| z), known));
        }
        self.open.drain(..blocks * BLOCK);
        self.open.shrink_to(BLOCK);
    }

    /// Bytes kept.
    pub(crate) fn size(&self) -> usize {
        self.packed.capacity() * size_of::<Block>() + self.open.capacity() * size_of::<[f32; 2]>()
    }

    /// One past the last step.
    pub(crate) fn end(&self) -> usize {
        self.first + self.packed.len() * BLOCK + self.open.len()
    }

    /// The value of step `t`; `None` for a gap, or when it is not kept.
    pub(crate) fn value(&self, t: usize) -> Option<f64> {
        let at = t.checked_sub(self.first)?;
        if let Some(block) = self.packed.get(at / BLOCK) {
            let place = at % BLOCK;
            return block.is_known(place).then(|| self.backward(f64::from(block.get(place))));
        }
        let [_, value] = *self.open.get(at - self.packed.len() * BLOCK)?;
        (!value.is_nan()).then_some(f64::from(value))
    }

    /// Whether the value of step `t` is known.
    pub(crate) fn is_known(&self, t: usize) -> bool {
        let Some(at) = t.checked_sub(self.first) else { return false };
        match self.packed.get(at / BLOCK) {
            Some(block) => block.is_known(at % BLOCK),
            None => self.open.get(at - self.packed.len() * BLOCK).is_some_and(|[_, value]| !value.is_nan()),
        }
    }

    /// The transform of the last known value at step `t`; before what is kept, the oldest.
    pub(crate) fn z(&self, t: usize) -> f64 {
        f64::from(self.entry(t.clamp(self.first, self.end().saturating_sub(1).max(self.first))))
    }

    fn entry(&self, t: usize) -> f32 {
        let at = t - self.first;
        match self.packed.get(at / BLOCK) {
            Some(block) => block.get(at % BLOCK),
            None => self.open.get(at - self.packed.len() * BLOCK).map_or(0.0, |[z, _]| *z),
        }
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
        let rank = |(t, z): (usize, f64), other: usize| {
            if self.z(other) > z { (other, self.z(other)) } else { (t, z) }
        };
        let (mut known, mut largest) = (0, (from, f64::NEG_INFINITY));
        for t in (from..=to).filter(|t| self.is_known(*t)) {
            known += 1;
            largest = rank(largest, t);
        }
        // The transform keeps the order.
        (known * 5 >= (to + 1 - from) * 4).then(|| self.value(largest.0)).flatten()
    }

    /// Steps since the last known value at step `t`; `None` when none is kept.
    pub(crate) fn staleness(&self, t: usize) -> Option<usize> {
        (self.first..=t).rev().position(|at| self.is_known(at))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[Option<f64>]) -> History {
        let mut history = History::new(3, 2.0);
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
        assert!(h.size() <= 2 * (80 + 8 * BLOCK), "{}", h.size());
        assert_eq!(
            (h.end(), h.value(999), h.value(0), h.phase(999, 7)),
            (1000, Some(999.0), None, (999 + 3) % 7)
        );
        assert_eq!((h.z(0), h.staleness(900)), (h.z(896), Some(0)), "896 is where the block of 990 begins");
    }

    #[test]
    fn what_is_packed_reads_as_before_to_a_part_of_what_moves() {
        let value = |t: u32| (t % 7 != 3).then(|| 50.0 + f64::from(t * 7919 % 23));
        let exact = history(&(0..1000).map(value).collect::<Vec<_>>());
        let mut packed = exact.clone();
        packed.bound(500);
        assert!(packed.size() < exact.size() / 6);
        for t in 520..1000 {
            assert_eq!(packed.is_known(t), exact.is_known(t));
            assert!((packed.z(t) - exact.z(t)).abs() < 1e-3);
            let off = packed.value(t).zip(exact.value(t)).map(|(a, b)| (a - b).abs());
            assert!(off.is_none_or(|off| off < 0.05), "{off:?} at {t}");
        }
        packed.push(Some(61.0));
        assert_eq!((packed.end(), packed.value(1000)), (1001, Some(61.0)));
        assert!((packed.max(900, 1000).unwrap() - 72.0).abs() < 0.05);
    }
}
