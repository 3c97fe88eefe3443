//! `TrainingPolicy`: the intent for one elastic training job of the cluster, and what is told of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::Span;
use tidegate_core::policy::{Check, Problem, Rule};

use super::conditions;
use super::schema::{Column, definition as define, immutable, validations};
use super::status::{DecisionStatus, ReplicaStatus, time_schema};
use super::target::{Target, Targeted};

/// Intent for a training workload: what it is, how it is resized without losing work, and the policy itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "TrainingPolicy",
    plural = "trainingpolicies",
    shortname = "tp",
    category = "tidegate",
    namespaced,
    schema = "disabled",
    status = "TrainingPolicyStatus",
    derive = "PartialEq"
)]
pub struct TrainingPolicySpec {
    /// The job that is resized. It cannot be changed: another job is another policy.
    pub target: Target,
    /// Name of the `GpuPool` that its workers take their GPUs from. Absent: no bound but the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub pool: Option<String>,
    /// GPUs that one worker takes. Absent: what its pod template asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub gpus_per_worker: Option<u32>,
    /// How the job is asked for a checkpoint before a resize. Absent: it is not asked, and takes up its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointHook>,
    /// The workers wanted must be ready, and no other left, within this; else a resize that is not a recall is taken back.
    #[serde(default = "TrainingPolicySpec::resize_deadline_default")]
    pub resize_deadline: Span,
    /// Steps must advance within this once the workers are ready; else a resize that is not a recall is taken back.
    #[serde(default = "TrainingPolicySpec::steps_deadline_default")]
    pub steps_deadline: Span,
    /// The policy itself, as in `tidegate.yaml`.
    #[serde(flatten)]
    pub policy: tidegate_core::TrainingPolicy,
}

/// How a job is asked for a checkpoint: exactly one of `http`, `signal` and `exec`, in its first ready worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointHook {
    /// By a POST, answered with 2xx once it is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHook>,
    /// By a signal to the container's first process; it is saved when the job's log says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<CheckpointSignal>,
    /// By a command in the container, which ends with status 0 once it is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecHook>,
    /// Container for `signal` and `exec`. Absent: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container: Option<String>,
    /// After this the resize goes on or is given up, as its reason demands.
    #[serde(default = "CheckpointHook::deadline_default")]
    pub deadline: Span,
}

/// A checkpoint asked for over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpHook {
    /// Path of the request.
    #[schemars(length(max = 2048), regex(pattern = "^/"))]
    pub path: String,
    /// Port of the pod.
    #[schemars(range(min = 1))]
    pub port: u16,
}

/// A signal that asks for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckpointSignal {
    /// Signal 10.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// Signal 12.
    #[serde(rename = "SIGUSR2")]
    Usr2,
}

/// A checkpoint asked for by a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecHook {
    /// Program and arguments.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

impl CheckpointHook {
    const fn deadline_default() -> Span {
        Span::from_secs(60)
    }

    fn ways(&self) -> usize {
        [self.http.is_some(), self.signal.is_some(), self.exec.is_some()]
            .into_iter()
            .filter(|way| *way)
            .count()
    }
}

impl Targeted for TrainingPolicySpec {
    fn target(&self) -> &Target {
        &self.target
    }
}

impl TrainingPolicySpec {
    /// What the spec keeps beyond its types, its target and its policy.
    pub const RULES: &'static [Rule<Self>] = &[
        Rule {
            path: "checkpoint",
            text: "needs exactly one of `http`, `signal` and `exec`",
            check: Check::Whole(|spec| spec.checkpoint.as_ref().is_none_or(|hook| hook.ways() == 1)),
            cel: "!has(self.checkpoint) || \
                  [has(self.checkpoint.http), has(self.checkpoint.signal), has(self.checkpoint.exec)].exists_one(way, way)",
        },
        Rule {
            path: "checkpoint/container",
            text: "is only for `signal` and `exec`",
            check: Check::Whole(|spec| {
                spec.checkpoint.as_ref().is_none_or(|hook| hook.container.is_none() || hook.http.is_none())
            }),
            cel: "!has(self.checkpoint) || !has(self.checkpoint.container) || !has(self.checkpoint.http)",
        },
    ];

    const fn resize_deadline_default() -> Span {
        Span::from_secs(600)
    }

    const fn steps_deadline_default() -> Span {
        Span::from_secs(300)
    }

    /// Everything that the types alone cannot rule out. The API server refuses the same, where its definition is this one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let own = Self::TARGET_RULES.iter().chain(Self::RULES).flat_map(|rule| rule.problems(self));
        own.chain(self.policy.problems()).collect()
    }
}

/// What is seen of the job, and what was decided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TrainingPolicyStatus {
    /// Generation of the spec that this was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Size of the target when the policy began to set it; `release` sets it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647_u32))]
    pub size_before: Option<u32>,
    /// Workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<ReplicaStatus>,
    /// Training steps per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_second: Option<f64>,
    /// Time that a resize takes, checkpoint and restart together, as measured, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize_seconds: Option<f64>,
    /// The resize on its way, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<ResizeStatus>,
    /// The last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<DecisionStatus>,
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

/// A resize.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResizeStatus {
    /// Workers before.
    pub from: u32,
    /// Workers wanted.
    pub to: u32,
    /// `voluntary` or `recall`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Where it stands, or how it ended.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// When that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub since: Option<Time>,
    /// What became of the checkpoint; absent where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub checkpoint: Option<String>,
}

/// What `kubectl get` shows.
const COLUMNS: &[Column] = &[
    Column::new("Kind", "string", ".spec.target.kind", "Kind of the job"),
    Column::new("Target", "string", ".spec.target.name", "Name of the job"),
    Column::new("Mode", "string", ".spec.mode", "shadow or active"),
    Column::wide("Pool", "string", ".spec.pool", "Pool that its GPUs are of"),
    Column::wide("Min", "integer", ".spec.workers.min", "Lower bound"),
    Column::wide("Max", "integer", ".spec.workers.max", "Upper bound"),
    Column::new("Wanted", "integer", ".status.workers.wanted", "Workers by the last plan"),
    Column::new("Ready", "integer", ".status.workers.ready", "Workers that take part"),
    Column::new("Steps/s", "number", ".status.stepsPerSecond", "Training steps per second"),
    Column::wide("Resize", "string", ".status.resize.phase", "Where the last resize stands"),
    Column::new(
        "Reason",
        "string",
        ".status.conditions[?(@.type=='Ready')].reason",
        "Of the condition Ready",
    ),
    Column::new("Age", "date", ".metadata.creationTimestamp", "Time since it was made"),
];

pub(super) fn definition() -> CustomResourceDefinition {
    let rules = validations(TrainingPolicySpec::TARGET_RULES)
        .chain([immutable("target")])
        .chain(validations(TrainingPolicySpec::RULES))
        .chain(validations(tidegate_core::TrainingPolicy::RULES));
    define::<TrainingPolicy, TrainingPolicySpec, TrainingPolicyStatus>(
        "Gives an elastic training job the GPUs that serving does not need, and takes them back in time. It starts in shadow: \
         it decides and shows, and changes nothing.",
        COLUMNS,
        rules.collect(),
    )
}
