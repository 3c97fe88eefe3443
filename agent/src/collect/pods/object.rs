//! From a pod as the kubelet or the API server tells it to a [`Pod`]. No I/O.

use std::collections::BTreeMap;

use super::messages::core::{Container, ContainerStatus, ObjectMeta, PodSpec, PodStatus};
use super::table::{Pod, PodContainer, Port};
use super::workload::{self, Owner};

/// Annotations that are kept: those by which a pod asks to be scraped.
const KEPT_ANNOTATIONS: &str = "prometheus.io/";
/// On a pod that the kubelet took from a file: the hash that its cgroups and directories are called by.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Most containers of one pod that are kept.
const CONTAINERS_MAX: usize = 64;

/// The pod; `None` without a uid, a namespace and a name, which every pod of an API has.
#[must_use]
pub(super) fn pod(meta: ObjectMeta, spec: &PodSpec, status: Option<&PodStatus>) -> Option<Pod> {
    if [&meta.uid, &meta.namespace, &meta.name].iter().any(|text| text.is_empty()) {
        return None;
    }
    let owners = &meta.owner_references;
    let owner = owners.iter().find(|owner| owner.controller);
    let owner = owner.map(|owner| Owner { kind: owner.kind.clone(), name: owner.name.clone() });
    let mut annotations = meta.annotations;
    Some(Pod {
        workload: workload::of_pod(&meta.namespace, owner.as_ref(), &meta.labels),
        uid: meta.uid,
        config_hash: annotations.remove(CONFIG_HASH),
        namespace: meta.namespace,
        name: meta.name,
        labels: meta.labels,
        annotations: annotations.split_off(KEPT_ANNOTATIONS).into_iter().take_while(is_kept).collect(),
        node: Some(spec.node_name.clone()).filter(|node| !node.is_empty()),
        ip: status.and_then(|status| status.pod_ip.parse().ok()),
        host_network: spec.host_network,
        ready: status.and_then(is_ready),
        ended: status.is_some_and(|status| matches!(status.phase.as_str(), "Succeeded" | "Failed")),
        containers: containers(spec, status),
    })
}

fn is_kept(annotation: &(String, String)) -> bool {
    annotation.0.starts_with(KEPT_ANNOTATIONS)
}

fn is_ready(status: &PodStatus) -> Option<bool> {
    let condition = status.conditions.iter().find(|condition| condition.r#type == "Ready")?;
    Some(condition.status == "True")
}

/// Containers of the pod: those that it was made with, and those that were put into it later, which only its status lists.
fn containers(spec: &PodSpec, status: Option<&PodStatus>) -> Vec<PodContainer> {
    let by_name: BTreeMap<&str, &ContainerStatus> = status
        .into_iter()
        .flat_map(|status| status.init_container_statuses.iter().chain(&status.container_statuses))
        .map(|status| (status.name.as_str(), status))
        .collect();
    let of = |container: &Container, init| {
        let known = PodContainer {
            name: container.name.clone(),
            init,
            ports: container.ports.iter().filter_map(port).collect(),
            ..PodContainer::default()
        };
        match by_name.get(container.name.as_str()) {
            Some(status) => with_status(known, status),
            None => known,
        }
    };
    let later = status.into_iter().flat_map(|status| &status.ephemeral_container_statuses).map(|status| {
        with_status(PodContainer { name: status.name.clone(), ..PodContainer::default() }, status)
    });
    let init = spec.init_containers.iter().map(|container| of(container, true));
    let usual = spec.containers.iter().map(|container| of(container, false));
    init.chain(usual).chain(later).take(CONTAINERS_MAX).collect()
}

fn with_status(container: PodContainer, status: &ContainerStatus) -> PodContainer {
    // `RUNTIME://ID`; empty before the first start.
    let id = status.container_id.split_once("://").map(|(_, id)| id.to_owned());
    PodContainer {
        id: id.filter(|id| !id.is_empty()),
        ready: Some(status.ready),
        restarts: u32::try_from(status.restart_count).ok(),
        ..container
    }
}

/// A port that can be asked over TCP.
fn port(port: &super::messages::core::ContainerPort) -> Option<Port> {
    let tcp = matches!(port.protocol.as_str(), "" | "TCP");
    let number = u16::try_from(port.container_port).ok().filter(|number| tcp && *number > 0)?;
    Some(Port { name: port.name.clone(), number })
}

#[cfg(test)]
mod tests {
    use super::super::messages::core;
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    const JSON: &str = r#"{
        "metadata": {
            "name": "chat-6d4cf56db6-x2x7z", "namespace": "ml", "uid": "u-1", "resourceVersion": "7",
            "labels": {"app": "chat", "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true", "checksum": "x", "zz": "y", "kubernetes.io/config.hash": "c0ffee"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "o-1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat-6d4cf56db6", "uid": "o-2", "controller": true}]
        },
        "spec": {
            "nodeName": "node-a", "priority": 0,
            "initContainers": [{"name": "fetch", "image": "x"}],
            "containers": [
                {"name": "vllm", "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"},
                                            {"name": "gossip", "containerPort": 7946, "protocol": "UDP"}]},
                {"name": "proxy"}]
        },
        "status": {
            "phase": "Running", "podIP": "10.1.2.3", "qosClass": "Burstable",
            "conditions": [{"type": "Ready", "status": "False", "lastProbeTime": null}],
            "initContainerStatuses": [{"name": "fetch", "ready": true, "restartCount": 1, "containerID": "containerd://aa"}],
            "containerStatuses": [{"name": "vllm", "ready": true, "restartCount": 2, "containerID": "containerd://bb"}],
            "ephemeralContainerStatuses": [{"name": "debug", "ready": false, "restartCount": 0, "containerID": ""}]
        }
    }"#;

    #[derive(Clone, serde::Deserialize)]
    struct Object {
        metadata: ObjectMeta,
        spec: PodSpec,
        status: PodStatus,
    }

    fn message() -> core::Pod {
        let Object { metadata, spec, status } = serde_json::from_str(JSON).unwrap();
        core::Pod { metadata: Some(metadata), spec: Some(spec), status: Some(status) }
    }

    fn read(message: core::Pod) -> Option<Pod> {
        pod(message.metadata?, &message.spec.unwrap_or_default(), message.status.as_ref())
    }

    #[test]
    fn what_is_used_of_a_pod_is_read() {
        let pod = read(message()).unwrap();
        assert_eq!((pod.uid.as_str(), pod.name.as_str()), ("u-1", "chat-6d4cf56db6-x2x7z"));
        assert_eq!(pod.workload.as_ref().unwrap().as_str(), "ml/deployment/chat");
        assert_eq!(pod.template_hash(), Some("6d4cf56db6"));
        assert_eq!(pod.annotations, BTreeMap::from([("prometheus.io/scrape".into(), "true".into())]));
        assert_eq!(pod.config_hash.as_deref(), Some("c0ffee"));
        assert_eq!((pod.node.as_deref(), pod.ip), (Some("node-a"), Some([10, 1, 2, 3].into())));
        assert_eq!((pod.ready, pod.ended, pod.host_network), (Some(false), false, false));
        let container = |at: usize| &pod.containers[at];
        assert_eq!((container(0).name.as_str(), container(0).init), ("fetch", true));
        assert_eq!((container(1).id.as_deref(), container(1).restarts), (Some("bb"), Some(2)));
        assert_eq!(container(1).ports, [Port { name: "http".into(), number: 8000 }]);
        assert_eq!(
            (container(2).id.as_deref(), container(2).restarts, container(2).ready),
            (None, None, None)
        );
        assert_eq!((container(3).name.as_str(), container(3).id.as_deref()), ("debug", None));
    }

    #[test]
    fn a_pod_is_the_same_in_json_and_in_the_kubelets_encoding() {
        let again = core::Pod::decode(message().encode_to_vec().as_slice()).unwrap();
        assert_eq!(read(again), read(message()));
    }

    /// The same kind of pod as Kubernetes itself encodes it: `Pod.Marshal` of `k8s.io/api` v0.36.3, with fields of every kind.
    #[test]
    fn a_pod_as_kubernetes_encodes_it_is_read() {
        use base64::Engine as _;
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(include_str!("pod.base64").trim()).unwrap();
        let pod = read(core::Pod::decode(bytes.as_slice()).unwrap()).unwrap();
        assert_eq!(pod.uid, "0a5f7e3c-6d1b-4c1e-9b5a-7f0d2c9e8b41");
        assert_eq!(pod.workload.as_ref().unwrap().as_str(), "ml/deployment/chat");
        assert_eq!(pod.annotations.len(), 2);
        assert_eq!((pod.node.as_deref(), pod.host_network, pod.ready), (Some("node-a"), true, Some(true)));
        assert_eq!(pod.ip, Some([10, 1, 2, 3].into()));
        let container = |at: usize| {
            let container = &pod.containers[at];
            (container.name.as_str(), container.id.as_deref(), container.restarts)
        };
        assert_eq!(
            [container(0), container(1), container(2)],
            [("fetch", Some("aa"), Some(0)), ("vllm", Some("bb"), Some(2)), ("debug", Some("cc"), Some(0)),]
        );
        assert_eq!(pod.containers[1].ports, [Port { name: "http".into(), number: 8000 }]);
    }

    #[test]
    fn a_removed_pod_has_its_names_and_nothing_else() {
        let metadata =
            ObjectMeta { name: "a".into(), namespace: "b".into(), uid: "c".into(), ..Default::default() };
        let pod = read(core::Pod { metadata: Some(metadata), spec: None, status: None }).unwrap();
        assert_eq!((pod.ready, pod.ip, pod.workload), (None, None, None));
        assert!(read(core::Pod::default()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_pod_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(pod) = core::Pod::decode(bytes.as_slice()).ok().and_then(read) {
                prop_assert!(!pod.uid.is_empty());
            }
        }
    }
}
