//! The shapes of the API: what a field is called, and what it holds. Unknown is `null`, times are RFC 3339 UTC, durations are in seconds.

mod about;
mod action;
mod decision;
mod event;
mod forecast;
mod log;
mod summary;
mod workload;

pub(crate) use about::{About, IndexedLogs, NodeReading, NodeView, Pool, PoolHolder, Preloaded, Rival, Sink};
#[cfg(test)]
pub(crate) use action::Alert;
pub(crate) use action::{
    AlertBatch, AlertOutcome, AlertReport, AlertStatus, Fault, FaultRequest, FaultTarget, Faults,
    RunningFault,
};
pub(crate) use decision::{Baseline, Decision, Decisions, Reason};
pub(crate) use event::{ConditionChange, Event};
pub(crate) use forecast::{ForecastView, Point, SeriesView};
pub(crate) use log::{LogLine, Logs};
pub(crate) use summary::{Summary, WorkloadSummary};
pub(crate) use workload::{
    Bottleneck, Capacity, Condition, Demand, FrontPoint, LeadTime, Provision, Replicas, Severity, SignalName,
    Slo, Standing, Workload, WorkloadDetail, Workloads,
};

/// The metrics page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exposition {
    /// Its media type, with version and charset.
    pub(crate) content_type: String,
    /// Its text.
    pub(crate) body: bytes::Bytes,
}
