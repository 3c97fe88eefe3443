//! Who may see what through the controller's API, with tokens that the API server has made and reviews.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::crds::ServingPolicy;
use tidegate_tests::servers::Controller;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};
use tidegate_tests::waiting;

use crate::controller::install;
use crate::objects::{SOON, object};

/// A deployment `chat` with a policy in a namespace of its own, and an account there that may do this with policies.
async fn team(client: &Client, namespace: &str, verbs: &[&str]) {
    let made = PostParams::default();
    let space = object::<Namespace>(json!({ "metadata": { "name": namespace } }));
    Api::all(client.clone()).create(&made, &space).await.expect("it is new");
    let labels = json!({ "app": "chat" });
    let deployment = object::<Deployment>(json!({
        "metadata": { "name": "chat" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "server", "image": "server" }] },
            },
        },
    }));
    Api::namespaced(client.clone(), namespace).create(&made, &deployment).await.expect("it is new");
    let policy = object::<ServingPolicy>(json!({
        "metadata": { "name": "chat" },
        "spec": {
            "target": { "kind": "Deployment", "name": "chat" }, "replicas": { "min": 1, "max": 5 },
            "slo": { "latency": "1s", "target": 0.99 },
        },
    }));
    Api::namespaced(client.clone(), namespace).create(&made, &policy).await.expect("it is right");
    let account = object::<ServiceAccount>(json!({ "metadata": { "name": "team" } }));
    Api::namespaced(client.clone(), namespace).create(&made, &account).await.expect("it is new");
    let rule = json!({ "apiGroups": ["tidegate.io"], "resources": ["servingpolicies"], "verbs": verbs });
    let role = object::<Role>(json!({ "metadata": { "name": "team" }, "rules": [rule] }));
    Api::namespaced(client.clone(), namespace).create(&made, &role).await.expect("it is new");
    let binding = object::<RoleBinding>(json!({
        "metadata": { "name": "team" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "team" },
        "subjects": [{ "kind": "ServiceAccount", "name": "team", "namespace": namespace }],
    }));
    Api::namespaced(client.clone(), namespace).create(&made, &binding).await.expect("it is new");
}

fn ids(answer: &Value) -> Vec<&str> {
    let all = answer["workloads"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|one| one["id"].as_str().or(one["workload"].as_str())).collect()
}

#[tokio::test]
async fn a_team_sees_its_own_workloads_and_loses_sight_of_them_with_the_right() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    install(&client).await;
    let (speech, vision) = ("speech/deployment/chat", "vision/deployment/chat");
    team(&client, "speech", &["get"]).await;
    team(&client, "vision", &["list"]).await;
    let controller = Controller::start(&control_plane.kubeconfig(), "one", &[]).await;
    let own = control_plane.service_account_token("speech", "team").await;
    let none = control_plane.service_account_token("vision", "team").await;
    waiting::until("both workloads", SOON, async || {
        let all = controller.get("/api/v1/workloads").await?;
        (ids(&all) == [speech, vision]).then_some(())
    })
    .await;

    for list in ["/api/v1/workloads", "/api/v1/summary"] {
        let (status, some) = controller.ask(list, &own).await;
        assert_eq!((status, ids(&some)), (200, vec![speech]), "{list}");
        assert_eq!(controller.ask(list, &none).await.0, 403, "{list}: it may list policies, not get them");
        assert_eq!(controller.ask(list, "eyJhbGciOiJub25lIn0.e30.").await.0, 401, "{list}: nobody's token");
    }
    let decisions = |id: &str| format!("/api/v1/workloads/{id}/decisions");
    assert_eq!(controller.ask(&decisions(speech), &own).await.0, 200);
    assert_eq!(controller.ask(&decisions(vision), &own).await.0, 403);
    assert_eq!(controller.ask("/metrics", &own).await.0, 200, "open on loopback");
    assert_eq!(controller.ask("/api/v1/node/series?signal=load1", &own).await.0, 403, "of no namespace");

    // Events of both come every second; those of the other are not told.
    let mut stream = controller.events(&own).await.bytes_stream();
    let heard = tokio::time::timeout(SOON, async {
        let mut heard = String::new();
        while heard.matches("event: workload").count() < 3 {
            let chunk = stream.next().await.expect("it goes on").expect("it is whole");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
        heard
    });
    let heard = heard.await.expect("events in time");
    assert!(heard.contains(speech) && !heard.contains(vision), "{heard}");

    let bindings = Api::<RoleBinding>::namespaced(client.clone(), "speech");
    bindings.delete("team", &DeleteParams::default()).await.expect("it is there");
    let gone = waiting::within(Duration::from_secs(30), async || {
        (controller.ask("/api/v1/workloads", &own).await.0 == 403).then_some(())
    });
    assert!(gone.await.is_some(), "a right that is taken away ends within the time that an answer holds");
}
