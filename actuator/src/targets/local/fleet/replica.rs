//! One replica of a fleet: where it is in its course, and how long it pauses after failures.

use std::time::Duration;

/// Pause after a replica's first failure; doubled with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest pause between two starts of a failing replica.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Where a replica is in its course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Phase {
    /// No process; to be started at that time.
    Waiting {
        until: Duration,
    },
    /// A process that is not ready (yet, or any more).
    Starting,
    Ready,
    /// Gets no more requests and finishes what it has.
    Draining {
        until: Duration,
    },
    /// Asked to end; at that time it is made to.
    Stopping {
        until: Duration,
        again: bool,
    },
    /// Ended by itself, its work done.
    Done,
}

#[derive(Debug, Clone)]
pub(in super::super) struct Replica {
    pub(in super::super) phase: Phase,
    /// Since when it is in this phase.
    pub(in super::super) since: Duration,
    /// When the present process was started.
    pub(super) started: Duration,
    /// Whether the present process was ready at some time.
    pub(super) was_ready: bool,
    /// Ends soon after a start, in a row.
    pub(super) failures: u32,
    /// Processes started after the first.
    pub(in super::super) restarts: u32,
    starts: u32,
}

impl Phase {
    /// Whether it makes up part of the wanted number.
    pub(super) const fn is_kept(&self) -> bool {
        !matches!(self, Self::Draining { .. } | Self::Stopping { again: false, .. })
    }
}

impl Replica {
    pub(super) const fn waiting(now: Duration) -> Self {
        Self {
            phase: Phase::Waiting { until: now },
            since: now,
            started: now,
            was_ready: false,
            failures: 0,
            restarts: 0,
            starts: 0,
        }
    }

    pub(super) const fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
    }

    pub(super) const fn start(&mut self, now: Duration) {
        self.enter(Phase::Starting, now);
        self.started = now;
        self.was_ready = false;
        self.restarts = self.starts;
        self.starts = self.starts.saturating_add(1);
    }

    pub(super) fn is_healthy(&self, run: Duration, now: Duration) -> bool {
        self.phase == Phase::Ready && now >= self.since + run
    }

    pub(super) fn wait_to_restart(&mut self, now: Duration) {
        let pause = match self.failures {
            0 => Duration::ZERO,
            n => BACKOFF_FIRST.saturating_mul(1 << (n - 1).min(16)).min(BACKOFF_MAX),
        };
        self.enter(Phase::Waiting { until: now + pause }, now);
    }
}
