//! Parts of the statuses. Words are plain strings here: a status is written by Tidegate alone, and one that a newer version
//! wrote must not stop an older one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::{Decision, ReasonCode, ReplicaCounts, Timestamp};

/// Most reasons kept of a decision; one has fewer than there are codes.
pub(super) const REASONS_MAX: usize = 64;
/// Longest text of a reason kept.
pub(super) const TEXT_MAX: usize = 1024;

/// Replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReplicaStatus {
    /// By the last plan.
    pub wanted: u32,
    /// That serve.
    pub ready: u32,
    /// That do not serve yet.
    pub starting: u32,
}

/// Demand, as last seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DemandStatus {
    /// The signal that counts.
    #[schemars(length(max = 64))]
    pub signal: String,
    /// Its value.
    pub value: f64,
    /// Its unit.
    #[schemars(length(max = 16))]
    pub unit: String,
    /// How old that value was when the status was written, in seconds.
    pub age_seconds: f64,
    /// Who told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DemandSource>,
}

/// Who tells a workload's demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DemandSource {
    /// The agents, from what the replicas show or send.
    Agents,
    /// The policy's query to Prometheus.
    Prometheus,
}

/// Demand foretold, in the unit of the demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastStatus {
    /// When it was made.
    #[schemars(schema_with = "time_schema")]
    pub at: Time,
    /// Median for the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 95th percentile for the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// 95th percentile of the maximum until a replica asked for now would be ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_max: Option<f64>,
}

/// The objective, wanted and reached.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SloStatus {
    /// Share of requests in time; absent where it cannot be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attained: Option<f64>,
    /// Share that is wanted.
    pub target: f64,
}

/// One step of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReasonStatus {
    /// Which step, as in the reference of reasons.
    #[schemars(length(max = 64))]
    pub code: String,
    /// For people.
    #[schemars(length(max = 1024))]
    pub text: String,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecisionStatus {
    /// When.
    #[schemars(schema_with = "time_schema")]
    pub at: Time,
    /// Size before.
    pub from: u32,
    /// Size decided.
    pub to: u32,
    /// Whether it was put into effect; false in shadow.
    pub applied: bool,
    /// What the HorizontalPodAutoscaler would have asked for; absent where that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpa: Option<u32>,
    /// What shaped it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub reasons: Vec<ReasonStatus>,
}

/// The floor of an autoscaler that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FloorStatus {
    /// Kind of the autoscaler.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its floor before Tidegate raised it.
    pub original: u32,
    /// Its floor now.
    pub raised: u32,
}

impl From<ReplicaCounts> for ReplicaStatus {
    fn from(counts: ReplicaCounts) -> Self {
        Self { wanted: counts.wanted, ready: counts.ready, starting: counts.starting }
    }
}

impl From<&Decision> for DecisionStatus {
    fn from(decision: &Decision) -> Self {
        let reasons = decision.reasons.iter().take(REASONS_MAX).map(|reason| ReasonStatus {
            code: word(reason.code),
            text: reason.text.chars().take(TEXT_MAX).collect(),
        });
        Self {
            at: time(decision.at),
            from: decision.from,
            to: decision.to,
            applied: decision.applied,
            hpa: decision.hpa,
            reasons: reasons.collect(),
        }
    }
}

/// The word for a reason, as in the API.
fn word(code: ReasonCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("a reason's code is written as a word"),
    }
}

/// A time as the API server writes it; the epoch where it is out of its range.
pub(crate) fn time(at: Timestamp) -> Time {
    // Whole seconds: that is all that the API server keeps.
    let seconds = at.as_millis().div_euclid(1000);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

pub(super) fn time_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}
