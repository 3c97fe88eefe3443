//! What one replica carries within the objective: learned from load per replica and the share of requests that missed.
//!
//! Loads are sorted into bins of equal ratio. The share missed is made monotone in the load by the pool-adjacent-violators
//! algorithm (Barlow et al., *Statistical Inference under Order Restrictions*, 1972, §1.2): more load is never taken to miss less.
//! A hint of the policy enters as requests not really seen, spread as a queue behaves around its saturation.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Capacity, CapacityHint, CapacitySource, Timestamp};

/// Bins per doubling of the load: 9 % wide, finer than what can be told apart.
const BINS_PER_DOUBLING: f64 = 8.0;
/// Evidence fades with this half-life: software and traffic mixes change.
const HALF_LIFE: Duration = Duration::from_secs(6 * 3600);
/// Requests that a hint is worth in each bin: outweighed after some minutes of real load.
const HINT_REQUESTS: f64 = 300.0;
/// The hint speaks for loads from a quarter to four times itself.
const HINT_BINS: i32 = 16;
/// Requests from which on a bin says something.
const EVIDENCE_MIN: f64 = 50.0;
/// Requests of a bin that are still believed of another variant of the workload: twice what says something at all.
const DOUBTED_REQUESTS: f64 = 2.0 * EVIDENCE_MIN;
/// Uncertainty of an estimate that no miss has bounded from above.
const UNBOUNDED_HIGH: f64 = 2.0;

/// Requests that ended in a bin, and those that missed; both fade.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Bin {
    pub(crate) ended: f64,
    pub(crate) missed: f64,
}

/// Requests by the load under which they ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Bins {
    bins: BTreeMap<i32, Bin>,
    faded_at: Option<Timestamp>,
}

impl Bins {
    /// Takes in what ended under a load. What is not finite or without requests changes nothing.
    pub(crate) fn ingest(&mut self, at: Timestamp, load: f64, ended: f64, missed: f64) {
        let sound = load.is_finite() && load > 0.0 && ended.is_finite() && ended > 0.0 && missed >= 0.0;
        if !sound {
            return;
        }
        self.fade(at);
        let bin = self.bins.entry(bin_of(load)).or_default();
        bin.ended += ended;
        bin.missed += missed.min(ended);
    }

    fn fade(&mut self, at: Timestamp) {
        let elapsed = at.since(*self.faded_at.get_or_insert(at));
        // In steps of a minute: rounding, and work, once a second would add up to nothing useful.
        if elapsed < Duration::from_secs(60) {
            return;
        }
        self.faded_at = Some(at);
        let keep = (-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        for bin in self.bins.values_mut() {
            bin.ended *= keep;
            bin.missed *= keep;
        }
        self.bins.retain(|_, bin| bin.ended >= 1.0);
    }

    /// Believes each bin no more than a few requests; what shares they missed stays.
    fn doubt(&mut self) {
        for bin in self.bins.values_mut() {
            let keep = (DOUBTED_REQUESTS / bin.ended).min(1.0);
            bin.ended *= keep;
            bin.missed *= keep;
        }
    }

    /// Those that say something, with the share missed made monotone.
    pub(crate) fn curve(&self) -> Vec<(i32, Bin)> {
        monotone(
            self.bins
                .iter()
                .filter(|(_, bin)| bin.ended >= EVIDENCE_MIN)
                .map(|(i, bin)| (*i, *bin))
                .collect(),
        )
    }
}

/// Evidence on what one replica carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CapacityModel {
    hint: Option<f64>,
    budget: f64,
    bins: Bins,
}

impl CapacityModel {
    /// Nothing seen yet. `budget`: share of requests that may miss.
    #[must_use]
    pub fn new(hint: CapacityHint, budget: f64) -> Self {
        Self { hint: hint.requests_per_second, budget, bins: Bins::default() }
    }

    /// Takes in what one replica carried for a while, at a steady size. What is not finite or without requests changes nothing.
    pub fn ingest(&mut self, at: Timestamp, load_rps: f64, ended: f64, missed: f64) {
        self.bins.ingest(at, load_rps, ended, missed);
    }

    /// What was seen is of another variant of the workload: it is where learning begins, and outweighed by minutes of real load.
    pub(crate) fn doubt(&mut self) {
        self.bins.doubt();
    }

    /// The same evidence under the intent of another: what it hints at, and what it allows.
    pub(crate) fn under(self, other: &Self) -> Self {
        Self { bins: self.bins, ..other.clone() }
    }

    /// The estimate; `None` while neither a hint nor enough evidence is there.
    #[must_use]
    pub fn estimate(&self) -> Option<Capacity> {
        let evidence: f64 = self.bins.bins.values().map(|bin| bin.ended).sum();
        let curve = self.curve();
        let learned = evidence >= EVIDENCE_MIN;
        let mid = crossing(&curve, self.budget, |bin| bin.missed / bin.ended);
        let low = crossing(&curve, 2.0 * self.budget, |bin| (bin.missed + 1.0) / (bin.ended + 2.0));
        let (Some(mid), true) = (mid, learned || self.hint.is_some()) else { return None };
        let bounded = curve.last().is_some_and(|(_, bin)| bin.missed / bin.ended > self.budget);
        let high = if bounded { mid * (1.0 / BINS_PER_DOUBLING).exp2() } else { mid * UNBOUNDED_HIGH };
        let source = if learned { CapacitySource::Learned } else { CapacitySource::Hint };
        // The lower estimate is never more than a tenth above the hint's or the best estimate, nor a third below it.
        let low = low.unwrap_or(mid).min(mid).max(mid * 0.67);
        Some(Capacity { low, mid, high, spare: 0.0, source })
    }

    /// Evidence and hint by bin, with the share missed made monotone.
    fn curve(&self) -> Vec<(i32, Bin)> {
        let Some(hint) = self.hint else { return self.bins.curve() };
        let mut bins = self.bins.bins.clone();
        let centre = bin_of(hint);
        for offset in -HINT_BINS..=HINT_BINS {
            let bin = bins.entry(centre + offset).or_default();
            bin.ended += HINT_REQUESTS;
            bin.missed += HINT_REQUESTS * self.hinted_share(offset);
        }
        monotone(bins.into_iter().collect())
    }

    /// Share missed that a queue shows `offset` bins above its saturation: nothing well below, half well above.
    fn hinted_share(&self, offset: i32) -> f64 {
        let ratio = (f64::from(offset) / BINS_PER_DOUBLING).exp2();
        if ratio <= 1.0 { self.budget * ratio.powi(8) } else { (1.0 - 1.0 / ratio).max(2.0 * self.budget) }
    }
}

/// Merges neighbours until the share missed never falls as the load rises.
fn monotone(bins: Vec<(i32, Bin)>) -> Vec<(i32, Bin)> {
    let mut blocks: Vec<(Vec<i32>, Bin)> = Vec::new();
    for (index, bin) in bins {
        let mut block = (vec![index], bin);
        while let Some((indices, last)) = blocks.pop() {
            if last.missed * block.1.ended <= block.1.missed * last.ended {
                blocks.push((indices, last));
                break;
            }
            let sum = Bin { ended: last.ended + block.1.ended, missed: last.missed + block.1.missed };
            block = ([indices, block.0].concat(), sum);
        }
        blocks.push(block);
    }
    blocks.into_iter().flat_map(|(indices, bin)| indices.into_iter().map(move |index| (index, bin))).collect()
}

/// The load of the highest bin whose share, as `share` reads it, is within `limit`.
fn crossing(curve: &[(i32, Bin)], limit: f64, share: impl Fn(&Bin) -> f64) -> Option<f64> {
    curve.iter().rev().find(|(_, bin)| share(bin) <= limit).map(|(index, _)| load_of(*index))
}

#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a finite positive number is small")]
fn bin_of(load: f64) -> i32 {
    (load.log2() * BINS_PER_DOUBLING).round() as i32
}

pub(crate) fn load_of(bin: i32) -> f64 {
    (f64::from(bin) / BINS_PER_DOUBLING).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hint(rps: f64) -> CapacityHint {
        CapacityHint { requests_per_second: Some(rps), concurrency: None }
    }

    fn close(a: f64, b: f64) -> bool {
        (a / b).log2().abs() <= 1.5 / BINS_PER_DOUBLING
    }

    #[test]
    fn a_hint_is_believed_until_something_is_seen() {
        let model = CapacityModel::new(hint(20.0), 0.01);
        let estimate = model.estimate().unwrap();
        assert_eq!(estimate.source, CapacitySource::Hint);
        assert!(close(estimate.mid, 20.0), "{estimate:?}");
        assert!(estimate.low <= estimate.mid && estimate.mid <= estimate.high);
    }

    #[test]
    fn nothing_known_is_no_estimate() {
        let mut model = CapacityModel::new(CapacityHint::default(), 0.01);
        assert_eq!(model.estimate(), None);
        model.ingest(Timestamp::EPOCH, f64::NAN, 100.0, 0.0);
        model.ingest(Timestamp::EPOCH, 5.0, 0.0, 0.0);
        assert_eq!(model.estimate(), None);
    }

    #[test]
    fn without_a_hint_it_is_what_has_been_carried() {
        let mut model = CapacityModel::new(CapacityHint::default(), 0.01);
        for second in 0..600 {
            let load = 4.0 + f64::from(second % 5);
            model.ingest(Timestamp::from_secs(second.into()), load, load, 0.0);
        }
        let estimate = model.estimate().unwrap();
        assert!(close(estimate.mid, 8.0) && estimate.low <= estimate.mid, "{estimate:?}");
    }

    #[test]
    fn evidence_corrects_a_hint_that_is_too_high() {
        let mut model = CapacityModel::new(hint(40.0), 0.01);
        for second in 0..1200i32 {
            let load = f64::from(10 + second % 30);
            let missed = if load > 25.0 { load * 0.4 } else { 0.0 };
            model.ingest(Timestamp::from_secs(second.into()), load, load, missed);
        }
        let estimate = model.estimate().unwrap();
        assert!(close(estimate.mid, 25.0), "{estimate:?}");
    }

    proptest! {
        #[test]
        fn the_estimate_is_ordered_and_finite(seen in prop::collection::vec((0.1f64..1000.0, 1.0f64..500.0, 0.0f64..1.0), 0..100), rps in prop::option::of(0.5f64..500.0)) {
            let mut model = CapacityModel::new(CapacityHint { requests_per_second: rps, concurrency: None }, 0.01);
            for (i, (load, ended, share)) in seen.into_iter().enumerate() {
                model.ingest(Timestamp::from_secs(i64::try_from(i).unwrap()), load, ended, ended * share);
            }
            if let Some(c) = model.estimate() {
                prop_assert!(c.low > 0.0 && c.low <= c.mid && c.mid <= c.high && c.high.is_finite());
            }
        }
    }
}
