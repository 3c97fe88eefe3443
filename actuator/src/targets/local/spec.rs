//! What a local workload is: the command of one replica, how it is known to be ready, and how long things may take.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidegate_core::WorkloadId;

/// Placeholder in the command for the port of the replica.
const PORT: &str = "{port}";
/// Placeholder in the command for the index of the replica.
const REPLICA: &str = "{replica}";

/// When a started process counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// When a GET of this path is answered with a 2xx status.
    Http(String),
    /// When its port accepts a connection.
    Tcp,
    /// As soon as it runs.
    None,
}

/// How readiness is asked for, again and again while the process lives: a replica that stops being ready gets no requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// What is asked.
    pub check: Check,
    /// Pause between two askings.
    pub interval: Duration,
    /// An answer that takes longer is none.
    pub timeout: Duration,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            check: Check::Http("/readyz".to_owned()),
            // Also the error of the measured start-up time, so short.
            interval: Duration::from_millis(250),
            timeout: Duration::from_secs(2),
        }
    }
}

/// When a process that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always: a service.
    #[default]
    Always,
    /// Unless it ended with status 0: a job, which is done then.
    OnFailure,
}

/// One workload of processes on this machine.
#[derive(Clone)]
pub struct ProcessSpec {
    /// Its id.
    pub id: WorkloadId,
    /// Program and arguments; `{port}` and `{replica}` are replaced in each.
    pub command: Vec<String>,
    /// Added to the environment of Tidegate; `PORT` and `TIDEGATE_REPLICA` are always set.
    pub env: BTreeMap<String, String>,
    /// Working directory; absent: that of Tidegate.
    pub cwd: Option<PathBuf>,
    /// When a replica is ready.
    pub ready: Readiness,
    /// A path that a healthy replica answers with 2xx, asked every 5 s once it was ready; after three misses it is restarted.
    pub health: Option<String>,
    /// When a process that ended is started again.
    pub restart: Restart,
    /// A process that is not ready within this is ended and counted as failed.
    pub start_deadline: Duration,
    /// A replica that is scaled away may finish its requests for this long before it is asked to end.
    pub drain_limit: Duration,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// A process that was ready for this long is healthy; one that ended sooner counts as a failed start.
    pub healthy_run: Duration,
    /// Where `NAME-INDEX.log` is written; stdout and stderr together.
    pub log_dir: PathBuf,
}

/// Shows the names of the environment, never its values, which may be secret.
impl fmt::Debug for ProcessSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSpec")
            .field("id", &self.id)
            .field("command", &self.command)
            .field("env", &self.env.keys())
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// There is no program to run.
    #[error("the command of {workload} is empty")]
    NoCommand {
        /// Whose.
        workload: WorkloadId,
    },
    /// The program does not exist.
    #[error("command not found: {program}")]
    CommandNotFound {
        /// As written in the command.
        program: String,
    },
    /// The program exists but may not be run.
    #[error("command not executable: {}", path.display())]
    NotExecutable {
        /// Where it was found.
        path: PathBuf,
    },
    /// The working directory does not exist.
    #[error("working directory not found: {}", path.display())]
    NoDirectory {
        /// As configured.
        path: PathBuf,
    },
}

impl ProcessSpec {
    /// A workload with the default limits: 60 s to start, 30 s to drain, 10 s to stop.
    #[must_use]
    pub fn new(id: WorkloadId, command: Vec<String>, log_dir: impl Into<PathBuf>) -> Self {
        Self {
            id,
            command,
            env: BTreeMap::new(),
            cwd: None,
            ready: Readiness::default(),
            health: None,
            restart: Restart::default(),
            start_deadline: Duration::from_secs(60),
            drain_limit: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            healthy_run: Duration::from_secs(60),
            log_dir: log_dir.into(),
        }
    }

    /// Finds the program, without running it.
    ///
    /// # Errors
    /// When a start would surely fail: no command, no such program, no permission, no working directory.
    pub fn check(&self) -> Result<PathBuf, SpecError> {
        let program =
            self.command.first().ok_or_else(|| SpecError::NoCommand { workload: self.id.clone() })?;
        if let Some(cwd) = self.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            return Err(SpecError::NoDirectory { path: cwd.clone() });
        }
        let found = if program.contains('/') { self.at_path(program) } else { self.in_search_path(program)? };
        let found = found.ok_or_else(|| SpecError::CommandNotFound { program: program.clone() })?;
        if is_executable(&found) { Ok(found) } else { Err(SpecError::NotExecutable { path: found }) }
    }

    fn at_path(&self, program: &str) -> Option<PathBuf> {
        let base = self.cwd.as_deref().unwrap_or(Path::new("."));
        let path = std::path::absolute(base.join(program)).ok()?;
        path.exists().then_some(path)
    }

    /// The first executable of that name in PATH; an error when there are only files that may not be run.
    fn in_search_path(&self, program: &str) -> Result<Option<PathBuf>, SpecError> {
        let path = self.env.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
        let mut refused = None;
        for folder in std::env::split_paths(&path.unwrap_or_default()) {
            let candidate = folder.join(program);
            if is_executable(&candidate) {
                return Ok(Some(candidate));
            }
            if candidate.is_file() {
                refused = Some(candidate);
            }
        }
        refused.map_or(Ok(None), |path| Err(SpecError::NotExecutable { path }))
    }

    /// The arguments of one replica.
    pub(super) fn arguments(&self, index: u32, port: u16) -> impl Iterator<Item = String> {
        let (index, port) = (index.to_string(), port.to_string());
        self.command.iter().skip(1).map(move |a| a.replace(PORT, &port).replace(REPLICA, &index))
    }

    /// Where one replica writes its output.
    #[must_use]
    pub fn log_file(&self, index: u32) -> PathBuf {
        self.log_dir.join(format!("{}-{index}.log", self.id.name()))
    }

    /// Stands for all that shapes a running process: a survivor of another digest is not adopted. A digest, so that no
    /// secret of the environment is written to disk.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &str| {
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        };
        self.command.iter().for_each(|part| add(part));
        add("");
        for (name, value) in &self.env {
            add(name);
            add(value);
        }
        add("");
        add(&self.cwd.as_deref().unwrap_or(Path::new("")).to_string_lossy());
        add(&format!("{:?}", self.ready.check));
        hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: &[&str]) -> ProcessSpec {
        let command = command.iter().map(|part| (*part).to_owned()).collect();
        ProcessSpec::new(WorkloadId::local("x").unwrap(), command, "/tmp")
    }

    #[test]
    fn a_program_that_cannot_run_is_named_before_it_is_tried() {
        assert_eq!(spec(&["sh"]).check().unwrap().file_name().unwrap(), "sh");
        assert!(matches!(spec(&[]).check(), Err(SpecError::NoCommand { .. })));
        assert!(matches!(spec(&["no-such-program"]).check(), Err(SpecError::CommandNotFound { .. })));
        assert!(matches!(spec(&["/no/such/program"]).check(), Err(SpecError::CommandNotFound { .. })));
        assert!(matches!(spec(&["/etc/passwd"]).check(), Err(SpecError::NotExecutable { .. })));
        let mut elsewhere = spec(&["sh"]);
        elsewhere.cwd = Some("/no/such/folder".into());
        assert!(matches!(elsewhere.check(), Err(SpecError::NoDirectory { .. })));
    }

    #[test]
    fn placeholders_are_replaced_in_every_argument() {
        let spec = spec(&["sh", "--listen=127.0.0.1:{port}", "{replica}"]);
        assert_eq!(spec.arguments(3, 8080).collect::<Vec<_>>(), ["--listen=127.0.0.1:8080", "3"]);
    }

    #[test]
    fn the_digest_and_the_debug_output_keep_secrets() {
        let mut with = spec(&["sh"]);
        with.env.insert("TOKEN".into(), "hunter2".into());
        assert!(!format!("{with:?}").contains("hunter2"));
        assert_ne!(with.digest(), spec(&["sh"]).digest());
        assert_ne!(spec(&["a", "b"]).digest(), spec(&["ab"]).digest());
    }
}
