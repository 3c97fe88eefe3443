//! The control plane itself: that it is the real one, knows who asks, and that its API server can go and come back.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};

use crate::objects::object;

#[tokio::test]
async fn it_answers_with_its_version_and_knows_who_asks() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let version = control_plane.client().apiserver_version().await.expect("it says its version");
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"), "{version:?}");

    let token = control_plane.service_account_token("default", "default").await;
    let as_account = control_plane.client_with_token(&token);
    let review = Api::<SelfSubjectReview>::all(as_account.clone());
    let who = review.create(&PostParams::default(), &object(json!({}))).await.expect("anybody may ask");
    let name = who.status.and_then(|status| status.user_info).and_then(|user| user.username);
    assert_eq!(name.as_deref(), Some("system:serviceaccount:default:default"));
    let refused = Api::<Pod>::default_namespaced(as_account).list(&ListParams::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
}

#[tokio::test]
async fn its_data_outlive_the_api_server() {
    let mut control_plane = ControlPlane::start(&Options::default()).await;
    // The same client before, while and after: its connections break and are made anew.
    let maps = Api::<ConfigMap>::default_namespaced(control_plane.client());
    let written = object(json!({ "metadata": { "name": "kept" }, "data": { "key": "value" } }));
    maps.create(&PostParams::default(), &written).await.expect("it is right");

    control_plane.stop_apiserver();
    assert!(maps.get("kept").await.is_err(), "nobody answers while it is stopped");
    control_plane.start_apiserver().await;
    let kept = maps.get("kept").await.expect("it is still there");
    assert_eq!(kept.data, written.data);
}

#[tokio::test]
async fn its_kubeconfig_lets_an_administrator_in() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let kubeconfig =
        kube::config::Kubeconfig::read_from(control_plane.kubeconfig()).expect("it is a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
    let client = kube::Client::try_from(config.expect("it is whole")).expect("it is right");
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(client).list(&ListParams::default()).await;
    assert!(nodes.expect("an administrator may").items.is_empty(), "a control plane has no nodes of its own");
}
