//! The API server holds the rules of the custom resources: of each, an object that just keeps it is admitted, and one that breaks it
//! is refused at the right field in the rule's words.

use std::collections::BTreeSet;

use kube::api::{Api, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::{Client, CustomResourceExt};
use serde_json::{Value, json};
use tidegate_actuator::crds::{GpuPool, ServingPolicy, TrainingPolicy, definitions};
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};

use crate::controller::install;

/// A rule, by its message, with what is laid over a good spec to just keep it, and what to break it and no other.
type Case = (&'static str, Value, Value);

/// A policy of five lines.
fn serving() -> Value {
    json!({
        "target": { "kind": "Deployment", "name": "chat" },
        "replicas": { "min": 2, "max": 20 },
        "slo": { "latency": "2s", "target": 0.99 },
    })
}

fn serving_cases() -> Vec<Case> {
    let alert =
        |fields: Value| json!({ "alerts": [merged(&json!({ "match": { "a": "b" }, "add": 1 }), &fields)] });
    let floor = |fields: Value| json!({ "schedule": [merged(&json!({ "from": "08:00", "to": "09:00", "min": 20 }), &fields)] });
    let signal = |fields: Value| {
        let rule = json!({ "family": "a_total", "signal": "requests_per_second", "how": "counter_rate" });
        json!({ "demand": { "signals": [merged(&rule, &fields)] } })
    };
    let step = |step: &str| json!({ "forecast": { "step": step, "seasons": ["1d", "7d"] } });
    let mut cases = target_cases();
    cases.extend([
        (
            "act.via needs a target with a scale subresource, which this kind does not have",
            json!({ "act": { "via": "hpa_floor" } }),
            json!({ "act": { "via": "external_metric" }, "target": { "kind": "InferenceService" } }),
        ),
        (
            "replicas.min may be 0 only with `demand.prometheus`, which sees demand while there is no replica",
            json!({ "replicas": { "min": 0 }, "demand": { "prometheus": { "query": "up" } } }),
            json!({ "replicas": { "min": 0 }, "demand": {} }),
        ),
        ("replicas.min must not be above replicas/max", json!({ "replicas": { "min": 20 } }), json!({ "replicas": { "min": 21 } })),
        ("replicas.max must be from 1 to 10000", json!({ "replicas": { "max": 10000 } }), json!({ "replicas": { "max": 10001 } })),
        ("slo.latency must be longer than zero", json!({ "slo": { "latency": "0s1ms" } }), json!({ "slo": { "latency": "0m0s" } })),
        (
            "slo.perOutputToken must be longer than zero",
            json!({ "slo": { "perOutputToken": "10ms" } }),
            json!({ "slo": { "perOutputToken": "0d" } }),
        ),
        ("slo.target must be from 0.5 to below 1", json!({ "slo": { "target": 0.5 } }), json!({ "slo": { "target": 1 } })),
        (
            "capacity.requestsPerSecond must be above zero",
            json!({ "capacity": { "requestsPerSecond": 0.001 } }),
            json!({ "capacity": { "requestsPerSecond": 0 } }),
        ),
        ("capacity.concurrency must be at least 1", json!({ "capacity": { "concurrency": 1 } }), json!({ "capacity": { "concurrency": 0 } })),
        ("forecast.step must be at least 1s", step("0d0h1s"), step("999ms")),
        ("forecast.seasons each must be at least four steps long", step("6h"), step("5h60m1ms")),
        ("scaling.stepUpMax must be at least 1", json!({ "scaling": { "stepUpMax": 1 } }), json!({ "scaling": { "stepUpMax": 0 } })),
        ("scaling.stepDownMax must be at least 1", json!({ "scaling": { "stepDownMax": 1 } }), json!({ "scaling": { "stepDownMax": 0 } })),
        ("fallback must be within replicas", json!({ "fallback": 2 }), json!({ "fallback": 1 })),
        ("schedule.*.min must not be above replicas/max", floor(json!({})), floor(json!({ "min": 21 }))),
        ("schedule.*.to must differ from `from`", floor(json!({ "to": "07:59" })), floor(json!({ "to": "08:00" }))),
        ("alerts.* needs either `add` or `floor`", alert(json!({ "add": null, "floor": 1 })), alert(json!({ "floor": 1 }))),
        (
            "demand.signals.*.per is needed by `counter_ratio`, and only there",
            signal(json!({ "how": "counter_ratio", "per": "b_total" })),
            signal(json!({ "per": "b_total" })),
        ),
        (
            "demand.signals.*.adds is only for a sum of gauges or a rate of counters",
            signal(json!({ "adds": true })),
            signal(json!({ "adds": true, "how": "gauge_mean" })),
        ),
        ("demand.signals.*.scale must be above zero", signal(json!({ "scale": 0.001 })), signal(json!({ "scale": 0 }))),
        (
            "demand.signals.*.how must be `histogram` for a quantile, and only for what a histogram gives",
            signal(json!({ "signal": "latency_p95_seconds", "how": "histogram" })),
            signal(json!({ "signal": "latency_p95_seconds" })),
        ),
        ("alerts.*.match needs at least one label", alert(json!({})), alert(json!({ "match": { "a": null } }))),
    ]);
    cases
}

fn target_cases() -> Vec<Case> {
    vec![
        (
            "target.apiVersion is needed for a kind that Tidegate does not know",
            json!({ "target": { "kind": "Rollout", "apiVersion": "argoproj.io/v1alpha1" } }),
            json!({ "target": { "kind": "Rollout" } }),
        ),
        (
            "target.group only a RayCluster or a JobSet has groups",
            json!({ "target": { "kind": "RayCluster", "group": "gpu" } }),
            json!({ "target": { "group": "gpu" } }),
        ),
    ]
}

fn training_cases() -> Vec<Case> {
    let workers =
        |min: u32, max: u32, gang: u32| json!({ "workers": { "min": min, "max": max }, "gang": gang });
    let hook = |hook: Value| json!({ "checkpoint": hook });
    let http = json!({ "path": "/save", "port": 8080 });
    let mut cases = target_cases();
    cases.extend([
        (
            "checkpoint needs exactly one of `http`, `signal` and `exec`",
            hook(json!({ "signal": "SIGUSR1" })),
            hook(json!({ "signal": "SIGUSR1", "exec": { "command": ["save"] } })),
        ),
        (
            "checkpoint.container is only for `signal` and `exec`",
            hook(json!({ "exec": { "command": ["save"] }, "container": "main" })),
            hook(json!({ "http": http, "container": "main" })),
        ),
        ("workers.min must not be above workers/max", workers(8, 8, 1), workers(9, 8, 1)),
        ("workers.max must be from 1 to 10000", workers(0, 10000, 1), workers(0, 0, 1)),
        ("gang must be at least 1", workers(2, 8, 1), workers(2, 8, 0)),
        ("workers.min must be a multiple of `gang`", workers(4, 8, 4), workers(2, 8, 4)),
        ("workers.max must be a multiple of `gang`", workers(0, 9, 3), workers(0, 8, 3)),
    ]);
    cases
}

fn pool_cases() -> Vec<Case> {
    vec![
        (
            "maxSlots must not be below `slots`",
            json!({ "slots": 8, "maxSlots": 8 }),
            json!({ "slots": 9, "maxSlots": 8 }),
        ),
        (
            "nodeSelector has no meaning beside `slots`: nodes are counted only where `slots` is absent",
            json!({ "nodeSelector": { "gpu": "a100" } }),
            json!({ "slots": 8, "nodeSelector": { "gpu": "a100" } }),
        ),
    ]
}

/// `spec` with `patch` laid over it (RFC 7386).
fn merged(spec: &Value, patch: &Value) -> Value {
    let (Value::Object(fields), Value::Object(patch)) = (spec, patch) else { return patch.clone() };
    let mut fields = fields.clone();
    for (name, value) in patch {
        if value.is_null() {
            fields.shift_remove(name);
        } else {
            let inner = merged(fields.get(name).unwrap_or(&json!({})), value);
            fields.insert(name.clone(), inner);
        }
    }
    Value::Object(fields)
}

/// What the API server has to say against a spec, with the field of each; nothing is stored.
async fn refusals<K: CustomResourceExt>(client: &Client, spec: &Value) -> BTreeSet<(String, String)> {
    let resource = K::api_resource();
    let api: Api<DynamicObject> = if resource.kind == "GpuPool" {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::default_namespaced_with(client.clone(), &resource)
    };
    let object = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": { "name": "tried" }, "spec": spec,
    });
    let how = PatchParams {
        dry_run: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("test")
    };
    match api.patch("tried", &how, &Patch::Apply(&object)).await {
        Ok(_) => BTreeSet::new(),
        Err(kube::Error::Api(status)) => {
            let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
            assert!(!causes.is_empty(), "{status:?}");
            causes.into_iter().map(|cause| (cause.field, cause.message)).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

/// Checks all cases of a kind, and that no rule of its definition is without.
async fn hold<K: CustomResourceExt>(client: &Client, base: &Value, cases: Vec<Case>) {
    let definition =
        definitions().into_iter().find(|made| made.metadata.name.as_deref() == Some(K::crd_name()));
    let definition =
        serde_json::to_value(definition.expect("it is one of ours")).expect("a definition is JSON");
    let rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    let mut left: Vec<_> = definition.pointer(rules).and_then(Value::as_array).expect("it has rules").clone();
    left.retain(|rule| !rule["rule"].as_str().unwrap_or_default().contains("oldSelf"));
    assert_eq!(refusals::<K>(client, base).await, BTreeSet::new());
    for (message, kept, broken) in cases {
        assert_eq!(refusals::<K>(client, &merged(base, &kept)).await, BTreeSet::new(), "{message}: {kept}");
        let rule = left.iter().position(|rule| rule["message"] == message);
        let rule = left.swap_remove(rule.unwrap_or_else(|| panic!("no rule says {message:?}")));
        let field = format!("spec{}", rule["fieldPath"].as_str().expect("a rule points at a field"));
        let refused = refusals::<K>(client, &merged(base, &broken)).await;
        let said: Vec<_> =
            refused.iter().filter(|(at, said)| *at == field && said.contains(message)).collect();
        assert_eq!((said.len(), refused.len()), (1, 1), "{message}: {broken}: {refused:?}");
    }
    assert_eq!(left, Vec::<Value>::new(), "rules without a case");
}

#[tokio::test]
async fn each_rule_is_held() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    install(&client).await;
    hold::<ServingPolicy>(&client, &serving(), serving_cases()).await;
    let training =
        json!({ "target": { "kind": "PyTorchJob", "name": "tune" }, "workers": { "min": 2, "max": 8 } });
    hold::<TrainingPolicy>(&client, &training, training_cases()).await;
    hold::<GpuPool>(&client, &json!({}), pool_cases()).await;
    what_types_forbid_is_refused(&client).await;
}

async fn what_types_forbid_is_refused(client: &Client) {
    for (patch, field) in [
        (json!({ "replicas": { "max": 4_294_967_296_u64 } }), "spec.replicas.max"),
        (json!({ "replicas": { "min": -1 } }), "spec.replicas.min"),
        (json!({ "slo": { "latency": "2" } }), "spec.slo.latency"),
        (json!({ "slo": { "latency": "99999999999999999999d" } }), "spec.slo.latency"),
        (json!({ "mode": "on" }), "spec.mode"),
        (json!({ "act": { "via": "magic" } }), "spec.act.via"),
        (
            json!({ "demand": { "signals": [{ "family": "f", "signal": "nothing", "how": "gauge_sum" }] } }),
            "spec.demand.signals[0].signal",
        ),
        (json!({ "target": { "name": "Chat" } }), "spec.target.name"),
        (json!({ "forecast": { "seasons": vec!["1d"; 9] } }), "spec.forecast.seasons"),
    ] {
        let refused = refusals::<ServingPolicy>(client, &merged(&serving(), &patch)).await;
        assert!(refused.iter().any(|(at, _)| at == field), "{patch}: {refused:?}");
    }
}
