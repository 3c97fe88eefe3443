//! A mergeable distribution: the exponential buckets of Prometheus native histograms, schema 3.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets per doubling: schema 3 has 2³, so a bucket is 9 % wide and a quantile is within about 4.5 %.
const BUCKETS_PER_DOUBLING: f64 = 8.0;
/// Index bounds: 2⁻²⁰ s (1 µs) to 2²⁰ s (12 days); what is outside is counted at the bound.
const INDEX_BOUND: i32 = 160;

/// Counts of positive values in exponential buckets, with their sum. Values at or below zero go to a bucket of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Bucket `i` holds values in (2^((i−1)/8), 2^(i/8)].
    buckets: BTreeMap<i32, u64>,
    zero: u64,
    count: u64,
    sum: f64,
}

impl Histogram {
    /// The schema number of the exposition format.
    pub const SCHEMA: i32 = 3;

    /// A histogram of these buckets (index and count; entries of one index add up), a count at or below zero, and the sum of all values.
    /// What a store or a wire format kept comes back through here; empty buckets are left out.
    #[must_use]
    pub fn from_buckets(buckets: impl IntoIterator<Item = (i32, u64)>, zero: u64, sum: f64) -> Self {
        let mut made = Self { zero, count: zero, sum, ..Self::default() };
        for (index, count) in buckets.into_iter().filter(|bucket| bucket.1 > 0) {
            *made.buckets.entry(index.clamp(-INDEX_BOUND, INDEX_BOUND)).or_insert(0) += count;
            made.count = made.count.saturating_add(count);
        }
        made
    }

    /// Counts one value. NaN and infinities change nothing.
    pub fn observe(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count += 1;
        self.sum += value;
        if value <= 0.0 {
            self.zero += 1;
            return;
        }
        *self.buckets.entry(index_of(value)).or_insert(0) += 1;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in &other.buckets {
            *self.buckets.entry(*index).or_insert(0) += count;
        }
        self.zero += other.zero;
        self.count += other.count;
        self.sum += other.sum;
    }

    /// What has been added since `earlier`, which must be an older state of this histogram; `None` when it was reset in between.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let mut buckets = BTreeMap::new();
        for (index, count) in &self.buckets {
            let added = count.checked_sub(earlier.buckets.get(index).copied().unwrap_or(0))?;
            if added > 0 {
                buckets.insert(*index, added);
            }
        }
        Some(Self {
            buckets,
            zero: self.zero.checked_sub(earlier.zero)?,
            count: self.count.checked_sub(earlier.count)?,
            sum: self.sum - earlier.sum,
        })
    }

    /// Number of values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Number of values at or below zero.
    #[must_use]
    pub const fn zero_count(&self) -> u64 {
        self.zero
    }

    /// The filled buckets: index and count, by rising index.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> {
        self.buckets.iter().map(|(index, count)| (*index, *count))
    }

    /// Upper bound of bucket `index`.
    #[must_use]
    pub fn upper_bound(index: i32) -> f64 {
        (f64::from(index) / BUCKETS_PER_DOUBLING).exp2()
    }

    /// The `p` quantile, interpolated geometrically within its bucket; `None` without values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
    pub fn quantile(&self, p: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = p.clamp(0.0, 1.0) * self.count as f64;
        let mut below = self.zero as f64;
        if rank <= below {
            return Some(0.0);
        }
        for (index, count) in &self.buckets {
            let count = *count as f64;
            if rank <= below + count {
                let share = (rank - below) / count;
                return Some(((f64::from(*index) - 1.0 + share) / BUCKETS_PER_DOUBLING).exp2());
            }
            below += count;
        }
        self.buckets.keys().next_back().map(|index| Self::upper_bound(*index)).or(Some(0.0))
    }

    /// Share of the values above `limit`, interpolated within its bucket; `None` without values.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
    pub fn share_above(&self, limit: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let position = if limit > 0.0 { limit.log2() * BUCKETS_PER_DOUBLING } else { f64::NEG_INFINITY };
        let above: f64 = self
            .buckets
            .iter()
            .map(|(index, count)| *count as f64 * (f64::from(*index) - position).clamp(0.0, 1.0))
            .sum();
        Some(above / self.count as f64)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates and the result is clamped")]
fn index_of(value: f64) -> i32 {
    ((value.log2() * BUCKETS_PER_DOUBLING).ceil() as i32).clamp(-INDEX_BOUND, INDEX_BOUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_seen_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(Histogram::default().share_above(1.0), None);
    }

    #[test]
    fn nan_changes_nothing() {
        let mut seen = Histogram::default();
        seen.observe(f64::NAN);
        seen.observe(f64::INFINITY);
        assert_eq!(seen, Histogram::default());
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_bucket(mut values in prop::collection::vec(1e-4f64..1e4, 1..200), p in 0.01f64..1.0) {
            let mut seen = Histogram::default();
            values.iter().for_each(|v| seen.observe(*v));
            values.sort_by(f64::total_cmp);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
            let rank = ((p * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1;
            let ratio = seen.quantile(p).unwrap() / values[rank];
            prop_assert!((0.91..=1.10).contains(&ratio), "{ratio}");
        }

        #[test]
        fn buckets_make_the_histogram_they_came_from(values in prop::collection::vec(-1.0f64..100.0, 0..50)) {
            let mut seen = Histogram::default();
            values.iter().for_each(|v| seen.observe(*v));
            prop_assert_eq!(Histogram::from_buckets(seen.buckets(), seen.zero_count(), seen.sum()), seen);
        }

        #[test]
        fn merging_and_subtracting_are_inverse(a in prop::collection::vec(0.0f64..10.0, 0..50), b in prop::collection::vec(0.0f64..10.0, 0..50)) {
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            a.iter().for_each(|v| left.observe(*v));
            b.iter().for_each(|v| right.observe(*v));
            let mut both = left.clone();
            both.merge(&right);
            let back = both.since(&left).unwrap();
            prop_assert_eq!(back.buckets, right.buckets);
            prop_assert_eq!(back.count, right.count);
            if right.count > 0 {
                prop_assert!(left.since(&both).is_none());
            }
        }
    }
}
