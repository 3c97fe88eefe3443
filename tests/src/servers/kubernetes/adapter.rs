//! prometheus-adapter: what most clusters have between Prometheus and a HorizontalPodAutoscaler. Here it serves external metrics.

use std::fs;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use super::ControlPlane;
use crate::servers::{Program, directory, free_port};

/// A running adapter, which the API server does not know of yet.
#[derive(Debug)]
pub struct PrometheusAdapter {
    _program: Program,
    port: u16,
    _dir: TempDir,
}

impl PrometheusAdapter {
    /// Starts one that serves the answer to a query as the external metric `name`, for any series of the family `family`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(
        control_plane: &ControlPlane,
        prometheus: &str,
        name: &str,
        family: &str,
        query: &str,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let rule = json!({
            "seriesQuery": family, "resources": { "namespaced": false },
            "name": { "matches": ".*", "as": name }, "metricsQuery": query,
        });
        let config = dir.path().join("config.yaml");
        fs::write(&config, json!({ "externalRules": [rule] }).to_string())
            .expect("the directory is writable");
        let port = free_port();
        let mut command = Command::new(directory("prometheus-adapter", "cluster").join("bin/adapter"));
        for flag in ["lister-kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            command.arg(format!("--{flag}={}", control_plane.kubeconfig().display()));
        }
        command.arg(format!("--config={}", config.display())).arg(format!("--prometheus-url={prometheus}"));
        command.arg(format!("--cert-dir={}", dir.path().display())).arg("--bind-address=127.0.0.1");
        command.arg(format!("--secure-port={port}"));
        // As often as it looks for new families; the least that it takes.
        command.arg("--metrics-relist-interval=15s");
        let program = Program::start("prometheus-adapter", &mut command, dir.path());
        Self { _program: program, port, _dir: dir }
    }

    /// Port of its API on 127.0.0.1, over TLS with a certificate of its own.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
