//! `tidegate up` as a process of its own, in directories of its own. What it answers is for the tests to judge.

use std::path::Path;
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
        let mut command = Command::new(binary());
        command.arg("up").args(["--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
        command.args(arguments).current_dir(dir.path());
        let mut program = Program::start("tidegate", &mut command, dir.path());
        let url = waiting::until("the address of tidegate up", READY_LIMIT, async || {
            let ended = program.ended();
            assert!(ended.is_none(), "tidegate up ended with {ended:?}: {}", program.errors());
            address_in(&program.output())
        })
        .await;
        Self { program, url, dir }
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
