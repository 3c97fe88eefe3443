//! `GpuPool`: GPUs that serving and training share, with their present number and the number that it may grow to.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::Span;
use tidegate_core::policy::{Check, Problem, Rule};

use super::conditions;
use super::schema::{Column, definition as define, validations};

/// Most workloads told in a status.
pub(super) const SHARES_MAX: usize = 512;

/// The pool: how large it is, or which nodes it is counted on, and how far it may grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[serde(default, rename_all = "camelCase")]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "GpuPool",
    plural = "gpupools",
    shortname = "gpool",
    category = "tidegate",
    schema = "disabled",
    status = "GpuPoolStatus",
    derive = "PartialEq"
)]
pub struct GpuPoolSpec {
    /// GPUs that it holds. Absent: those of the nodes that `nodeSelector` names are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    pub slots: Option<u32>,
    /// GPUs that the node autoscaler may let it grow to. Absent: it does not grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_slots: Option<u32>,
    /// Labels of its nodes; empty: every node with the resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// The extended resource that a GPU is on a node.
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub gpu_resource: String,
    /// Time until a node that the autoscaler adds can run a pod, until it has been measured.
    pub lead_time: Span,
}

impl Default for GpuPoolSpec {
    fn default() -> Self {
        Self {
            slots: None,
            max_slots: None,
            node_selector: BTreeMap::new(),
            gpu_resource: "nvidia.com/gpu".into(),
            lead_time: Span::from_secs(300),
        }
    }
}

impl GpuPoolSpec {
    /// What the spec keeps beyond its types.
    pub const RULES: &'static [Rule<Self>] = &[
        Rule {
            path: "maxSlots",
            text: "must not be below `slots`",
            check: Check::Whole(|spec| {
                spec.slots.zip(spec.max_slots).is_none_or(|(slots, most)| slots <= most)
            }),
            cel: "!has(self.slots) || !has(self.maxSlots) || self.slots <= self.maxSlots",
        },
        Rule {
            path: "nodeSelector",
            text: "has no meaning beside `slots`: nodes are counted only where `slots` is absent",
            check: Check::Whole(|spec| spec.slots.is_none() || spec.node_selector.is_empty()),
            cel: "!has(self.slots) || !has(self.nodeSelector) || self.nodeSelector.size() == 0",
        },
    ];

    /// Everything that the types alone cannot rule out. The API server refuses the same, where its definition is this one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        Self::RULES.iter().flat_map(|rule| rule.problems(self)).collect()
    }
}

/// Who holds the pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct GpuPoolStatus {
    /// Generation of the spec that this was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<PoolSlots>,
    /// Nodes that they were counted on; absent where they were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Time until an added node can run a pod, as measured, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time_seconds: Option<f64>,
    /// What each workload was given, the largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub shares: Vec<PoolShare>,
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

/// GPUs of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolSlots {
    /// That are there.
    pub present: u32,
    /// Given to serving.
    pub serving: u32,
    /// Given to training.
    pub training: u32,
    /// Given to nobody.
    pub free: u32,
}

/// What one workload was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolShare {
    /// Id of the workload.
    #[schemars(length(max = 1024))]
    pub workload: String,
    /// GPUs.
    pub slots: u32,
}

impl GpuPoolStatus {
    /// Tells the shares, the largest first, as many as a status holds.
    pub fn set_shares(&mut self, mut shares: Vec<PoolShare>) {
        shares.sort_by(|a, b| b.slots.cmp(&a.slots).then_with(|| a.workload.cmp(&b.workload)));
        shares.truncate(SHARES_MAX);
        self.shares = shares;
    }
}

/// What `kubectl get` shows.
const COLUMNS: &[Column] = &[
    Column::new("Present", "integer", ".status.slots.present", "GPUs that are there"),
    Column::new("Max", "integer", ".spec.maxSlots", "GPUs that it may grow to"),
    Column::new("Serving", "integer", ".status.slots.serving", "GPUs given to serving"),
    Column::new("Training", "integer", ".status.slots.training", "GPUs given to training"),
    Column::new("Free", "integer", ".status.slots.free", "GPUs given to nobody"),
    Column::new(
        "Reason",
        "string",
        ".status.conditions[?(@.type=='Ready')].reason",
        "Of the condition Ready",
    ),
    Column::new("Age", "date", ".metadata.creationTimestamp", "Time since it was made"),
];

pub(super) fn definition() -> CustomResourceDefinition {
    define::<GpuPool, GpuPoolSpec, GpuPoolStatus>(
        "GPUs that serving and training workloads share: serving first, training with what is left for long enough.",
        COLUMNS,
        validations(GpuPoolSpec::RULES).collect(),
    )
}
