//! What the API needs from the program behind it. Not how that comes by it.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_core::{Signal, Subject, Timestamp, WorkloadId};
use tokio::sync::broadcast;

use super::Denied;
use super::views::{
    About, AlertBatch, AlertReport, Decision, Event, Exposition, FaultRequest, Faults, ForecastView, LogLine,
    NodeReading, Point, Summary, Workload, WorkloadDetail,
};

/// The program behind the API. All methods are called on a thread that may block, at most for the request's time limit;
/// what is unknown is `None`, never zero.
pub(crate) trait Backend: Send + Sync + 'static {
    /// The present time, for defaults of time ranges.
    fn now(&self) -> Timestamp;

    /// Whether work is done as configured; the text says what is missing.
    ///
    /// # Errors
    /// While it is not ready.
    fn ready(&self) -> Result<(), String>;

    /// What this program is, where it listens, and the figures that belong to no single workload.
    fn about(&self) -> About;

    /// Every workload, in the order of their ids.
    fn workloads(&self) -> Vec<Workload>;

    /// Namespaces that have workloads.
    fn namespaces(&self) -> BTreeSet<String> {
        let namespace = |workload: Workload| Some(workload.id.split_once('/')?.0.to_owned());
        self.workloads().into_iter().filter_map(namespace).collect()
    }

    /// One workload with all that is known of it; `None` when there is none of this id.
    fn workload(&self, id: &WorkloadId) -> Option<WorkloadDetail>;

    /// The forecast in use; of the workload's first demand signal when `signal` is `None`.
    /// `Ok(None)`: no model has an opinion yet.
    ///
    /// # Errors
    /// When there is no such workload, or the signal is not forecast.
    fn forecast(&self, id: &WorkloadId, signal: Option<Signal>) -> Result<Option<ForecastView>, Refusal>;

    /// Means per step over the range; a step without a reading is `None`.
    ///
    /// # Errors
    /// When there is no such subject, or the history cannot be read.
    fn series(&self, query: &SeriesQuery) -> Result<Vec<Point>, Refusal>;

    /// The last decisions, newest first, at most `limit`.
    ///
    /// # Errors
    /// When there is no such workload.
    fn decisions(&self, id: &WorkloadId, limit: usize) -> Result<Vec<Decision>, Refusal>;

    /// What each workload did in `[from, to)`.
    ///
    /// # Errors
    /// When the history cannot be read.
    fn summary(&self, from: Timestamp, to: Timestamp) -> Result<Summary, Refusal>;

    /// Log lines that pass the filter, newest first.
    ///
    /// # Errors
    /// When the logs cannot be read.
    fn logs(&self, filter: &LogFilter) -> Result<Vec<LogLine>, Refusal>;

    /// The last reading of each signal of this machine and of its parts.
    fn node(&self) -> Vec<NodeReading>;

    /// What happens from now on. A reader that falls behind loses the oldest and is told so.
    fn subscribe(&self) -> broadcast::Receiver<Event>;

    /// Takes alerts in; every one gets an outcome.
    ///
    /// # Errors
    /// When none could be looked at.
    fn alerts(&self, batch: AlertBatch) -> Result<AlertReport, Refusal>;

    /// The metrics page, in the best format that `accept` allows.
    fn metrics(&self, accept: Option<&str>) -> Exposition;

    /// Faults that can be tried; `None` outside the demo.
    fn faults(&self) -> Option<Faults> {
        None
    }

    /// Starts or clears a fault. Only called when [`Backend::faults`] gives some.
    ///
    /// # Errors
    /// When there is no such workload, or the fault does not apply to it.
    fn trigger(&self, request: &FaultRequest) -> Result<Faults, Refusal> {
        Err(Refusal::NotFound(format!("faults are tried in the demo only, not on {}", request.workload)))
    }

    /// Counts a request that was refused before it reached a route.
    fn denied(&self, cause: Denied);
}

/// A range of one signal of one subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SeriesQuery {
    /// Of what.
    pub(crate) subject: Subject,
    /// Which quantity.
    pub(crate) signal: Signal,
    /// Start, included.
    pub(crate) from: Timestamp,
    /// End, excluded; after `from`.
    pub(crate) to: Timestamp,
    /// Length of a step, above zero; the range has at most 11,000 of them.
    pub(crate) step: Duration,
}

/// Which log lines are wanted; absent parts let all pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogFilter {
    /// Of this workload.
    pub(crate) workload: Option<WorkloadId>,
    /// Of this class, such as `checkpoint_saved`.
    pub(crate) class: Option<String>,
    /// Of this level: `trace`, `debug`, `info`, `warn`, `error` or `fatal`.
    pub(crate) level: Option<String>,
    /// Whose text contains this, letters' case aside.
    pub(crate) text: Option<String>,
    /// At most this many.
    pub(crate) limit: usize,
}

/// Why the program behind the API did not do as asked. The text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense for what is there.
    #[error("{0}")]
    Invalid(String),
    /// It makes sense, but not in the present state.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be answered at present.
    #[error("{0}")]
    Unavailable(String),
}
