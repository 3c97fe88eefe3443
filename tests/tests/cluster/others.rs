//! Sizes that others set or own: each is told, and not fought for.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tidegate_tests::servers::Agent;

use crate::controller::{CHAT, Scene, load};

/// Patches `chat` as a program of this name does.
async fn write(scene: &Scene, manager: &str, change: Value) {
    let deployments = Api::<Deployment>::default_namespaced(scene.client.clone());
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    deployments.patch("chat", &params, &Patch::Merge(change)).await.expect("it is there");
}

#[tokio::test]
async fn a_size_that_a_gitops_tool_owns_and_a_workload_of_kueue_are_left_to_them() {
    let scene = Scene::set().await;
    write(&scene, "argocd-controller", json!({ "spec": { "replicas": 2 } })).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    let said = scene.condition("Conflict", "True", "OtherManager").await;
    assert!(said.contains("argocd-controller"), "{said}");
    assert_eq!(scene.size().await, 2, "nothing is written");

    write(&scene, "tests", json!({ "metadata": { "labels": { "kueue.x-k8s.io/queue-name": "gpus" } } }))
        .await;
    write(&scene, "tests", json!({ "spec": { "replicas": 3 } })).await;
    scene.condition("Conflict", "True", "Queue").await;
    assert_eq!(scene.size().await, 3, "nothing is written");
}

#[tokio::test]
async fn a_size_that_somebody_else_writes_is_respected() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    scene.sized("a size for 45 requests a second", |size| size >= 5).await;
    scene.condition("Ready", "True", "AsPlanned").await;
    write(&scene, "somebody", json!({ "spec": { "replicas": 9 } })).await;
    scene.condition("Active", "False", "ForeignWrite").await;
    assert_eq!(scene.size().await, 9, "it is not written over");
}
