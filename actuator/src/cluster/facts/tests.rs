//! Facts are taken from objects as the API server writes them.

use super::*;
use serde_json::json;

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn deployment() -> DynamicObject {
    object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": "ml", "uid": "u1", "managedFields": [
            {"manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "apps/v1",
             "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {}}}},
            {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1",
             "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"},
        ]},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "chat"},
            "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}]}},
    }))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn a_deployments_size_selector_and_owner_are_known() {
    let kind = TargetKind::named("Deployment").unwrap();
    let facts = TargetFacts::of(&deployment(), kind, None).unwrap();
    assert_eq!(facts.size, Some(3));
    let selector = facts.selector.unwrap();
    assert!(selector.matches(&labels(&[("app", "chat"), ("x", "y")])));
    assert!(!selector.matches(&labels(&[("app", "chat"), ("canary", "1")])));
    assert!(!selector.matches(&labels(&[("app", "other")])));
    let owner = Owner { manager: "kube-controller-manager".into(), subresource: Some("scale".into()) };
    assert_eq!(facts.owners, [owner]);
}

#[test]
fn a_worker_group_is_found_by_its_name() {
    let kind = TargetKind::named("RayCluster").unwrap();
    let cluster = object(json!({
        "apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "r", "namespace": "ml", "uid": "u2"},
        "spec": {"workerGroupSpecs": [
            {"groupName": "cpu", "replicas": 1}, {"groupName": "gpu", "replicas": 4}]},
    }));
    let facts = TargetFacts::of(&cluster, kind, Some("gpu")).unwrap();
    assert_eq!((facts.size, facts.group_index), (Some(4), Some(1)));
    let pods = facts.selector.unwrap();
    assert!(pods.matches(&labels(&[("ray.io/cluster", "r"), ("ray.io/group", "gpu")])));
    assert!(!pods.matches(&labels(&[("ray.io/cluster", "r"), ("ray.io/group", "cpu")])));
    assert_eq!(TargetFacts::of(&cluster, kind, Some("tpu")), None);
    assert_eq!(TargetFacts::of(&cluster, kind, None), None);
}

#[test]
fn a_job_of_kueue_is_recognised_and_an_absent_size_is_unknown() {
    let kind = TargetKind::named("Job").unwrap();
    let job = object(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "namespace": "ml", "uid": "u3", "labels": {"kueue.x-k8s.io/queue-name": "q"}},
        "spec": {},
    }));
    let facts = TargetFacts::of(&job, kind, None).unwrap();
    assert!(facts.queued);
    assert_eq!(facts.size, None);
}

#[test]
fn an_empty_or_unknown_selector_selects_nothing() {
    assert_eq!(Selector::of(&LabelSelector::default()), None);
    let odd: LabelSelector =
        serde_json::from_value(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})).unwrap();
    assert!(!Selector::of(&odd).unwrap().matches(&labels(&[("a", "1")])));
}

#[test]
fn a_pods_state_is_known() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "chat-1", "namespace": "ml", "uid": "p1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [], "nodeName": "node-a"},
        "status": {"phase": "Running", "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:30Z"}],
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 2, "image": "", "imageID": "",
                "state": {"running": {}}}]},
    }))
    .unwrap();
    let facts = PodFacts::of(&pod).unwrap();
    assert_eq!(facts.ready_since.unwrap().since(facts.created).as_secs(), 90);
    assert_eq!((facts.restarts, facts.crash_loop), (2, false));
    let mut waiting = pod.clone();
    let status = waiting.status.as_mut().unwrap();
    status.conditions.as_mut().unwrap()[0].status = "False".into();
    status.container_statuses.as_mut().unwrap()[0].state =
        serde_json::from_value(json!({"waiting": {"reason": "CrashLoopBackOff"}})).unwrap();
    let facts = PodFacts::of(&waiting).unwrap();
    assert_eq!((facts.ready_since, facts.crash_loop), (None, true));
}

#[test]
fn an_autoscaler_names_its_target_and_bounds() {
    let hpa: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "h", "namespace": "ml", "uid": "h1"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "chat"}, "maxReplicas": 10},
        "status": {"currentReplicas": 2, "desiredReplicas": 3},
    }))
    .unwrap();
    let facts = AutoscalerFacts::of_hpa(&hpa).unwrap();
    assert_eq!((facts.min, facts.max, facts.desired), (None, Some(10), Some(3)));
    let scaled = object(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": "s", "namespace": "ml", "uid": "s1"},
        "spec": {"scaleTargetRef": {"name": "chat"}, "minReplicaCount": 1, "maxReplicaCount": 8},
    }));
    let facts = AutoscalerFacts::of_scaled_object(&scaled).unwrap();
    assert_eq!((facts.target_kind.as_str(), facts.min, facts.max), ("Deployment", Some(1), Some(8)));
    let scaled = object(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": "s", "namespace": "ml", "uid": "s1"},
        "spec": {"scaleTargetRef": {"name": "chat"}},
    }));
    let facts = AutoscalerFacts::of_scaled_object(&scaled).unwrap();
    assert_eq!((facts.min, facts.min_default, facts.max), (None, 0, Some(100)), "KEDA's defaults");
}
