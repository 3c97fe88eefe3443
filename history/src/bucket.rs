//! What one bucket of a tier holds, and what may be asked of it.

use tidegate_core::Histogram;

/// Which figure of each step a read gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregate {
    /// Mean of the samples.
    #[default]
    Mean,
    /// Smallest sample.
    Min,
    /// Largest sample.
    Max,
    /// Sum of the samples. A step finer than what is kept has its share of the sum.
    Sum,
    /// Number of samples. A step finer than what is kept has its share of the number.
    Count,
}

/// Something that is kept per bucket and can take in its like.
pub(crate) trait Absorb: Clone {
    /// Adds all of `other`.
    fn absorb(&mut self, other: &Self);
    /// How much memory it takes, in units of one plain bucket.
    fn weight(&self) -> usize;
}

/// The samples of one bucket. Never empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Bucket {
    /// A bucket of one sample.
    pub(crate) const fn of(value: f64) -> Self {
        Self { count: 1, sum: value, min: value, max: value }
    }

    /// Whether it is one sample, whose value says everything.
    pub(crate) fn is_single(&self) -> bool {
        let value = self.sum.to_bits();
        self.count == 1 && self.min.to_bits() == value && self.max.to_bits() == value
    }
}

impl Absorb for Bucket {
    fn absorb(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn weight(&self) -> usize {
        1
    }
}

impl Absorb for Histogram {
    fn absorb(&mut self, other: &Self) {
        self.merge(other);
    }

    fn weight(&self) -> usize {
        1 + self.buckets().count()
    }
}

/// One step of an answer, gathered from whole buckets and shares of buckets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gathered {
    count: f64,
    sum: f64,
    bounds: Option<(f64, f64)>,
}

impl Gathered {
    /// Adds `share` (0 to 1) of a bucket.
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
    pub(crate) fn add(&mut self, bucket: &Bucket, share: f64) {
        self.count += bucket.count as f64 * share;
        self.sum += bucket.sum * share;
        self.bounds = Some(match self.bounds {
            None => (bucket.min, bucket.max),
            Some((min, max)) => (min.min(bucket.min), max.max(bucket.max)),
        });
    }

    /// The figure asked for; `None` when nothing was gathered.
    pub(crate) fn get(&self, aggregate: Aggregate) -> Option<f64> {
        let (min, max) = self.bounds?;
        Some(match aggregate {
            Aggregate::Mean => self.sum / self.count,
            Aggregate::Min => min,
            Aggregate::Max => max,
            Aggregate::Sum => self.sum,
            Aggregate::Count => self.count,
        })
    }
}
