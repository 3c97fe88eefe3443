//! Five hundred policies that come at once: each is decided on, put into effect and told of within a bound, and nothing breaks.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::crds::ServingPolicy;
use tidegate_core::Metric;
use tidegate_tests::servers::Controller;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};
use tidegate_tests::waiting;
use tokio::time::Instant;

use crate::controller::{install, metric};
use crate::objects::object;

const POLICIES: usize = 500;
/// Requests at once.
const AT_ONCE: usize = 32;
/// A round lasts a second and up to 32 writes are under way at once: a few seconds, on a machine that is busy with other tests.
const SIZED_WITHIN: Duration = Duration::from_secs(60);
/// Statuses are told at five a second after the first fifty, so that the API server is not flooded.
const TOLD_WITHIN: Duration = Duration::from_secs(240);
/// Resident memory of a controller with so few workloads.
const BYTES_MAX: u64 = 300 << 20;

fn name(i: usize) -> String {
    format!("chat-{i:03}")
}

/// Whether each workload stands in an answer of the API.
fn shown(answer: &Value) -> Vec<bool> {
    let text = answer.to_string();
    (0..POLICIES).map(|i| text.contains(&format!("default/deployment/{}\"", name(i)))).collect()
}

/// Paused before its first rollout, a Deployment has a size and makes no pods: this is about the controller.
fn deployment(i: usize) -> Deployment {
    object(json!({
        "metadata": { "name": name(i) },
        "spec": {
            "paused": true, "replicas": 1,
            "selector": { "matchLabels": { "app": name(i) } },
            "template": {
                "metadata": { "labels": { "app": name(i) } },
                "spec": { "containers": [{ "name": "server", "image": "server" }] },
            },
        },
    }))
}

fn policy(i: usize) -> ServingPolicy {
    object(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": name(i) },
        "spec": {
            "target": { "kind": "Deployment", "name": name(i) }, "mode": "active",
            "replicas": { "min": 2, "max": 5 }, "slo": { "latency": "1s", "target": 0.99 },
        },
    }))
}

/// Creates one of each number at once.
async fn create<K>(client: &Client, make: fn(usize) -> K)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize,
{
    let api = Api::<K>::default_namespaced(client.clone());
    let api = &api;
    let creating = futures::stream::iter(0..POLICIES).map(|i| async move {
        api.create(&PostParams::default(), &make(i)).await.expect("it is right");
    });
    creating.buffered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn five_hundred_policies_at_once_are_all_put_into_effect_and_told() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    install(&client).await;
    create(&client, deployment).await;
    let controller = Controller::start(&control_plane.kubeconfig(), "one", &[]).await;
    let began = Instant::now();
    create(&client, policy).await;
    let created = began.elapsed();
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    waiting::until("all sizes", SIZED_WITHIN, async || {
        let all = deployments.list(&ListParams::default()).await.ok()?;
        let sized = |one: &Deployment| one.spec.as_ref().and_then(|spec| spec.replicas) == Some(2);
        all.items.iter().all(sized).then_some(())
    })
    .await;
    let sized = began.elapsed();
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    waiting::until("all statuses", TOLD_WITHIN, async || {
        let all = policies.list(&ListParams::default()).await.ok()?;
        let told = |one: &ServingPolicy| {
            let status = one.status.as_ref();
            let active = status
                .is_some_and(|s| s.conditions.iter().any(|c| c.type_ == "Active" && c.status == "True"));
            active && status.is_some_and(|s| s.last_decision.is_some())
        };
        all.items.iter().all(told).then_some(())
    })
    .await;
    let told = began.elapsed();
    let bytes = controller.resident_bytes();
    let round = metric(&controller, Metric::DecisionSeconds, "").await.expect("it has gone round");
    eprintln!(
        "{POLICIES} policies: created in {created:.1?}, sized in {sized:.1?}, told in {told:.1?}; {} MiB resident, {:.0} ms a round",
        bytes >> 20,
        round * 1e3
    );
    assert!(bytes < BYTES_MAX, "{bytes} bytes are resident");
    let known = controller.get("/api/v1/workloads").await.expect("it answers");
    assert!(shown(&known).iter().all(|known| *known), "each is shown");
    assert!(!controller.errors().contains("panicked"), "{}", controller.errors());
}
