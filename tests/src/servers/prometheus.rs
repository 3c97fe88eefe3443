//! A real Prometheus that scrapes what a test names, and `promtool`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use super::{Program, directory, free_port, http};
use crate::waiting;

const READY_LIMIT: Duration = Duration::from_secs(30);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    program: Program,
    url: String,
    _dir: TempDir,
}

/// Runs `promtool`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn promtool(arguments: &[&str], directory_of_files: &Path) -> Output {
    let program = directory("prometheus", "prometheus").join("bin/promtool");
    Command::new(program)
        .args(arguments)
        .current_dir(directory_of_files)
        .output()
        .expect("promtool was built by cargo xtask")
}

impl Prometheus {
    /// Starts one that scrapes `targets` (`HOST:PORT`, path `/metrics`) every second under the job `tidegate`, with these rule files.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start(targets: &[String], rules: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, configuration(targets, rules)).expect("the directory is writable");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(directory("prometheus", "prometheus").join("bin/prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let program = Program::start("prometheus", &mut command, dir.path());
        let mut server = Self { program, url: format!("http://{address}"), _dir: dir };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&mut self) {
        let (client, url) = (http(), format!("{}/-/ready", self.url));
        waiting::until("a ready Prometheus", READY_LIMIT, async || {
            assert!(self.program.ended().is_none(), "Prometheus ended: {}", self.program.errors());
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The result of an instant query: its elements, none when nothing matches.
    ///
    /// # Errors
    /// What Prometheus says of a query that it refuses.
    ///
    /// # Panics
    /// When it does not answer in its own format.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let url = Url::parse_with_params(&format!("{}/api/v1/query", self.url), [("query", expression)]);
        let answer = http().get(url.expect("the address is valid")).send().await.expect("Prometheus answers");
        let body: Value = answer.json().await.expect("Prometheus answers in JSON");
        if body["status"] != "success" {
            return Err(body["error"].as_str().unwrap_or("no reason given").to_owned());
        }
        Ok(body["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

/// JSON is YAML: what a path holds cannot break out of its string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn configuration(targets: &[String], rules: &[PathBuf]) -> String {
    let mut text = String::from("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n");
    for rule in rules {
        writeln!(text, "  - {}", quoted(&rule.display().to_string())).expect("writing to a string succeeds");
    }
    text.push_str("scrape_configs:\n  - job_name: tidegate\n    static_configs:\n      - targets:\n");
    for target in targets {
        writeln!(text, "          - {}", quoted(target)).expect("writing to a string succeeds");
    }
    if targets.is_empty() {
        text = text.replace("      - targets:\n", "      - targets: []\n");
    }
    if rules.is_empty() {
        text = text.replace("rule_files:\n", "rule_files: []\n");
    }
    text
}
