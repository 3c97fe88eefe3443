//! Finds the processes that outlived an earlier Tidegate, and ends them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tidegate_core::WorkloadId;

use super::group::{self, Group, Marked};
use super::state::{Entry, StateDir, StateError};
use crate::clock;

/// Pause between two looks at whether something has ended.
const POLL: Duration = Duration::from_millis(20);
/// How long after SIGKILL an end is waited for; longer only for a process stuck in the kernel.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Processes found and ended.
    pub ended: usize,
    /// Processes that would not end.
    pub left: usize,
}

/// Ends every process that an earlier Tidegate with this state folder left behind, except those of the workloads in
/// `keep`: these are adopted or ended when their target starts. Gives `grace` between SIGTERM and SIGKILL.
///
/// # Errors
/// When the state folder or `/proc` cannot be read.
pub async fn sweep_orphans(
    state_dir: &Path,
    keep: &[WorkloadId],
    grace: Duration,
) -> Result<Swept, StateError> {
    let state = StateDir::open(state_dir)?;
    let mut doomed = Doomed::default();
    for running in state.load_all()?.into_iter().filter(|running| !keep.contains(&running.workload)) {
        running.replicas.iter().for_each(|entry| doomed.add_entry(entry));
        state.forget(&running.workload)?;
    }
    let kept = |marked: &Marked| state.workload_of(&marked.marker).is_some_and(|id| keep.contains(&id));
    doomed.add_marked(&state.marker_prefix(), |marked| !kept(marked))?;
    Ok(doomed.end(grace).await)
}

/// Ends every process of one workload but those of the groups in `adopted`.
pub(super) async fn end_others(
    state: &StateDir,
    workload: &WorkloadId,
    entries: &[Entry],
    adopted: &[u32],
    grace: Duration,
) -> Result<Swept, StateError> {
    let mut doomed = Doomed::default();
    for entry in entries.iter().filter(|entry| !adopted.contains(&entry.index)) {
        doomed.add_entry(entry);
    }
    let prefix = state.workload_prefix(workload);
    let is_adopted = |marked: &Marked| {
        let index = marked.marker.strip_prefix(&prefix).and_then(|text| text.parse().ok());
        index.is_some_and(|index| adopted.contains(&index))
    };
    doomed.add_marked(&prefix, |marked| !is_adopted(marked))?;
    Ok(doomed.end(grace).await)
}

#[derive(Debug, Default)]
struct Doomed {
    groups: Vec<Group>,
    /// By process id: what bears the marker, whether or not it stayed in its group.
    marked: BTreeMap<i32, Marked>,
}

impl Doomed {
    fn add_entry(&mut self, entry: &Entry) {
        self.groups.extend(Group::find(entry.pid, entry.started_ticks));
    }

    fn add_marked(&mut self, prefix: &str, doomed: impl Fn(&Marked) -> bool) -> Result<(), StateError> {
        let found =
            group::marked(prefix).map_err(|source| StateError::Read { path: "/proc".into(), source })?;
        self.marked.extend(found.into_iter().filter(doomed).map(|marked| (marked.pid, marked)));
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        self.groups.iter().for_each(|group| group.signal(signal));
        self.marked.values().for_each(|marked| marked.signal(signal));
    }

    fn living(&self) -> usize {
        let loose = |group: &&Group| group.leader_lives() && !self.marked.contains_key(&group.pid());
        self.groups.iter().filter(loose).count() + self.marked.values().filter(|m| m.lives()).count()
    }

    async fn end(self, grace: Duration) -> Swept {
        let found = self.living();
        if found > 0 {
            self.signal(Signal::SIGTERM);
            if !self.gone_within(grace).await {
                self.signal(Signal::SIGKILL);
                self.gone_within(KILL_WAIT).await;
            }
        }
        let left = self.living();
        Swept { ended: found.saturating_sub(left), left }
    }

    async fn gone_within(&self, limit: Duration) -> bool {
        let until = clock::steady() + limit;
        while self.living() > 0 {
            if clock::steady() >= until {
                return false;
            }
            tokio::time::sleep(POLL).await;
        }
        true
    }
}
