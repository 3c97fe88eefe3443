//! What a replica carries is learned of what it runs and on what: through a rollout, and back.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options};
use tidegate_tests::servers::{Agent, Controller};
use tidegate_tests::waiting;

use crate::controller::{CHAT, install, load, policy};
use crate::objects::{SOON, deploy, wait_for_ready};

const H100: &str = "NVIDIA-H100-80GB-HBM3";

/// The version of the one pod that there is, once all others are gone.
async fn version(client: &Client) -> String {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    waiting::until("one pod", SOON, async || {
        let [pod]: [Pod; 1] = pods.list(&ListParams::default()).await.ok()?.items.try_into().ok()?;
        pod.metadata.labels?.remove("pod-template-hash")
    })
    .await
}

/// Waits until the controller learns of this version, on these GPUs.
async fn learns_of(controller: &Controller, version: &str) {
    let wanted = format!("{version}@{H100}");
    waiting::until(&format!("capacity of {wanted}"), SOON, async || {
        let chat = controller.get(&format!("/api/v1/workloads/{CHAT}")).await?;
        (chat["capacity"]["variant"] == wanted.as_str()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn capacity_is_of_the_version_and_the_gpus_that_replicas_run_on() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let _kwok = Kwok::start(&control_plane, &[FakeNode::with_gpus("gpu-a", 8, H100)], Duration::ZERO).await;
    let client = control_plane.client();
    install(&client).await;
    deploy(&client, "chat", 1, json!({ "nvidia.com/gpu": "1" }), json!({ "model": "one" })).await;
    wait_for_ready(&client, "chat", 1).await;
    let controller = Controller::start(&control_plane.kubeconfig(), "one", &[]).await;
    let agent = Agent::start(controller.digests(), "gpu-a");
    agent.tell(CHAT, &load(2.0));
    policy(&client, "shadow", json!({})).await;
    let first = version(&client).await;
    learns_of(&controller, &first).await;

    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let runs = async |model: &str| {
        let annotations = json!({ "metadata": { "annotations": { "model": model } } });
        let change = Patch::Merge(json!({ "spec": { "template": annotations } }));
        deployments.patch("chat", &PatchParams::default(), &change).await.expect("it is there");
    };
    runs("two").await;
    let second = waiting::until("the pod of the new version", SOON, async || {
        Some(version(&client).await).filter(|version| *version != first)
    })
    .await;
    learns_of(&controller, &second).await;

    runs("one").await;
    learns_of(&controller, &first).await;
}
