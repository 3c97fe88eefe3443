//! The size that a target had before: written down before another is set, and there for whoever comes later.

use std::pin::pin;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;
use tidegate_actuator::crds::ServingPolicy;
use tidegate_tests::servers::Agent;
use tidegate_tests::waiting;

use crate::controller::{CHAT, SOON, Scene, load};

/// Place in the cluster's history at which the object `chat` was so first, after a version of it. All kinds share one count.
async fn first_so<K>(api: &Api<K>, after: &K, so: impl Fn(&K) -> bool) -> u64
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters = WatchParams::default().fields("metadata.name=chat");
    let version = after.resource_version().expect("it is stored");
    let mut events = pin!(api.watch(&parameters, &version).await.expect("it may be watched"));
    while let Some(event) = events.try_next().await.expect("the history is there") {
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
            && so(&object)
        {
            return object.resource_version().and_then(|version| version.parse().ok()).expect("a number");
        }
    }
    panic!("it never was so");
}

async fn active_since(scene: &Scene) -> String {
    let status = scene.policies().get("chat").await.expect("it is there").status.expect("it was told of");
    let active = status.conditions.into_iter().find(|condition| condition.type_ == "Active");
    active.expect("it is always told").last_transition_time.0.to_string()
}

#[tokio::test]
async fn the_size_before_is_stored_before_another_is_set_and_outlives_the_leader() {
    let scene = Scene::set().await;
    let mut first = scene.controller("first").await;
    scene.led_by("first").await;
    let agent = Agent::start(first.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    let deployments = Api::<Deployment>::default_namespaced(scene.client.clone());
    let untouched = deployments.get("chat").await.unwrap();
    scene.policy("active", json!({})).await;
    let created = scene.policies().get("chat").await.unwrap();
    scene.sized("a first size", |size| size > 1).await;
    first.kill();
    let sized = first_so(&deployments, &untouched, |deployment: &Deployment| {
        deployment.spec.as_ref().and_then(|spec| spec.replicas).is_some_and(|size| size > 1)
    })
    .await;
    let told = |policy: &ServingPolicy| policy.status.as_ref().and_then(|status| status.size_before);
    let stored = match told(&created) {
        Some(_) => created.resource_version().and_then(|version| version.parse().ok()).expect("a number"),
        None => first_so(&scene.policies(), &created, |policy| told(policy) == Some(1)).await,
    };
    assert!(stored < sized, "{stored} is the record, {sized} the size");

    let since = active_since(&scene).await;
    let second = scene.controller("second").await;
    scene.led_by("second").await;
    let agent = Agent::start(second.digests(), "node-a");
    agent.tell(CHAT, &load(85.0));
    scene.sized("a size by the second", |size| size >= 8).await;
    let told = waiting::until("a status by the second", SOON, async || {
        let status = scene.policies().get("chat").await.ok()?.status?;
        status.replicas.is_some_and(|replicas| replicas.wanted >= 8).then_some(status)
    })
    .await;
    assert_eq!(told.size_before, Some(1));
    assert_eq!(active_since(&scene).await, since, "it has been active all the time");
    scene.says(&["release", "chat"]);
    assert_eq!(scene.size().await, 1);
}
