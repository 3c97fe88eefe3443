//! The past of a rate as a mind keeps it: weeks of steps in little more than a byte each. Not what is learned from; for that it is
//! unpacked.
//!
//! Older steps are held as square roots, a block at a time. On this scale the chance of counts is alike at every level, so that a block's
//! steps are fine against it where the block is calm, and against the block's own moves where it is not.

use std::time::Duration;

use tidegate_core::{BLOCK, Block, Series, Timestamp};

/// Rates at a regular step from `start`; a gap is unknown, never zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Past {
    start: Timestamp,
    step: Duration,
    packed: Vec<Block>,
    /// What came since the last block; NaN is a gap.
    open: Vec<f32>,
}

impl Past {
    /// Nothing yet.
    pub(crate) const fn new(start: Timestamp, step: Duration) -> Self {
        Self { start, step, packed: Vec::new(), open: Vec::new() }
    }

    /// The last `steps_max` steps of a series.
    pub(crate) fn of(series: &Series, steps_max: usize) -> Self {
        let first = series.len().saturating_sub(steps_max);
        let mut past = Self::new(series.time(first), series.step());
        series.values()[first..].iter().for_each(|value| past.push(*value));
        past.packed.shrink_to_fit();
        past
    }

    /// All of it, to learn from.
    pub(crate) fn series(&self) -> Series {
        Series::from_values(self.start, self.step, (0..self.len()).map(|at| self.get(at)))
    }

    /// Appends one step; what is no rate becomes a gap.
    pub(crate) fn push(&mut self, value: Option<f64>) {
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a rate are more than is known")]
        let value = value.map(|value| value as f32).filter(|value| value.is_finite() && *value >= 0.0);
        if self.open.capacity() == 0 {
            self.open.reserve_exact(BLOCK);
        }
        self.open.push(value.unwrap_or(f32::NAN));
        if let Ok(values) = <&[f32; BLOCK]>::try_from(&self.open[..]) {
            let known = |bits, (at, value): (usize, &f32)| bits | u64::from(!value.is_nan()) << at;
            let known = values.iter().enumerate().fold(0u64, known);
            // What stands in a gap is not read; a value that is there anyway does not widen the block.
            let usual = values.iter().copied().find(|value| !value.is_nan()).unwrap_or(0.0);
            let roots = values.map(|value| if value.is_nan() { usual } else { value }.sqrt());
            self.packed.reserve_exact(1);
            self.packed.push(Block::new(&roots, known));
            self.open.clear();
        }
    }

    /// Drops the oldest steps beyond `steps_max`, by whole blocks.
    pub(crate) fn keep_last(&mut self, steps_max: usize) {
        let surplus = (self.len().saturating_sub(steps_max) / BLOCK).min(self.packed.len());
        self.start = self.time(surplus * BLOCK);
        self.packed.drain(..surplus);
    }

    /// The rate of step `index`; `None` for a gap or beyond the end.
    pub(crate) fn get(&self, index: usize) -> Option<f64> {
        match self.packed.get(index / BLOCK) {
            Some(block) => block.is_known(index % BLOCK).then(|| f64::from(block.get(index % BLOCK)).powi(2)),
            None => {
                let value = *self.open.get(index - self.packed.len() * BLOCK)?;
                (!value.is_nan()).then_some(f64::from(value))
            }
        }
    }

    /// The rate of the step that `time` lies in; `None` for a gap or outside.
    pub(crate) fn at(&self, time: Timestamp) -> Option<f64> {
        if time < self.start {
            return None;
        }
        let index = time.since(self.start).as_millis() / self.step.as_millis().max(1);
        self.get(usize::try_from(index).ok()?)
    }

    /// Start of step `index`.
    pub(crate) fn time(&self, index: usize) -> Timestamp {
        self.start + self.step.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(crate) const fn start(&self) -> Timestamp {
        self.start
    }

    pub(crate) const fn step(&self) -> Duration {
        self.step
    }

    /// End of the last step.
    pub(crate) fn end(&self) -> Timestamp {
        self.time(self.len())
    }

    /// Steps, gaps included.
    pub(crate) const fn len(&self) -> usize {
        self.packed.len() * BLOCK + self.open.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Steps that are not gaps.
    pub(crate) fn known_len(&self) -> usize {
        let packed: usize = self.packed.iter().map(Block::known_len).sum();
        packed + self.open.iter().filter(|value| !value.is_nan()).count()
    }

    /// Bytes kept.
    pub(crate) const fn size(&self) -> usize {
        self.packed.capacity() * size_of::<Block>() + self.open.capacity() * size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_secs(60);

    #[test]
    fn three_weeks_of_minutes_take_forty_kilobytes() {
        let series =
            Series::from_values(Timestamp::EPOCH, STEP, (0..40_000).map(|t| Some(f64::from(t % 97))));
        let mut past = Past::of(&series, 30_240);
        assert_eq!((past.len(), past.end()), (30_240, series.end()));
        (0..5000).for_each(|t| {
            past.push(Some(f64::from(t)));
            past.keep_last(30_240);
        });
        assert!(
            past.len() < 30_240 + BLOCK && past.size() <= 39 << 10,
            "{} steps, {}",
            past.len(),
            past.size()
        );
        assert_eq!((past.end(), past.get(past.len() - 1)), (Timestamp::from_secs(45_000 * 60), Some(4999.0)));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_seen_to_less_than_chance(
            level in 0.0..1000f64,
            parts in prop::collection::vec(prop_oneof![8 => (0.0..1f64).prop_map(Some), 1 => Just(None)], 1..300),
        ) {
            let values: Vec<Option<f64>> = parts.iter().map(|part| part.map(|part| level * (0.8 + 0.4 * part))).collect();
            let series = Series::from_values(Timestamp::EPOCH, STEP, values.iter().copied());
            let past = Past::of(&series, 1000);
            prop_assert_eq!((past.len(), past.known_len()), (series.len(), series.known_len()));
            prop_assert_eq!(past.series().end(), series.end());
            for (at, value) in values.iter().enumerate() {
                prop_assert_eq!(past.get(at).is_some(), value.is_some());
                let off = past.get(at).zip(*value).map_or(0.0, |(a, b)| (a - b).abs());
                prop_assert!(off <= 0.002 * level + 1e-6, "{off} of {level}");
            }
        }
    }

    #[test]
    fn what_is_no_rate_is_a_gap() {
        let mut past = Past::new(Timestamp::EPOCH, STEP);
        [Some(-1.0), Some(f64::NAN), Some(1e300), None, Some(2.0)]
            .into_iter()
            .for_each(|value| past.push(value));
        assert_eq!((past.known_len(), past.get(4), past.get(5)), (1, Some(2.0), None));
        assert_eq!(
            (past.at(Timestamp::from_secs(241)), past.at(Timestamp::from_secs(-1))),
            (Some(2.0), None)
        );
    }
}
