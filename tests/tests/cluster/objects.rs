//! Objects that tests create, and what is looked up of them again and again.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_tests::waiting;

/// What the controllers of a cluster do within a second or two, on a busy two-core machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A typed object from its manifest.
pub(crate) fn object<K: DeserializeOwned>(manifest: Value) -> K {
    serde_json::from_value(manifest).expect("the manifest has the right types")
}

/// A deployment in `default` of pods labelled `app: NAME` that ask for `resources`, with annotations of the pods.
pub(crate) async fn deploy(client: &Client, name: &str, replicas: u32, resources: Value, annotations: Value) {
    let deployment = object::<Deployment>(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name }, "annotations": annotations },
                "spec": { "containers": [{
                    "name": "server",
                    "image": "server",
                    "resources": { "limits": resources },
                }] },
            },
        },
    }));
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &deployment).await.expect("the deployment is right");
}

/// Waits until so many pods of a deployment are ready.
pub(crate) async fn wait_for_ready(client: &Client, name: &str, wanted: i32) {
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    waiting::until(&format!("{wanted} ready pods of {name}"), SOON, async || {
        let status = deployments.get(name).await.ok()?.status?;
        (status.ready_replicas.unwrap_or(0) == wanted).then_some(())
    })
    .await;
}

/// The pods of a deployment.
pub(crate) async fn pods(client: &Client, name: &str) -> Vec<Pod> {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let of_it = ListParams::default().labels(&format!("app={name}"));
    pods.list(&of_it).await.expect("pods can be listed").items
}
