//! Log records of a request as the log path keeps them. No I/O.

use prost::Message as _;
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};
use tidegate_core::Timestamp;

use super::messages::logs::v1::{ExportLogsServiceRequest, LogRecord};
use super::messages::{AnyValue, KeyValue, any_value::Value};
use super::names::{attribute, text};
use crate::logs::pushed::{PushedBy, PushedLine};
use crate::logs::{EventId, LogLevel};

/// Longest text of what a sender says beside the body, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Most attributes of a record; the log path keeps fewer, and says so.
const ATTRIBUTES_MAX: usize = 64;
/// How deep lists and maps may lie in each other: protobuf's own readers stop at a hundred.
const DEPTH_MAX: usize = 16;

/// The records of a request, and how many were empty.
///
/// Their ids are made from the request: whoever did not get an answer sends the same one again, and its records are stored once. A
/// record without any time may well come twice, and is known by its place alone.
pub(crate) fn lines(request: &ExportLogsServiceRequest) -> (Vec<PushedLine>, u64) {
    let digest = Sha256::digest(request.encode_to_vec());
    let (mut lines, mut empty, mut index) = (Vec::new(), 0, 0);
    for resource in &request.resource_logs {
        let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let by = pushed_by(attributes);
        for scope in &resource.scope_logs {
            let logger = scope.scope.as_ref().and_then(|scope| named(&scope.name));
            for record in &scope.log_records {
                index += 1;
                let is_empty =
                    record.body.is_none() && record.attributes.is_empty() && record.event_name.is_empty();
                if is_empty {
                    empty += 1;
                    continue;
                }
                let at = at(record);
                let id = at.map(|_| EventId::pushed(&digest, index));
                let told = PushedLine { id, at, by: by.clone(), logger: logger.clone(), ..line(record) };
                lines.push(told);
            }
        }
    }
    (lines, empty)
}

fn line(record: &LogRecord) -> PushedLine {
    let mut labels: Vec<_> = record.attributes.iter().take(ATTRIBUTES_MAX).map(label).collect();
    let mut body = record.body.as_ref().map(words).unwrap_or_default();
    if let Some(name) = named(&record.event_name) {
        if body.is_empty() {
            body.clone_from(&name);
        }
        labels.insert(0, ("event_name".into(), name));
    }
    PushedLine {
        level: level(record),
        body,
        labels,
        trace: id(&record.trace_id),
        span: id(&record.span_id),
        truncated: record.attributes.len() > ATTRIBUTES_MAX,
        ..PushedLine::default()
    }
}

/// By OpenTelemetry's names for a service and for a pod.
fn pushed_by(attributes: &[KeyValue]) -> PushedBy {
    let text = |key| attribute(attributes, key).map(|text| cut(&text));
    PushedBy {
        service: text("service.name"),
        instance: text("service.instance.id"),
        namespace: text("k8s.namespace.name"),
        pod: text("k8s.pod.name"),
        pod_uid: text("k8s.pod.uid"),
        container: text("k8s.container.name"),
        restarts: text("k8s.container.restart_count").and_then(|count| count.parse().ok()),
    }
}

/// When it happened; else when it was seen first.
fn at(record: &LogRecord) -> Option<Timestamp> {
    let nanos = [record.time_unix_nano, record.observed_time_unix_nano].into_iter().find(|at| *at > 0)?;
    Some(Timestamp::from_millis(i64::try_from(nanos / 1_000_000).ok()?))
}

/// By the number, of which four are one level; else by the word ("Logs Data Model", severity fields).
fn level(record: &LogRecord) -> Option<LogLevel> {
    match record.severity_number {
        1..=4 => Some(LogLevel::Trace),
        5..=8 => Some(LogLevel::Debug),
        9..=12 => Some(LogLevel::Info),
        13..=16 => Some(LogLevel::Warn),
        17..=20 => Some(LogLevel::Error),
        21..=24 => Some(LogLevel::Fatal),
        _ => LogLevel::from_word(&record.severity_text),
    }
}

fn label(attribute: &KeyValue) -> (String, String) {
    let told = match attribute.value.as_ref() {
        Some(value) => words(value),
        None => String::new(),
    };
    (cut(&attribute.key), cut(&told))
}

/// A value as text; of lists, maps and bytes, their JSON.
fn words(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_)) => {
            match json(value, DEPTH_MAX) {
                Json::String(text) => text,
                other => other.to_string(),
            }
        }
        _ => text(Some(value)),
    }
}

fn json(value: &AnyValue, depth: usize) -> Json {
    use base64::Engine as _;
    let inner = |value: Option<&AnyValue>| match value {
        Some(value) if depth > 0 => json(value, depth - 1),
        _ => Json::Null,
    };
    match &value.value {
        None => Json::Null,
        Some(Value::StringValue(text)) => text.as_str().into(),
        Some(Value::BoolValue(is)) => (*is).into(),
        Some(Value::IntValue(number)) => (*number).into(),
        Some(Value::DoubleValue(number)) => (*number).into(),
        Some(Value::BytesValue(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(|value| inner(Some(value))).collect(),
        Some(Value::KvlistValue(map)) => {
            let pair = |pair: &KeyValue| (pair.key.clone(), inner(pair.value.as_ref()));
            Json::Object(map.values.iter().map(pair).collect::<Map<_, _>>())
        }
    }
}

/// An id in hexadecimal; one of zeros is none.
fn id(bytes: &[u8]) -> Option<String> {
    let is_one = matches!(bytes.len(), 8 | 16) && bytes.iter().any(|byte| *byte != 0);
    is_one.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn named(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| cut(text))
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As an SDK and a collector write it.
    const JSON: &str = r#"{"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "chat"}},
            {"key": "k8s.namespace.name", "value": {"stringValue": "shop"}},
            {"key": "k8s.pod.name", "value": {"stringValue": "chat-0"}},
            {"key": "k8s.container.restart_count", "value": {"intValue": "2"}}], "droppedAttributesCount": 0},
        "scopeLogs": [{"scope": {"name": "app.worker"}, "logRecords": [
            {"timeUnixNano": "1769846400250000000", "observedTimeUnixNano": "1769846400300000000",
             "severityNumber": 17, "severityText": "ERROR", "flags": 1, "droppedAttributesCount": 0,
             "body": {"stringValue": "CUDA out of memory"},
             "attributes": [{"key": "gpu", "value": {"intValue": "0"}}, {"key": "exception.type", "value": {"stringValue": "E"}}],
             "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"},
            {"observedTimeUnixNano": 1769846400300000000, "severityText": "warning",
             "body": {"kvlistValue": {"values": [{"key": "msg", "value": {"stringValue": "slow"}},
                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": true}, {"bytesValue": "aGk="}]}}}]}}},
            {"eventName": "checkpoint", "traceId": "00000000000000000000000000000000"},
            {}
        ]}]
    }]}"#;

    fn request(text: &str) -> ExportLogsServiceRequest {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_record_has_what_its_sender_says() {
        let (lines, empty) = lines(&request(JSON));
        assert_eq!((lines.len(), empty), (3, 1));
        let [first, second, third] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(first.at, Some(Timestamp::from_millis(1_769_846_400_250)));
        assert_eq!((first.level, first.body.as_str()), (Some(LogLevel::Error), "CUDA out of memory"));
        assert_eq!(first.labels, [("gpu".into(), "0".into()), ("exception.type".into(), "E".into())]);
        assert_eq!(first.trace.as_deref(), Some("5b8efff798038103d269b633813fc60c"));
        assert_eq!(
            (first.span.as_deref(), first.logger.as_deref()),
            (Some("eee19b7ec3c1b174"), Some("app.worker"))
        );
        assert_eq!((first.by.pod.as_deref(), first.by.restarts), (Some("chat-0"), Some(2)));
        assert_eq!(
            (second.level, second.body.as_str()),
            (Some(LogLevel::Warn), r#"{"msg":"slow","list":[true,"aGk="]}"#)
        );
        assert_eq!(second.at, Some(Timestamp::from_millis(1_769_846_400_300)));
        assert_eq!((third.body.as_str(), third.labels[0].1.as_str()), ("checkpoint", "checkpoint"));
        assert_eq!((&third.trace, &third.at), (&None, &None));
    }

    #[test]
    fn the_same_request_has_the_same_ids_and_any_other_has_others() {
        let ids = |text: &str| lines(&request(text)).0.into_iter().map(|line| line.id).collect::<Vec<_>>();
        let first = ids(JSON);
        assert_eq!(first, ids(JSON));
        assert_ne!(first[0], first[1]);
        assert_eq!(first[2], None, "without a time it may be another");
        assert_ne!(first[0], ids(&JSON.replace("slow", "fast"))[0]);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for wrong in ["5b8", "zz", "é"] {
            let text = format!(
                r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"traceId":"{wrong}"}}]}}]}}]}}"#
            );
            assert!(serde_json::from_str::<ExportLogsServiceRequest>(&text).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = ExportLogsServiceRequest::decode(&*bytes) {
                let records = request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len() as u64);
                let (lines, empty) = lines(&request);
                prop_assert_eq!(lines.len() as u64 + empty, records.sum::<u64>());
            }
        }
    }
}
