//! `tidegate up` as a process of its own, in directories of its own. What it answers is for the tests to judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Program, binary, http};
use crate::waiting;

/// Its first line on standard output must be there by then, on a busy two-core machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Draining replicas takes part of it.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const READY_LINE: &str = "listening on ";

/// A running (or ended) `tidegate up`.
#[derive(Debug)]
pub struct Tidegate {
    program: Program,
    /// Killed ones in the same directory: what they started is ended with the test.
    earlier: Vec<Program>,
    url: String,
    dir: TempDir,
}

impl Tidegate {
    /// Starts `tidegate up --listen 127.0.0.1:0 --data DIR` with further arguments, and waits until it says that it listens.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn up(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::up_in(dir, arguments).await
    }

    /// The same on a directory that a test prepared; its data lie in `DIR/data`.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn up_in(dir: TempDir, arguments: &[&str]) -> Self {
        let (program, url) = start(dir.path(), "tidegate", arguments).await;
        Self { program, earlier: Vec::new(), url, dir }
    }

    /// Starts it again in the same directory, after it has ended.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn start_again(&mut self, arguments: &[&str]) {
        let name = format!("tidegate-{}", self.earlier.len() + 2);
        let (program, url) = start(self.dir.path(), &name, arguments).await;
        self.earlier.push(std::mem::replace(&mut self.program, program));
        self.url = url;
    }

    /// The address that it printed, such as `http://127.0.0.1:41233`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `HOST:PORT` of it, as scrape targets are written.
    #[must_use]
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// The directory it was started in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The token that it has made for itself.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn token(&self) -> String {
        let text = fs::read_to_string(self.data().join("tokens")).expect("it made a file of tokens");
        let line = text.lines().find(|line| !line.starts_with('#')).expect("the file has a token");
        line.split_whitespace().next().expect("a line begins with the token").to_owned()
    }

    /// Processes that name the data directory in their arguments or environment: itself, and all it has ever started there.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        naming(self.dir.path())
    }

    /// Its process: id, output, descendants, signals.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// The JSON answer to `GET PATH`; `None` unless it is a success.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = http().get(format!("{}{path}", self.url)).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.json().await.ok()
    }

    /// Status and body of the answer to `POST PATH`.
    ///
    /// # Panics
    /// When there is no answer, or none in JSON.
    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let mut request = http().post(format!("{}{path}", self.url)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("it answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("it answers in JSON"))
    }

    /// A local workload with all that is known of it.
    pub async fn workload(&self, name: &str) -> Option<Value> {
        self.get(&format!("/api/v1/workloads/local/process/{name}")).await
    }

    /// The last decisions on a local workload, newest first.
    pub async fn decisions(&self, name: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/workloads/local/process/{name}/decisions")).await;
        answer.and_then(|answer| answer["decisions"].as_array().cloned()).unwrap_or_default()
    }

    /// The page of metrics, in Prometheus' text format.
    ///
    /// # Panics
    /// When there is none.
    pub async fn metrics(&self) -> String {
        let answer = http().get(format!("{}/metrics", self.url)).send().await.expect("it answers");
        answer.text().await.expect("metrics are text")
    }

    /// Stops it as Ctrl-C does.
    ///
    /// # Panics
    /// When it has not ended in time.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.program.signal(Signal::SIGINT);
        let status = self.program.wait(STOP_LIMIT);
        status.unwrap_or_else(|| panic!("tidegate did not end on SIGINT: {}", self.program.errors()))
    }

    /// Kills it without a chance to tidy up. What it started lives on until the test ends.
    ///
    /// # Panics
    /// When it survives that.
    pub fn kill(&mut self) -> ExitStatus {
        self.program.signal(Signal::SIGKILL);
        self.program.wait(STOP_LIMIT).expect("nothing survives KILL")
    }
}

async fn start(dir: &Path, name: &str, arguments: &[&str]) -> (Program, String) {
    let mut command = Command::new(binary());
    command.arg("up").args(["--listen", "127.0.0.1:0", "--data"]).arg(dir.join("data"));
    // Neither the configuration nor the settings of whoever runs the tests.
    command.env("HOME", dir).env_remove("XDG_CONFIG_HOME").env_remove("TIDEGATE_LOG");
    command.args(arguments).current_dir(dir);
    let mut program = Program::start(name, &mut command, dir);
    let url = waiting::until("the address of tidegate up", READY_LIMIT, async || {
        let ended = program.ended();
        assert!(ended.is_none(), "tidegate up ended with {ended:?}: {}", program.errors());
        address_in(&program.output())
    })
    .await;
    (program, url)
}

/// Processes that have this path in their arguments or environment. A zombie has neither.
fn naming(path: &Path) -> Vec<u32> {
    let wanted = path.as_os_str().as_encoded_bytes();
    let names = |file: String| {
        let text = fs::read(file).unwrap_or_default();
        text.windows(wanted.len()).any(|part| part == wanted)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| names(format!("/proc/{pid}/cmdline")) || names(format!("/proc/{pid}/environ")))
        .collect()
}

/// The address in the line that tells of it, once the line is whole.
fn address_in(output: &str) -> Option<String> {
    let whole_lines = &output[..output.rfind('\n')?];
    let address = whole_lines.lines().find_map(|line| line.strip_prefix(READY_LINE))?;
    Some(address.trim().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_address_from_a_whole_line_only() {
        assert_eq!(address_in("listening on http://127.0.0.1:80"), None);
        let output = "listening on http://127.0.0.1:8080\nmore";
        assert_eq!(address_in(output).as_deref(), Some("http://127.0.0.1:8080"));
    }
}
