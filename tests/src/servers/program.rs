//! A process that a test owns: in a group of its own, its output in a file, ended with all its descendants even when the test panics.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Variable that marks the process and what it starts, so that also those are found that left its group or lost their parent.
const MARK: &str = "TIDEGATE_TEST_PROGRAM";
/// How often a process that is to end is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What a process gets between TERM and KILL unless the test says otherwise.
const GRACE: Duration = Duration::from_secs(20);

/// How often descendants are looked for and killed: a killed process of some size takes a moment to vanish, and its files are to be removed next.
const KILL_ROUNDS: u32 = 250;

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running (or ended) process.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    mark: String,
    errors: PathBuf,
    output: PathBuf,
}

impl Program {
    /// Starts it; `NAME.out` and `NAME.err` in `dir` take its output.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let (output, errors) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let create = |path: &Path| {
            File::options().create(true).append(true).open(path).expect("the directory is writable")
        };
        let mark = format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let child = command
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(create(&output))
            .stderr(create(&errors))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} did not start: {error}"));
        Self { name: name.to_owned(), child, mark, errors, output }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has.
    ///
    /// # Panics
    /// When the system cannot say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// For waits that are in vain once it has ended.
    ///
    /// # Panics
    /// When it has ended.
    pub fn must_run(&mut self) {
        let ended = self.ended();
        assert!(ended.is_none(), "{} ended with {ended:?}: {}", self.name, self.errors());
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn output(&self) -> String {
        read(&self.output)
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn errors(&self) -> String {
        read(&self.errors)
    }

    /// Sends it (not its descendants) a signal; nothing if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill(pid(self.id()), signal).ok();
        }
    }

    /// Asks it to end with TERM.
    ///
    /// # Panics
    /// When it has not ended within `limit`; it is killed then.
    pub fn stop_within(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let status = self.wait(limit);
        self.end();
        status.unwrap_or_else(|| {
            panic!("{} did not end within {limit:?} of TERM\n{}", self.name, self.errors())
        })
    }

    /// Asks it to end with TERM, with a generous bound.
    pub fn stop(&mut self) -> ExitStatus {
        self.stop_within(GRACE)
    }

    /// How it ended; `None` if it had not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let polls = limit.as_millis() / POLL.as_millis();
        for _ in 0..polls {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            thread::sleep(POLL);
        }
        self.ended()
    }

    /// Processes that it started, directly or not, and that live now; itself left out.
    #[must_use]
    pub fn descendants(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != self.id() && self.is_marked(*pid)).collect()
    }

    fn is_marked(&self, pid: u32) -> bool {
        let wanted = format!("{MARK}={}", self.mark);
        // A zombie has no environment and so does not count.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }

    /// TERM, and KILL for what is left of it after the grace.
    fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        if self.wait(GRACE).is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        // Bounded: each round kills all there are, and what is killed starts nothing.
        for _ in 0..KILL_ROUNDS {
            let left = self.descendants();
            if left.is_empty() {
                return;
            }
            for id in left {
                kill(pid(id), Signal::SIGKILL).ok();
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            let errors = self.errors();
            let from = errors.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            eprintln!("--- end of what {} wrote to standard error:\n{}\n---", self.name, &errors[from..]);
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids are small"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Program {
        Program::start("shell", Command::new("sh").args(["-c", script]), dir)
    }

    #[test]
    fn ends_with_its_orphans_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = shell("setsid sleep 600 & echo started; exec sleep 600", dir.path());
        for _ in 0..500 {
            if program.descendants().len() == 1 && program.output() == "started\n" {
                break;
            }
            thread::sleep(POLL);
        }
        assert_eq!(program.descendants().len(), 1, "the sleeper that left the group is found");
        program.end();
        assert!(program.descendants().is_empty());
    }

    #[test]
    fn tells_how_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut program = shell("echo no >&2; exit 3", dir.path());
        let status = program.wait(Duration::from_secs(10)).expect("it ends at once");
        assert_eq!((status.code(), program.errors()), (Some(3), "no\n".to_owned()));
    }
}
