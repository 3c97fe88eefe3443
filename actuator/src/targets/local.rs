//! Workloads made of processes of this machine: starts, checks, drains and stops replicas, and keeps their number.
//!
//! How many there should be is told to it ([`LocalTarget::set_replicas`]); which requests go where is the gateway's part.
//!
//! Nothing outlives Tidegate unseen: each replica leads a process group of its own and bears a marker in its environment,
//! and what runs is written to a file. After `kill -9` the next start finds the survivors by both, adopts those that still
//! answer and were started from the same specification, and ends the others.

mod fleet;
mod group;
mod logfile;
mod orphans;
mod process;
mod spec;
pub(crate) mod state;
mod supervisor;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::policy::REPLICAS_LIMIT;
use tidegate_core::{ReplicaCounts, Timestamp, WorkloadId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::routing::{Backend, Routing};
pub use orphans::{Swept, sweep_orphans};
pub use process::{Ended, SpawnError};
pub use spec::{Check, ProcessSpec, Readiness, Restart, SpecError};
pub use state::StateError;
use supervisor::Supervisor;

/// Events kept for a listener that is slow; older ones are lost to it, never to the others.
const EVENTS_KEPT: usize = 256;
/// Requests to kill a replica that may wait; more are refused.
const KILLS_WAITING: usize = 16;
/// On top of the drain limit and the grace: time for processes to end after SIGKILL.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// Where a replica is in its course, as shown to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// No process: waits to be started again after a failure.
    Waiting,
    /// Runs, not ready.
    Starting,
    /// Takes requests.
    Ready,
    /// Finishes its requests.
    Draining,
    /// Was asked to end.
    Stopping,
    /// Ended well, its work done.
    Done,
}

/// One replica at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaView {
    /// Its index, the lowest that was free when it was added.
    pub index: u32,
    /// Its process, where one runs.
    pub pid: Option<i32>,
    /// Where it listens, where it runs.
    pub addr: Option<SocketAddr>,
    /// Where it is in its course.
    pub state: ReplicaState,
    /// Since when.
    pub since: Timestamp,
    /// How often its process was started again.
    pub restarts: u32,
}

/// Something that a person or a decision should know of a target, as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Replicas end again and again soon after their start; only one at a time is tried.
    CrashLoop {
        /// Failed starts in a row.
        failures: u32,
    },
    /// The last replica could not even be started.
    CannotStart {
        /// Why, with causes.
        text: String,
    },
    /// A replica was not ready within the deadline, and none has become ready since.
    NeverReady,
    /// What runs could not be written down: after a `kill -9` only the markers will find it.
    StateNotSaved {
        /// Why, with causes.
        text: String,
    },
}

impl Condition {
    /// Its name: a closed set.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::CrashLoop { .. } => "crash_loop",
            Self::CannotStart { .. } => "cannot_start",
            Self::NeverReady => "never_ready",
            Self::StateNotSaved { .. } => "state_not_saved",
        }
    }
}

/// What happened to a replica or a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A process was started.
    Started,
    /// It answers as ready for the first time since its start.
    Ready {
        /// From the start of the process.
        start_up: Duration,
    },
    /// It no longer answers as ready.
    Unready,
    /// A survivor of an earlier Tidegate was taken over.
    Adopted,
    /// It gets no more requests.
    Draining,
    /// Its process has ended.
    Exited {
        /// How.
        ended: Ended,
        /// Whether that was asked for.
        asked: bool,
    },
    /// It was not ready in time and is being ended.
    StartDeadline,
    /// It failed its health checks and is being restarted.
    Unhealthy,
    /// Its process could not be started.
    SpawnFailed {
        /// Why, with causes.
        text: String,
    },
    /// A crash loop began (`true`) or ended.
    CrashLoop(bool),
}

/// What happened, when and to which replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Whose replica.
    pub workload: WorkloadId,
    /// Which replica; `None` when it concerns the whole target.
    pub replica: Option<u32>,
    /// What.
    pub kind: EventKind,
}

/// Everything that can be seen of a target at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Replicas by state.
    pub counts: ReplicaCounts,
    /// Each replica, by rising index.
    pub replicas: Vec<ReplicaView>,
    /// What is wrong at present.
    pub conditions: Vec<Condition>,
}

/// Why a target could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its state folder cannot be used.
    #[error("failed to open the state of {workload}")]
    State {
        /// Whose.
        workload: WorkloadId,
        /// Why.
        source: StateError,
    },
    /// It has no command.
    #[error("failed to understand the specification of {workload}")]
    Spec {
        /// Whose.
        workload: WorkloadId,
        /// Why.
        source: SpecError,
    },
}

/// There is no such replica with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no running replica {0}")]
pub struct NoSuchReplica(pub u32);

/// A workload of processes. When it is dropped its processes are ended too, but not waited for: see [`LocalTarget::stop`].
#[derive(Debug)]
pub struct LocalTarget {
    spec: Arc<ProcessSpec>,
    wishes: watch::Sender<Wish>,
    kills: mpsc::Sender<Kill>,
    seen: watch::Receiver<Snapshot>,
    events: broadcast::Sender<Event>,
    supervisor: JoinHandle<()>,
}

/// What is wanted of a target: the last word counts, none is queued.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    replicas: u32,
    stop: bool,
}

#[derive(Debug)]
struct Kill {
    index: u32,
    done: oneshot::Sender<Result<(), NoSuchReplica>>,
}

impl LocalTarget {
    /// Takes over what an earlier Tidegate with the same `state_dir` left running, ends what does not fit, and supervises
    /// from then on. The number wanted is that of the replicas taken over until [`Self::set_replicas`] is called.
    ///
    /// A command that does not exist is no error here: it is a [`Condition`], and is tried again every 30 s. Ask
    /// [`ProcessSpec::check`] first to refuse it.
    ///
    /// # Errors
    /// When the specification has no command, or the state folder cannot be written.
    pub async fn start(
        spec: ProcessSpec,
        state_dir: &Path,
        routing: Option<Arc<dyn Routing>>,
    ) -> Result<Self, StartError> {
        if let Err(source @ SpecError::NoCommand { .. }) = spec.check() {
            return Err(StartError::Spec { workload: spec.id, source });
        }
        let spec = Arc::new(spec);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let (kills, kills_asked) = mpsc::channel(KILLS_WAITING);
        let failed = |source| StartError::State { workload: spec.id.clone(), source };
        let state = state::StateDir::open(state_dir).map_err(failed)?;
        let (show, seen) = watch::channel(Snapshot::default());
        let mut supervisor = Supervisor::new(
            Arc::clone(&spec),
            state,
            routing,
            supervisor::Outlets { show, events: events.clone() },
        );
        let adopted = supervisor.take_over().await.map_err(failed)?;
        let (wishes, wished) = watch::channel(Wish { replicas: adopted, stop: false });
        let supervisor = tokio::spawn(supervisor.run(wished, kills_asked));
        Ok(Self { spec, wishes, kills, seen, events, supervisor })
    }

    /// What it was started with.
    #[must_use]
    pub fn spec(&self) -> &ProcessSpec {
        &self.spec
    }

    /// Sets the number of replicas, at most [`REPLICAS_LIMIT`]. Returns at once; the same number again changes nothing.
    pub fn set_replicas(&self, replicas: u32) {
        let replicas = replicas.min(REPLICAS_LIMIT);
        self.wishes.send_if_modified(|wish| std::mem::replace(&mut wish.replicas, replicas) != replicas);
    }

    /// Replicas by state. The wanted number is the one set last, even when it has not been acted on yet.
    #[must_use]
    pub fn counts(&self) -> ReplicaCounts {
        ReplicaCounts { wanted: self.wishes.borrow().replicas, ..self.seen.borrow().counts }
    }

    /// Each replica, by rising index.
    #[must_use]
    pub fn replicas(&self) -> Vec<ReplicaView> {
        self.seen.borrow().replicas.clone()
    }

    /// What is wrong at present.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        self.seen.borrow().conditions.clone()
    }

    /// Whether replicas end again and again soon after their start.
    #[must_use]
    pub fn is_crash_looping(&self) -> bool {
        let looping = |condition: &Condition| {
            matches!(condition, Condition::CrashLoop { .. } | Condition::CannotStart { .. })
        };
        self.seen.borrow().conditions.iter().any(looping)
    }

    /// Follows all of it; a receiver sees the latest state, not each in between.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.seen.clone()
    }

    /// Follows what happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Where the ready replicas listen, by rising index.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Backend> {
        let seen = self.seen.borrow();
        let ready = seen.replicas.iter().filter(|replica| replica.state == ReplicaState::Ready);
        ready.filter_map(|r| Some(Backend { index: r.index, addr: r.addr? })).collect()
    }

    /// Kills the processes of one replica at once, as a fault; it is then restarted like any that ended by itself.
    ///
    /// # Errors
    /// When no process of that replica runs, or too many such calls wait.
    pub async fn kill_replica(&self, index: u32) -> Result<(), NoSuchReplica> {
        let (done, answer) = oneshot::channel();
        self.kills.try_send(Kill { index, done }).map_err(|_| NoSuchReplica(index))?;
        answer.await.unwrap_or(Err(NoSuchReplica(index)))
    }

    /// Drains and ends every replica and waits until nothing is left: at most the drain limit, the grace and 5 s together,
    /// after which what is left has been sent SIGKILL and is no longer waited for. No replica is started again after this.
    pub async fn stop(&self) {
        self.wishes.send_modify(|wish| *wish = Wish { replicas: 0, stop: true });
        let limit = self.spec.drain_limit + self.spec.stop_grace + STOP_SLACK;
        let mut seen = self.seen.clone();
        // The supervisor holds the other end until nothing is left.
        let stopped = async { while seen.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, stopped).await.is_err() {
            tracing::error!(workload = %self.spec.id, "replicas outlived the end of their target");
            self.supervisor.abort();
        }
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
