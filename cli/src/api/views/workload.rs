//! Shapes that describe a workload.

use serde::Serialize;
use tidegate_core::Timestamp;
use utoipa::ToSchema;

/// Every workload.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Workloads {
    pub(crate) workloads: Vec<Workload>,
}

/// One workload as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Workload {
    /// `namespace/kind/name`, with a worker group as an optional fourth segment.
    #[schema(example = "local/process/digits-serve")]
    pub(crate) id: String,
    /// `serving` or `training`.
    pub(crate) role: String,
    /// `shadow`, `active` or `paused`.
    pub(crate) mode: String,
    /// Its size.
    pub(crate) replicas: Replicas,
    /// What drives its size; empty where nothing does, as in training.
    pub(crate) demand: Vec<Demand>,
    /// Its objective.
    pub(crate) slo: Slo,
    /// What limits it: `queue`, `compute`, `gpu_memory`, `host_cpu`, `data_transfer`, `storage`, `network`, `throttled`,
    /// `stalled` or `none`.
    pub(crate) bottleneck: Option<String>,
    /// What holds at present and is not as it should be, or explains the size.
    pub(crate) conditions: Vec<Condition>,
}

/// A size, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub(crate) struct Replicas {
    /// What the last plan in force asks for.
    pub(crate) wanted: Option<u32>,
    /// Taking requests, or taking part in steps.
    pub(crate) ready: Option<u32>,
    /// Started, not yet ready.
    pub(crate) starting: Option<u32>,
}

/// The last reading of a demand signal.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Demand {
    /// Name in the catalogue of signals.
    pub(crate) signal: String,
    /// In `unit`.
    pub(crate) value: Option<f64>,
    pub(crate) unit: String,
    /// Age of the reading, in seconds.
    pub(crate) age_s: Option<f64>,
}

/// The objective and how it is met.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub(crate) struct Slo {
    /// Share of the requests of the last hour that were answered in time, 0 to 1.
    pub(crate) attained: Option<f64>,
    /// Share that is to be answered in time, 0 to 1.
    pub(crate) target: Option<f64>,
}

/// Something that holds at present.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Condition {
    /// A closed set, such as `crash_loop`.
    pub(crate) name: String,
    pub(crate) severity: Severity,
    /// For people.
    pub(crate) text: String,
    /// Since when it holds.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
}

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Worth knowing.
    Info,
    /// Works, but not as it should.
    Warning,
    /// Does not work.
    Error,
}

/// One workload with all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct WorkloadDetail {
    #[serde(flatten)]
    pub(crate) workload: Workload,
    /// The user's intent, as in the configuration.
    #[schema(value_type = Object)]
    pub(crate) policy: serde_json::Value,
    /// What one replica carries; `null` while unknown.
    pub(crate) capacity: Option<Capacity>,
    /// Time from a decision to a ready replica; `null` while unknown.
    pub(crate) lead_time: Option<LeadTime>,
    /// How the load is provided for; `null` before the first rehearsal.
    pub(crate) provision: Option<Provision>,
    /// Forecasting models, best first.
    pub(crate) league: Vec<Standing>,
    /// Evidence for the bottleneck.
    pub(crate) evidence: Option<Bottleneck>,
    /// Signals that have a history.
    pub(crate) signals: Vec<SignalName>,
    /// The latency that a request is to be answered within, in seconds.
    pub(crate) slo_latency_s: Option<f64>,
    /// Address that requests are sent to, where Tidegate has a gateway for it.
    pub(crate) address: Option<String>,
}

/// Why something is taken for the bottleneck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Bottleneck {
    /// For people.
    pub(crate) text: String,
    /// Whether more replicas would help.
    pub(crate) replicas_help: Option<bool>,
}

/// Demand that one replica carries within the objective.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Capacity {
    /// What it carries almost surely; decisions use this.
    pub(crate) low: Option<f64>,
    /// Best estimate.
    pub(crate) mid: Option<f64>,
    /// What it might carry.
    pub(crate) high: Option<f64>,
    pub(crate) unit: String,
    /// `hint`, `learned` or `measured`.
    pub(crate) source: String,
    /// Of what: the version of the pod template and the type of GPU, `VERSION@GPU`; `null` where nobody tells.
    pub(crate) variant: Option<String>,
}

/// How the load is provided for: the stance that was rehearsed on the workload's own past and chosen.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Provision {
    /// For people.
    pub(crate) text: String,
    /// Multiple of the present demand.
    pub(crate) level: f64,
    /// Multiple of the usual demand that is added.
    pub(crate) usual: f64,
    /// Quantile of the forecast peak; `null`: on this past, forecasts of the peak did not pay.
    pub(crate) peak_quantile: Option<f64>,
    /// A smaller size must have been enough for this long, in seconds.
    pub(crate) hold_s: f64,
    /// Mean replicas held in the rehearsal, starting ones included.
    pub(crate) rehearsed_replicas: f64,
    /// Share of requests that missed the objective in the rehearsal.
    pub(crate) rehearsed_miss_fraction: f64,
    /// What less or more replicas would have missed, cheapest first.
    pub(crate) front: Vec<FrontPoint>,
}

/// One way to provide for the load that no other beats in both cost and misses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct FrontPoint {
    /// Mean replicas held.
    pub(crate) replicas: f64,
    /// Share of requests that missed the objective.
    pub(crate) miss_fraction: f64,
}

/// Time from a decision to a ready replica.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct LeadTime {
    /// Median, in seconds.
    pub(crate) p50_s: Option<f64>,
    /// 90th percentile, in seconds; decisions use this.
    pub(crate) p90_s: Option<f64>,
    /// Starts seen; 0 while only the prior is known.
    pub(crate) starts: u32,
}

/// A row of the league table.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Standing {
    /// What is forecast.
    pub(crate) signal: String,
    /// Name of the model.
    pub(crate) model: String,
    /// Mean pinball loss, in the signal's unit; `null`: it had no opinion.
    pub(crate) pinball: Option<f64>,
    /// Loss against that of the last value; below 1 is better.
    pub(crate) pinball_ratio: Option<f64>,
    /// Share of values at or below the 0.95 quantile.
    pub(crate) coverage95: Option<f64>,
    /// Forecasts judged.
    pub(crate) origins: Option<u32>,
    /// Whether its forecasts are in use.
    pub(crate) in_use: bool,
}

/// A signal that has a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SignalName {
    /// Name in the catalogue of signals.
    pub(crate) signal: String,
    pub(crate) unit: String,
}
