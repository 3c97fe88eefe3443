//! A distribution as classic histograms tell it: events per second at or below each of their bounds. Those of several series, targets
//! and nodes add up, so that a quantile of the whole is one of the whole, not the worst of its parts.

use crate::policy::quantiles_of;
use crate::signals::Signal;

/// Events per second at or below each bound, all of them, and the sum of their values per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spread {
    /// Finite bounds, rising, each with the events at or below it, which do not fall.
    below: Vec<(f64, f64)>,
    rate: f64,
    sum: Option<f64>,
}

impl Spread {
    /// Of counts at or below bounds, in any order; those of one bound add up. Cumulative counts never fall from one bound to the next:
    /// where a torn page says so, the higher one stands. `rate`: all events; `sum`: of their values, unknown where the histogram has none.
    #[must_use]
    pub fn new(mut below: Vec<(f64, f64)>, rate: f64, sum: Option<f64>) -> Self {
        below.retain(|(bound, _)| bound.is_finite());
        below.sort_by(|a, b| a.0.total_cmp(&b.0));
        below.dedup_by(|next, kept| {
            let same = next.0.total_cmp(&kept.0).is_eq();
            if same {
                kept.1 += next.1;
            }
            same
        });
        let mut highest = 0.0f64;
        for (_, events) in &mut below {
            highest = highest.max(*events);
            *events = highest;
        }
        Self { below, rate, sum }
    }

    /// Events per second.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Sum of the values per second; `None`: the histogram has no sum.
    #[must_use]
    pub const fn sum(&self) -> Option<f64> {
        self.sum
    }

    /// The bounds, rising, each with the events per second at or below it.
    #[must_use]
    pub fn bounds(&self) -> &[(f64, f64)] {
        &self.below
    }

    /// Events per second at or below `limit`, interpolated within its bucket. Beyond the last finite bound: those below that bound,
    /// since of the others nothing is known.
    fn below(&self, limit: f64) -> f64 {
        let over = self.below.partition_point(|(bound, _)| *bound <= limit);
        let (low, base) = over.checked_sub(1).map_or((0.0, 0.0), |under| self.below[under]);
        match self.below.get(over) {
            Some((high, events)) if *high > low => {
                base + (events - base) * ((limit - low) / (high - low)).clamp(0.0, 1.0)
            }
            _ => base,
        }
    }

    /// Events per second above `limit`; `None` when there are events and no finite bound tells how long any of them took.
    #[must_use]
    pub fn above(&self, limit: f64) -> Option<f64> {
        let is_told = !self.below.is_empty() || self.rate <= 0.0;
        is_told.then(|| (self.rate - self.below(limit)).max(0.0))
    }

    /// The `p` quantile, interpolated within its bucket; the last finite bound when it lies beyond it, which is too low but
    /// the most that is known. `None` without events or finite bounds.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        if self.rate <= 0.0 {
            return None;
        }
        let rank = p * self.rate;
        let (mut low, mut base) = (0.0, 0.0);
        for (bound, events) in &self.below {
            if *events >= rank && *events > base {
                let share = ((rank - base) / (events - base)).clamp(0.0, 1.0);
                // A first bucket with a bound at or below zero has no lower end to interpolate from.
                return Some(if *bound <= low { *bound } else { low + (bound - low) * share });
            }
            (low, base) = (*bound, *events);
        }
        self.below.last().map(|(bound, _)| *bound)
    }

    /// The mean value; `None` without events or sum.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.rate > 0.0).then_some(())?;
        Some(self.sum? / self.rate)
    }

    /// Both together. Where their bounds differ, each is interpolated at the other's.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        if self.below.is_empty() && self.rate == 0.0 {
            return other.clone();
        }
        // Events without bounds lie anywhere: those of the other then tell nothing of both.
        let is_bare = |one: &Self| one.below.is_empty() && one.rate > 0.0;
        let mut bounds: Vec<f64> = Vec::new();
        if !is_bare(self) && !is_bare(other) {
            bounds.extend(self.below.iter().chain(&other.below).map(|(bound, _)| *bound));
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
        }
        let below = bounds.into_iter().map(|bound| (bound, self.below(bound) + other.below(bound))).collect();
        Self { below, rate: self.rate + other.rate, sum: self.sum.zip(other.sum).map(|(a, b)| a + b) }
    }

    /// Without the bounds that tell nothing: all but the last of those below which nothing lies, and all but the first of those that
    /// everything lies below. Another's bounds still find the same between them.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let first = self.below.partition_point(|(_, events)| *events <= 0.0).saturating_sub(1);
        let highest = self.below.last().map_or(0.0, |(_, events)| *events);
        let last = self.below.partition_point(|(_, events)| *events < highest);
        let kept = if highest > 0.0 { &self.below[first..=last] } else { &self.below[..0] };
        // The last bound of all tells where those begin of which nothing is known.
        let end = self.below.last().filter(|_| self.rate > highest);
        let below = kept.iter().chain(end.filter(|end| kept.last() != Some(end))).copied().collect();
        Self { below, rate: self.rate, sum: self.sum }
    }

    /// The signals that it tells, as a distribution that is kept under `key`: its quantiles and its mean.
    #[must_use]
    pub fn told(&self, key: Signal) -> Vec<(Signal, Option<f64>)> {
        let Some(quantiles) = quantiles_of(key) else { return vec![(key, self.mean())] };
        let told = quantiles.signals.into_iter().zip([0.5, 0.95, 0.99]);
        let told = told.map(|(signal, p)| (signal, self.quantile(p)));
        told.chain(quantiles.mean.map(|mean| (mean, self.mean()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(below: &[(f64, f64)], rate: f64) -> Spread {
        Spread::new(below.to_vec(), rate, Some(rate))
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
        assert_eq!(both.bounds(), [(0.1, 15.0), (0.2, 20.0), (1.0, 20.0)]);
    }

    #[test]
    fn a_torn_page_and_bounds_told_twice_make_a_distribution_all_the_same() {
        let torn = Spread::new(
            vec![(1.0, 4.0), (f64::INFINITY, 9.0), (0.1, 3.0), (0.5, 2.0), (0.1, 2.0)],
            6.0,
            None,
        );
        assert_eq!(torn.bounds(), [(0.1, 5.0), (0.5, 5.0), (1.0, 5.0)]);
    }

    #[test]
    fn a_distribution_tells_its_quantiles_and_its_mean_by_their_names() {
        let seen = spread(&[(0.1, 50.0), (0.2, 100.0)], 100.0);
        let told: std::collections::BTreeMap<_, _> =
            seen.told(crate::policy::LATENCY.key()).into_iter().collect();
        assert_eq!((told[&Signal::LatencyP50], told[&Signal::LatencyMean]), (Some(0.1), Some(1.0)));
        assert_eq!(told.len(), 4);
        assert_eq!(seen.told(Signal::StepSeconds), [(Signal::StepSeconds, Some(1.0))]);
    }

    fn distribution() -> impl Strategy<Value = Spread> {
        let steps = prop::collection::vec((0.01f64..2.0, prop_oneof![Just(0.0), 0.0f64..10.0]), 0..12);
        (steps, prop_oneof![Just(0.0), 0.0f64..3.0]).prop_map(|(steps, beyond)| {
            let (mut bound, mut sum) = (0.0, 0.0);
            let mut below = Vec::new();
            for (width, events) in steps {
                (bound, sum) = (bound + width, sum + events);
                below.push((bound, sum));
            }
            Spread::new(below, sum + beyond, None)
        })
    }

    proptest! {
        #[test]
        fn what_is_left_out_changes_no_quantile(seen in distribution(), other in distribution(), p in 0.0f64..1.0) {
            prop_assert!(seen.trimmed().bounds().len() <= seen.bounds().len());
            let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-6 * (1.0 + a.abs()),
                (a, b) => a == b,
            };
            // With nothing below a bound, a quantile at level 0 lies anywhere up to the next.
            let p = p.max(1e-6);
            prop_assert!(near(seen.trimmed().quantile(p), seen.quantile(p)), "{:?} {:?}", seen.trimmed(), seen);
            let (whole, parts) = (seen.merged(&other), seen.trimmed().merged(&other.trimmed()));
            prop_assert!((whole.rate() - parts.rate()).abs() < 1e-9);
            for limit in [0.1, 0.5, 1.0, 3.0, 9.0] {
                if let (Some(a), Some(b)) = (whole.above(limit), parts.above(limit)) {
                    prop_assert!((a - b).abs() < 1e-6 * (1.0 + a), "{limit}: {a} {b} of {seen:?} and {other:?}");
                }
            }
        }

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
