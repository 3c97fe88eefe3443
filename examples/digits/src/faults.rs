//! Faults on request: a file of a fault's name in the faults directory switches it on, its removal off. For trying out what Tidegate does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// How often the directory is looked at for a crash. The others are looked up where they matter.
const POLL: Duration = Duration::from_millis(100);
/// A process that starts into a crash lives this long: long enough to be seen starting, as a real crash loop is.
const CRASH_AFTER: Duration = Duration::from_secs(1);
/// How many times slower a slow one is.
pub const SLOWDOWN: u32 = 5;

/// Something that goes wrong on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The process exits with 1: about 1 s after its start, or at once when it already runs.
    Crash,
    /// `/metrics` answers 503.
    NoMetrics,
    /// Writing a checkpoint fails.
    FailCheckpoint,
    /// The accelerator's part of the work takes [`SLOWDOWN`] times as long.
    Slow,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 4] = [Self::Crash, Self::NoMetrics, Self::FailCheckpoint, Self::Slow];

    /// The name of the file that switches it on.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::NoMetrics => "no-metrics",
            Self::FailCheckpoint => "fail-checkpoint",
            Self::Slow => "slow",
        }
    }
}

/// The faults directory of one process; without one nothing ever goes wrong on request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    dir: Option<PathBuf>,
}

impl Faults {
    pub(crate) fn new(dir: Option<&Path>) -> Self {
        Self { dir: dir.map(Path::to_owned) }
    }

    /// Whether `fault` is on now. A directory that cannot be read has no faults.
    pub(crate) fn is_on(&self, fault: Fault) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.join(fault.file_name()).exists())
    }

    /// `span`, or longer while [`Fault::Slow`] is on.
    pub(crate) fn stretch(&self, span: Duration) -> Duration {
        if self.is_on(Fault::Slow) { span * SLOWDOWN } else { span }
    }

    /// Ends when a process that runs since `started` has to crash; never without a faults directory.
    pub(crate) async fn crash(&self, started: Instant) {
        if self.dir.is_none() {
            return std::future::pending().await;
        }
        while !self.is_on(Fault::Crash) {
            tokio::time::sleep(POLL).await;
        }
        tokio::time::sleep_until(started + CRASH_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_switches_its_fault_on_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new(Some(dir.path()));
        std::fs::write(dir.path().join(Fault::Slow.file_name()), "").unwrap();
        for fault in Fault::ALL {
            assert_eq!(faults.is_on(fault), fault == Fault::Slow);
        }
        assert_eq!(faults.stretch(Duration::from_secs(1)), Duration::from_secs(5));
        assert!(!Faults::default().is_on(Fault::Slow));
    }

    #[tokio::test]
    async fn a_start_into_a_crash_lives_a_second_and_a_running_one_ends_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(Fault::Crash.file_name()), "").unwrap();
        let faults = Faults::new(Some(dir.path()));
        let started = Instant::now();
        faults.crash(started).await;
        assert!(started.elapsed() >= CRASH_AFTER);
        let before = Instant::now();
        faults.crash(started).await;
        assert!(before.elapsed() < CRASH_AFTER / 2);
    }
}
