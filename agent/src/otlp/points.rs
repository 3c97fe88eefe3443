//! One point of OTLP as a value that can be kept: numbers, classic and exponential histograms, summaries. No I/O.

use tidegate_core::Histogram;

use super::messages::{
    ExponentialHistogramDataPoint, HistogramDataPoint, KeyValue, NumberDataPoint, SummaryDataPoint, metric,
    number_data_point,
};

/// Most buckets of a histogram.
const BUCKETS_MAX: usize = 512;
/// Bit of a point's flags: nothing was recorded, the series has ended.
const NO_RECORDED_VALUE: u32 = 1;
/// `AggregationTemporality`: since the last point, and since the start.
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes up and down; sums that are not monotonic too.
    Gauge,
    /// Only goes up.
    Counter,
    /// A distribution.
    Histogram,
    /// Quantiles that the sender has made.
    Summary,
}

impl Kind {
    /// The word of the exposition formats.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// A classic histogram: counts per bucket, one more than there are bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classic {
    pub(crate) bounds: Vec<f64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: Option<f64>,
}

/// What a series holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Classic(Classic),
    Exponential(Histogram),
    /// Levels with their values, the sum, the count.
    Summary(Vec<(f64, f64)>, f64, u64),
}

impl Value {
    /// Series that it is on a page, roughly: what the bound on them counts.
    pub(super) const fn weight(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            Self::Classic(classic) => classic.counts.len() + 2,
            Self::Exponential(_) => crate::export::CLASSIC_BUCKETS + 2,
            Self::Summary(quantiles, ..) => quantiles.len() + 2,
        }
    }

    /// Adds what has happened since. Where the two do not go together, the newer one begins anew.
    pub(super) fn add(&mut self, newer: Self) {
        match (self, newer) {
            (Self::Number(known), Self::Number(newer)) => *known += newer,
            (Self::Classic(known), Self::Classic(newer)) if known.bounds == newer.bounds => {
                for (known, newer) in known.counts.iter_mut().zip(&newer.counts) {
                    *known = known.saturating_add(*newer);
                }
                known.sum = known.sum.zip(newer.sum).map(|(known, newer)| known + newer);
            }
            (Self::Exponential(known), Self::Exponential(newer)) => known.merge(&newer),
            (known, newer) => *known = newer,
        }
    }
}

/// What a point comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Told {
    /// A value.
    Value(Value),
    /// The series has ended.
    Ended,
    /// Nothing that can be used.
    Broken,
}

/// One point, of whatever type.
#[derive(Debug)]
pub(crate) struct Point<'a> {
    pub(crate) attributes: &'a [KeyValue],
    /// Nanoseconds since the epoch; 0: not told.
    pub(crate) time: u64,
    pub(crate) told: Told,
}

/// The points of a metric.
#[derive(Debug)]
pub(crate) struct Points<'a> {
    pub(crate) kind: Kind,
    /// Whether each point tells what happened since the one before it; `None` where the sender does not say.
    pub(crate) is_delta: Option<bool>,
    pub(crate) points: Vec<Point<'a>>,
}

/// Reads the points of a metric.
pub(crate) fn points(data: &metric::Data) -> Points<'_> {
    use metric::Data;
    let is_delta = |temporality| match temporality {
        DELTA => Some(true),
        CUMULATIVE => Some(false),
        _ => None,
    };
    match data {
        Data::Gauge(gauge) => Points {
            kind: Kind::Gauge,
            is_delta: Some(false),
            points: gauge.data_points.iter().map(number).collect(),
        },
        Data::Sum(sum) => Points {
            kind: if sum.is_monotonic { Kind::Counter } else { Kind::Gauge },
            is_delta: is_delta(sum.aggregation_temporality),
            points: sum.data_points.iter().map(number).map(|point| rising(point, sum.is_monotonic)).collect(),
        },
        Data::Histogram(histogram) => Points {
            kind: Kind::Histogram,
            is_delta: is_delta(histogram.aggregation_temporality),
            points: histogram.data_points.iter().map(classic).collect(),
        },
        Data::ExponentialHistogram(histogram) => Points {
            kind: Kind::Histogram,
            is_delta: is_delta(histogram.aggregation_temporality),
            points: histogram.data_points.iter().map(exponential).collect(),
        },
        Data::Summary(summary) => Points {
            kind: Kind::Summary,
            is_delta: Some(false),
            points: summary.data_points.iter().map(of_summary).collect(),
        },
    }
}

fn told(flags: u32, value: Option<Value>) -> Told {
    match value {
        _ if flags & NO_RECORDED_VALUE != 0 => Told::Ended,
        Some(value) => Told::Value(value),
        None => Told::Broken,
    }
}

#[expect(clippy::cast_precision_loss, reason = "as every metric system has it")]
fn number(point: &NumberDataPoint) -> Point<'_> {
    let value = point.value.map(|value| match value {
        number_data_point::Value::AsDouble(value) => value,
        number_data_point::Value::AsInt(value) => value as f64,
    });
    let value = value.filter(|value| value.is_finite()).map(Value::Number);
    Point { attributes: &point.attributes, time: point.time_unix_nano, told: told(point.flags, value) }
}

/// A counter below zero is none.
fn rising(mut point: Point<'_>, is_monotonic: bool) -> Point<'_> {
    if is_monotonic && matches!(point.told, Told::Value(Value::Number(value)) if value < 0.0) {
        point.told = Told::Broken;
    }
    point
}

fn classic(point: &HistogramDataPoint) -> Point<'_> {
    let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
    // Without buckets it tells a count and a sum.
    let is_bare = bounds.is_empty() && counts.is_empty();
    let rises = bounds.iter().all(|bound| !bound.is_nan()) && bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let adds_up = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count)) == Some(point.count);
    let is_sound =
        is_bare || (bounds.len() < BUCKETS_MAX && counts.len() == bounds.len() + 1 && rises && adds_up);
    let value = is_sound.then(|| {
        // The bound above all is that of every histogram.
        let finite = bounds.iter().filter(|bound| bound.is_finite()).count();
        let mut all = if is_bare { vec![point.count] } else { counts.clone() };
        if finite + 1 < all.len() {
            let above: u64 = all.drain(finite..).sum();
            all.push(above);
        }
        let sum = point.sum.filter(|sum| sum.is_finite());
        Value::Classic(Classic { bounds: bounds[..finite].to_vec(), counts: all, sum })
    });
    Point { attributes: &point.attributes, time: point.time_unix_nano, told: told(point.flags, value) }
}

fn exponential(point: &ExponentialHistogramDataPoint) -> Point<'_> {
    let of = |buckets: &Option<super::messages::exponential_histogram_data_point::Buckets>| {
        buckets.clone().unwrap_or_default()
    };
    let (positive, negative) = (of(&point.positive), of(&point.negative));
    let sum = |counts: &[u64]| counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
    let below = sum(&negative.bucket_counts).and_then(|below| below.checked_add(point.zero_count));
    let total = below.zip(sum(&positive.bucket_counts)).and_then(|(below, above)| below.checked_add(above));
    let fits = positive.bucket_counts.len() <= BUCKETS_MAX && (-10..=20).contains(&point.scale);
    let value = below.filter(|_| fits && total == Some(point.count)).map(|below| {
        let buckets = positive.bucket_counts.iter().enumerate().map(|(at, count)| {
            let index = i64::from(positive.offset) + i64::try_from(at).unwrap_or(i64::MAX);
            (rescaled(index, point.scale), *count)
        });
        let sum = point.sum.filter(|sum| sum.is_finite()).unwrap_or_default();
        Value::Exponential(Histogram::from_buckets(buckets, below, sum))
    });
    Point { attributes: &point.attributes, time: point.time_unix_nano, told: told(point.flags, value) }
}

/// The bucket of our own scale that holds bucket `index` of `scale`: that with its upper bound, or the next one that has it below.
/// OTLP's bucket `i` ends where the `i + 1`th of native histograms does.
fn rescaled(index: i64, scale: i32) -> i32 {
    let upper = index.saturating_add(1);
    let shift = scale - Histogram::SCHEMA;
    let ours = if shift >= 0 {
        // Rounded up: an arithmetic shift rounds down.
        -(upper.saturating_neg() >> shift)
    } else {
        upper.saturating_mul(1 << -shift)
    };
    i32::try_from(ours).unwrap_or(if ours < 0 { i32::MIN } else { i32::MAX })
}

fn of_summary(point: &SummaryDataPoint) -> Point<'_> {
    let quantiles: Vec<_> = point.quantile_values.iter().map(|at| (at.quantile, at.value)).collect();
    let is_sound = quantiles.len() <= BUCKETS_MAX
        && point.sum.is_finite()
        && quantiles.iter().all(|(level, _)| (0.0..=1.0).contains(level));
    let value = is_sound.then_some(Value::Summary(quantiles, point.sum, point.count));
    Point { attributes: &point.attributes, time: point.time_unix_nano, told: told(point.flags, value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::messages::exponential_histogram_data_point::Buckets;
    use proptest::prelude::*;

    fn value(told: Told) -> Option<Value> {
        match told {
            Told::Value(value) => Some(value),
            Told::Ended | Told::Broken => None,
        }
    }

    #[test]
    fn a_histogram_that_does_not_add_up_is_refused() {
        let good = HistogramDataPoint {
            count: 6,
            sum: Some(3.0),
            bucket_counts: vec![1, 2, 3],
            explicit_bounds: vec![0.1, 1.0],
            ..HistogramDataPoint::default()
        };
        let Some(Value::Classic(read)) = value(classic(&good).told) else { panic!() };
        assert_eq!((read.bounds.len(), read.counts), (2, vec![1, 2, 3]));
        for broken in [
            HistogramDataPoint { count: 7, ..good.clone() },
            HistogramDataPoint { explicit_bounds: vec![1.0, 0.1], ..good.clone() },
            HistogramDataPoint { explicit_bounds: vec![0.1], ..good.clone() },
            HistogramDataPoint { bucket_counts: vec![u64::MAX, 1, 6], ..good.clone() },
        ] {
            assert_eq!(classic(&broken).told, Told::Broken);
        }
        let infinite = HistogramDataPoint { explicit_bounds: vec![0.1, f64::INFINITY], ..good.clone() };
        let Some(Value::Classic(read)) = value(classic(&infinite).told) else { panic!() };
        assert_eq!((read.bounds, read.counts), (vec![0.1], vec![1, 5]));
        let ended = HistogramDataPoint { flags: 1, ..good };
        assert_eq!(classic(&ended).told, Told::Ended);
    }

    #[test]
    fn a_bucket_of_another_scale_ends_no_sooner() {
        // Scale 0: bucket 0 is (1, 2], whose bound is the 8th of scale 3.
        assert_eq!(rescaled(0, 0), 8);
        assert_eq!(rescaled(-1, 0), 0);
        assert_eq!(rescaled(7, 3), 8);
        assert_eq!((rescaled(14, 4), rescaled(15, 4)), (8, 8));
        assert_eq!(rescaled(i64::from(i32::MAX), -10), i32::MAX);
    }

    proptest! {
        #[test]
        fn what_is_observed_elsewhere_has_our_quantiles(
            values in prop::collection::vec(1e-4f64..1e4, 1..200),
            scale in -2i32..8,
        ) {
            let base = 2f64.powf(2f64.powi(-scale));
            let mut counts = std::collections::BTreeMap::new();
            for value in &values {
                #[expect(clippy::cast_possible_truncation, reason = "small in the test")]
                let index = (value.ln() / base.ln()).ceil() as i32 - 1;
                *counts.entry(index).or_insert(0u64) += 1;
            }
            let (first, last) = (*counts.keys().next().unwrap(), *counts.keys().last().unwrap());
            prop_assume!(last - first < 500);
            let point = ExponentialHistogramDataPoint {
                count: values.len() as u64,
                sum: Some(values.iter().sum()),
                scale,
                positive: Some(Buckets {
                    offset: first,
                    bucket_counts: (first..=last).map(|at| counts.get(&at).copied().unwrap_or(0)).collect(),
                }),
                ..ExponentialHistogramDataPoint::default()
            };
            let Some(Value::Exponential(read)) = value(exponential(&point).told) else { panic!() };
            prop_assert_eq!(read.count(), values.len() as u64);
            let most = values.iter().copied().fold(0.0, f64::max);
            let width = base.max(2f64.powf(0.125)) * 2f64.powf(0.125);
            let told = read.quantile(1.0).unwrap();
            prop_assert!(told <= most * width * 1.001 && told * width * 1.001 >= most, "{} {}", told, most);
        }
    }
}
