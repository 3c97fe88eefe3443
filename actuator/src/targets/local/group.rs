//! A process group of this machine, named so that a recycled process id is never mistaken for it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Name of the variable by which the processes of a replica, and what they start, are recognised.
pub(super) const MARKER: &str = "TIDEGATE_REPLICA";
/// Most bytes of one process's environment that are read; Linux allows more, but the marker is set among the first.
const ENVIRON_BYTES: u64 = 1 << 20;

/// The group that a replica's leader and all it starts belong to. The leader's process id is the group's id.
#[derive(Debug)]
pub(super) struct Group {
    pid: i32,
    /// When the leader started, in clock ticks since boot: with the process id it names one process.
    started_ticks: u64,
    stopping: AtomicBool,
}

impl Group {
    /// The group of a leader that runs now; `None` when there is no such process.
    pub(super) fn of(pid: i32) -> Option<Self> {
        // 0 and 1 would address our own group and every process there is.
        let stat = (pid > 1).then(|| stat(pid)).flatten()?;
        Some(Self { pid, started_ticks: stat.started_ticks, stopping: AtomicBool::new(false) })
    }

    /// The group of a leader written down earlier; `None` when it has ended since or the id belongs to another process.
    pub(super) fn find(pid: i32, started_ticks: u64) -> Option<Self> {
        Self::of(pid).filter(|group| group.started_ticks == started_ticks && group.leader_lives())
    }

    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) const fn started_ticks(&self) -> u64 {
        self.started_ticks
    }

    /// Whether the leader runs; a zombie does not.
    pub(super) fn leader_lives(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started_ticks == self.started_ticks && !stat.zombie)
    }

    /// Whether anything of the group is left.
    pub(super) fn lives(&self) -> bool {
        self.is_ours() && killpg(Pid::from_raw(self.pid), None).is_ok()
    }

    /// Sends `signal` to the whole group. A group that is gone, or whose id was taken by another, is left alone.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.is_ours() {
            return;
        }
        match killpg(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => tracing::warn!(pid = self.pid, %errno, "failed to signal a process group"),
        }
    }

    /// While a group id is in use no new process gets it, so a leader of another start means that ours is all gone.
    fn is_ours(&self) -> bool {
        stat(self.pid).is_none_or(|stat| stat.started_ticks == self.started_ticks)
    }

    /// Remembers that the end was asked for, so that what the leader leaves behind gets time as well.
    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// What `/proc/PID/stat` says, as far as it is needed.
struct Stat {
    zombie: bool,
    started_ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of the program stands in parentheses and may itself hold spaces and parentheses: fields are counted after the last.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22 of the whole line; the state is field 3.
    let started_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { zombie: matches!(state, "Z" | "X"), started_ticks })
}

/// Tells this boot from any other; process ids of another boot mean nothing.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A running process that bears a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) pid: i32,
    pub(super) started_ticks: u64,
    /// The whole marker.
    pub(super) marker: String,
}

impl Marked {
    /// Sends `signal` unless the process has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if self.lives() {
            // It may end in between; then there is nothing to do.
            kill(Pid::from_raw(self.pid), signal).ok();
        }
    }

    pub(super) fn lives(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started_ticks == self.started_ticks && !stat.zombie)
    }
}

/// Every running process whose marker starts with `prefix`, this one excepted. Processes of other users cannot be read
/// and are not ours.
pub(super) fn marked(prefix: &str) -> io::Result<Vec<Marked>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) else {
            continue;
        };
        let marker = environ_marker(&Path::new("/proc").join(pid.to_string()).join("environ"));
        let Some(marker) = marker.filter(|marker| marker.starts_with(prefix)) else { continue };
        if let Some(stat) = stat(pid).filter(|stat| !stat.zombie && u32::try_from(pid) != Ok(own)) {
            found.push(Marked { pid, started_ticks: stat.started_ticks, marker });
        }
    }
    Ok(found)
}

fn environ_marker(path: &Path) -> Option<String> {
    let mut environ = Vec::new();
    File::open(path).ok()?.take(ENVIRON_BYTES).read_to_end(&mut environ).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b) (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let stat = parse_stat(line).unwrap();
        assert!(!stat.zombie);
        assert_eq!(stat.started_ticks, 987_654);
        assert!(parse_stat("42 (a").is_none());
    }

    #[test]
    fn a_recycled_id_is_another_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let here = Group::of(own).unwrap();
        assert!(here.leader_lives());
        assert!(Group::find(own, here.started_ticks()).is_some());
        assert!(Group::find(own, here.started_ticks() + 1).is_none());
        for wrong in [-1, 0, 1] {
            assert!(Group::of(wrong).is_none());
        }
    }
}
