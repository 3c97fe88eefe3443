//! Kubernetes' own autoscaler really runs: what Tidegate sets is put into effect by it.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options};

use crate::objects::{deploy, object, wait_for_ready};

#[tokio::test]
async fn a_raised_floor_is_followed() {
    let options = Options { hpa_sync: Duration::from_secs(1), ..Options::default() };
    let control_plane = ControlPlane::start(&options).await;
    let _kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 16)], Duration::ZERO).await;
    let client = control_plane.client();
    deploy(&client, "chat", 1, json!({ "cpu": "1" }), json!({})).await;
    wait_for_ready(&client, "chat", 1).await;

    let autoscalers = Api::<HorizontalPodAutoscaler>::default_namespaced(client.clone());
    let autoscaler = object(json!({
        "metadata": { "name": "chat" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat" },
            "minReplicas": 1,
            "maxReplicas": 10,
        },
    }));
    autoscalers.create(&PostParams::default(), &autoscaler).await.expect("it is right");
    let raised = Patch::Merge(json!({ "spec": { "minReplicas": 4 } }));
    autoscalers.patch("chat", &PatchParams::default(), &raised).await.expect("it is there");
    wait_for_ready(&client, "chat", 4).await;
}
