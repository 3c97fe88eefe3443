//! The page's families as OpenTelemetry's messages, under the names that they have on the page. No I/O.

use tidegate_core::{Family, Histogram, Kind, Label, Unit};

use super::encode::{Point, Points};
use crate::clock::Moment;
use crate::otlp::messages::exponential_histogram_data_point::Buckets;
use crate::otlp::messages::{
    AnyValue, ExponentialHistogram, ExponentialHistogramDataPoint, ExportMetricsServiceRequest, Gauge,
    InstrumentationScope, KeyValue, Metric, NumberDataPoint, Resource, ResourceMetrics, ScopeMetrics, Sum,
    any_value, metric::Data, number_data_point,
};

/// Points of one request at most: some hundred kilobytes before they are packed.
const POINTS_MAX: usize = 4_000;
/// `AggregationTemporality`: since the start.
const CUMULATIVE: i32 = 2;

/// What holds for all points of one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When counting began.
    start: u64,
    /// When the values were read.
    now: u64,
}

impl Times {
    pub(super) fn new(start: Moment, now: Moment) -> Self {
        let nanoseconds =
            |at: Moment| u64::try_from(at.at.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        Self { start: nanoseconds(start), now: nanoseconds(now) }
    }
}

/// Requests with all points, none with too many. `resource` says who tells.
pub(super) fn requests(
    families: &[(Family, Points)],
    times: Times,
    resource: &[(&str, String)],
) -> Vec<ExportMetricsServiceRequest> {
    let mut requests = Vec::new();
    let (mut metrics, mut room) = (Vec::new(), POINTS_MAX);
    for (family, points) in families {
        let mut from = 0;
        while from < points.len() {
            let to = points.len().min(from + room);
            metrics.push(metric(family, points, from..to, times));
            (room, from) = (room - (to - from), to);
            if room == 0 {
                requests.push(request(std::mem::take(&mut metrics), resource));
                room = POINTS_MAX;
            }
        }
    }
    if !metrics.is_empty() {
        requests.push(request(metrics, resource));
    }
    requests
}

fn request(metrics: Vec<Metric>, resource: &[(&str, String)]) -> ExportMetricsServiceRequest {
    let attributes = resource.iter().map(|(key, value)| attribute(key, value)).collect();
    let scope = InstrumentationScope { name: "tidegate".into(), version: env!("CARGO_PKG_VERSION").into() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics }],
        }],
    }
}

fn metric(family: &Family, points: &Points, range: std::ops::Range<usize>, times: Times) -> Metric {
    let data = match points {
        Points::Numbers(points) => {
            let data_points = points[range].iter().map(|point| number(family, point, times)).collect();
            match family.kind {
                Kind::Counter => {
                    Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
                }
                _ => Data::Gauge(Gauge { data_points }),
            }
        }
        Points::Histograms(points) => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: points[range]
                .iter()
                .map(|(labels, histogram)| distribution(attributes(family.labels, labels), histogram, times))
                .collect(),
            aggregation_temporality: CUMULATIVE,
        }),
    };
    Metric {
        name: family.name.into(),
        description: family.help.into(),
        unit: unit(family.unit).into(),
        data: Some(data),
    }
}

fn number(family: &Family, point: &Point, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        // Of what the machine counts, the start is not known.
        start_time_unix_nano: if family.kind == Kind::Counter { times.start } else { 0 },
        time_unix_nano: times.now,
        value: Some(number_data_point::Value::AsDouble(point.value)),
        attributes: attributes(family.labels, &point.labels),
        flags: 0,
    }
}

fn distribution(
    attributes: Vec<KeyValue>,
    histogram: &Histogram,
    times: Times,
) -> ExponentialHistogramDataPoint {
    let (mut first, mut counts) = (None, Vec::new());
    for (index, count) in histogram.buckets() {
        let first = *first.get_or_insert(index);
        // Indices are bounded, and rise.
        let at = usize::try_from(index - first).unwrap_or_default();
        counts.resize(at, 0);
        counts.push(count);
    }
    // OTLP's bucket `i` ends where the `i + 1`th of ours does.
    let positive = first.map(|first| Buckets { offset: first - 1, bucket_counts: counts });
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        count: histogram.count(),
        sum: Some(histogram.sum()),
        scale: Histogram::SCHEMA,
        zero_count: histogram.zero_count(),
        positive,
        negative: None,
        flags: 0,
    }
}

/// Labels that are empty are as good as absent.
fn attributes(labels: &[Label], values: &[Box<str>]) -> Vec<KeyValue> {
    let told = labels.iter().zip(values).filter(|(_, value)| !value.is_empty());
    told.map(|(label, value)| attribute(label.name(), value)).collect()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.into()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }) }
}

/// The unit in UCUM. A share has none: its name says it, and receivers that add units to names would add another.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Hours => "h",
        Unit::Bytes => "By",
        Unit::Watts => "W",
        Unit::Joules => "J",
        Unit::Celsius => "Cel",
        Unit::Hertz => "Hz",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::points::{Value, points};
    use proptest::prelude::*;
    use prost::Message as _;
    use tidegate_core::{Metric as Own, Timestamp};

    fn times() -> Times {
        let at = |seconds| Moment {
            at: Timestamp::from_secs(seconds),
            steady: std::time::Duration::from_secs(seconds.unsigned_abs()),
        };
        Times::new(at(10), at(20))
    }

    #[test]
    fn no_request_has_more_points_than_one_may() {
        let point = |at: usize| Point { labels: vec![at.to_string().into()], value: 1.0 };
        let many = Points::Numbers((0..POINTS_MAX + 10).map(point).collect());
        let few = Points::Numbers((0..3).map(point).collect());
        let families = [(Own::SourceUp.family(), few), (Own::SourceReadSeconds.family(), many)];
        let requests = requests(&families, times(), &[("service.name", "tidegate".into())]);
        let count = |request: &ExportMetricsServiceRequest| -> usize {
            let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
            metrics.iter().map(|metric| points(metric.data.as_ref().unwrap()).points.len()).sum()
        };
        assert_eq!(requests.iter().map(count).collect::<Vec<_>>(), [POINTS_MAX, 13]);
        assert!(requests[0].encoded_len() < 1 << 20, "{}", requests[0].encoded_len());
        let metrics = &requests[0].resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!((metrics[0].name.as_str(), metrics[1].unit.as_str()), (Own::SourceUp.family().name, "s"));
    }

    proptest! {
        #[test]
        fn a_distribution_that_is_received_is_the_one_that_was_sent(
            values in prop::collection::vec(0.0f64..1e4, 0..100),
        ) {
            let mut seen = Histogram::default();
            values.iter().for_each(|value| seen.observe(*value));
            let sent = distribution(Vec::new(), &seen, times());
            let data = Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![sent],
                aggregation_temporality: CUMULATIVE,
            });
            let mut read = points(&data);
            let told = read.points.remove(0).told;
            prop_assert_eq!(told, crate::otlp::points::Told::Value(Value::Exponential(seen)));
        }
    }
}
