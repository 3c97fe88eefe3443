//! Log records by way of OpenTelemetry's own collector: by gRPC and by HTTP to `tidegate up`, and from there to Elasticsearch, each once,
//! though Tidegate is killed and the server goes away meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_core::{Field, Metric};
use tidegate_tests::servers::{Account, Collector, Elasticsearch, Tidegate, binary, free_port};
use tidegate_tests::waiting::until;

const LIMIT: Duration = Duration::from_secs(180);
const STREAM: &str = "logs-tidegate-default";
const RECORDS: u64 = 20;
const FIRST_NANOS: u64 = 1_769_846_400_000_000_000;

/// A directory with a configuration: logs go to this server, and may be pushed.
fn prepared(server: &Elasticsearch, grpc: u16, http: u16) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let password = dir.path().join("password");
    std::fs::write(&password, Account::ADMIN.password).expect("a file can be written");
    let config = json!({
        "otlp": { "grpc": format!("127.0.0.1:{grpc}"), "http": format!("127.0.0.1:{http}") },
        "logs": {
            "sink": "elasticsearch",
            "elasticsearch": { "url": server.url(), "username": Account::ADMIN.user, "passwordFile": password },
        },
        "workloads": [{
            "name": "served",
            "serving": { "replicas": { "min": 1, "max": 2 }, "slo": { "latency": "500ms", "target": 0.9 } },
        }],
    });
    std::fs::write(dir.path().join("tidegate.yaml"), config.to_string()).expect("a file can be written");
    install(server, &password);
    dir
}

fn install(server: &Elasticsearch, password: &Path) {
    let mut command = Command::new(binary());
    command.args(["check", "elasticsearch", "--url", &server.url(), "--user", Account::ADMIN.user]);
    let output = command.arg("--password-file").arg(password).output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn request(number: u64) -> Value {
    let record = |index: u64| {
        let at = FIRST_NANOS + (number * RECORDS + index) * 1_000_000;
        json!({
            "timeUnixNano": at.to_string(), "severityNumber": 17,
            "body": { "stringValue": format!("request {number} record {index}: CUDA out of memory") },
            "attributes": [{ "key": "gpu.index", "value": { "intValue": index.to_string() } }],
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
        })
    };
    let attribute = |key: &str, text: &str| json!({ "key": key, "value": { "stringValue": text } });
    json!({ "resourceLogs": [{
        "resource": { "attributes": [attribute("service.name", "served"), attribute("service.instance.id", "one")] },
        "scopeLogs": [{
            "scope": { "name": "app.worker" },
            "logRecords": (0..RECORDS).map(record).collect::<Vec<_>>(),
        }],
    }]})
}

async fn search(server: &Elasticsearch, body: &Value) -> Option<Value> {
    server.request(Method::POST, &format!("{STREAM}/_refresh"), Account::ADMIN).send().await.ok()?;
    let request = server.request(Method::POST, &format!("{STREAM}/_search"), Account::ADMIN).json(body);
    request.send().await.ok()?.error_for_status().ok()?.json().await.ok()
}

/// Documents, and how many messages they have.
async fn stored(server: &Elasticsearch) -> Option<(u64, u64)> {
    let times = json!({ "cardinality": { "field": "@timestamp", "precision_threshold": 10_000 } });
    let body = json!({ "size": 0, "track_total_hits": true, "aggs": { "times": times } });
    let answer = search(server, &body).await?;
    Some((answer["hits"]["total"]["value"].as_u64()?, answer["aggregations"]["times"]["value"].as_u64()?))
}

/// Two collectors, one for each form of the protocol.
async fn collectors(grpc: u16, http: u16) -> [Collector; 2] {
    let by_grpc = json!({ "endpoint": format!("127.0.0.1:{grpc}"), "tls": { "insecure": true } });
    let by_http = json!({ "endpoint": format!("http://127.0.0.1:{http}") });
    [
        Collector::start("elasticsearch", "logs", &[("otlp_grpc", by_grpc)]).await,
        Collector::start("elasticsearch", "logs", &[("otlp_http", by_http)]).await,
    ]
}

#[tokio::test]
async fn records_are_stored_once_though_both_ends_go_away() {
    let mut server = Elasticsearch::start().await;
    let (grpc, http) = (free_port(), free_port());
    let arguments = ["--config", "tidegate.yaml"];
    let mut tidegate = Tidegate::up_in(prepared(&server, grpc, http), &arguments).await;
    let collectors = collectors(grpc, http).await;
    let push = async |numbers: std::ops::Range<u64>| {
        for (number, collector) in numbers.zip(collectors.iter().cycle()) {
            assert!(collector.push("logs", &request(number)).await, "{}", collector.errors());
        }
    };
    push(0..20).await;
    until("the first records", LIMIT, async || stored(&server).await.filter(|(all, _)| *all == 400)).await;
    server.stop();
    push(20..30).await;
    tidegate.kill();
    push(30..40).await;
    tidegate.start_again(&arguments).await;
    push(40..50).await;
    server.start_again().await;
    let (all, times) =
        until("every record", LIMIT, async || stored(&server).await.filter(|(_, times)| *times == 1000))
            .await;
    assert_eq!(all, times, "each once");
    until("nothing left to ship", LIMIT, async || {
        let about = tidegate.get("/api/v1/about").await?;
        (about["sinks"][0]["buffered"] == 0).then_some(())
    })
    .await;
    let body =
        json!({ "size": 1, "query": { "match": { "labels.gpu_index": "7" } }, "sort": ["@timestamp"] });
    let found =
        search(&server, &body).await.expect("Elasticsearch answers")["hits"]["hits"][0]["_source"].clone();
    for (field, expected) in [
        (Field::Timestamp, "2026-01-31T08:00:00.007Z"),
        (Field::Message, "request 0 record 7: CUDA out of memory"),
        (Field::Level, "error"),
        (Field::Class, "cuda_oom"),
        (Field::Workload, "local/process/served"),
        (Field::Replica, "one"),
        (Field::Service, "served"),
        (Field::Logger, "app.worker"),
        (Field::Trace, "5b8efff798038103d269b633813fc60c"),
        (Field::Span, "eee19b7ec3c1b174"),
    ] {
        assert_eq!(found[field.name()], expected, "{found}");
    }
    let name = Metric::OtlpLogRecords.family().name;
    assert!(tidegate.metrics().await.lines().any(|line| line.starts_with(name)), "{name} is told");
}
