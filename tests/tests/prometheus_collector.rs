//! Metrics by way of OpenTelemetry's own collector: Tidegate pushes its own to it, and it hands them on to Prometheus and to another
//! Tidegate, where they are what they were.

use std::time::Duration;

use serde_json::json;
use tidegate_core::Metric;
use tidegate_tests::servers::{Collector, Prometheus, Tidegate, free_port};
use tidegate_tests::waiting;

const LIMIT: Duration = Duration::from_secs(60);

async fn up(config: serde_json::Value) -> Tidegate {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::write(dir.path().join("tidegate.yaml"), config.to_string()).expect("the directory is writable");
    Tidegate::up_in(dir, &["--config", "tidegate.yaml"]).await
}

/// Value of the one series of this name whose labels have `part`.
fn value(page: &str, name: &str, part: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(part))?;
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

    // A gauge of the pushing one that no other has: it is told apart by whose it is.
    let name = Metric::ProcessMemory.family().name;
    let job = "job=\"tidegate-up\"";
    waiting::until("the memory of the pushing one", LIMIT, async || {
        value(&receiving.metrics().await, name, job).filter(|bytes| *bytes > 1e6)
    })
    .await;
    let counter = Metric::OtlpPushed.family().name;
    let own = waiting::until("its own count", LIMIT, async || {
        value(&pushing.metrics().await, counter, "outcome=\"ok\"").filter(|count| *count >= 3.0)
    })
    .await;
    waiting::until("the same count behind the collector", LIMIT, async || {
        let page = receiving.metrics().await;
        let part = "outcome=\"ok\"";
        let behind = page.lines().find(|line| {
            line.starts_with(&format!("{counter}{{")) && line.contains(part) && line.contains(job)
        })?;
        behind.rsplit_once(' ')?.1.parse().ok().filter(|count: &f64| *count >= own)
    })
    .await;
    for query in [format!("{name}{{{job}}} > 1e6"), format!("{counter}{{{job},outcome=\"ok\"}} >= {own}")] {
        waiting::until(&query, LIMIT, async || {
            let found = prometheus.query(&query).await.expect("the query is valid");
            (found.len() == 1).then_some(())
        })
        .await;
    }
    let refused = Metric::OtlpPointsRefused.family().name;
    let page = receiving.metrics().await;
    assert!(
        !page.lines().any(|line| line.starts_with(refused) && !line.contains(job)),
        "every point was taken"
    );
}
