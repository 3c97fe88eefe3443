//! What is kept of requests, and what is refused.

use super::*;
use crate::otlp::messages::{
    AnyValue, Gauge, NumberDataPoint, Resource, ScopeMetrics, Sum, any_value, metric::Data, number_data_point,
};
use tidegate_core::Timestamp;

fn at(seconds: u64) -> Moment {
    let steady = Duration::from_secs(seconds);
    Moment { at: Timestamp::from_secs(i64::try_from(seconds).unwrap()), steady }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.into()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }) }
}

fn point(time: u64, value: f64, attributes: &[(&str, &str)]) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: time,
        value: Some(number_data_point::Value::AsDouble(value)),
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        ..NumberDataPoint::default()
    }
}

fn sum(points: Vec<NumberDataPoint>, temporality: i32) -> Data {
    Data::Sum(Sum { data_points: points, aggregation_temporality: temporality, is_monotonic: true })
}

fn request(service: &str, name: &str, data: Data) -> ExportMetricsServiceRequest {
    let metric = Metric { name: name.into(), data: Some(data), ..Metric::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes: vec![attribute("service.name", service)] }),
            scope_metrics: vec![ScopeMetrics { scope: None, metrics: vec![metric] }],
        }],
    }
}

fn value(inbox: &Inbox, family: &str) -> Option<f64> {
    let contents = inbox.lock();
    let family = contents.senders.values().next()?.families.get(family)?;
    match family.series.values().next()?.value {
        Value::Number(value) => Some(value),
        _ => None,
    }
}

#[test]
fn what_is_told_since_the_last_point_is_added_up_once() {
    let inbox = Inbox::new();
    for (time, told) in [(10, 3.0), (20, 4.0), (20, 4.0), (15, 9.0)] {
        let taken = inbox.take(&request("chat", "served", sum(vec![point(time, told, &[])], 1)), at(time));
        assert_eq!((taken.accepted, taken.rejected()), (1, 0));
    }
    assert_eq!(value(&inbox, "served_total"), Some(7.0), "what is sent again does not count again");
}

#[test]
fn what_is_told_since_the_start_replaces_what_was_known() {
    let inbox = Inbox::new();
    for (time, told) in [(10, 3.0), (20, 5.0), (15, 4.0)] {
        inbox.take(&request("chat", "served", sum(vec![point(time, told, &[])], 2)), at(time));
    }
    assert_eq!(value(&inbox, "served_total"), Some(5.0), "an overtaken request changes nothing");
    inbox.take(&request("chat", "served", sum(vec![point(30, 1.0, &[])], 2)), at(30));
    assert_eq!(value(&inbox, "served_total"), Some(1.0), "a sender may begin anew");
}

#[test]
fn what_cannot_be_used_is_refused_by_cause() {
    let inbox = Inbox::new();
    let gauge = |points| Data::Gauge(Gauge { data_points: points });
    for (cause, name, data) in [
        (Refusal::BadValue, "a", gauge(vec![point(1, f64::NAN, &[])])),
        (Refusal::BadValue, "a", gauge(vec![NumberDataPoint::default()])),
        (Refusal::BadValue, "a", sum(vec![point(1, -1.0, &[])], 2)),
        (Refusal::BadName, "", gauge(vec![point(1, 1.0, &[])])),
        (Refusal::BadLabels, "a", gauge(vec![point(1, 1.0, &[("le", "1")])])),
        (Refusal::NoTemporality, "a", sum(vec![point(1, 1.0, &[])], 0)),
    ] {
        let taken = inbox.take(&request("chat", name, data), at(1));
        assert_eq!(taken.refused, BTreeMap::from([(cause, 1)]));
        assert_eq!(taken.message(), format!("1 {}", cause.as_str()));
    }
    let mixed = gauge(vec![point(1, 1.0, &[]), point(1, f64::INFINITY, &[("a", "b")])]);
    let taken = inbox.take(&request("chat", "b", mixed), at(1));
    assert_eq!((taken.accepted, taken.rejected()), (1, 1), "what is good is taken all the same");
    // A counter and a gauge of one name: the suffix is that of both.
    let taken = inbox.take(&request("chat", "c_total", gauge(vec![point(1, 1.0, &[])])), at(1));
    assert_eq!(taken.accepted, 1);
    let taken = inbox.take(&request("chat", "c", sum(vec![point(1, 1.0, &[])], 2)), at(1));
    assert_eq!(taken.refused, BTreeMap::from([(Refusal::TypeChanged, 1)]));
}

#[test]
fn one_sender_fills_only_its_own_share() {
    let inbox = Inbox::new();
    let many = |service: &str, count: usize| {
        let points = (0..count).map(|at| point(1, 1.0, &[("n", &at.to_string())])).collect();
        request(service, "many", Data::Gauge(Gauge { data_points: points }))
    };
    let taken = inbox.take(&many("greedy", SERIES_OF_ONE_MAX + 10), at(1));
    assert_eq!(taken.accepted, SERIES_OF_ONE_MAX as u64);
    assert_eq!(taken.refused, BTreeMap::from([(Refusal::TooManySeries, 10)]));
    assert_eq!(inbox.take(&many("greedy", 5), at(2)).accepted, 5, "what is known is still taken");
    assert_eq!(inbox.take(&many("other", 5), at(2)).accepted, 5);
    assert_eq!(inbox.size(at(2)), (2, SERIES_OF_ONE_MAX + 5));
    let later = at(2 + GONE_AFTER.as_secs());
    assert_eq!(inbox.size(later), (2, 10), "series that are not told any more are forgotten");
    assert_eq!(inbox.size(at(3 + GONE_AFTER.as_secs())), (0, 0));
    let taken: u64 = (0..SENDERS_MAX + 3).map(|n| inbox.take(&many(&n.to_string(), 1), later).accepted).sum();
    assert_eq!(taken, SENDERS_MAX as u64);
}

#[test]
fn a_series_that_ended_is_gone_at_once() {
    let inbox = Inbox::new();
    let with =
        |flags| Data::Gauge(Gauge { data_points: vec![NumberDataPoint { flags, ..point(1, 2.0, &[]) }] });
    inbox.take(&request("chat", "up", with(0)), at(1));
    assert_eq!(value(&inbox, "up"), Some(2.0));
    inbox.take(&request("chat", "up", with(1)), at(2));
    assert_eq!((value(&inbox, "up"), inbox.size(at(2)).1), (None, 0));
}
