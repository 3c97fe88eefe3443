//! What came of a simulation.

use std::time::Duration;

use tidegate_core::{Histogram, Timestamp};

/// What came of a simulation. Requests count by when they arrived, so that a minute's misses are of its own arrivals.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Over all that is scored.
    pub totals: Totals,
    /// Minute by minute, without a gap.
    pub minutes: Vec<Minute>,
    /// Latencies of answered requests, in seconds.
    pub latency: Histogram,
}

/// Sums over all that is scored.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Requests that arrived.
    pub arrived: u64,
    /// Of these, answered.
    pub completed: u64,
    /// Of these, ended without an answer.
    pub dropped: u64,
    /// Of these, ended outside the objective, dropped ones included.
    pub missed: u64,
    /// Requests that had no end within an hour after the last arrival.
    pub inside: u64,
    /// Replica-seconds from order to removal: starting and draining replicas cost as ready ones do.
    pub replica_seconds: f64,
    /// Orders for more replicas.
    pub scale_ups: u64,
    /// Orders for fewer.
    pub scale_downs: u64,
}

impl Totals {
    /// Share of requests outside the objective; `None` when there were none.
    #[must_use]
    pub fn miss_fraction(&self) -> Option<f64> {
        (self.arrived > 0).then(|| self.missed as f64 / self.arrived as f64)
    }

    /// Replica-hours.
    #[must_use]
    pub fn replica_hours(&self) -> f64 {
        self.replica_seconds / 3600.0
    }

    /// Orders of either kind.
    #[must_use]
    pub const fn actions(&self) -> u64 {
        self.scale_ups + self.scale_downs
    }
}

/// One minute; of [`Run::by`], any length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    /// Its start.
    pub at: Timestamp,
    /// Requests that arrived in it.
    pub arrivals: u64,
    /// Of these, ended outside the objective.
    pub missed: u64,
    /// Replica-seconds that it cost.
    pub replica_seconds: f64,
    /// Replica-seconds of ready replicas.
    pub ready_seconds: f64,
    /// The size asked for at its end.
    pub wanted: u32,
    /// Most requests waiting, looked at each second.
    pub queued_max: u64,
}

impl Minute {
    pub(crate) const fn new(at: Timestamp) -> Self {
        Self {
            at,
            arrivals: 0,
            missed: 0,
            replica_seconds: 0.0,
            ready_seconds: 0.0,
            wanted: 0,
            queued_max: 0,
        }
    }

    /// Share of its requests outside the objective; `None` when there were none.
    #[must_use]
    pub fn miss_fraction(&self) -> Option<f64> {
        (self.arrivals > 0).then(|| self.missed as f64 / self.arrivals as f64)
    }
}

impl Run {
    /// The minutes joined to stretches of `span`, an hour or a day, that begin at its multiples since the epoch (UTC).
    #[must_use]
    pub fn by(&self, span: Duration) -> Vec<Minute> {
        let mut stretches: Vec<Minute> = Vec::new();
        for minute in &self.minutes {
            let start = minute.at.floor_to(span);
            if stretches.last().is_none_or(|last| last.at != start) {
                stretches.push(Minute::new(start));
            }
            if let Some(last) = stretches.last_mut() {
                last.arrivals += minute.arrivals;
                last.missed += minute.missed;
                last.replica_seconds += minute.replica_seconds;
                last.ready_seconds += minute.ready_seconds;
                last.wanted = minute.wanted;
                last.queued_max = last.queued_max.max(minute.queued_max);
            }
        }
        stretches
    }

    /// The hour in which most requests were missed; `None` when none was.
    #[must_use]
    pub fn worst_hour(&self) -> Option<Minute> {
        let hours = self.by(Duration::from_secs(3600));
        hours.into_iter().filter(|hour| hour.missed > 0).max_by_key(|hour| hour.missed)
    }
}
