//! Shapes of what can be asked for: alerts taken in, faults tried in the demo.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::Timestamp;
use utoipa::ToSchema;

/// Alertmanager's webhook, version 4. Fields that are not needed are not read.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AlertBatch {
    /// Must be `4`.
    pub(crate) version: String,
    /// Name of Alertmanager's receiver.
    #[serde(default)]
    pub(crate) receiver: String,
    /// Alerts that Alertmanager left out.
    #[serde(default)]
    pub(crate) truncated_alerts: u64,
    pub(crate) alerts: Vec<Alert>,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alert {
    pub(crate) status: AlertStatus,
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) starts_at: Timestamp,
    /// When it ended or will end unless heard of again; year 1 where Alertmanager does not say.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ends_at: Option<Timestamp>,
    /// The same alert has the same fingerprint.
    pub(crate) fingerprint: String,
}

/// Whether an alert holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlertStatus {
    /// It holds.
    Firing,
    /// It has ended.
    Resolved,
}

/// What became of alerts, in the order they came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AlertReport {
    pub(crate) results: Vec<AlertOutcome>,
}

/// What became of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AlertOutcome {
    pub(crate) fingerprint: String,
    /// A closed set: `raised`, `repeated`, `resolved`, `no_rule`, `cooling_down`, `over_budget`.
    pub(crate) outcome: String,
    /// The workload whose size it moves.
    pub(crate) workload: Option<String>,
    /// For people.
    pub(crate) text: String,
}

/// A fault that can be tried in the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Ends one replica at once.
    KillReplica,
    /// Its metrics stop.
    StopMetrics,
    /// Every replica ends soon after its start.
    CrashLoop,
    /// The next checkpoint fails.
    FailCheckpoint,
    /// No fault any more.
    Clear,
}

/// Which fault to try on which workload.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultRequest {
    /// Id of the workload.
    pub(crate) workload: String,
    pub(crate) fault: Fault,
}

/// Faults that can be tried, and those that hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Faults {
    pub(crate) targets: Vec<FaultTarget>,
    pub(crate) running: Vec<RunningFault>,
}

/// Faults that make sense for a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FaultTarget {
    pub(crate) workload: String,
    pub(crate) faults: Vec<Fault>,
}

/// A fault that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RunningFault {
    pub(crate) workload: String,
    pub(crate) fault: Fault,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
}
