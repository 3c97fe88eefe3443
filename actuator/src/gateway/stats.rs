//! What went through a gateway, exactly: `arrivals = completed + failed + dropped + in flight + queued` whenever nothing
//! is on its way from one to the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tidegate_core::{Histogram, Timestamp};

use super::dispatch::Dispatch;
use crate::clock;
use crate::routing::Backend;

/// Seconds of arrivals kept: a day, 340 KB at most.
const ARRIVAL_SECONDS: usize = 86_400;

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

/// Arrivals per second, for replaying them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrivals {
    /// Start of the first second.
    pub start: Timestamp,
    /// Arrivals in it and in each after it; 0 is a true zero.
    pub counts: Vec<u32>,
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
            seconds: Mutex::new(Seconds::new(clock::wall(), ARRIVAL_SECONDS)),
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

/// Arrivals per second, the latest last; bounded.
#[derive(Debug)]
struct Seconds {
    /// Second since the epoch of the first count.
    first: i64,
    counts: VecDeque<u32>,
    kept: usize,
}

impl Seconds {
    fn new(now: Timestamp, kept: usize) -> Self {
        Self { first: second_of(now), counts: VecDeque::from([0]), kept }
    }

    fn count(&mut self, now: Timestamp) {
        self.advance(now);
        if let Some(last) = self.counts.back_mut() {
            *last = last.saturating_add(1);
        }
    }

    /// Adds empty seconds up to now. A clock that goes back counts into the last second that there was.
    fn advance(&mut self, now: Timestamp) {
        let last = self.first + i64::try_from(self.counts.len()).unwrap_or(i64::MAX) - 1;
        let missing = usize::try_from(second_of(now) - last).unwrap_or(0);
        if missing > self.kept {
            *self = Self::new(now, self.kept);
            return;
        }
        self.counts.extend(std::iter::repeat_n(0, missing));
        while self.counts.len() > self.kept {
            self.counts.pop_front();
            self.first += 1;
        }
    }

    fn since(&self, from: Timestamp) -> Arrivals {
        let skip = usize::try_from(second_of(from) - self.first).unwrap_or(0);
        let whole = self.counts.len().saturating_sub(1);
        let counts: Vec<u32> = self.counts.iter().take(whole).skip(skip).copied().collect();
        let skipped = i64::try_from(whole.min(skip)).unwrap_or(i64::MAX);
        Arrivals { start: Timestamp::from_secs(self.first + skipped), counts }
    }
}

const fn second_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
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

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000 + 400)
    }

    #[test]
    fn seconds_without_arrivals_are_true_zeros_and_the_running_one_is_left_out() {
        let mut seconds = Seconds::new(at(10), 100);
        seconds.count(at(10));
        seconds.count(at(10));
        seconds.count(at(13));
        seconds.count(at(14));
        let all = Arrivals { start: Timestamp::from_secs(10), counts: vec![2, 0, 0, 1] };
        assert_eq!(seconds.since(at(0)), all);
        assert_eq!(seconds.since(at(13)).counts, [1]);
        assert!(seconds.since(at(99)).counts.is_empty());
    }

    #[test]
    fn a_clock_that_jumps_changes_no_other_second() {
        let mut seconds = Seconds::new(at(10), 5);
        seconds.count(at(12));
        seconds.count(at(3));
        assert_eq!(seconds.counts, [0, 0, 2]);
        seconds.advance(at(16));
        assert_eq!((seconds.first, seconds.counts.len()), (12, 5));
        seconds.count(at(1_000_000));
        assert_eq!((seconds.first, seconds.counts.len()), (1_000_000, 1));
    }

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
