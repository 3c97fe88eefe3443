//! OpenTelemetry's own SDK as the other side: what it pushes to `tidegate up`, by gRPC and by HTTP, becomes the signals of a workload
//! and stands on the page as it came.

use std::time::Duration;

use tidegate_core::{Metric, Signal};
use tidegate_tests::servers::{Runtime, Tidegate, free_port};
use tidegate_tests::waiting;

/// Pushes come once a second, and a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A workload that is watched and not started: it pushes under its name.
fn config(grpc: u16, http: u16) -> String {
    format!(
        "otlp: {{grpc: '127.0.0.1:{grpc}', http: '127.0.0.1:{http}'}}
workloads:
  - name: served
    serving:
      replicas: {{min: 1, max: 4}}
      slo: {{latency: 500ms, target: 0.9}}
"
    )
}

/// The value of the one series of this name whose labels have `part`.
fn value(page: &str, name: &str, part: &str) -> Option<f64> {
    let mut found = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (of, labels) = series.split_once('{').unwrap_or((series, ""));
        (of == name && labels.contains(part)).then(|| value.parse().ok())?
    });
    let first = found.next()?;
    assert_eq!(found.next(), None, "{name} with {part} is there twice");
    Some(first)
}

async fn until(server: &Tidegate, what: &str, name: &str, part: &str, holds: impl Fn(f64) -> bool) {
    waiting::until(what, PATIENCE, async || {
        value(&server.metrics().await, name, part).filter(|value| holds(*value)).map(drop)
    })
    .await;
}

async fn check(form: &str) {
    let (grpc, http) = (free_port(), free_port());
    let dir = tempfile::tempdir().expect("a directory can be made");
    std::fs::write(dir.path().join("tidegate.yaml"), config(grpc, http)).expect("the directory is writable");
    let server = Tidegate::up_in(dir, &["--config", "tidegate.yaml"]).await;
    let endpoint = match form {
        "grpc" => format!("127.0.0.1:{grpc}"),
        _ => format!("http://127.0.0.1:{http}/v1/metrics"),
    };
    let runtime = Runtime::otlp(form, &endpoint).await;
    for _ in 0..20 {
        assert_eq!(runtime.predict(0.0, 200).await, Some(200));
    }
    assert_eq!(runtime.predict(0.0, 503).await, Some(503));
    // As it came: one answer was that by which the server was found to be there.
    until(&server, "all answers", "answers_total", "code=\"200\"", |count| count == 21.0).await;
    until(&server, "the failed one", "answers_total", "code=\"503\"", |count| count == 1.0).await;
    let histogram = "http_server_request_duration_seconds_count";
    until(&server, "the histogram", histogram, "http_response_status_code=\"503\"", |count| count == 1.0)
        .await;
    let page = server.metrics().await;
    assert!(page.contains("job=\"served\"") && page.contains("instance=\"served-0\""), "{page}");
    // As signals: six that take their time, of which each is late.
    let workload = "workload=\"local/process/served\"";
    let slow = futures::future::join_all((0..6).map(|_| runtime.predict(12.0, 200)));
    let watching = async {
        until(&server, "requests in flight", Signal::InFlight.metric_name(), workload, |now| now == 6.0)
            .await;
        waiting::until("late answers among all", PATIENCE, async || {
            let page = server.metrics().await;
            let rate = |of: Signal| value(&page, of.metric_name(), workload);
            let (late, all) = (rate(Signal::SloMissesPerSecond)?, rate(Signal::CompletionsPerSecond)?);
            (late > 0.2 && all > 0.2).then_some(())
        })
        .await;
    };
    let (answers, ()) = futures::future::join(slow, watching).await;
    assert_eq!(answers, [Some(200); 6]);
    let refused = page.lines().filter(|line| line.starts_with(Metric::OtlpPointsRefused.family().name));
    assert_eq!(refused.count(), 0, "every point was taken");
}

#[tokio::test]
async fn the_sdk_pushes_by_grpc() {
    check("grpc").await;
}

#[tokio::test]
async fn the_sdk_pushes_by_http() {
    check("http").await;
}
