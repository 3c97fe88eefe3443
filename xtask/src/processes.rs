//! Runs a command with an end in sight: past its deadline it and all its descendants are stopped. Not for servers; tests own those.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cargo::shown;
use crate::stopwatch::Stopwatch;

/// How often a running command is looked at: short against the shortest suite.
const POLL: Duration = Duration::from_millis(100);
/// What descendants get between TERM and KILL, so that servers can leave their data in order.
const GRACE_SECONDS: f64 = 10.0;

/// Runs a command with its output visible; whether it succeeded. An error if it was not done in time.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> Result<bool> {
    println!("$ {}", shown(command));
    let mut child = command.spawn().with_context(|| format!("failed to start {}", shown(command)))?;
    if let Some(status) = ended_within(&mut child, limit.as_secs_f64())? {
        return Ok(status.success());
    }
    stop_with_descendants(&mut child)?;
    bail!("{} was not done in {} s and was stopped", shown(command), limit.as_secs())
}

fn ended_within(child: &mut Child, seconds: f64) -> Result<Option<ExitStatus>> {
    let watch = Stopwatch::start();
    loop {
        if let Some(status) = child.try_wait().context("failed to wait for a command")? {
            return Ok(Some(status));
        }
        if watch.seconds() >= seconds {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn stop_with_descendants(child: &mut Child) -> Result<()> {
    let pid = i32::try_from(child.id()).context("a process id is out of range")?;
    let family = descendants(pid, &parents());
    signal_all(&family, Signal::SIGTERM);
    if ended_within(child, GRACE_SECONDS)?.is_none() {
        child.kill().context("failed to kill a command")?;
        child.wait().context("failed to wait for a killed command")?;
    }
    signal_all(&family, Signal::SIGKILL);
    Ok(())
}

fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        // One that has ended meanwhile is what is wanted.
        kill(Pid::from_raw(*pid), signal).ok();
    }
}

/// `root` and every process below it.
fn descendants(root: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        // Each process has one parent, so none is met twice and the loop ends.
        family.extend(parents.iter().filter(|(_, p)| **p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// Process → its parent, from `/proc`.
fn parents() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parent_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// The fourth field of a `stat` line; the second is a name in brackets and may hold anything.
fn parent_in(stat: &str) -> Option<i32> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_past_its_deadline_is_stopped_with_its_children() {
        // The marker makes the grandchild findable.
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 3600.25 & wait"]);
        let error =
            succeeds_within(&mut command, Duration::from_millis(300)).expect_err("it sleeps for an hour");
        assert!(error.to_string().contains("was not done"), "{error}");
        let alive = || {
            parents().into_keys().any(|pid| {
                fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|c| c.contains("3600.25") && c.starts_with("sleep"))
            })
        };
        // A killed process is still listed until the kernel has taken it apart.
        let watch = Stopwatch::start();
        while alive() {
            assert!(watch.seconds() < 10.0, "the grandchild still runs");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn reads_the_parent_behind_a_name_with_brackets() {
        assert_eq!(parent_in("42 (a) b) S 7 42 42 0"), Some(7));
        assert_eq!(parent_in("nonsense"), None);
    }

    #[test]
    fn descendants_are_children_of_children() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 9)]);
        assert_eq!(descendants(1, &parents), [1, 2, 3]);
    }
}
