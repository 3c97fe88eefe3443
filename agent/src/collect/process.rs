//! CPU and memory of the workloads' processes: `/proc/PID/stat` and `/proc/PID/status`.
//!
//! A process belongs to a workload when it is one of its leaders or in the process group of one. Its CPU time is its own
//! (`utime` + `stime`); that of children it has waited for is not added, since a child that was seen alive has been counted
//! already. So a child that starts and ends between two readings is not seen. Memory is resident memory, in which pages
//! shared between processes stand once per process.

pub mod own;
mod stat;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_core::{Signal, Subject, WorkloadId};

use crate::clock::Moment;
use crate::collect::Cause;
use crate::collect::reading::{BlockingSource, Reading, Samples};
use stat::ProcessStat;

/// Most processes looked at in one reading: the kernel's own default bound on process ids.
const PROCESSES_MAX: usize = 32_768;

/// The processes of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessGroup {
    /// Whose.
    pub workload: WorkloadId,
    /// Process ids; each one counts with its whole process group.
    pub leaders: Vec<u32>,
}

/// Says which processes belong to which workload, at the time of asking. Must not block.
pub type GroupProvider = Arc<dyn Fn() -> Vec<ProcessGroup> + Send + Sync>;

/// CPU time that a process had used, and which process it was: an id may be given to another one later.
#[derive(Debug, Clone, Copy)]
struct Used {
    started_ticks: u64,
    cpu_ticks: u64,
}

/// The state of one reading that the next one needs.
#[derive(Debug)]
struct Before {
    at: Moment,
    uptime_ticks: Option<u64>,
    used: HashMap<u32, Used>,
}

/// Process groups as a source.
pub struct ProcessSource {
    root: PathBuf,
    groups: GroupProvider,
    before: Option<Before>,
}

impl std::fmt::Debug for ProcessSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessSource").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ProcessSource {
    /// Reads below `root`; asks `groups` before every reading.
    #[must_use]
    pub const fn new(root: PathBuf, groups: GroupProvider) -> Self {
        Self { root, groups, before: None }
    }
}

impl BlockingSource for ProcessSource {
    fn read(&mut self, now: Moment) -> Reading {
        let groups = (self.groups)();
        let proc = self.root.join("proc");
        let Some(uptime) = super::node::read_text(&proc.join("uptime")) else {
            self.before = None;
            return Reading::failed(Cause::Unreadable);
        };
        let members = members(&proc, &groups);
        let mut out = Samples::at(now.at);
        for (workload, processes) in &members {
            let subject = Subject::Workload((*workload).clone());
            let cores = self.before.as_ref().and_then(|before| cores(before, &now, processes));
            out.push(&subject, Signal::CpuCores, cores);
            out.push(&subject, Signal::MemoryBytes, memory(&proc, processes));
        }
        self.before = Some(Before {
            at: now,
            uptime_ticks: stat::uptime_ticks(&uptime),
            used: members.values().flatten().map(|process| (process.pid, used(process))).collect(),
        });
        Reading::of(out.into_vec())
    }
}

const fn used(process: &ProcessStat) -> Used {
    Used { started_ticks: process.started_ticks, cpu_ticks: process.cpu_ticks }
}

/// The living processes of each workload that has any.
fn members<'a>(proc: &Path, groups: &'a [ProcessGroup]) -> BTreeMap<&'a WorkloadId, Vec<ProcessStat>> {
    let mut owner: HashMap<u32, &WorkloadId> = HashMap::new();
    for group in groups {
        owner.extend(group.leaders.iter().map(|leader| (*leader, &group.workload)));
    }
    let mut members: BTreeMap<&WorkloadId, Vec<ProcessStat>> = BTreeMap::new();
    if owner.is_empty() {
        return members;
    }
    let entries = std::fs::read_dir(proc).into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.take(PROCESSES_MAX) {
        // A process that has ended since the directory was read is no error.
        let Some(process) = stat::read(proc, pid) else { continue };
        if let Some(workload) = owner.get(&pid).or_else(|| owner.get(&process.group)) {
            members.entry(workload).or_default().push(process);
        }
    }
    members
}

/// Cores used by `processes` since `before`; `None` when none of them can be compared.
fn cores(before: &Before, now: &Moment, processes: &[ProcessStat]) -> Option<f64> {
    let seconds = now.seconds_since(&before.at)?;
    let ticks: Vec<u64> = processes.iter().filter_map(|process| ticks_since(before, process)).collect();
    #[expect(clippy::cast_precision_loss, reason = "ticks of an interval fit in 53 bits")]
    let total = ticks.iter().sum::<u64>() as f64;
    (!ticks.is_empty()).then(|| total / stat::TICKS_PER_SECOND / seconds)
}

/// Ticks that a process has used since `before`. One that began since then has used all of its ticks since then;
/// of one that is older but was not known, nothing can be told.
fn ticks_since(before: &Before, process: &ProcessStat) -> Option<u64> {
    match before.used.get(&process.pid) {
        Some(used) if used.started_ticks == process.started_ticks => {
            process.cpu_ticks.checked_sub(used.cpu_ticks)
        }
        _ => (process.started_ticks >= before.uptime_ticks?).then_some(process.cpu_ticks),
    }
}

/// Resident memory of `processes`, those that have ended meanwhile left out; `None` when none could be read.
fn memory(proc: &Path, processes: &[ProcessStat]) -> Option<f64> {
    let each: Vec<f64> = processes
        .iter()
        .filter_map(|process| {
            if process.is_dead() {
                Some(0.0) // An ended process that nobody has waited for holds no memory.
            } else {
                stat::resident_bytes(proc, process.pid)
            }
        })
        .collect();
    (!each.is_empty()).then(|| each.iter().sum())
}

#[cfg(test)]
mod tests;
