//! A classic histogram's change per second: what its buckets gained, summed over series and targets. No I/O.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// An upper bound of a bucket, ordered as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound(pub(super) f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Events per second at or below each bound, all of them, and the sum of their values per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Spread {
    /// Cumulative, finite bounds only.
    pub(super) below: BTreeMap<Bound, f64>,
    /// Events per second.
    pub(super) rate: f64,
    /// Sum of the values per second; unknown when the histogram has no sum.
    pub(super) sum: Option<f64>,
}

impl Spread {
    /// Events per second at or below `limit`, interpolated within its bucket. Beyond the last finite bound: those below that bound,
    /// since of the others nothing is known.
    pub(super) fn below(&self, limit: f64) -> f64 {
        let under = self.below.range(..=Bound(limit)).next_back();
        let over = self.below.range(Bound(limit)..).next();
        let (low, base) = under.map_or((0.0, 0.0), |(bound, rate)| (bound.0, *rate));
        match over {
            Some((high, rate)) if high.0 > low => {
                base + (rate - base) * ((limit - low) / (high.0 - low)).clamp(0.0, 1.0)
            }
            _ => base,
        }
    }

    /// Events per second above `limit`; `None` when there are events and no finite bound tells how long any of them took.
    pub(super) fn above(&self, limit: f64) -> Option<f64> {
        let is_told = !self.below.is_empty() || self.rate <= 0.0;
        is_told.then(|| (self.rate - self.below(limit)).max(0.0))
    }

    /// The `p` quantile, interpolated within its bucket; the last finite bound when it lies beyond it, which is too low but
    /// the most that is known. `None` without events or finite bounds.
    pub(super) fn quantile(&self, p: f64) -> Option<f64> {
        if self.rate <= 0.0 {
            return None;
        }
        let rank = p * self.rate;
        let (mut low, mut base) = (0.0, 0.0);
        for (bound, rate) in &self.below {
            if *rate >= rank && *rate > base {
                let share = ((rank - base) / (rate - base)).clamp(0.0, 1.0);
                // A first bucket with a bound at or below zero has no lower end to interpolate from.
                return Some(if bound.0 <= low { bound.0 } else { low + (bound.0 - low) * share });
            }
            (low, base) = (bound.0, *rate);
        }
        self.below.keys().next_back().map(|bound| bound.0)
    }

    /// The mean value; `None` without events or sum.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.rate > 0.0).then_some(())?;
        Some(self.sum? / self.rate)
    }

    /// Both together. Where their bounds differ, each is interpolated at the other's.
    pub(super) fn merged(&self, other: &Self) -> Self {
        if self.below.is_empty() && self.rate == 0.0 {
            return other.clone();
        }
        // Events without bounds lie anywhere: those of the other then tell nothing of both.
        let is_bare = |one: &Self| one.below.is_empty() && one.rate > 0.0;
        let bounds =
            self.below.keys().chain(other.below.keys()).filter(|_| !is_bare(self) && !is_bare(other));
        let below = bounds.map(|bound| (*bound, self.below(bound.0) + other.below(bound.0))).collect();
        Self { below, rate: self.rate + other.rate, sum: self.sum.zip(other.sum).map(|(a, b)| a + b) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(below: &[(f64, f64)], rate: f64) -> Spread {
        Spread {
            below: below.iter().map(|(bound, rate)| (Bound(*bound), *rate)).collect(),
            rate,
            sum: Some(rate),
        }
    }

    #[test]
    fn interpolates_within_a_bucket() {
        let seen = spread(&[(0.1, 50.0), (0.2, 90.0), (1.0, 100.0)], 100.0);
        assert_eq!(seen.quantile(0.25), Some(0.05));
        assert!((seen.quantile(0.7).unwrap() - 0.15).abs() < 1e-12);
        assert_eq!(seen.above(0.2), Some(10.0));
        assert!((seen.above(0.6).unwrap() - 5.0).abs() < 1e-12);
        assert_eq!(seen.mean(), Some(1.0));
    }

    #[test]
    fn beyond_the_last_bound_tells_that_bound() {
        let slow = spread(&[(0.1, 0.0), (1.0, 1.0)], 100.0);
        assert_eq!(slow.quantile(0.95), Some(1.0));
        assert_eq!(slow.above(5.0), Some(99.0));
    }

    #[test]
    fn nothing_seen_has_no_quantile_and_no_mean() {
        let idle = spread(&[(0.1, 0.0), (1.0, 0.0)], 0.0);
        assert_eq!(idle.quantile(0.95), None);
        assert_eq!(idle.mean(), None);
        assert_eq!(idle.above(0.1), Some(0.0));
    }

    #[test]
    fn a_sum_and_a_count_alone_tell_the_mean_and_nothing_else() {
        let summary = spread(&[], 10.0);
        assert_eq!((summary.mean(), summary.quantile(0.5), summary.above(0.1)), (Some(1.0), None, None));
        let both = summary.merged(&spread(&[(0.1, 5.0)], 5.0));
        assert_eq!((both.rate, both.quantile(0.5), both.above(0.1)), (15.0, None, None));
    }

    #[test]
    fn different_bounds_merge_by_interpolation() {
        let both =
            spread(&[(0.1, 10.0), (1.0, 10.0)], 10.0).merged(&spread(&[(0.2, 10.0), (1.0, 10.0)], 10.0));
        assert_eq!(both.rate, 20.0);
        assert_eq!(both.below[&Bound(0.1)], 15.0);
        assert_eq!(both.below[&Bound(1.0)], 20.0);
    }

    proptest! {
        #[test]
        fn quantiles_rise_with_their_level(steps in prop::collection::vec(0.0f64..10.0, 1..12), p in 0.0f64..1.0, q in 0.0f64..1.0) {
            let mut sum = 0.0;
            let below: Vec<_> = steps.iter().enumerate().map(|(i, step)| { sum += step; (0.1 * (i + 1) as f64, sum) }).collect();
            let seen = spread(&below, sum);
            let (low, high) = (p.min(q), p.max(q));
            prop_assert!(seen.quantile(low).unwrap_or(0.0) <= seen.quantile(high).unwrap_or(0.0) + 1e-9);
        }
    }
}
