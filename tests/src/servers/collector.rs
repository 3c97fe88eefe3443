//! OpenTelemetry's own collector, between a test and what it hands on to.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Program, directory, free_port, http};
use crate::waiting;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running collector: what is pushed to it goes to each of its exporters.
#[derive(Debug)]
pub struct Collector {
    program: Program,
    grpc: u16,
    http: u16,
    _dir: TempDir,
}

impl Collector {
    /// Starts one for `metrics` or `logs`, with these exporters by their kinds: `otlp_grpc`, `otlp_http`. What they cannot hand on they send
    /// again, soon, for ever.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start(suite: &str, signal: &str, exporters: &[(&str, Value)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let (grpc, port) = (free_port(), free_port());
        let file = dir.path().join("collector.yaml");
        // JSON is YAML.
        let configuration = configuration(grpc, port, signal, exporters).to_string();
        std::fs::write(&file, configuration).expect("the directory is writable");
        let mut command =
            Command::new(directory("opentelemetry-collector", suite).join("bin/opentelemetry-collector"));
        command.arg(format!("--config=file:{}", file.display()));
        let program = Program::start("collector", &mut command, dir.path());
        let mut collector = Self { program, grpc, http: port, _dir: dir };
        waiting::until("a collector that is ready", READY_LIMIT, async || {
            collector.program.must_run();
            collector.push(signal, &json!({})).await.then_some(())
        })
        .await;
        collector
    }

    /// Where it takes what is pushed by gRPC.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// Pushes a request in JSON; whether it was taken.
    pub async fn push(&self, signal: &str, request: &Value) -> bool {
        let url = format!("http://127.0.0.1:{}/v1/{signal}", self.http);
        http().post(url).json(request).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.program.errors()
    }
}

fn configuration(grpc: u16, http: u16, signal: &str, exporters: &[(&str, Value)]) -> Value {
    let address = |port: u16| json!({ "endpoint": format!("127.0.0.1:{port}") });
    let patient = |(kind, exporter): &(&str, Value)| {
        let mut exporter = exporter.clone();
        exporter["retry_on_failure"] =
            json!({ "initial_interval": "200ms", "max_interval": "1s", "max_elapsed_time": "0s" });
        ((*kind).to_owned(), exporter)
    };
    let names: Vec<_> = exporters.iter().map(|(kind, _)| *kind).collect();
    json!({
        "receivers": { "otlp": { "protocols": { "grpc": address(grpc), "http": address(http) } } },
        "processors": { "batch": { "timeout": "100ms" } },
        "exporters": exporters.iter().map(patient).collect::<serde_json::Map<_, _>>(),
        "service": {
            "telemetry": { "metrics": { "level": "none" } },
            "pipelines": { signal: { "receivers": ["otlp"], "processors": ["batch"], "exporters": names } },
        },
    })
}
