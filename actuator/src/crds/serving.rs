//! `ServingPolicy`: the intent for one serving workload of the cluster, and what is told of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::policy::{Check, How, Problem, Rule, SignalRule, of_histogram, quantiles_of};

use super::conditions;
use super::schema::{Column, definition as define, immutable, validations};
use super::status::{DecisionStatus, DemandStatus, FloorStatus, ForecastStatus, ReplicaStatus, SloStatus};
use super::target::{Target, Targeted};

/// Intent for a serving workload: what it is, how its size is set, and the policy itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "ServingPolicy",
    plural = "servingpolicies",
    shortname = "svp",
    category = "tidegate",
    namespaced,
    schema = "disabled",
    status = "ServingPolicyStatus",
    derive = "PartialEq"
)]
pub struct ServingPolicySpec {
    /// The workload that is sized. It cannot be changed: another workload is another policy.
    pub target: Target,
    /// How the size is set, once the policy is active.
    #[serde(default)]
    pub act: Act,
    /// Where demand is read from, beyond the agents and the metrics pages of runtimes that Tidegate knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand: Option<Demand>,
    /// Name of the `GpuPool` that its replicas take their GPUs from. Absent: no bound but the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub pool: Option<String>,
    /// GPUs that one replica takes. Absent: what its pod template asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub gpus_per_replica: Option<u32>,
    /// The policy itself, as in `tidegate.yaml`.
    #[serde(flatten)]
    pub policy: tidegate_core::ServingPolicy,
}

/// How the size is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Act {
    /// By which way.
    pub via: Via,
}

/// A way to set a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The floor of the workload's autoscaler where it has one, else its size.
    #[default]
    Auto,
    /// Raises `minReplicas` of the HorizontalPodAutoscaler that scales the workload, never above its `maxReplicas`.
    HpaFloor,
    /// Raises `minReplicaCount` of the ScaledObject (KEDA) that scales the workload, never above its `maxReplicaCount`.
    ScaledObjectFloor,
    /// Writes the size of the workload itself.
    Scale,
    /// Only publishes the size, as an external metric and to KEDA; an autoscaler of yours follows it.
    ExternalMetric,
}

impl Via {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::HpaFloor => "hpa_floor",
            Self::ScaledObjectFloor => "scaled_object_floor",
            Self::Scale => "scale",
            Self::ExternalMetric => "external_metric",
        }
    }

    /// Whether another autoscaler sets the size in the end.
    #[must_use]
    pub const fn needs_autoscaler(self) -> bool {
        matches!(self, Self::HpaFloor | Self::ScaledObjectFloor | Self::ExternalMetric)
    }
}

/// Where demand is read from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Arrivals from a Prometheus server: of a gateway, an ingress or a mesh, which see them while there is no replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusDemand>,
    /// Which metric families of the replicas are which signals, for a runtime that Tidegate does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub signals: Vec<SignalRule>,
}

/// Arrivals from a Prometheus server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusDemand {
    /// Address of the server, such as `http://prometheus.monitoring:9090`; it is asked without credentials. Absent: the one that
    /// the controller was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = "^https?://[^ ]+$"))]
    pub url: Option<String>,
    /// PromQL; the values of all series that it gives are added up.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// Unit of the sum.
    #[serde(default)]
    pub unit: RateUnit,
}

/// Unit of a rate of arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RateUnit {
    /// Requests per second.
    #[default]
    #[serde(rename = "req/s")]
    PerSecond,
    /// Requests per minute.
    #[serde(rename = "req/min")]
    PerMinute,
}

impl RateUnit {
    /// A value in this unit as requests per second.
    #[must_use]
    pub fn per_second(self, value: f64) -> f64 {
        match self {
            Self::PerSecond => value,
            Self::PerMinute => value / 60.0,
        }
    }
}

impl Targeted for ServingPolicySpec {
    fn target(&self) -> &Target {
        &self.target
    }
}

impl ServingPolicySpec {
    /// What the spec keeps beyond its types, its target and its policy.
    pub const RULES: &'static [Rule<Self>] = &[
        Rule {
            path: "act/via",
            text: "needs a target with a scale subresource, which this kind does not have",
            check: Check::Whole(|spec| !spec.act.via.needs_autoscaler() || spec.target.may_have_scale()),
            cel: "self.act.via in ['auto', 'scale'] || \
                  !(self.target.kind in ['InferenceService', 'RayCluster', 'Job', 'JobSet', 'TrainJob'])",
        },
        Rule {
            path: "replicas/min",
            text: "may be 0 only with `demand.prometheus`, which sees demand while there is no replica",
            check: Check::Whole(|spec| {
                spec.policy.replicas.min > 0
                    || spec.demand.as_ref().is_some_and(|demand| demand.prometheus.is_some())
            }),
            cel: "self.replicas.min > 0 || (has(self.demand) && has(self.demand.prometheus))",
        },
        Rule {
            path: "demand/signals/*/per",
            text: "is needed by `counter_ratio`, and only there",
            check: Check::Each(|spec| {
                spec.signals(|rule| rule.per.is_some() == (rule.how == How::CounterRatio))
            }),
            cel: "!has(self.demand) || !has(self.demand.signals) || \
                  self.demand.signals.all(rule, has(rule.per) == (rule.how == 'counter_ratio'))",
        },
        Rule {
            path: "demand/signals/*/adds",
            text: "is only for a sum of gauges or a rate of counters",
            check: Check::Each(|spec| {
                spec.signals(|rule| !rule.adds || matches!(rule.how, How::GaugeSum | How::CounterRate))
            }),
            cel: "!has(self.demand) || !has(self.demand.signals) || self.demand.signals.all(rule, \
                  !has(rule.adds) || !rule.adds || rule.how in ['gauge_sum', 'counter_rate'])",
        },
        Rule {
            path: "demand/signals/*/scale",
            text: "must be above zero",
            check: Check::Each(|spec| spec.signals(|rule| rule.scale.is_finite() && rule.scale > 0.0)),
            cel: "!has(self.demand) || !has(self.demand.signals) || \
                  self.demand.signals.all(rule, rule.scale > 0.0)",
        },
        Rule {
            path: "demand/signals/*/how",
            text: "must be `histogram` for a quantile, and only for what a histogram gives",
            check: Check::Each(|spec| {
                spec.signals(|rule| match rule.how {
                    How::Histogram => of_histogram(rule.signal).is_some(),
                    _ => quantiles_of(rule.signal).is_none(),
                })
            }),
            cel: "!has(self.demand) || !has(self.demand.signals) || self.demand.signals.all(rule, \
                  rule.how == 'histogram' ? rule.signal.matches('_p(50|95|99)_seconds$') || rule.signal in [\
                  'step_seconds', 'latency_mean_seconds', 'time_per_output_token_mean_seconds', 'queue_wait_mean_seconds', \
                  'batch_size_mean', 'requests_per_second', 'completions_per_second', 'errors_per_second', 'steps_per_second', \
                  'prompt_tokens_per_second', 'output_tokens_per_second'] : !rule.signal.matches('_p(50|95|99)_seconds$'))",
        },
    ];

    /// Whether each of the mapping rules keeps something.
    fn signals(&self, kept: impl Fn(&SignalRule) -> bool) -> Vec<bool> {
        self.demand.iter().flat_map(|demand| &demand.signals).map(kept).collect()
    }

    /// Everything that the types alone cannot rule out. The API server refuses the same, where its definition is this one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let own = Self::TARGET_RULES.iter().chain(Self::RULES).flat_map(|rule| rule.problems(self));
        own.chain(self.policy.problems()).collect()
    }
}

/// What is seen of the workload, and what was decided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServingPolicyStatus {
    /// Generation of the spec that this was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Size of the target when the policy began to set it; `release` sets it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647_u32))]
    pub size_before: Option<u32>,
    /// The way by which the size is set at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub via: Option<String>,
    /// Replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicaStatus>,
    /// Demand, as last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<DemandStatus>,
    /// Demand that one replica carries within the objective, in the unit of `demand`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_per_replica: Option<f64>,
    /// Time from a decision to a ready replica, as measured; its upper quantile, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time_seconds: Option<f64>,
    /// Demand foretold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastStatus>,
    /// The objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloStatus>,
    /// What limits the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub bottleneck: Option<String>,
    /// The last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<DecisionStatus>,
    /// The floor that was raised, and what it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<FloorStatus>,
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

/// What `kubectl get` shows.
const COLUMNS: &[Column] = &[
    Column::new("Kind", "string", ".spec.target.kind", "Kind of the workload"),
    Column::new("Target", "string", ".spec.target.name", "Name of the workload"),
    Column::new("Mode", "string", ".spec.mode", "shadow or active"),
    Column::wide("Min", "integer", ".spec.replicas.min", "Lower bound"),
    Column::wide("Max", "integer", ".spec.replicas.max", "Upper bound"),
    Column::new("Wanted", "integer", ".status.replicas.wanted", "Size by the last plan"),
    Column::new("Ready", "integer", ".status.replicas.ready", "Replicas that serve"),
    Column::wide("Demand", "number", ".status.demand.value", "Demand as last seen"),
    Column::wide("Lead", "number", ".status.leadTimeSeconds", "Seconds from a decision to a ready replica"),
    Column::wide("Via", "string", ".status.via", "How the size is set"),
    Column::new("SLO", "number", ".status.slo.attained", "Share of requests in time"),
    Column::new("Bottleneck", "string", ".status.bottleneck", "What limits the workload"),
    Column::new(
        "Reason",
        "string",
        ".status.conditions[?(@.type=='Ready')].reason",
        "Of the condition Ready",
    ),
    Column::new("Age", "date", ".metadata.creationTimestamp", "Time since it was made"),
];

pub(super) fn definition() -> CustomResourceDefinition {
    let rules = validations(ServingPolicySpec::TARGET_RULES)
        .chain([immutable("target")])
        .chain(validations(ServingPolicySpec::RULES))
        .chain(validations(tidegate_core::ServingPolicy::RULES));
    define::<ServingPolicy, ServingPolicySpec, ServingPolicyStatus>(
        "Sizes a serving workload ahead of its demand. It starts in shadow: it decides and shows, and changes nothing.",
        COLUMNS,
        rules.collect(),
    )
}
