//! Requests in every form, good ones and others.

use std::io::Write;

use super::*;
use crate::logs::SpoolLimits;
use crate::otlp::messages::{metric::Data, number_data_point};

/// As the SDKs write it: 64 bits as text, fields that nobody reads here among the others.
const JSON_REQUEST: &str = r#"{"resourceMetrics": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}], "droppedAttributesCount": 0},
    "schemaUrl": "",
    "scopeMetrics": [{"scope": {"name": "app", "version": "1"}, "metrics": [
        {"name": "served", "unit": "1", "description": "", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [{"asInt": "41", "startTimeUnixNano": "1", "timeUnixNano": "1700000000000000000",
                "attributes": [{"key": "code", "value": {"intValue": "200"}}], "exemplars": []}]}},
        {"name": "queue", "gauge": {"dataPoints": [{"asDouble": "NaN"}, {"asDouble": 2.5}]}},
        {"name": "took", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"count": "3", "sum": 1.5, "bucketCounts": ["1", "2", "0"], "explicitBounds": [0.5, 1], "min": 0.1}]}},
        {"name": "native", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
            {"count": 2, "sum": 3, "scale": 3, "zeroCount": "0", "positive": {"offset": 7, "bucketCounts": ["1", "1"]}}]}},
        {"name": "old", "summary": {"dataPoints": [
            {"count": "4", "sum": 8, "quantileValues": [{"quantile": 0.5, "value": 2}]}]}}
    ]}]
}]}"#;

fn receiver() -> Receiver {
    Receiver::new(Arc::new(Inbox::new()), None, Arc::new(Registry::new()))
}

fn outcome(receiver: &Receiver, outcome: &str) -> f64 {
    receiver.registry.counter(Metric::OtlpRequests, &[(Label::Outcome, outcome)]).get()
}

fn packed(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn json_is_read_as_protobuf_is() {
    let request: ExportMetricsServiceRequest = serde_json::from_str(JSON_REQUEST).unwrap();
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{:?}", metrics[0]) };
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(41)));
    assert_eq!(sum.data_points[0].time_unix_nano, 1_700_000_000_000_000_000);
    let by_json = receiver().http(
        Pushed::Metrics,
        Some("application/json; charset=utf-8"),
        None,
        JSON_REQUEST.as_bytes(),
    );
    let text = String::from_utf8(by_json.body).unwrap();
    assert_eq!(text, r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"1 bad_value"}}"#);
    let by_protobuf = receiver();
    let answer =
        by_protobuf.http(Pushed::Metrics, Some(PROTOBUF), Some("gzip"), &packed(&request.encode_to_vec()));
    assert_eq!((answer.status, answer.content_type), (StatusCode::OK, PROTOBUF));
    let response = ExportMetricsServiceResponse::decode(&*answer.body).unwrap();
    assert_eq!(response.partial_success.unwrap().rejected_data_points, 1);
    assert_eq!(by_protobuf.registry.counter(Metric::OtlpPoints, &[]).get(), 5.0);
    assert_eq!(outcome(&by_protobuf, "partial"), 1.0);
}

#[test]
fn all_taken_is_said_by_an_empty_answer() {
    let all = receiver();
    assert_eq!(all.http(Pushed::Metrics, Some(PROTOBUF), None, b"").body, b"");
    assert_eq!(all.http(Pushed::Metrics, Some(JSON), None, b"{}").body, b"{}");
    assert_eq!(outcome(&all, "ok"), 2.0);
}

#[test]
fn what_is_no_request_is_refused_with_its_reason() {
    let long = vec![b' '; REQUEST_BYTES_MAX + 1];
    let bomb = packed(&vec![b' '; REQUEST_BYTES_MAX * 4]);
    for (content_type, encoding, body, status, counted) in [
        (Some("text/plain"), None, &b"{}"[..], 415, "unsupported"),
        (None, None, b"", 415, "unsupported"),
        (Some(JSON), Some("zstd"), b"{}", 415, "unsupported"),
        (Some(JSON), None, b"{\"resourceMetrics\": 1}", 400, "malformed"),
        (Some(JSON), None, b"[", 400, "malformed"),
        (Some(PROTOBUF), None, b"\xff\xff", 400, "malformed"),
        (Some(PROTOBUF), Some("gzip"), b"no gzip", 400, "malformed"),
        (Some(JSON), None, &long, 413, "too_large"),
        (Some(JSON), Some("gzip"), &bomb, 413, "too_large"),
    ] {
        let receiver = receiver();
        let answer = receiver.http(Pushed::Metrics, content_type, encoding, body);
        assert_eq!(answer.status, status, "{content_type:?} {encoding:?}");
        assert_eq!(outcome(&receiver, counted), 1.0, "{content_type:?} {encoding:?}");
        let message = match answer.content_type {
            JSON => serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["message"].to_string(),
            _ => Status::decode(&*answer.body).unwrap().message,
        };
        assert!(message.contains("the body"), "{message}");
    }
}

#[tokio::test]
async fn grpc_takes_what_http_takes() {
    let receiver = receiver();
    let request: ExportMetricsServiceRequest = serde_json::from_str(JSON_REQUEST).unwrap();
    let response = MetricsService::export(&receiver, Request::new(request)).await.unwrap().into_inner();
    assert_eq!(response.partial_success.unwrap().error_message, "1 bad_value");
}

const RECORDS: &str = r#"{"resourceLogs": [{"scopeLogs": [{"logRecords": [
    {"timeUnixNano": "1769846400250000000", "severityNumber": 9, "body": {"stringValue": "ready"}}, {}]}]}]}"#;

fn keeping(limits: SpoolLimits) -> (tempfile::TempDir, Receiver) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path().join("pushed"), limits).unwrap();
    (dir, Receiver { spool: Some(Arc::new(spool)), ..receiver() })
}

#[tokio::test]
async fn records_are_on_disk_before_they_are_answered() {
    let (dir, receiver) = keeping(SpoolLimits::default());
    let answer = receiver.http(Pushed::Logs, Some(JSON), None, RECORDS.as_bytes());
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(text, r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"1 empty"}}"#);
    let request: ExportLogsServiceRequest = serde_json::from_str(RECORDS).unwrap();
    let response = LogsService::export(&receiver, Request::new(request)).await.unwrap().into_inner();
    assert_eq!(response.partial_success.unwrap().rejected_log_records, 1);
    let file = std::fs::read_dir(dir.path().join("pushed")).unwrap().next().unwrap().unwrap().path();
    let lines: Vec<_> = std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    assert!(lines.len() == 2 && lines[0] == lines[1] && lines[0].contains("ready"), "{lines:?}");
    assert_eq!(receiver.registry.counter(Metric::OtlpLogRecords, &[]).get(), 2.0);
    assert_eq!(outcome(&receiver, "partial"), 2.0);
}

#[tokio::test]
async fn records_that_cannot_be_kept_may_come_again_and_where_none_are_kept_they_may_not() {
    let (_dir, full) = keeping(SpoolLimits { bytes_max: 10, ..SpoolLimits::default() });
    for (receiver, status, code, counted) in [
        (full, 503, tonic::Code::Unavailable, "full"),
        (receiver(), 404, tonic::Code::Unimplemented, "unsupported"),
    ] {
        let answer = receiver.http(Pushed::Logs, Some(JSON), None, RECORDS.as_bytes());
        assert_eq!(answer.status.as_u16(), status);
        let request: ExportLogsServiceRequest = serde_json::from_str(RECORDS).unwrap();
        let refused = LogsService::export(&receiver, Request::new(request)).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert_eq!(outcome(&receiver, counted), 2.0);
    }
}
