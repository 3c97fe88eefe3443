//! The replicas of one workload as plain state: what should be done next, given what has happened. No process is touched
//! here and no clock is read, so that every turn can be tested.
//!
//! It is level-triggered: only the wanted number is kept, never a list of things to do, and [`Fleet::step`] may be called
//! at any time and as often as one likes.

mod replica;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ReplicaCounts;

use super::spec::Restart;
use replica::BACKOFF_MAX;
pub(super) use replica::{Phase, Replica};

/// Failed starts in a row, over all replicas, that make a crash loop.
const LOOP_FAILURES: u32 = 3;
/// A group that outlives SIGKILL hangs in the kernel; it is signalled again this often.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// How often requests in flight are looked at while a replica drains.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// The limits that shape the course of a replica.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) start_deadline: Duration,
    pub(super) drain_limit: Duration,
    pub(super) stop_grace: Duration,
    pub(super) healthy_run: Duration,
    pub(super) restart: Restart,
}

/// What is to be done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Spawn(u32),
    /// SIGTERM to the group.
    Terminate(u32),
    /// SIGKILL to the group.
    Kill(u32),
    /// It was not ready in time; only to be told.
    StartDeadline(u32),
}

#[derive(Debug)]
pub(super) struct Fleet {
    limits: Limits,
    wanted: u32,
    replicas: BTreeMap<u32, Replica>,
    /// Failed starts since the last proof that a replica can run.
    failures: u32,
    last_failure: Duration,
    /// The command itself cannot be run.
    blocked: bool,
}

impl Fleet {
    pub(super) const fn new(limits: Limits) -> Self {
        Self {
            limits,
            wanted: 0,
            replicas: BTreeMap::new(),
            failures: 0,
            last_failure: Duration::ZERO,
            blocked: false,
        }
    }

    pub(super) const fn want(&mut self, replicas: u32) {
        self.wanted = replicas;
    }

    /// A replica that already runs and answers.
    pub(super) fn adopt(&mut self, index: u32, now: Duration) {
        let mut replica = Replica::waiting(now);
        replica.phase = Phase::Ready;
        replica.was_ready = true;
        self.replicas.insert(index, replica);
        self.wanted = self.wanted.max(u32::try_from(self.replicas.len()).unwrap_or(u32::MAX));
    }

    /// The process answers as ready. Its start-up time when this is the first time.
    pub(super) fn ready(&mut self, index: u32, now: Duration) -> Option<Duration> {
        self.blocked = false;
        let replica = self.replicas.get_mut(&index).filter(|r| r.phase == Phase::Starting)?;
        replica.enter(Phase::Ready, now);
        let first = !std::mem::replace(&mut replica.was_ready, true);
        first.then(|| now.saturating_sub(replica.started))
    }

    /// The process no longer answers as ready.
    pub(super) fn unready(&mut self, index: u32, now: Duration) {
        if let Some(replica) = self.replicas.get_mut(&index).filter(|r| r.phase == Phase::Ready) {
            replica.enter(Phase::Starting, now);
        }
    }

    /// The process lives but is sick: it is to be restarted.
    pub(super) fn unhealthy(&mut self, index: u32, now: Duration) -> Option<Action> {
        let replica = self.replicas.get(&index)?;
        matches!(replica.phase, Phase::Ready | Phase::Starting).then(|| self.stop_to_restart(index, now))
    }

    /// The process has ended.
    pub(super) fn exited(&mut self, index: u32, success: bool, now: Duration) {
        let Some(replica) = self.replicas.get_mut(&index) else { return };
        match replica.phase {
            Phase::Draining { .. } | Phase::Stopping { again: false, .. } => {
                self.replicas.remove(&index);
            }
            Phase::Stopping { again: true, .. } => replica.wait_to_restart(now),
            Phase::Starting | Phase::Ready if success && self.limits.restart == Restart::OnFailure => {
                replica.enter(Phase::Done, now);
            }
            Phase::Starting | Phase::Ready => {
                let healthy = replica.is_healthy(self.limits.healthy_run, now);
                if healthy {
                    replica.failures = 0;
                } else {
                    self.count_failure(index, now);
                }
                if let Some(replica) = self.replicas.get_mut(&index) {
                    replica.wait_to_restart(now);
                }
            }
            Phase::Waiting { .. } | Phase::Done => {}
        }
    }

    /// The process could not even be started. When `lasting`, trying soon again cannot help.
    pub(super) fn spawn_failed(&mut self, index: u32, lasting: bool, now: Duration) {
        self.count_failure(index, now);
        self.blocked = lasting;
        let Some(replica) = self.replicas.get_mut(&index) else { return };
        replica.wait_to_restart(now);
        if lasting {
            replica.enter(Phase::Waiting { until: now + BACKOFF_MAX }, now);
        }
    }

    fn count_failure(&mut self, index: u32, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = now;
        if let Some(replica) = self.replicas.get_mut(&index) {
            replica.failures = replica.failures.saturating_add(1);
        }
    }

    fn stop_to_restart(&mut self, index: u32, now: Duration) -> Action {
        self.count_failure(index, now);
        self.stop(index, true, now)
    }

    fn stop(&mut self, index: u32, again: bool, now: Duration) -> Action {
        let until = now + self.limits.stop_grace;
        if let Some(replica) = self.replicas.get_mut(&index) {
            replica.enter(Phase::Stopping { until, again }, now);
        }
        Action::Terminate(index)
    }

    /// What is to be done now. `load` gives the requests in flight at a replica; unknown counts as none, because then
    /// nobody but the process itself can finish them, which it does after SIGTERM.
    pub(super) fn step(&mut self, now: Duration, load: &dyn Fn(u32) -> Option<u32>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.note_health(now);
        self.pass_deadlines(now, load, &mut actions);
        self.balance(now, load, &mut actions);
        self.start_due(now, &mut actions);
        // Again: the last that tried may have been let go just now.
        self.note_health(now);
        actions
    }

    /// A healthy run ends the row of failures: the replica's own, and the fleet's when it was not ready before the last. So
    /// does as long a time in which nobody tried: the replicas that failed were scaled away.
    fn note_health(&mut self, now: Duration) {
        let proven = self.limits.healthy_run;
        let mut recovered = !self.is_trying() && now >= self.last_failure + proven;
        for replica in self.replicas.values_mut().filter(|r| r.is_healthy(proven, now)) {
            replica.failures = 0;
            recovered |= replica.since >= self.last_failure;
        }
        if recovered {
            self.failures = 0;
            self.blocked = false;
        }
    }

    /// Whether any replica is on its way to being ready.
    fn is_trying(&self) -> bool {
        let trying = |phase| {
            matches!(phase, Phase::Waiting { .. } | Phase::Starting | Phase::Stopping { again: true, .. })
        };
        self.replicas.values().any(|replica| trying(replica.phase))
    }

    fn pass_deadlines(
        &mut self,
        now: Duration,
        load: &dyn Fn(u32) -> Option<u32>,
        actions: &mut Vec<Action>,
    ) {
        let indices: Vec<u32> = self.replicas.keys().copied().collect();
        for index in indices {
            let Some(replica) = self.replicas.get_mut(&index) else { continue };
            match replica.phase {
                Phase::Starting if now >= replica.since + self.limits.start_deadline => {
                    actions.extend([Action::StartDeadline(index), self.stop_to_restart(index, now)]);
                }
                // Not in the turn it began: the gateway learns of it only after that.
                Phase::Draining { until }
                    if now > replica.since && (now >= until || load(index).unwrap_or(0) == 0) =>
                {
                    actions.push(self.stop(index, false, now));
                }
                Phase::Stopping { until, again } if now >= until => {
                    replica.phase = Phase::Stopping { until: now + KILL_AGAIN, again };
                    actions.push(Action::Kill(index));
                }
                _ => {}
            }
        }
    }

    /// Brings the number of replicas that are kept to the number wanted.
    fn balance(&mut self, now: Duration, load: &dyn Fn(u32) -> Option<u32>, actions: &mut Vec<Action>) {
        let wanted = usize::try_from(self.wanted).unwrap_or(usize::MAX);
        let mut kept = self.replicas.values().filter(|r| r.phase.is_kept()).count();
        while kept < wanted {
            match self.last_draining() {
                Some(index) => self.revive(index, now),
                None => self.add(now),
            }
            kept += 1;
        }
        while kept > wanted {
            let Some(index) = self.victim(load) else { break };
            actions.extend(self.let_go(index, now));
            kept -= 1;
        }
    }

    /// The one that began to drain last has the most left to give.
    fn last_draining(&self) -> Option<u32> {
        let draining = self.replicas.iter().filter(|(_, r)| matches!(r.phase, Phase::Draining { .. }));
        draining.max_by_key(|(index, r)| (r.since, **index)).map(|(index, _)| *index)
    }

    fn revive(&mut self, index: u32, now: Duration) {
        if let Some(replica) = self.replicas.get_mut(&index) {
            replica.enter(Phase::Ready, now);
        }
    }

    fn add(&mut self, now: Duration) {
        let free = (0..).find(|index| !self.replicas.contains_key(index));
        self.replicas.insert(free.expect("there are fewer replicas than indices"), Replica::waiting(now));
    }

    /// Who goes first: what does not run, then what is not ready (newest first), then the least in flight (newest first).
    fn victim(&self, load: &dyn Fn(u32) -> Option<u32>) -> Option<u32> {
        let cost = |index: u32, replica: &Replica| {
            let rank = match replica.phase {
                Phase::Done | Phase::Waiting { .. } => 0,
                Phase::Stopping { again: true, .. } => 1,
                Phase::Starting => 2,
                Phase::Ready => 3,
                Phase::Draining { .. } | Phase::Stopping { .. } => return None,
            };
            let in_flight = if rank == 3 { load(index).unwrap_or(0) } else { 0 };
            Some((rank, in_flight, std::cmp::Reverse((replica.started, index))))
        };
        let candidates = self.replicas.iter().filter_map(|(index, r)| Some((cost(*index, r)?, *index)));
        candidates.min().map(|(_, index)| index)
    }

    fn let_go(&mut self, index: u32, now: Duration) -> Option<Action> {
        let replica = self.replicas.get_mut(&index)?;
        match &mut replica.phase {
            Phase::Waiting { .. } | Phase::Done => {
                self.replicas.remove(&index);
                None
            }
            Phase::Stopping { again, .. } => {
                *again = false;
                None
            }
            Phase::Starting => Some(self.stop(index, false, now)),
            Phase::Ready | Phase::Draining { .. } => {
                replica.enter(Phase::Draining { until: now + self.limits.drain_limit }, now);
                None
            }
        }
    }

    /// Starts what is due. In a crash loop only one replica tries at a time, always the same, so that its pauses grow.
    fn start_due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let careful = self.is_looping() || self.blocked;
        if careful && self.replicas.values().any(|r| r.phase == Phase::Starting) {
            return;
        }
        let waiting = self.replicas.iter_mut().filter(|(_, r)| matches!(r.phase, Phase::Waiting { .. }));
        for (index, replica) in waiting.take(if careful { 1 } else { usize::MAX }) {
            if matches!(replica.phase, Phase::Waiting { until } if until <= now) {
                replica.start(now);
                actions.push(Action::Spawn(*index));
            }
        }
    }

    /// When [`Fleet::step`] has something to do again if nothing happens before.
    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        let careful = self.is_looping() || self.blocked;
        let busy = careful && self.replicas.values().any(|r| r.phase == Phase::Starting);
        let unproven = self.failures > 0;
        let wake = |replica: &Replica| match replica.phase {
            Phase::Waiting { until } => (!busy).then_some(until),
            Phase::Starting => Some(replica.since + self.limits.start_deadline),
            Phase::Ready => unproven
                .then_some(replica.since + self.limits.healthy_run)
                .filter(|_| replica.since >= self.last_failure),
            Phase::Draining { .. } => Some(now + DRAIN_POLL),
            Phase::Stopping { until, .. } => Some(until),
            Phase::Done => None,
        };
        let waiting_first = self.replicas.values().find(|r| matches!(r.phase, Phase::Waiting { .. }));
        let others = self.replicas.values().filter(|r| !matches!(r.phase, Phase::Waiting { .. }));
        let of_replicas = if careful {
            others.chain(waiting_first).filter_map(wake).min()
        } else {
            self.replicas.values().filter_map(wake).min()
        };
        let quiet = (unproven && !self.is_trying()).then_some(self.last_failure + self.limits.healthy_run);
        of_replicas.into_iter().chain(quiet).min()
    }

    pub(super) const fn is_looping(&self) -> bool {
        self.failures >= LOOP_FAILURES
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = (u32, &Replica)> {
        self.replicas.iter().map(|(index, replica)| (*index, replica))
    }

    pub(super) fn counts(&self) -> ReplicaCounts {
        let count = |of: fn(&Phase) -> bool| {
            let found = self.replicas.values().filter(|r| of(&r.phase)).count();
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        ReplicaCounts {
            wanted: self.wanted,
            ready: count(|p| matches!(p, Phase::Ready)),
            starting: count(|p| matches!(p, Phase::Starting)),
            draining: count(|p| matches!(p, Phase::Draining { .. } | Phase::Stopping { .. })),
        }
    }
}

#[cfg(test)]
mod tests;
