//! What went through a gateway, exactly: `arrivals = completed + failed + dropped + in flight + queued` whenever nothing
//! is on its way from one to the next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tidegate_core::{Histogram, Timestamp};

use super::arrivals::{Arrivals, Seconds};
use super::dispatch::Dispatch;
use crate::clock;
use crate::routing::Backend;

/// Why a request was refused or given up without an answer of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropCause {
    /// As many requests as may wait did so already.
    QueueFull,
    /// It waited for a replica as long as it may.
    QueueTimeout,
    /// The client closed its connection before the answer was whole.
    ClientGone,
    /// The gateway was stopping.
    Stopping,
}

impl DropCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::QueueTimeout, Self::ClientGone, Self::Stopping];

    /// Value of the `cause` label: a closed set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::ClientGone => "client_gone",
            Self::Stopping => "stopping",
        }
    }
}

/// Why a replica that had a request gave no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailCause {
    /// It accepted no connection, nor did another.
    Connect,
    /// It closed the connection instead of answering.
    NoAnswer,
    /// Its answer did not begin in time.
    AnswerTimeout,
    /// Its answer broke off or stood still.
    AnswerBroken,
}

impl FailCause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Connect, Self::NoAnswer, Self::AnswerTimeout, Self::AnswerBroken];

    /// Value of the `cause` label: a closed set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::NoAnswer => "no_answer",
            Self::AnswerTimeout => "answer_timeout",
            Self::AnswerBroken => "answer_broken",
        }
    }
}

/// First digit of the status that a client got, from a replica or from the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StatusClass {
    Success,
    Redirect,
    ClientError,
    ServerError,
}

impl StatusClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Success, Self::Redirect, Self::ClientError, Self::ServerError];

    /// Value of the `code` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }

    const fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

/// Load of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendLoad {
    /// Which.
    pub backend: Backend,
    /// Requests that it has.
    pub in_flight: u32,
    /// It gets no more.
    pub draining: bool,
}

/// All figures of a gateway at one moment; counters since its start.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayStats {
    /// When.
    pub at: Timestamp,
    /// Requests whose head was read, whatever became of them.
    pub arrivals: u64,
    /// Requests with a whole answer of a replica, whatever its status.
    pub completed: u64,
    /// Requests that a replica had and did not answer wholly.
    pub failed: BTreeMap<FailCause, u64>,
    /// Requests refused or given up.
    pub dropped: BTreeMap<DropCause, u64>,
    /// Answers begun, by status: those of the gateway itself (502, 503, 504) included.
    pub answers: BTreeMap<StatusClass, u64>,
    /// Requests sent again to another replica.
    pub retries: u64,
    /// Requests that a replica has at present.
    pub in_flight: u64,
    /// Requests that wait for a replica at present.
    pub queued: u64,
    /// Seconds from arrival to the last byte of the answer, for what completed or failed; drops are not in it.
    pub latency: Histogram,
    /// Requests that were judged by the objective: all that ended, except those whose client left within it.
    pub judged: u64,
    /// Of these, the missed: late, failed, dropped, or answered with a 5xx status.
    pub missed: u64,
    /// Load of each replica, by rising index.
    pub backends: Vec<BackendLoad>,
}

impl GatewayStats {
    /// All that were refused or given up.
    #[must_use]
    pub fn dropped_all(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// All that failed at a replica.
    #[must_use]
    pub fn failed_all(&self) -> u64 {
        self.failed.values().sum()
    }
}

#[derive(Debug)]
pub(super) struct Recorder {
    objective: Option<Duration>,
    arrivals: AtomicU64,
    completed: AtomicU64,
    failed: [AtomicU64; FailCause::ALL.len()],
    dropped: [AtomicU64; DropCause::ALL.len()],
    answers: [AtomicU64; StatusClass::ALL.len()],
    retries: AtomicU64,
    judged: AtomicU64,
    missed: AtomicU64,
    latency: Mutex<Histogram>,
    seconds: Mutex<Seconds>,
}

/// One request on its way through; dropped without an outcome, its client has gone.
#[derive(Debug)]
pub(super) struct Visit {
    recorder: Arc<Recorder>,
    arrived: Duration,
    ended: bool,
}

impl Visit {
    pub(super) fn arrive(recorder: &Arc<Recorder>) -> Self {
        add(&recorder.arrivals);
        lock(&recorder.seconds).count(clock::wall());
        Self { recorder: Arc::clone(recorder), arrived: clock::steady(), ended: false }
    }

    pub(super) fn retried(&self) {
        add(&self.recorder.retries);
    }

    /// An answer with this status begins.
    pub(super) fn answered(&self, status: StatusCode) {
        add(&self.recorder.answers[StatusClass::of(status) as usize]);
    }

    pub(super) fn completed(&mut self, status: StatusCode) {
        if let Some(taken) = self.end() {
            add(&self.recorder.completed);
            self.observe(taken);
            self.judge(!status.is_server_error() && self.in_time(taken));
        }
    }

    pub(super) fn failed(&mut self, cause: FailCause) {
        if let Some(taken) = self.end() {
            add(&self.recorder.failed[cause as usize]);
            self.observe(taken);
            self.judge(false);
        }
    }

    pub(super) fn dropped(&mut self, cause: DropCause) {
        let Some(taken) = self.end() else { return };
        add(&self.recorder.dropped[cause as usize]);
        // Of a client that leaves early nobody can say whether its answer would have been in time.
        if cause != DropCause::ClientGone || !self.in_time(taken) {
            self.judge(false);
        }
    }

    /// Time since the arrival; `None` when it had ended before.
    fn end(&mut self) -> Option<Duration> {
        let first = !std::mem::replace(&mut self.ended, true);
        first.then(|| clock::steady().saturating_sub(self.arrived))
    }

    fn in_time(&self, taken: Duration) -> bool {
        self.recorder.objective.is_none_or(|objective| taken <= objective)
    }

    fn observe(&self, taken: Duration) {
        lock(&self.recorder.latency).observe(taken.as_secs_f64());
    }

    fn judge(&self, kept: bool) {
        if self.recorder.objective.is_some() {
            add(&self.recorder.judged);
            if !kept {
                add(&self.recorder.missed);
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.dropped(DropCause::ClientGone);
    }
}

impl Recorder {
    pub(super) fn new(objective: Option<Duration>) -> Self {
        Self {
            objective,
            arrivals: AtomicU64::default(),
            completed: AtomicU64::default(),
            failed: Default::default(),
            dropped: Default::default(),
            answers: Default::default(),
            retries: AtomicU64::default(),
            judged: AtomicU64::default(),
            missed: AtomicU64::default(),
            latency: Mutex::default(),
            seconds: Mutex::new(Seconds::since_now(clock::wall())),
        }
    }

    pub(super) fn snapshot(&self, dispatch: &Dispatch) -> GatewayStats {
        let (backends, queued) = dispatch.load();
        GatewayStats {
            at: clock::wall(),
            arrivals: get(&self.arrivals),
            completed: get(&self.completed),
            failed: FailCause::ALL.map(|cause| (cause, get(&self.failed[cause as usize]))).into(),
            dropped: DropCause::ALL.map(|cause| (cause, get(&self.dropped[cause as usize]))).into(),
            answers: StatusClass::ALL.map(|class| (class, get(&self.answers[class as usize]))).into(),
            retries: get(&self.retries),
            in_flight: backends.iter().map(|load| u64::from(load.in_flight)).sum(),
            queued,
            latency: lock(&self.latency).clone(),
            judged: get(&self.judged),
            missed: get(&self.missed),
            backends,
        }
    }

    pub(super) fn arrivals_since(&self, from: Timestamp) -> Arrivals {
        let mut seconds = lock(&self.seconds);
        seconds.advance(clock::wall());
        seconds.since(from)
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_left_early_is_not_judged() {
        let recorder = Arc::new(Recorder::new(Some(Duration::from_secs(60))));
        drop(Visit::arrive(&recorder));
        Visit::arrive(&recorder).dropped(DropCause::QueueFull);
        Visit::arrive(&recorder).completed(StatusCode::OK);
        Visit::arrive(&recorder).completed(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!((get(&recorder.judged), get(&recorder.missed)), (3, 2));
    }
}
