//! The kinds that can be resized: where their size stands and how it is written. A kind that is not in the table is resized by its
//! `scale` subresource, if it has one.

/// Where a kind keeps its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizePath {
    /// In its `scale` subresource; the object's own field is read from here.
    Scale(&'static [&'static str]),
    /// In a field of the object.
    Field(&'static [&'static str]),
    /// In a field of one entry of a list of groups.
    Group {
        /// Path to the list.
        list: &'static [&'static str],
        /// Field of an entry that holds the group's name.
        key: &'static str,
        /// Path, within the entry, to the size.
        size: &'static [&'static str],
    },
}

/// How a kind's pods are told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodsBy {
    /// By the object's own `spec.selector`.
    Selector,
    /// By labels that its controller sets: the label that holds the object's name, that which holds the group's, and fixed ones.
    Labels {
        /// Label that holds the object's name.
        name: &'static str,
        /// Label that holds the group's name.
        group: Option<&'static str>,
        /// Labels with fixed values.
        fixed: &'static [(&'static str, &'static str)],
    },
}

/// A kind that can be resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetKind {
    /// Kind, as in the object.
    pub kind: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version that is asked for.
    pub version: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Where the size is.
    pub size: SizePath,
    /// Whose pods are its.
    pub pods: PodsBy,
    /// Whether it has groups of its own sizes.
    pub grouped: bool,
    /// Whether it has a `scale` subresource, so that an autoscaler can own its size.
    pub has_scale: bool,
}

impl TargetKind {
    /// The kind of this name, if the table has it.
    #[must_use]
    pub fn named(kind: &str) -> Option<&'static Self> {
        TARGET_KINDS.iter().find(|known| known.kind == kind)
    }

    /// `group/version`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }
}

const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Every kind in the table. Paths and labels are those of the kinds' own API references: apps/v1 and batch/v1 of Kubernetes,
/// JobSet v1alpha2, the training operator's kubeflow.org/v1, Trainer v2's v1alpha1, KubeRay's ray.io/v1, LeaderWorkerSet v1 and
/// KServe's v1beta1.
pub const TARGET_KINDS: &[TargetKind] = &[
    TargetKind {
        kind: "Deployment",
        group: "apps",
        version: "v1",
        plural: "deployments",
        size: SizePath::Scale(&["spec", "replicas"]),
        pods: PodsBy::Selector,
        grouped: false,
        has_scale: true,
    },
    TargetKind {
        kind: "StatefulSet",
        group: "apps",
        version: "v1",
        plural: "statefulsets",
        size: SizePath::Scale(&["spec", "replicas"]),
        pods: PodsBy::Selector,
        grouped: false,
        has_scale: true,
    },
    TargetKind {
        kind: "ReplicaSet",
        group: "apps",
        version: "v1",
        plural: "replicasets",
        size: SizePath::Scale(&["spec", "replicas"]),
        pods: PodsBy::Selector,
        grouped: false,
        has_scale: true,
    },
    TargetKind {
        kind: "Job",
        group: "batch",
        version: "v1",
        plural: "jobs",
        size: SizePath::Field(&["spec", "parallelism"]),
        pods: PodsBy::Labels { name: JOB_NAME, group: None, fixed: &[] },
        grouped: false,
        has_scale: false,
    },
    TargetKind {
        kind: "JobSet",
        group: "jobset.x-k8s.io",
        version: "v1alpha2",
        plural: "jobsets",
        size: SizePath::Group {
            list: &["spec", "replicatedJobs"],
            key: "name",
            size: &["template", "spec", "parallelism"],
        },
        pods: PodsBy::Labels {
            name: "jobset.sigs.k8s.io/jobset-name",
            group: Some("jobset.sigs.k8s.io/replicatedjob-name"),
            fixed: &[],
        },
        grouped: true,
        has_scale: false,
    },
    TargetKind {
        kind: "PyTorchJob",
        group: "kubeflow.org",
        version: "v1",
        plural: "pytorchjobs",
        size: SizePath::Field(&["spec", "pytorchReplicaSpecs", "Worker", "replicas"]),
        pods: PodsBy::Labels {
            name: "training.kubeflow.org/job-name",
            group: None,
            fixed: &[("training.kubeflow.org/replica-type", "worker")],
        },
        grouped: false,
        has_scale: true,
    },
    TargetKind {
        kind: "TrainJob",
        group: "trainer.kubeflow.org",
        version: "v1alpha1",
        plural: "trainjobs",
        size: SizePath::Field(&["spec", "trainer", "numNodes"]),
        pods: PodsBy::Labels {
            name: "jobset.sigs.k8s.io/jobset-name",
            group: None,
            fixed: &[("jobset.sigs.k8s.io/replicatedjob-name", "node")],
        },
        grouped: false,
        has_scale: false,
    },
    TargetKind {
        kind: "RayCluster",
        group: "ray.io",
        version: "v1",
        plural: "rayclusters",
        size: SizePath::Group { list: &["spec", "workerGroupSpecs"], key: "groupName", size: &["replicas"] },
        pods: PodsBy::Labels { name: "ray.io/cluster", group: Some("ray.io/group"), fixed: &[] },
        grouped: true,
        has_scale: false,
    },
    TargetKind {
        kind: "LeaderWorkerSet",
        group: "leaderworkerset.x-k8s.io",
        version: "v1",
        plural: "leaderworkersets",
        size: SizePath::Scale(&["spec", "replicas"]),
        // One replica is a group of pods; its leader stands for it.
        pods: PodsBy::Labels {
            name: "leaderworkerset.sigs.k8s.io/name",
            group: None,
            fixed: &[("leaderworkerset.sigs.k8s.io/worker-index", "0")],
        },
        grouped: false,
        has_scale: true,
    },
    TargetKind {
        kind: "InferenceService",
        group: "serving.kserve.io",
        version: "v1beta1",
        plural: "inferenceservices",
        size: SizePath::Field(&["spec", "predictor", "minReplicas"]),
        pods: PodsBy::Labels {
            name: "serving.kserve.io/inferenceservice",
            group: None,
            fixed: &[("component", "predictor")],
        },
        grouped: false,
        has_scale: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn kinds_are_unique_and_found_by_name() {
        let kinds: BTreeSet<_> = TARGET_KINDS.iter().map(|kind| kind.kind).collect();
        assert_eq!(kinds.len(), TARGET_KINDS.len());
        assert_eq!(TargetKind::named("Deployment").map(TargetKind::api_version).as_deref(), Some("apps/v1"));
        assert_eq!(TargetKind::named("DaemonSet"), None, "it has no size");
    }

    #[test]
    fn a_kind_with_groups_needs_one_named() {
        for kind in TARGET_KINDS {
            assert_eq!(kind.grouped, matches!(kind.size, SizePath::Group { .. }), "{}", kind.kind);
        }
    }
}
