//! Carries out what the [`Fleet`] asks for and tells it what happened. The only place that starts and signals replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tidegate_core::Timestamp;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::fleet::{Action, Fleet, Limits, Phase};
use super::group::Group;
use super::process::{self, Process, Report, Told};
use super::spec::ProcessSpec;
use super::state::{Entry, StateDir, StateError};
use super::{
    Condition, Event, EventKind, Kill, ReplicaState, ReplicaView, Snapshot, Wish, chain, logfile, orphans,
};
use crate::clock;
use crate::routing::{Backend, Routing};

/// Reports that may wait; a watcher with another then waits itself.
const REPORTS_WAITING: usize = 64;
/// Longest time without a look at things: log files are kept bounded at this pace.
const IDLE_WAKE: Duration = Duration::from_secs(10);

/// Where a supervisor shows what it does.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) show: watch::Sender<Snapshot>,
    pub(super) events: broadcast::Sender<Event>,
}

/// A process that runs, as far as it must be known to signal it. Dropped only with a supervisor that is given up.
#[derive(Debug)]
struct Running {
    group: Arc<Group>,
    addr: SocketAddr,
    /// Tells this process from an earlier one of the same replica.
    run: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.group.signal(Signal::SIGKILL);
    }
}

pub(super) struct Supervisor {
    spec: Arc<ProcessSpec>,
    digest: String,
    fleet: Fleet,
    running: BTreeMap<u32, Running>,
    runs: u64,
    state: StateDir,
    routing: Option<Arc<dyn Routing>>,
    outlets: Outlets,
    reports: (mpsc::Sender<Told>, mpsc::Receiver<Told>),
    spawn_problem: Option<String>,
    never_ready: bool,
    save_problem: Option<String>,
    looping: bool,
    routed: Option<Vec<Backend>>,
    logs_bounded: Duration,
}

impl Supervisor {
    pub(super) fn new(
        spec: Arc<ProcessSpec>,
        state: StateDir,
        routing: Option<Arc<dyn Routing>>,
        outlets: Outlets,
    ) -> Self {
        let limits = Limits {
            start_deadline: spec.start_deadline,
            drain_limit: spec.drain_limit,
            stop_grace: spec.stop_grace,
            healthy_run: spec.healthy_run,
            restart: spec.restart,
        };
        Self {
            digest: spec.digest(),
            fleet: Fleet::new(limits),
            running: BTreeMap::new(),
            runs: 0,
            state,
            routing,
            outlets,
            reports: mpsc::channel(REPORTS_WAITING),
            spawn_problem: None,
            never_ready: false,
            save_problem: None,
            looping: false,
            routed: None,
            logs_bounded: clock::steady(),
            spec,
        }
    }

    /// Adopts the survivors that fit and ends the others. Returns the number adopted.
    pub(super) async fn take_over(&mut self) -> Result<u32, StateError> {
        let entries = self.state.load(&self.spec.id);
        let mut adopted = Vec::new();
        let mut asked = JoinSet::new();
        for entry in entries.iter().filter(|entry| entry.digest == self.digest) {
            let Some(group) = Group::find(entry.pid, entry.started_ticks) else { continue };
            let (index, process, spec) =
                (entry.index, process::adopt(group, entry.port), Arc::clone(&self.spec));
            asked.spawn(async move { (index, process::is_ready(&spec, process.addr).await, process) });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok((index, true, process)) = answer {
                self.fleet.adopt(index, clock::steady());
                self.watch(index, process);
                adopted.push(index);
                self.tell(Some(index), EventKind::Adopted);
            }
        }
        let swept =
            orphans::end_others(&self.state, &self.spec.id, &entries, &adopted, self.spec.stop_grace).await?;
        if swept.ended + swept.left + adopted.len() > 0 {
            tracing::info!(
                workload = %self.spec.id, adopted = adopted.len(), ended = swept.ended, left = swept.left,
                "took over from an earlier run"
            );
        }
        self.save()?;
        self.publish();
        Ok(u32::try_from(adopted.len()).unwrap_or(u32::MAX))
    }

    /// Runs until it is told to stop and nothing is left.
    pub(super) async fn run(mut self, mut wishes: watch::Receiver<Wish>, mut kills: mpsc::Receiver<Kill>) {
        loop {
            let gone = wishes.has_changed().is_err();
            let wish = *wishes.borrow_and_update();
            let stop = wish.stop || gone;
            self.fleet.want(if stop { 0 } else { wish.replicas });
            self.step();
            if stop && self.fleet.is_empty() {
                break;
            }
            let now = clock::steady();
            let wake = self.fleet.wake_at(now).map_or(IDLE_WAKE, |at| at.saturating_sub(now).min(IDLE_WAKE));
            tokio::select! {
                _ = wishes.changed(), if !gone => {}
                Some(kill) = kills.recv(), if !gone => self.kill(kill),
                Some(told) = self.reports.1.recv() => self.hear(told),
                () = tokio::time::sleep(wake) => {}
            }
        }
        if let Err(error) = self.state.forget(&self.spec.id) {
            tracing::warn!(error = chain(&error), "failed to clear the state of a stopped target");
        }
    }

    fn step(&mut self) {
        let now = clock::steady();
        let loads: BTreeMap<u32, Option<u32>> =
            self.running.keys().map(|index| (*index, self.load(*index))).collect();
        let actions = self.fleet.step(now, &|index| loads.get(&index).copied().flatten());
        let mut changed = false;
        for action in actions {
            changed |= matches!(action, Action::Spawn(_));
            self.act(action, now);
        }
        if changed {
            self.try_save();
        }
        self.bound_logs(now);
        self.publish();
    }

    fn act(&mut self, action: Action, now: Duration) {
        match action {
            Action::Spawn(index) => self.spawn(index, now),
            Action::Terminate(index) => self.signal(index, Signal::SIGTERM),
            Action::Kill(index) => self.signal(index, Signal::SIGKILL),
            Action::StartDeadline(index) => {
                self.never_ready = true;
                self.tell(Some(index), EventKind::StartDeadline);
            }
        }
    }

    /// Requests in flight at a replica, where somebody knows.
    fn load(&self, index: u32) -> Option<u32> {
        let backend = Backend { index, addr: self.running.get(&index)?.addr };
        self.routing.as_ref()?.in_flight(&backend)
    }

    fn spawn(&mut self, index: u32, now: Duration) {
        let marker = format!("{}{index}", self.state.workload_prefix(&self.spec.id));
        let taken: BTreeSet<u16> = self.running.values().map(|running| running.addr.port()).collect();
        match process::spawn(&self.spec, index, &marker, &taken) {
            Ok(process) => {
                self.spawn_problem = None;
                self.watch(index, process);
                self.tell(Some(index), EventKind::Started);
            }
            Err(error) => {
                let text = chain(&error);
                tracing::warn!(workload = %self.spec.id, replica = index, error = text, "failed to start a replica");
                self.spawn_problem = Some(text.clone());
                self.fleet.spawn_failed(index, error.is_lasting(), now);
                self.tell(Some(index), EventKind::SpawnFailed { text });
            }
        }
    }

    fn watch(&mut self, index: u32, process: Process) {
        self.runs += 1;
        let run = self.runs;
        self.running.insert(index, Running { group: Arc::clone(&process.group), addr: process.addr, run });
        let watched =
            process::watch_over(process, Arc::clone(&self.spec), index, run, self.reports.0.clone());
        tokio::spawn(watched);
    }

    fn signal(&self, index: u32, signal: Signal) {
        if let Some(running) = self.running.get(&index) {
            running.group.set_stopping();
            running.group.signal(signal);
        }
    }

    fn kill(&self, kill: Kill) {
        let running = self.running.get(&kill.index).ok_or(super::NoSuchReplica(kill.index));
        let done = running.map(|running| running.group.signal(Signal::SIGKILL));
        // Who asked may have gone away; the replica is killed all the same.
        kill.done.send(done).ok();
    }

    fn hear(&mut self, told: Told) {
        let Told { index, run, report } = told;
        if self.running.get(&index).is_none_or(|running| running.run != run) {
            return;
        }
        let now = clock::steady();
        match report {
            Report::Ready => {
                self.never_ready = false;
                if let Some(start_up) = self.fleet.ready(index, now) {
                    self.tell(Some(index), EventKind::Ready { start_up });
                }
            }
            Report::Unready => {
                self.fleet.unready(index, now);
                self.tell(Some(index), EventKind::Unready);
            }
            Report::Unhealthy => {
                if let Some(action) = self.fleet.unhealthy(index, now) {
                    self.tell(Some(index), EventKind::Unhealthy);
                    self.act(action, now);
                }
            }
            Report::Ended(ended) => {
                let asked = self.running.get(&index).is_some_and(|running| running.group.is_stopping());
                self.fleet.exited(index, ended.is_success(), now);
                self.running.remove(&index);
                self.try_save();
                self.tell(Some(index), EventKind::Exited { ended, asked });
            }
        }
    }

    fn save(&self) -> Result<(), StateError> {
        let entries = self.running.iter().map(|(index, running)| Entry {
            index: *index,
            pid: running.group.pid(),
            started_ticks: running.group.started_ticks(),
            port: running.addr.port(),
            digest: self.digest.clone(),
        });
        self.state.save(&self.spec.id, entries.collect())
    }

    fn try_save(&mut self) {
        let problem = self.save().err().map(|error| chain(&error));
        if let Some(text) = problem.as_ref().filter(|_| self.save_problem.is_none()) {
            tracing::warn!(workload = %self.spec.id, error = text, "failed to write down what runs");
        }
        self.save_problem = problem;
    }

    fn bound_logs(&mut self, now: Duration) {
        if now < self.logs_bounded + IDLE_WAKE {
            return;
        }
        self.logs_bounded = now;
        let paths: Vec<_> = self.running.keys().map(|index| self.spec.log_file(*index)).collect();
        tokio::task::spawn_blocking(move || {
            for path in paths {
                if let Err(error) = logfile::bound(&path) {
                    tracing::warn!(path = %path.display(), %error, "failed to bound a log file");
                }
            }
        });
    }

    /// First to whoever sends requests, then to whoever watches.
    fn publish(&mut self) {
        if self.fleet.failures() == 0 {
            self.spawn_problem = None;
            self.never_ready = false;
        }
        let looping = self.fleet.is_looping();
        if std::mem::replace(&mut self.looping, looping) != looping {
            self.tell(None, EventKind::CrashLoop(looping));
        }
        let now = (clock::steady(), clock::wall());
        let replicas: Vec<_> = self.fleet.replicas().map(|(index, r)| self.view(index, r, now)).collect();
        self.tell_draining(&replicas);
        self.route(&replicas);
        let snapshot = Snapshot { counts: self.fleet.counts(), replicas, conditions: self.conditions() };
        self.outlets.show.send_if_modified(|shown| {
            let changed = *shown != snapshot;
            *shown = snapshot;
            changed
        });
    }

    fn view(&self, index: u32, replica: &super::fleet::Replica, now: (Duration, Timestamp)) -> ReplicaView {
        let running = self.running.get(&index);
        let shown = self.outlets.show.borrow();
        let before = shown.replicas.iter().find(|view| view.index == index);
        let state = replica.phase.state();
        let pid = running.map(|running| running.group.pid());
        // Computed once per state, so that a wall clock that is set does not move it.
        let kept = before.filter(|view| view.state == state && view.pid == pid).map(|view| view.since);
        ReplicaView {
            index,
            pid,
            addr: running.map(|running| running.addr),
            state,
            since: kept.unwrap_or_else(|| now.1.before(now.0.saturating_sub(replica.since))),
            restarts: replica.restarts,
        }
    }

    fn tell_draining(&self, replicas: &[ReplicaView]) {
        let was_ready = |index: u32| {
            let shown = self.outlets.show.borrow();
            shown.replicas.iter().any(|view| view.index == index && view.state == ReplicaState::Ready)
        };
        for view in replicas.iter().filter(|view| view.state == ReplicaState::Draining) {
            if was_ready(view.index) {
                self.tell(Some(view.index), EventKind::Draining);
            }
        }
    }

    fn route(&mut self, replicas: &[ReplicaView]) {
        let Some(routing) = &self.routing else { return };
        let ready = replicas.iter().filter(|view| view.state == ReplicaState::Ready);
        let ready: Vec<_> =
            ready.filter_map(|view| Some(Backend { index: view.index, addr: view.addr? })).collect();
        if self.routed.as_ref() != Some(&ready) {
            routing.route(&ready);
            self.routed = Some(ready);
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        let looping = self.looping.then(|| Condition::CrashLoop { failures: self.fleet.failures() });
        let cannot = self.spawn_problem.clone().map(|text| Condition::CannotStart { text });
        let never = self.never_ready.then_some(Condition::NeverReady);
        let unsaved = self.save_problem.clone().map(|text| Condition::StateNotSaved { text });
        [looping, cannot, never, unsaved].into_iter().flatten().collect()
    }

    fn tell(&self, replica: Option<u32>, kind: EventKind) {
        tracing::debug!(workload = %self.spec.id, replica, event = ?kind, "local target");
        // Nobody listening is no failure.
        drop(self.outlets.events.send(Event {
            at: clock::wall(),
            workload: self.spec.id.clone(),
            replica,
            kind,
        }));
    }
}

impl Phase {
    const fn state(self) -> ReplicaState {
        match self {
            Self::Waiting { .. } => ReplicaState::Waiting,
            Self::Starting => ReplicaState::Starting,
            Self::Ready => ReplicaState::Ready,
            Self::Draining { .. } => ReplicaState::Draining,
            Self::Stopping { .. } => ReplicaState::Stopping,
            Self::Done => ReplicaState::Done,
        }
    }
}
