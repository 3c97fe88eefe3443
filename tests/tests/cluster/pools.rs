//! A pool of GPUs that its nodes have: replicas of several GPUs share it, its status says who holds it, and it grows as far as its node
//! autoscaler may let it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_actuator::crds::{GpuPool, GpuPoolStatus, ServingPolicy};
use tidegate_core::Timestamp;
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options};
use tidegate_tests::servers::{Agent, Controller};
use tidegate_tests::waiting;

use crate::controller::{CHAT, SOON, install, load, policy};
use crate::objects::{deploy, object, wait_for_ready};

const H100: &str = "NVIDIA-H100-80GB-HBM3";

async fn sized(client: &Client, wanted: i32) {
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let found = waiting::within(SOON, async || {
        let size = deployments.get("chat").await.ok()?.spec?.replicas?;
        (size == wanted).then_some(())
    });
    if found.await.is_none() {
        let policy = Api::<ServingPolicy>::default_namespaced(client.clone()).get("chat").await;
        panic!("waited in vain for {wanted} replicas: {:#?}", policy.map(|policy| policy.status));
    }
}

/// Waits for a status that gives so many of the present GPUs to serving.
async fn told(pools: &Api<GpuPool>, present: u32, serving: u32) -> GpuPoolStatus {
    waiting::until(&format!("{serving} of {present} GPUs given to serving"), SOON, async || {
        let status = pools.get("h100").await.ok()?.status?;
        let slots = status.slots?;
        (slots.present == present && slots.serving == serving).then_some(status)
    })
    .await
}

#[tokio::test]
async fn replicas_of_several_gpus_share_what_the_nodes_have_and_may_get() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let nodes = [FakeNode::with_gpus("gpu-a", 8, H100), FakeNode::with_gpus("other", 8, "NVIDIA-A100")];
    let mut kwok = Kwok::start(&control_plane, &nodes, Duration::ZERO).await;
    let client = control_plane.client();
    install(&client).await;
    let pools = Api::<GpuPool>::all(client.clone());
    let pool = object::<GpuPool>(json!({
        "metadata": { "name": "h100" },
        "spec": { "nodeSelector": { "nvidia.com/gpu.product": H100 } },
    }));
    pools.create(&PostParams::default(), &pool).await.expect("the pool is right");
    deploy(&client, "chat", 1, json!({ "nvidia.com/gpu": "4" }), json!({})).await;
    let on_h100 =
        json!({ "spec": { "template": { "spec": { "nodeSelector": { "nvidia.com/gpu.product": H100 } } } } });
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments.patch("chat", &PatchParams::default(), &Patch::Merge(on_h100)).await.expect("it is there");
    wait_for_ready(&client, "chat", 1).await;
    let controller = Controller::start(&control_plane.kubeconfig(), "one", &[]).await;
    let status = told(&pools, 8, 0).await;
    assert_eq!(
        (status.nodes, status.slots.map(|slots| slots.free)),
        (Some(1), Some(8)),
        "nobody shares it yet"
    );

    let agent = Agent::start(controller.digests(), "gpu-a");
    agent.tell(CHAT, &load(75.0));
    policy(&client, "active", json!({ "pool": "h100" })).await;
    // Eight replicas are wanted, and each takes four GPUs, by its pod template.
    sized(&client, 2).await;
    let status = told(&pools, 8, 8).await;
    assert_eq!(status.slots.map(|slots| (slots.training, slots.free)), Some((0, 0)));
    assert_eq!(
        status.shares.iter().map(|share| (share.workload.as_str(), share.slots)).collect::<Vec<_>>(),
        [(CHAT, 8)]
    );
    waiting::until("a pool that says that it is too small", SOON, async || {
        let conditions = pools.get("h100").await.ok()?.status?.conditions;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
        (ready.status == "False" && ready.reason == "PoolShort").then_some(())
    })
    .await;

    // Where nodes may be added, replicas that wait for one are what their autoscaler goes by.
    let grown = Patch::Merge(json!({ "spec": { "maxSlots": 12 } }));
    pools.patch("h100", &PatchParams::default(), &grown).await.expect("it is there");
    sized(&client, 3).await;
    told(&pools, 8, 12).await;

    // How long it waited for a node that was made for it is what the pool takes to grow.
    let pods = Api::<Pod>::default_namespaced(client.clone());
    waiting::until("a replica that waits for a node", SOON, async || {
        let all = pods.list(&ListParams::default()).await.ok()?.items;
        let waits = all.iter().find(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()))?;
        let made = Timestamp::from_secs(waits.metadata.creation_timestamp.as_ref()?.0.as_second());
        // The API server's times are whole seconds: the node's is to be a later one.
        (waiting::now().since(made) >= Duration::from_secs(2)).then_some(())
    })
    .await;
    assert_eq!(pools.get("h100").await.expect("it is there").status.and_then(|s| s.lead_time_seconds), None);
    kwok.add(&[FakeNode::with_gpus("gpu-b", 4, H100)]).await;
    wait_for_ready(&client, "chat", 3).await;
    let waited = waiting::until("the wait for the node", SOON, async || {
        pools.get("h100").await.ok()?.status?.lead_time_seconds
    })
    .await;
    assert!((2.0..120.0).contains(&waited), "{waited} s");
    let status = told(&pools, 12, 12).await;
    assert_eq!(status.nodes, Some(2));
}
