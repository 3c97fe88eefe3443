//! Shapes of a decision and its reasons.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_core::Timestamp;
use utoipa::ToSchema;

/// Decisions of one workload, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Decisions {
    pub(crate) decisions: Vec<Decision>,
}

/// One decision: what changed, and why.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Decision {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Size before.
    pub(crate) from: u32,
    /// Size decided on.
    pub(crate) to: u32,
    /// What shaped it, in the order it was applied.
    pub(crate) reasons: Vec<Reason>,
    /// What others would have done at this moment.
    pub(crate) baseline: Baseline,
    /// What it was decided on, each reading with its age.
    #[schema(value_type = Object)]
    pub(crate) inputs: serde_json::Map<String, serde_json::Value>,
}

/// One step of a decision, in words and numbers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Reason {
    /// A closed set, such as `predicted`.
    pub(crate) code: String,
    /// For people.
    pub(crate) text: String,
    /// For programs: names with units, as in `demand_rps`.
    pub(crate) values: BTreeMap<String, f64>,
}

/// What others would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub(crate) struct Baseline {
    /// The Kubernetes HPA with default settings; `null` where that cannot be said.
    pub(crate) hpa: Option<u32>,
}
