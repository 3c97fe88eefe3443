//! Replicas that never come: pods that a quota refuses, and pods that never get ready. The policy says so.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_tests::servers::Agent;
use tidegate_tests::servers::kubernetes::READY_AFTER;

use crate::controller::{CHAT, Scene, load};
use crate::objects::object;

#[tokio::test]
async fn pods_that_a_quota_refuses_are_told() {
    let scene = Scene::set().await;
    let quotas = Api::<ResourceQuota>::default_namespaced(scene.client.clone());
    let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "2" } } });
    quotas.create(&PostParams::default(), &object(quota)).await.expect("it is right");
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({ "scaling": { "leadTime": "2s" } })).await;
    scene.sized("a size beyond the quota", |size| size >= 5).await;
    let said = scene.condition("Ready", "False", "NotStarting").await;
    assert!(said.starts_with("2 of ") && said.contains("quota"), "{said}");
}

#[tokio::test]
async fn a_pod_that_never_gets_ready_is_told() {
    let scene = Scene::set().await;
    let deployments = Api::<Deployment>::default_namespaced(scene.client.clone());
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(2.0));
    scene.policy("active", json!({ "scaling": { "leadTime": "2s" } })).await;
    scene.condition("Active", "True", "Acting").await;
    // A rollout whose pods hang: the old one serves on.
    let hangs = json!({ "spec": { "template": { "metadata": { "annotations": { READY_AFTER: "1h" } } } } });
    deployments.patch("chat", &PatchParams::default(), &Patch::Merge(hangs)).await.expect("it is there");
    let said = scene.condition("Ready", "False", "NotStarting").await;
    assert!(said.contains("has been starting"), "{said}");
    assert_eq!(scene.size().await, 1, "more of them would hang, too");
}
