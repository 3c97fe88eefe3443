//! What became of a load's requests: counts by outcome, and the latency of those that were served.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tidegate_core::Histogram;
use tokio::time::Instant;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// A status of 200 to 299.
    Ok,
    /// A status of 400 to 499.
    ClientError,
    /// A status of 503: the service is full or not ready.
    Unavailable,
    /// Another status of 500 to 599.
    ServerError,
    /// Any other status.
    OtherStatus,
    /// No answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// The connection ended, or the answer was longer than is read.
    Broken,
}

impl Outcome {
    /// The outcome of an answer.
    pub(super) const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400..=499 => Self::ClientError,
            503 => Self::Unavailable,
            500..=599 => Self::ServerError,
            _ => Self::OtherStatus,
        }
    }

    const fn is_answer(self) -> bool {
        !matches!(self, Self::Timeout | Self::Connect | Self::Broken)
    }
}

/// The counts of a load that goes on.
#[derive(Debug)]
pub(super) struct Tally {
    started: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    due: u64,
    not_sent: u64,
    ended: BTreeMap<Outcome, u64>,
    latency: Histogram,
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    /// Seconds since the start.
    pub(crate) seconds: f64,
    /// Requests that were due.
    pub(crate) due: u64,
    /// Requests that were sent.
    pub(crate) sent: u64,
    /// Requests over the bound, or so late that sending them would have made a burst of its own.
    pub(crate) not_sent: u64,
    /// Requests without an answer yet.
    pub(crate) in_flight: u64,
    /// Requests that were served.
    pub(crate) ok: u64,
    /// Requests that failed, by how.
    pub(crate) failed: BTreeMap<Outcome, u64>,
    /// Requests due per second.
    pub(crate) due_rps: f64,
    /// Requests served per second.
    pub(crate) ok_rps: f64,
    /// Quantiles of the seconds from being due to being served; unknown while nothing was served.
    pub(crate) latency_s: Latency,
}

/// Quantiles, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
}

impl Snapshot {
    /// Requests that got any answer.
    pub(crate) fn answered(&self) -> u64 {
        let failed = self.failed.iter().filter(|(outcome, _)| outcome.is_answer());
        self.ok + failed.map(|(_, count)| count).sum::<u64>()
    }
}

impl Tally {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), counts: Mutex::default() }
    }

    pub(super) fn count_due(&self) {
        self.counts().due += 1;
    }

    pub(super) fn count_not_sent(&self) {
        self.counts().not_sent += 1;
    }

    pub(super) fn count_end(&self, outcome: Outcome, took: Duration) {
        let mut counts = self.counts();
        *counts.ended.entry(outcome).or_insert(0) += 1;
        if outcome == Outcome::Ok {
            counts.latency.observe(took.as_secs_f64());
        }
    }

    /// The counts, after `seconds` of sending.
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
    pub(super) fn snapshot(&self, sending: Option<Duration>) -> Snapshot {
        let counts = self.counts();
        let seconds = sending.unwrap_or_else(|| self.started.elapsed()).as_secs_f64();
        let ok = counts.ended.get(&Outcome::Ok).copied().unwrap_or(0);
        let sent = counts.due - counts.not_sent;
        let quantile = |p| counts.latency.quantile(p);
        // A rate over no time at all is none.
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Snapshot {
            seconds,
            due: counts.due,
            sent,
            not_sent: counts.not_sent,
            in_flight: sent - counts.ended.values().sum::<u64>(),
            ok,
            failed: counts.ended.iter().filter(|(o, _)| **o != Outcome::Ok).map(|(o, n)| (*o, *n)).collect(),
            due_rps: rate(counts.due),
            ok_rps: rate(ok),
            latency_s: Latency { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) },
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counting cannot panic half-way, so a poisoned lock still guards whole counts.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
