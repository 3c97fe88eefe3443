//! The custom resources in a real API server: they are established, what is stored of them, what is printed of them, who may write
//! which part, and that a definition of an older version is noticed.

use http::Request;
use http::header::ACCEPT;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, CustomResourceExt};
use serde_json::{Value, json};
use tidegate_actuator::cluster::definitions::lacking;
use tidegate_actuator::crds::{
    ConditionReason, GpuPool, ServingPolicy, ServingPolicyStatus, TrainingPolicy, definitions, set_condition,
};
use tidegate_core::Timestamp;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};

use crate::controller::install;
use crate::objects::object;

fn policy() -> ServingPolicy {
    object(json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "ServingPolicy",
        "metadata": { "name": "chat" },
        "spec": {
            "target": { "kind": "Deployment", "name": "chat" },
            "replicas": { "min": 2, "max": 20 },
            "slo": { "latency": "2s", "target": 0.99 },
        },
    }))
}

/// What `kubectl get` prints: the names of the columns and the cells of the only row.
async fn printed(client: &Client, path: &str) -> Vec<(String, Value)> {
    let request =
        Request::get(path).header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io").body(Vec::new());
    let table: Value = client.request(request.expect("the request is right")).await.expect("a table");
    let rows = table["rows"].as_array().expect("a table has rows");
    assert_eq!(rows.len(), 1, "{table}");
    let columns = table["columnDefinitions"].as_array().expect("a table has columns").iter();
    let names = columns.map(|column| column["name"].as_str().unwrap_or_default().to_owned());
    names.zip(rows[0]["cells"].as_array().cloned().unwrap_or_default()).collect()
}

fn cell<'a>(row: &'a [(String, Value)], name: &str) -> &'a Value {
    row.iter().find(|(column, _)| column == name).map_or(&Value::Null, |(_, value)| value)
}

fn status() -> ServingPolicyStatus {
    let mut status: ServingPolicyStatus = object(json!({
        "observedGeneration": 1,
        "via": "scale",
        "replicas": { "wanted": 5, "ready": 4, "starting": 1 },
        "demand": { "signal": "requests_per_second", "value": 12.5, "unit": "req/s", "ageSeconds": 2.0, "source": "agents" },
        "capacityPerReplica": 3.0,
        "leadTimeSeconds": 42.0,
        "forecast": { "at": "2026-01-31T08:00:00Z", "p50": 12.0, "p95": 15.0, "windowMax": 16.5 },
        "slo": { "attained": 0.997, "target": 0.99 },
        "bottleneck": "queue",
        "lastDecision": {
            "at": "2026-01-31T08:00:00Z", "from": 4, "to": 5, "applied": true, "hpa": 4,
            "reasons": [{ "code": "predicted", "text": "16.5 req/s foretold" }],
        },
        "floor": { "kind": "HorizontalPodAutoscaler", "name": "chat", "original": 2, "raised": 5 },
    }));
    let now = Timestamp::from_secs(1_769_846_400);
    set_condition(
        &mut status.conditions,
        ConditionReason::Starting,
        Some(false),
        "4 of 5 ready",
        Some(1),
        now,
    );
    set_condition(&mut status.conditions, ConditionReason::Acting, Some(true), "", Some(1), now);
    status
}

#[tokio::test]
async fn a_policy_is_stored_printed_and_told_of() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    install(&client).await;
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());

    let mut asked = policy();
    asked.status = Some(status());
    let made = policies.create(&PostParams::default(), &asked).await.expect("it keeps every rule");
    assert_eq!(made.spec, asked.spec, "what is stored is what the type says");
    assert_eq!(made.status, None, "who makes a policy has no say in its status");

    let mut told = made.clone();
    told.status = Some(status());
    told.spec.policy.replicas.max = 3;
    let told = policies
        .replace_status("chat", &PostParams::default(), &told)
        .await
        .expect("a status as it should be");
    assert_eq!(told.status, Some(status()));
    assert_eq!(told.spec, made.spec, "who tells the status has no say in the policy");
    assert_eq!(told.metadata.generation, Some(1));

    let path = "/apis/tidegate.io/v1alpha1/namespaces/default/servingpolicies";
    let row = printed(&client, path).await;
    for (name, value) in [
        ("Kind", json!("Deployment")),
        ("Target", json!("chat")),
        ("Mode", json!("shadow")),
        ("Wanted", json!(5)),
        ("Ready", json!(4)),
        ("SLO", json!(0.997)),
        ("Bottleneck", json!("queue")),
        ("Reason", json!("Starting")),
        ("Via", json!("scale")),
        ("Max", json!(20)),
    ] {
        assert_eq!(cell(&row, name), &value, "{name} of {row:?}");
    }
    assert!(cell(&row, "Age").is_string(), "{row:?}");
    the_target_stays(&policies).await;
    conditions_of_others_stay(&policies).await;
    other_kinds_are_stored_and_printed(&client).await;
}

async fn the_target_stays(policies: &Api<ServingPolicy>) {
    let merge = |spec: Value| Patch::Merge(json!({ "spec": spec }));
    let how = PatchParams::default();
    let grown = policies
        .patch("chat", &how, &merge(json!({ "replicas": { "max": 30 } })))
        .await
        .expect("it may grow");
    assert_eq!(grown.metadata.generation, Some(2));
    match policies.patch("chat", &how, &merge(json!({ "target": { "name": "other" } }))).await {
        Err(kube::Error::Api(status)) => {
            assert!(status.message.contains("target cannot be changed"), "{status:?}")
        }
        other => panic!("{other:?}"),
    }
}

/// Conditions are keyed by their type: two managers may each have their own.
async fn conditions_of_others_stay(policies: &Api<ServingPolicy>) {
    for manager in ["one", "two"] {
        let condition = json!({
            "type": format!("example.com/{manager}"), "status": "True", "reason": "Said", "message": "",
            "lastTransitionTime": "2026-01-31T08:00:00Z",
        });
        let object = json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "chat" },
            "status": { "conditions": [condition] },
        });
        policies
            .patch_status("chat", &PatchParams::apply(manager), &Patch::Apply(object))
            .await
            .expect("its own condition");
    }
    let status = policies.get("chat").await.expect("it is there").status.expect("it has a status");
    assert_eq!(status.conditions.len(), 4, "{:?}", status.conditions);
}

async fn other_kinds_are_stored_and_printed(client: &Client) {
    let training = object(json!({
        "metadata": { "name": "tune" },
        "spec": {
            "target": { "kind": "RayCluster", "name": "tune", "group": "gpu" },
            "workers": { "min": 0, "max": 8 },
            "checkpoint": { "signal": "SIGUSR1" },
        },
    }));
    let jobs = Api::<TrainingPolicy>::default_namespaced(client.clone());
    let made = jobs.create(&PostParams::default(), &training).await.expect("it keeps every rule");
    assert_eq!(made.spec, training.spec);
    let row = printed(client, "/apis/tidegate.io/v1alpha1/namespaces/default/trainingpolicies").await;
    assert_eq!((cell(&row, "Target"), cell(&row, "Mode")), (&json!("tune"), &json!("shadow")));

    let pool: GpuPool = object(json!({ "metadata": { "name": "a100" }, "spec": { "maxSlots": 16 } }));
    let pools = Api::<GpuPool>::all(client.clone());
    let made = pools.create(&PostParams::default(), &pool).await.expect("it keeps every rule");
    assert_eq!(made.spec, pool.spec);
    let told = Patch::Merge(
        json!({ "status": { "slots": { "present": 8, "serving": 3, "training": 4, "free": 1 } } }),
    );
    pools.patch_status("a100", &PatchParams::default(), &told).await.expect("a status as it should be");
    let row = printed(client, "/apis/tidegate.io/v1alpha1/gpupools").await;
    assert_eq!(
        (cell(&row, "Present"), cell(&row, "Max"), cell(&row, "Free")),
        (&json!(8), &json!(16), &json!(1))
    );
}

/// Takes from a definition what a former version did not have yet.
fn older(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let schema =
        definition.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
    let spec = schema.and_then(|schema| schema.properties.as_mut()).and_then(|fields| fields.get_mut("spec"));
    let spec = spec.expect("it has a spec");
    spec.properties.as_mut().expect("it has fields").remove("pool");
    spec.x_kubernetes_validations
        .as_mut()
        .expect("it has rules")
        .retain(|rule| !rule.rule.contains("fallback"));
    definition
}

#[tokio::test]
async fn a_definition_of_an_older_version_is_noticed() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    let asked = async || lacking(&client).await.expect("an administrator may read definitions");
    assert_eq!(asked().await.len(), definitions().len(), "none is there yet");
    install(&client).await;
    assert_eq!(asked().await, []);

    let wanted = ServingPolicy::crd_name();
    let installed = Api::<CustomResourceDefinition>::all(client.clone());
    let former = older(installed.get(wanted).await.expect("it is installed"));
    installed
        .replace(wanted, &PostParams::default(), &former)
        .await
        .expect("an older definition is right too");
    let found = asked().await;
    let [(name, lacks)] = found.as_slice() else { panic!("one lacks something: {found:?}") };
    assert_eq!(name, wanted);
    assert_eq!(lacks.to_string(), "fields spec.pool; rules: fallback must be within replicas");
}
