//! Metrics by way of OpenTelemetry's own collector: Tidegate pushes its own to it, and it hands them on to Prometheus and to another
//! Tidegate, where they are what they were.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_agent::clock;
use tidegate_core::Metric;
use tidegate_tests::servers::{Collector, Prometheus, Tidegate, free_port};
use tidegate_tests::waiting;

const LIMIT: Duration = Duration::from_secs(60);

async fn up(config: Value) -> Tidegate {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::write(dir.path().join("tidegate.yaml"), config.to_string()).expect("the directory is writable");
    Tidegate::up_in(dir, &["--config", "tidegate.yaml"]).await
}

/// Value of the one series of this name whose labels have `part`.
fn value(page: &str, name: &str, part: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(part)
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn what_is_pushed_through_a_collector_arrives_as_it_was() {
    let prometheus = Prometheus::receiving().await;
    let port = free_port();
    let receiving = up(json!({ "otlp": { "grpc": format!("127.0.0.1:{port}") } })).await;
    let exporters = [
        ("otlp_http", json!({ "endpoint": format!("{}/api/v1/otlp", prometheus.url()) })),
        ("otlp_grpc", json!({ "endpoint": format!("127.0.0.1:{port}"), "tls": { "insecure": true } })),
    ];
    let collector = Collector::start("prometheus", "metrics", &exporters).await;
    let push = json!({ "url": collector.grpc(), "protocol": "grpc", "every": "1s" });
    let pushing = up(json!({ "otlp": { "push": push } })).await;

    // Of Tidegate's own, what Prometheus has is what stood on the page.
    let counter = Metric::OtlpPushed.family().name;
    let own = waiting::until("a count of its own", LIMIT, async || {
        value(&pushing.metrics().await, counter, "outcome=\"ok\"").filter(|count| *count >= 3.0)
    })
    .await;
    let job = "job=\"tidegate-up\"";
    found(&prometheus, &format!("{counter}{{{job},outcome=\"ok\"}} >= {own}")).await;
    found(&prometheus, &format!("{}{{{job}}} > 1e6", Metric::ProcessMemory.family().name)).await;

    // Of somebody else's, both have it, under the same name.
    assert!(collector.push("metrics", &request()).await, "{}", collector.errors());
    found(&prometheus, "app_requests_total{job=\"served\",code=\"200\"} == 41").await;
    waiting::until("the requests of the service", LIMIT, async || {
        let page = receiving.metrics().await;
        let value = value(&page, "app_requests_total", "job=\"served\"")?;
        assert_eq!(value, 41.0, "{page}");
        Some(())
    })
    .await;
    let page = receiving.metrics().await;
    assert_eq!(value(&page, Metric::OtlpPointsRefused.family().name, ""), None, "every point was taken");
}

/// A counter as an SDK pushes it.
fn request() -> Value {
    let attribute = |key: &str, text: &str| json!({ "key": key, "value": { "stringValue": text } });
    let point = json!({
        "asInt": "41", "startTimeUnixNano": nanos(60), "timeUnixNano": nanos(0),
        "attributes": [attribute("code", "200")],
    });
    let sum = json!({ "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point] });
    json!({ "resourceMetrics": [{
        "resource": { "attributes": [attribute("service.name", "served")] },
        "scopeMetrics": [{ "metrics": [{ "name": "app.requests", "sum": sum }] }],
    }]})
}

/// So many seconds ago: Prometheus takes no point that is much older than now.
fn nanos(seconds_ago: u64) -> String {
    let millis = clock::wall().before(Duration::from_secs(seconds_ago)).as_millis();
    format!("{millis}000000")
}

async fn found(prometheus: &Prometheus, query: &str) {
    waiting::until(query, LIMIT, async || {
        let found = prometheus.query(query).await.expect("the query is valid");
        (found.len() == 1).then_some(())
    })
    .await;
}
