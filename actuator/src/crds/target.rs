//! What a policy sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::WorkloadId;
use tidegate_core::ids::ParseWorkloadIdError;
use tidegate_core::policy::{Check, Rule};

/// The workload that a policy sizes, in the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// API group and version, such as `apps/v1`. May be left out for the kinds that Tidegate knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9][a-z0-9]*$"))]
    pub api_version: Option<String>,
    /// Kind, such as `Deployment`. Any kind with a `scale` subresource will do, and those of which Tidegate knows the size's field.
    #[schemars(length(max = 63), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Name.
    #[schemars(length(max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Worker group; only of a `RayCluster`, which may have several. Absent: its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub group: Option<String>,
}

/// A kind of which Tidegate knows where its size stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKind {
    /// The kind.
    pub kind: &'static str,
    /// API group and version that it is had from when a policy names none.
    pub api_version: &'static str,
    /// Whether it has a `scale` subresource, so that an autoscaler can own its size.
    pub scale: bool,
}

impl KnownKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self { kind: "Deployment", api_version: "apps/v1", scale: true },
        Self { kind: "StatefulSet", api_version: "apps/v1", scale: true },
        Self { kind: "ReplicaSet", api_version: "apps/v1", scale: true },
        Self { kind: "LeaderWorkerSet", api_version: "leaderworkerset.x-k8s.io/v1", scale: true },
        Self { kind: "InferenceService", api_version: "serving.kserve.io/v1beta1", scale: false },
        Self { kind: "RayCluster", api_version: "ray.io/v1", scale: false },
        Self { kind: "Job", api_version: "batch/v1", scale: false },
        Self { kind: "JobSet", api_version: "jobset.x-k8s.io/v1alpha2", scale: false },
        Self { kind: "PyTorchJob", api_version: "kubeflow.org/v1", scale: true },
        Self { kind: "TrainJob", api_version: "trainer.kubeflow.org/v1alpha1", scale: false },
    ];

    /// The known kind of this name.
    #[must_use]
    pub fn of(kind: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|known| known.kind == kind)
    }
}

impl Target {
    /// API group and version: as given, else that of the known kind; `None` where neither is there.
    #[must_use]
    pub fn api_version(&self) -> Option<&str> {
        self.api_version.as_deref().or_else(|| KnownKind::of(&self.kind).map(|known| known.api_version))
    }

    /// Whether an autoscaler could own its size: it is not a kind that is known to have no `scale` subresource.
    #[must_use]
    pub fn may_have_scale(&self) -> bool {
        KnownKind::of(&self.kind).is_none_or(|known| known.scale)
    }

    /// The id of the workload, for a policy in `namespace`.
    ///
    /// # Errors
    /// When a part is not a valid segment; the API server admits none such.
    pub fn id(&self, namespace: &str) -> Result<WorkloadId, ParseWorkloadIdError> {
        let (kind, name) = (self.kind.to_ascii_lowercase(), &self.name);
        match &self.group {
            Some(group) => format!("{namespace}/{kind}/{name}/{group}"),
            None => format!("{namespace}/{kind}/{name}"),
        }
        .parse()
    }
}

/// A spec with a target, and the rules of that.
pub(super) trait Targeted: Sized + 'static {
    /// The target.
    fn target(&self) -> &Target;

    /// What every target keeps, beyond its types.
    const TARGET_RULES: &'static [Rule<Self>] = &[
        Rule {
            path: "target/apiVersion",
            text: "is needed for a kind that Tidegate does not know",
            check: Check::Whole(|spec| spec.target().api_version().is_some()),
            cel: "has(self.target.apiVersion) || self.target.kind in ['Deployment', 'StatefulSet', 'ReplicaSet', \
                  'LeaderWorkerSet', 'InferenceService', 'RayCluster', 'Job', 'JobSet', 'PyTorchJob', 'TrainJob']",
        },
        Rule {
            path: "target/group",
            text: "only a RayCluster has worker groups",
            check: Check::Whole(|spec| spec.target().group.is_none() || spec.target().kind == "RayCluster"),
            cel: "!has(self.target.group) || self.target.kind == 'RayCluster'",
        },
    ];
}
