//! Pods on simulated nodes: they are scheduled, become ready after a while, and end, as tests of resizing need it.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options, READY_AFTER, RUNS_FOR};
use tidegate_tests::waiting;

use crate::objects::{SOON, deploy, object, pods, wait_for_ready};

const GPU: &str = "nvidia.com/gpu";
const PRODUCT: &str = "NVIDIA-H100-80GB-HBM3";

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

#[tokio::test]
async fn pods_are_ready_where_gpus_are_left_and_the_rest_when_a_node_comes() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let first = FakeNode::with_gpus("gpu-a", 8, PRODUCT);
    let mut kwok = Kwok::start(&control_plane, &[first], Duration::ZERO).await;
    let client = control_plane.client();
    deploy(&client, "chat", 3, json!({ GPU: 4 }), json!({})).await;
    wait_for_ready(&client, "chat", 2).await;
    let running = pods(&client, "chat").await.iter().filter(|pod| is_running(pod)).count();
    assert_eq!(running, 2, "the third finds no node");

    kwok.add(&[FakeNode::with_gpus("gpu-b", 8, PRODUCT)]).await;
    wait_for_ready(&client, "chat", 3).await;
}

#[tokio::test]
async fn a_pod_runs_before_it_is_ready_for_as_long_as_it_is_told() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let node = FakeNode::with_cpus("node-a", 16);
    let _kwok = Kwok::start(&control_plane, &[node], Duration::from_secs(1)).await;
    let client = control_plane.client();
    deploy(&client, "quick", 1, json!({ "cpu": "1" }), json!({})).await;
    deploy(&client, "slow", 1, json!({ "cpu": "1" }), json!({ READY_AFTER: "1h" })).await;
    wait_for_ready(&client, "quick", 1).await;
    waiting::until("a pod that loads its model", SOON, async || {
        pods(&client, "slow").await.iter().any(is_running).then_some(())
    })
    .await;
    wait_for_ready(&client, "slow", 0).await;
}

#[tokio::test]
async fn a_job_is_done_when_its_pods_have_run() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let _kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 16)], Duration::ZERO).await;
    let jobs = Api::<Job>::default_namespaced(control_plane.client());
    let job = object(json!({
        "metadata": { "name": "train" },
        "spec": {
            "parallelism": 2,
            "completions": 2,
            "template": {
                "metadata": { "annotations": { RUNS_FOR: "1s" } },
                "spec": { "restartPolicy": "Never", "containers": [{ "name": "step", "image": "step" }] },
            },
        },
    }));
    jobs.create(&PostParams::default(), &job).await.expect("the job is right");
    waiting::until("the end of the job", SOON, async || {
        (jobs.get("train").await.ok()?.status?.succeeded == Some(2)).then_some(())
    })
    .await;
}
