//! Counts lines so that they balance: read = shipped + dead-lettered + buffered, in every snapshot.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::{Label, Metric, WorkloadId};

use crate::export::Registry;

/// The counts of one pipeline since its start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Which sink the figures are of.
    pub sink: &'static str,
    /// Lines read, by workload; `None` for files of no workload.
    pub read: BTreeMap<Option<WorkloadId>, u64>,
    /// Lines that the sink has acknowledged.
    pub shipped: u64,
    /// Lines that the sink refused for good, by cause.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// Lines read and not yet acknowledged.
    pub buffered: u64,
    /// Requests or items sent again, by cause.
    pub retries: BTreeMap<&'static str, u64>,
    /// Age of the oldest line not yet acknowledged; `None` when there is none.
    pub lag: Option<Duration>,
    /// Files that are open.
    pub files: usize,
    /// Bytes of records that were pushed here, on disk; `None` where none are taken.
    pub spooled: Option<u64>,
    /// Reads of files, writes of the checkpoint or of the dead-letter file that failed, by cause.
    pub errors: BTreeMap<&'static str, u64>,
}

impl LogStats {
    /// All lines read.
    #[must_use]
    pub fn read_total(&self) -> u64 {
        self.read.values().sum()
    }

    /// Shows the counts on `/metrics`.
    pub fn tell(&self, registry: &Registry) {
        let sink = (Label::Sink, self.sink);
        for (workload, lines) in &self.read {
            let name = workload.as_ref().map_or("none", |id| id.as_str());
            registry.counter(Metric::LogLinesRead, &[(Label::Workload, name)]).raise_to(number(*lines));
        }
        registry.counter(Metric::LogLinesShipped, &[sink]).raise_to(number(self.shipped));
        for (cause, lines) in &self.dead_lettered {
            let labels = [sink, (Label::Cause, *cause)];
            registry.counter(Metric::LogLinesDeadLettered, &labels).raise_to(number(*lines));
        }
        for (cause, times) in &self.retries {
            let labels = [sink, (Label::Cause, *cause)];
            registry.counter(Metric::LogShipRetries, &labels).raise_to(number(*times));
        }
        registry.gauge(Metric::LogLinesBuffered, &[sink]).set(Some(number(self.buffered)));
        if let Some(bytes) = self.spooled {
            registry.gauge(Metric::OtlpLogSpool, &[]).set(Some(number(bytes)));
        }
        let lag = self.lag.map_or(0.0, |lag| lag.as_secs_f64());
        registry.gauge(Metric::LogShipLagSeconds, &[sink]).set(Some(lag));
    }

    /// All lines refused for good.
    #[must_use]
    pub fn dead_lettered_total(&self) -> u64 {
        self.dead_lettered.values().sum()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
const fn number(count: u64) -> f64 {
    count as f64
}

/// The counts, while they change.
#[derive(Debug)]
pub(crate) struct Ledger {
    counts: Mutex<LogStats>,
}

impl Ledger {
    pub(crate) fn new(sink: &'static str) -> Self {
        Self { counts: Mutex::new(LogStats { sink, ..LogStats::default() }) }
    }

    pub(crate) fn read(&self, workload: Option<&WorkloadId>, lines: u64) {
        let mut counts = self.lock();
        match counts.read.get_mut(&workload.cloned()) {
            Some(count) => *count += lines,
            None => {
                counts.read.insert(workload.cloned(), lines);
            }
        }
        counts.buffered += lines;
    }

    pub(crate) fn shipped(&self, lines: u64) {
        let mut counts = self.lock();
        counts.shipped += lines;
        counts.buffered = counts.buffered.saturating_sub(lines);
    }

    pub(crate) fn dead_lettered(&self, cause: &'static str, lines: u64) {
        let mut counts = self.lock();
        *counts.dead_lettered.entry(cause).or_default() += lines;
        counts.buffered = counts.buffered.saturating_sub(lines);
    }

    pub(crate) fn retried(&self, cause: &'static str, times: u64) {
        *self.lock().retries.entry(cause).or_default() += times;
    }

    pub(crate) fn failed(&self, cause: &'static str) {
        *self.lock().errors.entry(cause).or_default() += 1;
    }

    pub(crate) fn files(&self, open: usize) {
        self.lock().files = open;
    }

    pub(crate) fn snapshot(&self, lag: Option<Duration>) -> LogStats {
        LogStats { lag, ..self.lock().clone() }
    }

    fn lock(&self) -> MutexGuard<'_, LogStats> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
