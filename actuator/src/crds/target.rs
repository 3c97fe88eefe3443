//! What a policy sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::WorkloadId;
use tidegate_core::ids::ParseWorkloadIdError;
use tidegate_core::policy::{Check, Rule};

use crate::cluster::kinds::TargetKind;

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
    /// Worker group of a `RayCluster`, or replicated job of a `JobSet`, which may have several. Absent: its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub group: Option<String>,
}

impl Target {
    /// API group and version: as given, else that of the known kind; `None` where neither is there.
    #[must_use]
    pub fn api_version(&self) -> Option<String> {
        self.api_version.clone().or_else(|| TargetKind::named(&self.kind).map(TargetKind::api_version))
    }

    /// Whether an autoscaler could own its size: it is not a kind that is known to have no `scale` subresource.
    #[must_use]
    pub fn may_have_scale(&self) -> bool {
        TargetKind::named(&self.kind).is_none_or(|known| known.has_scale)
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
            text: "only a RayCluster or a JobSet has groups",
            check: Check::Whole(|spec| {
                spec.target().group.is_none()
                    || matches!(spec.target().kind.as_str(), "RayCluster" | "JobSet")
            }),
            cel: "!has(self.target.group) || self.target.kind in ['RayCluster', 'JobSet']",
        },
    ];
}
