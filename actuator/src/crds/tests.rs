//! The definitions, without an API server: their form, and that they say what the types say.

mod rules;

use kube::CustomResourceExt;
use serde_json::{Value, json};
use tidegate_core::policy::Problem;
use tidegate_core::{Mode, Span};

use super::*;

/// The schema of a definition, as the API server reads it.
fn schema(definition: &CustomResourceDefinition) -> Value {
    let schema =
        definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.unwrap()).unwrap()
}

/// Calls `look` for every schema within this one, with its path.
fn walk(schema: &Value, path: &str, look: &mut dyn FnMut(&str, &Value)) {
    look(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(field, &format!("{path}.{name}"), look);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            walk(&schema[inner], &format!("{path}.{inner}"), look);
        }
    }
}

/// What is wrong with the form of a schema, for an API server or for a reader.
fn faults(path: &str, schema: &Value) -> Vec<String> {
    let has = |word: &str| !schema[word].is_null();
    let is = |kind: &str| schema["type"] == kind;
    let bare = path.ends_with(".items") || path.ends_with(".additionalProperties");
    let checks = [
        (schema["type"].is_string(), "has no type"),
        (
            !["oneOf", "anyOf", "allOf", "not", "$ref", "nullable", "$defs", "title"].into_iter().any(has),
            "is not structural",
        ),
        (!(has("properties") && has("additionalProperties")), "has both properties and additionalProperties"),
        (bare || schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "is not described"),
        (
            !is("integer") || schema["format"] == "int64",
            "is an integer of a kind that the API server does not know",
        ),
        (!is("array") || has("maxItems"), "has no longest length"),
        (
            !is("string") || bare || has("maxLength") || has("enum") || schema["format"] == "date-time",
            "has no longest text",
        ),
        (!is("number") || schema["format"] == "double" || has("maximum"), "has no format"),
    ];
    checks.into_iter().filter(|(fine, _)| !fine).map(|(_, text)| format!("{path} {text}")).collect()
}

#[test]
fn every_schema_is_structural_bounded_and_described() {
    for definition in definitions() {
        let mut found = Vec::new();
        walk(&schema(&definition), &definition.spec.names.kind, &mut |path, part| {
            found.extend(faults(path, part))
        });
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn a_rule_points_at_a_field_that_is_there() {
    for definition in definitions() {
        let schema = schema(&definition);
        let rules = schema["properties"]["spec"]["x-kubernetes-validations"].as_array().unwrap();
        assert!(rules.len() >= 2, "{}", definition.spec.names.kind);
        for rule in rules {
            let path = rule["fieldPath"].as_str().unwrap().replace('.', "/properties/");
            assert!(schema.pointer(&format!("/properties/spec{path}")).is_some(), "{rule}");
        }
    }
}

#[test]
fn a_printed_column_shows_a_field_that_is_there() {
    for definition in definitions() {
        let schema = schema(&definition);
        for column in definition.spec.versions[0].additional_printer_columns.iter().flatten() {
            let path = column.json_path.split('[').next().unwrap();
            let path = path.replace('.', "/properties/");
            let shown = path.starts_with("/properties/metadata") || schema.pointer(&path).is_some();
            assert!(shown, "{}", column.json_path);
        }
    }
}

#[test]
fn names_are_those_that_the_api_server_is_asked_for() {
    let names: Vec<_> =
        definitions().iter().filter_map(|definition| definition.metadata.name.clone()).collect();
    assert_eq!(names, [ServingPolicy::crd_name(), TrainingPolicy::crd_name(), GpuPool::crd_name()]);
    assert!(names.iter().all(|name| name.ends_with(GROUP)));
    assert!(definitions().iter().all(|definition| definition.spec.versions[0].name == VERSION));
}

#[test]
fn a_useful_policy_takes_three_lines_of_spec() {
    let spec: ServingPolicySpec = serde_json::from_value(json!({
        "target": { "kind": "Deployment", "name": "chat" },
        "replicas": { "min": 2, "max": 20 },
        "slo": { "latency": "2s", "target": 0.99 },
    }))
    .unwrap();
    assert_eq!(spec.problems(), []);
    assert_eq!((spec.policy.mode, spec.act.via), (Mode::Shadow, Via::Auto));
    assert_eq!(spec.target.api_version().as_deref(), Some("apps/v1"));
    assert_eq!(spec.target.id("ml").unwrap().as_str(), "ml/deployment/chat");
    let training: TrainingPolicySpec = serde_json::from_value(json!({
        "target": { "kind": "RayCluster", "name": "tune", "group": "gpu-workers" },
        "workers": { "min": 2, "max": 8 },
    }))
    .unwrap();
    assert_eq!(training.problems(), []);
    assert_eq!(training.target.id("ml").unwrap().as_str(), "ml/raycluster/tune/gpu-workers");
    assert_eq!(training.resize_deadline, Span::from_secs(600));
    let pool: GpuPoolSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!((pool.problems(), pool.gpu_resource.as_str()), (vec![], "nvidia.com/gpu"));
}

#[test]
fn everything_that_can_be_said_is_read_as_it_is_written() {
    let serving = json!({
        "target": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat" },
        "act": { "via": "hpa_floor" },
        "demand": {
            "prometheus": { "url": "http://prometheus:9090", "query": "sum(rate(x[1m]))", "unit": "req/min" },
            "signals": [{
                "family": "q", "match": { "a": "b" }, "except": { "c": "d" }, "signal": "latency_mean_seconds",
                "how": "counter_ratio", "per": "n", "scale": 0.001,
            }],
        },
        "pool": "a100",
        "gpusPerReplica": 2,
        "mode": "active",
        "replicas": { "min": 0, "max": 20 },
        "slo": { "latency": "2s", "perOutputToken": "50ms", "target": 0.99 },
        "capacity": { "requestsPerSecond": 3.5, "concurrency": 8 },
        "forecast": { "enabled": true, "step": "1m", "seasons": ["1d", "7d"] },
        "scaling": {
            "leadTime": "2m", "scaleDownHold": "5m", "flapWindow": "1m", "stepUpMax": 4, "stepDownMax": 1,
            "scaleDownsPerHourMax": 10,
        },
        "schedule": [{ "days": ["mon"], "from": "08:00", "to": "18:00", "min": 4 }],
        "alerts": [{ "match": { "a": "b" }, "add": 2, "ttl": "10m", "coolDown": "5m", "perHourMax": 4 }],
        "fallback": 3,
        "priority": 10,
    });
    let read: ServingPolicySpec = serde_json::from_value(serving.clone()).unwrap();
    assert_eq!((read.problems(), serde_json::to_value(&read).unwrap()), (vec![], serving));
    let training = json!({
        "target": { "kind": "PyTorchJob", "name": "tune" },
        "pool": "a100",
        "gpusPerWorker": 1,
        "checkpoint": { "exec": { "command": ["save"] }, "container": "main", "deadline": "30s" },
        "resizeDeadline": "5m",
        "stepsDeadline": "2m",
        "mode": "active",
        "workers": { "min": 2, "max": 8 },
        "gang": 2,
        "growHold": "10m",
        "resizesPerHourMax": 4,
        "priority": -1,
    });
    let read: TrainingPolicySpec = serde_json::from_value(training.clone()).unwrap();
    assert_eq!((read.problems(), serde_json::to_value(&read).unwrap()), (vec![], training));
    let pool = json!({
        "maxSlots": 64, "nodeSelector": { "gpu": "a100" }, "gpuResource": "amd.com/gpu", "leadTime": "4m",
    });
    let read: GpuPoolSpec = serde_json::from_value(pool.clone()).unwrap();
    assert_eq!((read.problems(), serde_json::to_value(&read).unwrap()), (vec![], pool));
}

#[test]
fn a_kind_that_is_not_known_needs_its_version() {
    let mut target = Target { api_version: None, kind: "Rollout".into(), name: "chat".into(), group: None };
    assert_eq!(target.api_version(), None);
    target.api_version = Some("argoproj.io/v1alpha1".into());
    assert_eq!(target.api_version().as_deref(), Some("argoproj.io/v1alpha1"));
    assert!(target.may_have_scale());
}

#[test]
fn a_status_holds_no_more_than_its_schema_allows() {
    let definitions = definitions();
    let of = |definition: usize, path: &str| schema(&definitions[definition]).pointer(path).cloned().unwrap();
    let reasons = "/properties/status/properties/lastDecision/properties/reasons";
    assert_eq!(of(0, &format!("{reasons}/maxItems")), json!(status::REASONS_MAX));
    assert_eq!(of(0, &format!("{reasons}/items/properties/text/maxLength")), json!(status::TEXT_MAX));
    assert_eq!(of(2, "/properties/status/properties/shares/maxItems"), json!(pool::SHARES_MAX));
    let mut status = GpuPoolStatus::default();
    let share = |slots| PoolShare { workload: format!("ml/job/{slots}"), slots };
    status.set_shares((0..=600).map(share).collect());
    assert_eq!((status.shares.len(), status.shares[0].slots), (pool::SHARES_MAX, 600));
}

#[test]
fn every_problem_of_a_spec_is_told_at_once() {
    let spec: ServingPolicySpec = serde_json::from_value(json!({
        "target": { "kind": "Rollout", "name": "chat", "group": "a" },
        "replicas": { "min": 0, "max": 0 },
        "slo": { "latency": "2s", "target": 0.2 },
    }))
    .unwrap();
    let paths: Vec<_> = spec.problems().into_iter().map(|Problem { path, .. }| path).collect();
    assert_eq!(paths, ["target/apiVersion", "target/group", "replicas/min", "replicas/max", "slo/target"]);
}
