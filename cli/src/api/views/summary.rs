//! Shapes of what each workload did over a range of time.

use serde::Serialize;
use tidegate_core::Timestamp;
use utoipa::ToSchema;

/// What each workload did in `[from, to)`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Summary {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) to: Timestamp,
    pub(crate) workloads: Vec<WorkloadSummary>,
}

/// What one workload did. The last three fields are of training, `requests` to `forecast_score` of serving.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct WorkloadSummary {
    /// Id of the workload.
    pub(crate) workload: String,
    /// `serving` or `training`.
    pub(crate) role: String,
    /// Requests that ended, drops included.
    pub(crate) requests: Option<u64>,
    /// Share of them that ended outside the objective, 0 to 1.
    pub(crate) slo_miss_fraction: Option<f64>,
    /// Replica-hours held, starting and draining included.
    pub(crate) replica_hours: Option<f64>,
    /// Decisions that changed the size.
    pub(crate) decisions: Option<u64>,
    /// Pinball loss of the forecasts in use against that of the last value; below 1 is better.
    pub(crate) forecast_score: Option<f64>,
    /// Training steps done.
    pub(crate) steps: Option<u64>,
    /// Worker-seconds held but lost to resizes.
    pub(crate) goodput_lost_s: Option<f64>,
    /// The same as a share of the worker-seconds held, 0 to 1.
    pub(crate) goodput_lost_fraction: Option<f64>,
}
