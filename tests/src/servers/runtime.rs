//! Serving runtimes in Python, as applications of this repository in the environment that `cargo xtask` made.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{Program, directory, free_port, http};
use crate::repository::root;
use crate::waiting;

/// Ray starts five processes before it answers; a busy machine takes its time.
const START: Duration = Duration::from_secs(180);

/// A serving runtime with an application that answers on `/predict?delay=SECONDS&status=CODE`.
#[derive(Debug)]
pub struct Runtime {
    // In this order: it ends before its directory goes.
    _program: Program,
    _dir: TempDir,
    url: String,
    metrics: String,
}

impl Runtime {
    /// Flask under waitress, with prometheus-flask-exporter.
    pub async fn flask() -> Self {
        let port = free_port();
        Self::start("flask_app", port, port, false).await
    }

    /// FastAPI under uvicorn, with prometheus-fastapi-instrumentator.
    pub async fn fastapi() -> Self {
        let port = free_port();
        Self::start("fastapi_app", port, port, false).await
    }

    /// Ray Serve; its metrics are those of the node's agent, on a port of their own.
    pub async fn ray_serve() -> Self {
        Self::start("ray_serve_app", free_port(), free_port(), true).await
    }

    /// A server that pushes what it tells with OpenTelemetry's SDK, once a second: by `form`, `grpc` or `http`, to `endpoint`.
    pub async fn otlp(form: &str, endpoint: &str) -> Self {
        let port = free_port();
        let (dir, mut command) = python("otlp_app", &[&port.to_string(), form, endpoint]);
        command.env("no_proxy", "127.0.0.1");
        Self::run("otlp_app", command, dir, port, port).await
    }

    async fn start(app: &str, port: u16, metrics_port: u16, is_ray: bool) -> Self {
        let (dir, mut command) = python(app, &[&port.to_string()]);
        if is_ray {
            command.arg(metrics_port.to_string()).arg(dir.path());
        }
        // It would tell its maker of each start, and leave a token in the home directory.
        command.env("RAY_USAGE_STATS_ENABLED", "0").env("RAY_AUTH_MODE", "disabled");
        Self::run(app, command, dir, port, metrics_port).await
    }

    async fn run(app: &str, mut command: Command, dir: TempDir, port: u16, metrics_port: u16) -> Self {
        let runtime = Self {
            _program: Program::start(app, &mut command, dir.path()),
            _dir: dir,
            url: format!("http://127.0.0.1:{port}/predict"),
            metrics: format!("http://127.0.0.1:{metrics_port}/metrics"),
        };
        waiting::until("an answer", START, async || {
            (runtime.predict(0.0, 200).await == Some(200)).then_some(())
        })
        .await;
        runtime
    }

    /// Address of its metrics page, where it has one.
    #[must_use]
    pub fn metrics(&self) -> &str {
        &self.metrics
    }

    /// Asks it for an answer after `delay` seconds with this status; gives the status that came.
    pub async fn predict(&self, delay: f64, status: u16) -> Option<u16> {
        let url = format!("{}?delay={delay}&status={status}", self.url);
        Some(http().get(url).send().await.ok()?.status().as_u16())
    }
}

/// One of the applications, to be started in a directory of its own.
pub(super) fn python(app: &str, arguments: &[&str]) -> (TempDir, Command) {
    let script = root().join("tests/servers/runtimes").join(format!("{app}.py"));
    // Not in a deep directory: Ray puts sockets below it, whose paths have a bound.
    let dir = tempfile::tempdir().expect("a directory can be made");
    let mut command = Command::new(directory("runtimes", "runtimes").join("bin/python"));
    command.arg(script).args(arguments).current_dir(dir.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    (dir, command)
}
