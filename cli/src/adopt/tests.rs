//! Autoscalers as they come, and the policies that they become; no cluster.

use super::*;

fn wish() -> Wish {
    Wish { name: None, slo: json!({ "latency": "2s", "target": 0.99 }), requests_per_second: None }
}

fn hpa(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "chat", "namespace": "ml", "uid": "u" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat" },
            "minReplicas": 2, "maxReplicas": 20,
        },
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

fn scaled(triggers: Value, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": "chat", "namespace": "ml" },
        "spec": { "scaleTargetRef": { "name": "chat" }, "triggers": triggers },
    });
    object["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

fn of(kind: AutoscalerKind, object: &Value) -> Adoption {
    translate::adoption(kind, object, &wish()).unwrap()
}

#[test]
fn an_hpa_becomes_a_policy_of_its_bounds_that_begins_in_shadow() {
    let object = hpa(json!({
        "metrics": [
            { "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 70 } } },
            { "type": "Pods", "pods": { "metric": { "name": "http_requests" }, "target": { "type": "AverageValue", "averageValue": "20" } } },
        ],
        "behavior": {
            "scaleUp": { "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 15 }] },
            "scaleDown": { "stabilizationWindowSeconds": 600, "policies": [{ "type": "Pods", "value": 4, "periodSeconds": 60 }] },
        },
    }));
    let adoption = of(AutoscalerKind::Hpa, &object);
    let expected = json!({
        "target": { "kind": "Deployment", "name": "chat" }, "mode": "shadow",
        "slo": { "latency": "2s", "target": 0.99 },
        "replicas": { "min": 2, "max": 20 },
        "scaling": { "scaleDownHold": "600s", "stepDownMax": 1 },
    });
    assert_eq!(adoption.manifest["spec"], expected);
    assert_eq!(adoption.manifest["metadata"], json!({ "name": "chat", "namespace": "ml" }));
    assert!(
        adoption.changes[0].contains("minReplicas 2 → what is needed, up to 20"),
        "{:?}",
        adoption.changes
    );
    assert_eq!(adoption.stays.len(), 3, "{:?}", adoption.stays);
    assert!(adoption.stays[0].contains("cpu at 70 %"));
    assert!(adoption.stays[1].contains("requestsPerSecond: 20"));
}

#[test]
fn a_scaled_object_gives_its_query_its_threshold_and_its_clock() {
    let triggers = json!([
        { "type": "prometheus", "metadata": { "serverAddress": "http://prometheus:9090", "query": "sum(rate(requests_total[1m]))", "threshold": "12.5" } },
        { "type": "cron", "metadata": { "timezone": "Etc/UTC", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "6" } },
        { "type": "kafka", "metadata": {} },
    ]);
    let adoption = of(AutoscalerKind::ScaledObject, &scaled(triggers, json!({})));
    let expected = json!({
        "target": { "kind": "Deployment", "name": "chat" }, "mode": "shadow",
        "slo": { "latency": "2s", "target": 0.99 },
        "demand": { "prometheus": { "query": "sum(rate(requests_total[1m]))", "url": "http://prometheus:9090" } },
        "capacity": { "requestsPerSecond": 12.5 },
        "schedule": [{ "from": "08:00", "to": "18:00", "min": 6, "days": ["mon", "tue", "wed", "thu", "fri"] }],
        "replicas": { "min": 0, "max": 100 },
    });
    assert_eq!(adoption.manifest["spec"], expected, "KEDA's defaults are 0 and 100");
    assert_eq!(adoption.stays, ["trigger kafka"]);
}

#[test]
fn going_down_to_none_needs_a_query() {
    let adoption = of(AutoscalerKind::ScaledObject, &scaled(json!([]), json!({ "maxReplicaCount": 5 })));
    assert_eq!(adoption.manifest["spec"]["replicas"], json!({ "min": 1, "max": 5 }));
    assert!(adoption.stays[0].contains("demand.prometheus"), "{:?}", adoption.stays);
}

#[test]
fn a_floor_that_is_raised_is_not_the_users() {
    let raise = json!({ "original": 2, "raised": 9, "until": "2026-01-01T00:00:00Z", "by": "ml/chat" });
    let mut object = hpa(json!({ "minReplicas": 9 }));
    object["metadata"]["annotations"] = json!({ ANNOTATION: raise.to_string(), "team": "a" });
    assert_eq!(of(AutoscalerKind::Hpa, &object).manifest["spec"]["replicas"]["min"], 2);
    let kept = kept(AutoscalerKind::Hpa, &object);
    assert_eq!(kept["spec"]["minReplicas"], 2);
    assert_eq!(kept["metadata"]["annotations"], json!({ "team": "a" }));
    assert_eq!(kept["metadata"].get("uid"), None);
}

#[test]
fn what_no_policy_can_say_is_refused_and_named() {
    let slack = Wish { slo: json!({ "latency": "2s", "target": 0.2 }), ..wish() };
    let wrong = translate::adoption(AutoscalerKind::Hpa, &hpa(json!({})), &slack);
    assert!(wrong.unwrap_err().contains("slo/target"), "a policy's own rules hold");
    let mut nobody = hpa(json!({}));
    nobody["spec"].as_object_mut().unwrap().remove("scaleTargetRef");
    assert!(translate::adoption(AutoscalerKind::Hpa, &nobody, &wish()).is_err());
    for name in ["chat", "deploy/chat", "hpa/"] {
        assert!(named(name).is_err(), "{name}");
    }
    assert_eq!(named("so/chat").unwrap(), (AutoscalerKind::ScaledObject, "chat"));
}

#[test]
fn the_document_is_yaml_whose_comments_say_what_changes() {
    let adoption = of(AutoscalerKind::Hpa, &hpa(json!({})));
    let text = written(AutoscalerKind::Hpa, "chat", &adoption).unwrap();
    assert!(text.contains("#   ~ HorizontalPodAutoscaler chat: minReplicas 2"), "{text}");
    let read = crate::config::yaml::Document::parse(&text).unwrap().value;
    assert_eq!(read, adoption.manifest);
}
