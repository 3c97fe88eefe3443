//! A real Prometheus that scrapes what a test names, and `promtool`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use super::certificates::certificates;
use super::{Program, directory, free_port, http, https};
use crate::waiting;

const READY_LIMIT: Duration = Duration::from_secs(30);

/// The user of a guarded server.
pub const PROMETHEUS_USER: &str = "reader";
/// That user's password.
pub const PROMETHEUS_PASSWORD: &str = "a secret";
/// The password's bcrypt hash with 2⁸ rounds, as `htpasswd -B` makes it.
const PASSWORD_HASH: &str = "$2b$08$abcdefghijklmnopqrstuudzA4eQhzumylOaDksrWQbSMlbIzV1cK";

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    program: Program,
    url: String,
    dir: TempDir,
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
        Self::start_in(dir, targets, rules, &[]).await
    }

    /// Starts one that scrapes `targets` so often.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn scraping(targets: &[String], every: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let interval = format!("scrape_interval: {}s", every.as_secs());
        let text = configuration(targets, &[]).replace("scrape_interval: 1s", &interval);
        Self::start_with(dir, &text, &[]).await
    }

    /// Starts one that scrapes `targets` every second, in protobuf, and keeps native histograms beside classic ones.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn native(targets: &[String]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut text = configuration(targets, &[]);
        text.push_str("    scrape_native_histograms: true\n    always_scrape_classic_histograms: true\n");
        Self::start_with(dir, &text, &[]).await
    }

    /// Starts one that scrapes nothing and takes what is pushed to it by OTLP, at `/api/v1/otlp/v1/metrics`.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn receiving() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::start_in(dir, &[], &[], &["--web.enable-otlp-receiver".to_owned()]).await
    }

    /// Starts one that holds what is written in `recorded`, in the OpenMetrics format with times, and scrapes nothing. A guarded one
    /// answers over TLS alone, and only to [`PROMETHEUS_USER`].
    ///
    /// # Panics
    /// When the text is not right, or it is not ready in time.
    pub async fn recorded(recorded: &str, guarded: bool) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let file = dir.path().join("recorded.txt");
        std::fs::write(&file, recorded).expect("the directory is writable");
        let arguments = ["tsdb", "create-blocks-from", "openmetrics", "recorded.txt", "data"];
        let made = promtool(&arguments, dir.path());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut further = vec!["--storage.tsdb.retention.time=100y".to_owned()];
        if guarded {
            further.push(format!("--web.config.file={}", guard(dir.path()).display()));
        }
        Self::start_in(dir, &[], &[], &further).await
    }

    async fn start_in(dir: TempDir, targets: &[String], rules: &[PathBuf], further: &[String]) -> Self {
        Self::start_with(dir, &configuration(targets, rules), further).await
    }

    async fn start_with(dir: TempDir, configuration: &str, further: &[String]) -> Self {
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, configuration).expect("the directory is writable");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(directory("prometheus", "prometheus").join("bin/prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn").args(further);
        let program = Program::start("prometheus", &mut command, dir.path());
        let scheme = if dir.path().join("ca.pem").exists() { "https" } else { "http" };
        let mut server = Self { program, url: format!("{scheme}://{address}"), dir };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&mut self) {
        let (client, url) = (self.client(), format!("{}/-/ready", self.url));
        waiting::until("a ready Prometheus", READY_LIMIT, async || {
            assert!(self.program.ended().is_none(), "Prometheus ended: {}", self.program.errors());
            let request = client.get(&url).basic_auth(PROMETHEUS_USER, Some(PROMETHEUS_PASSWORD));
            let answer = request.send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    fn client(&self) -> reqwest::Client {
        let ca = std::fs::read(self.ca());
        ca.map_or_else(|_| http(), |ca| https(&ca))
    }

    /// Where a guarded server's authority lies, in PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
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

/// Writes certificates, and the configuration that lets nobody in but the user.
fn guard(dir: &Path) -> PathBuf {
    let (ca, certificate, key) = certificates();
    let web = serde_json::json!({
        "tls_server_config": { "cert_file": "http.crt", "key_file": "http.key" },
        "basic_auth_users": { PROMETHEUS_USER: PASSWORD_HASH },
    });
    let texts = [("ca.pem", ca), ("http.crt", certificate), ("http.key", key), ("web.yml", web.to_string())];
    for (name, text) in texts {
        std::fs::write(dir.join(name), text).expect("the directory is writable");
    }
    dir.join("web.yml")
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
