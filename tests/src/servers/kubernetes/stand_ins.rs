//! Workloads by the thousand, without anybody who would run them: objects of a kind with `scale` that nobody else controls, pods that are
//! ready and on no node, nodes that are names, and an active policy each. For benchmarks of what Tidegate itself takes.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_actuator::crds::{ServingPolicy, definitions};

use crate::waiting;

/// Pods of a workload, and its size to begin with.
pub const PODS: usize = 2;
/// Requests to the API server at once.
const AT_ONCE: usize = 64;
/// What a definition may take to be served, while thousands of objects are made.
const SERVED_MAX: Duration = Duration::from_secs(600);
const GROUP: &str = "bench.tidegate.io";

/// Makes so many, and nodes `node-0` and on.
///
/// # Panics
/// When the API server does not take them.
pub async fn make(client: &Client, workloads: usize, nodes: usize) {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for definition in definitions().into_iter().chain([servers_definition()]) {
        let name = definition.name_any();
        let params = PatchParams::apply("bench").force();
        crds.patch(&name, &params, &Patch::Apply(&definition)).await.expect("the definition is right");
        waiting::until(&format!("{name} to be served"), SERVED_MAX, async || {
            let conditions = crds.get(&name).await.ok()?.status?.conditions?;
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
    }
    let api = Api::<Node>::all(client.clone());
    for n in 0..nodes {
        let node = object(json!({ "metadata": { "name": format!("node-{n}") } }));
        api.create(&PostParams::default(), &node).await.expect("the node is right");
    }
    futures::stream::iter(0..workloads)
        .for_each_concurrent(AT_ONCE, |workload| async move { one(client, workload).await })
        .await;
}

/// The id by which Tidegate knows one.
#[must_use]
pub fn id(workload: usize) -> String {
    format!("default/server/{}", name(workload))
}

/// Name of one, and of its policy.
#[must_use]
pub fn name(workload: usize) -> String {
    format!("server-{workload:05}")
}

/// All of them, as the API server has them.
#[must_use]
pub fn servers(client: &Client) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(GROUP, "v1", "Server");
    Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk_with_plural(&gvk, "servers"))
}

fn object<K: DeserializeOwned>(manifest: Value) -> K {
    serde_json::from_value(manifest).expect("the manifest has the right types")
}

fn servers_definition() -> CustomResourceDefinition {
    object(json!({
        "metadata": { "name": format!("servers.{GROUP}") },
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": { "kind": "Server", "plural": "servers", "singular": "server" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": { "scale": { "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" } },
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    }))
}

async fn one(client: &Client, workload: usize) {
    let (name, params) = (name(workload), PostParams::default());
    let server = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "Server", "metadata": { "name": name },
        "spec": { "replicas": PODS, "selector": { "matchLabels": { "app": name } } },
    });
    servers(client).create(&params, &object(server)).await.expect("the object is right");
    let pods = Api::<Pod>::default_namespaced(client.clone());
    for n in 0..PODS {
        // Gated: no scheduler looks at it.
        let pod = json!({
            "metadata": { "name": format!("{name}-{n}"), "labels": { "app": name } },
            "spec": { "schedulingGates": [{ "name": "bench.tidegate.io/none" }], "containers": [{ "name": "c", "image": "c" }] },
        });
        pods.create(&params, &object(pod)).await.expect("the pod is right");
        let ready = json!({ "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" },
        ] } });
        let patch = Patch::Strategic(ready);
        let patched = pods.patch_status(&format!("{name}-{n}"), &PatchParams::default(), &patch).await;
        patched.expect("the status is right");
    }
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    let policy = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": name },
        "spec": {
            "target": { "apiVersion": format!("{GROUP}/v1"), "kind": "Server", "name": name },
            "mode": "active", "replicas": { "min": PODS, "max": 8 },
            "slo": { "latency": "2s", "target": 0.99 },
            "capacity": { "requestsPerSecond": 10.0, "concurrency": 4 },
        },
    });
    policies.create(&params, &object(policy)).await.expect("the policy is right");
}
