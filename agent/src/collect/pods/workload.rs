//! Which workload a pod is part of: from its owner and its labels, in the design's words (`namespace/kind/name`). Pure.
//!
//! A pod names only its nearest owner, and a node's agent asks nobody for the owner's owner. So the chains that the usual
//! controllers make are known here: by the labels that they put on their pods, and by the names that they give.

use std::collections::BTreeMap;

use tidegate_core::WorkloadId;

/// The owner that manages a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Kind, as the API writes it.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Label that a Deployment's pods bear, and the end of their ReplicaSet's name.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
const JOB_SET: &str = "jobset.sigs.k8s.io/jobset-name";
const LEADER_WORKER_SET: &str = "leaderworkerset.sigs.k8s.io/name";
const RAY_CLUSTER: &str = "ray.io/cluster";
const RAY_GROUP: &str = "ray.io/group";
const RAY_NODE_TYPE: &str = "ray.io/node-type";
const KUBEFLOW_JOB: &str = "training.kubeflow.org/job-name";
const KUBEFLOW_OPERATOR: &str = "training.kubeflow.org/operator-name";
const INFERENCE_SERVICE: &str = "serving.kserve.io/inferenceservice";

/// The workload that a pod is part of. `None` for a pod of its own, of a DaemonSet, of the kubelet (whose owner is the Node),
/// and of owners that are not sized.
#[must_use]
pub fn of_pod(
    namespace: &str,
    owner: Option<&Owner>,
    labels: &BTreeMap<String, String>,
) -> Option<WorkloadId> {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let id = |kind: &str, name: &str| format!("{namespace}/{kind}/{name}").to_lowercase().parse().ok();
    // What stands above the nearest owner comes first: it is the one that is sized.
    if let Some(name) = label(JOB_SET) {
        return id("jobset", name);
    }
    if let Some(name) = label(LEADER_WORKER_SET) {
        return id("leaderworkerset", name);
    }
    if let Some(name) = label(RAY_CLUSTER) {
        return match label(RAY_GROUP) {
            // The head is no worker group: it stays when groups are resized.
            Some(group) if label(RAY_NODE_TYPE) != Some("head") => {
                id("raycluster", &format!("{name}/{group}"))
            }
            _ => id("raycluster", name),
        };
    }
    if let Some(name) = label(INFERENCE_SERVICE) {
        return id("inferenceservice", name);
    }
    let owner = owner?;
    match owner.kind.as_str() {
        "ReplicaSet" => match deployment(&owner.name, label(POD_TEMPLATE_HASH)) {
            Some(name) => id("deployment", name),
            None => id("replicaset", &owner.name),
        },
        "StatefulSet" | "Job" | "PyTorchJob" | "TrainJob" | "RayCluster" | "LeaderWorkerSet" | "JobSet" => {
            id(&owner.kind, &owner.name)
        }
        // The operator's other kinds of jobs are not among the workloads.
        _ => match (label(KUBEFLOW_JOB), label(KUBEFLOW_OPERATOR)) {
            (Some(name), Some(operator)) if operator.starts_with("pytorchjob") => id("pytorchjob", name),
            _ => None,
        },
    }
}

/// The Deployment that a ReplicaSet belongs to: its name without the hash of the pod's template. A ReplicaSet that somebody made
/// by hand has no such label on its pods.
fn deployment<'a>(replica_set: &'a str, hash: Option<&str>) -> Option<&'a str> {
    replica_set.strip_suffix(hash?)?.strip_suffix('-').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(owner: (&str, &str), labels: &[(&str, &str)], expected: Option<&str>) {
        let owner = (!owner.0.is_empty()).then(|| Owner { kind: owner.0.into(), name: owner.1.into() });
        let map = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let id = of_pod("ml", owner.as_ref(), &map);
        assert_eq!(id.as_ref().map(WorkloadId::as_str), expected, "{owner:?} {labels:?}");
    }

    #[test]
    fn owners_and_labels_name_the_workload() {
        let hash = (POD_TEMPLATE_HASH, "6d4cf56db6");
        check(("ReplicaSet", "chat-6d4cf56db6"), &[hash], Some("ml/deployment/chat"));
        check(("ReplicaSet", "chat-api-6d4cf56db6"), &[hash], Some("ml/deployment/chat-api"));
        check(("ReplicaSet", "by-hand"), &[], Some("ml/replicaset/by-hand"));
        check(("ReplicaSet", "chat-other"), &[hash], Some("ml/replicaset/chat-other"));
        check(("StatefulSet", "db"), &[], Some("ml/statefulset/db"));
        check(("Job", "train-7"), &[], Some("ml/job/train-7"));
        check(("Job", "train-workers-0"), &[(JOB_SET, "train")], Some("ml/jobset/train"));
        check(("RayCluster", "ray"), &[], Some("ml/raycluster/ray"));
        let ray = |group, node| [(RAY_CLUSTER, "ray"), (RAY_GROUP, group), (RAY_NODE_TYPE, node)];
        check(("RayCluster", "ray"), &ray("gpu", "worker"), Some("ml/raycluster/ray/gpu"));
        check(("RayCluster", "ray"), &ray("headgroup", "head"), Some("ml/raycluster/ray"));
        check(("StatefulSet", "lws-0"), &[(LEADER_WORKER_SET, "lws")], Some("ml/leaderworkerset/lws"));
        check(("LeaderWorkerSet", "lws"), &[], Some("ml/leaderworkerset/lws"));
        check(("PyTorchJob", "bert"), &[(KUBEFLOW_JOB, "bert")], Some("ml/pytorchjob/bert"));
        let operator = |kind| [(KUBEFLOW_JOB, "bert"), (KUBEFLOW_OPERATOR, kind)];
        check(("", ""), &operator("pytorchjob-controller"), None);
        check(("Elsewhere", "x"), &operator("pytorchjob-controller"), Some("ml/pytorchjob/bert"));
        check(("MPIJob", "x"), &operator("mpijob-controller"), None);
        check(
            ("ReplicaSet", "a-1-6d4cf56db6"),
            &[hash, (INFERENCE_SERVICE, "a")],
            Some("ml/inferenceservice/a"),
        );
    }

    #[test]
    fn pods_that_nobody_sizes_are_of_no_workload() {
        check(("", ""), &[], None);
        check(("DaemonSet", "agent"), &[], None);
        check(("Node", "node-a"), &[], None);
        check(("Job", "no such/name"), &[], None);
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_none(kind in "\\PC{0,12}", name in "\\PC{0,12}", hash in "\\PC{0,6}", ray in "\\PC{0,6}") {
            let labels = BTreeMap::from([(POD_TEMPLATE_HASH.to_owned(), hash), (RAY_CLUSTER.to_owned(), ray)]);
            let owner = Owner { kind, name };
            if let Some(id) = of_pod("ml", Some(&owner), &labels) {
                prop_assert!(id.as_str().starts_with("ml/raycluster/"), "{id}");
            }
            let set = Owner { kind: "ReplicaSet".into(), name: owner.kind };
            if let Some(id) = of_pod(&owner.name, Some(&set), &BTreeMap::new()) {
                prop_assert!(id.as_str().contains("/replicaset/"), "{id}");
            }
        }
    }
}
