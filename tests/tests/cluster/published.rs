//! Sizes that are published: the real API server aggregates our External Metrics API, and the real HorizontalPodAutoscaler follows it.

use std::time::Duration;

use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidegate_core::metrics::external;
use tidegate_tests::servers::{Agent, Controller, free_port};
use tidegate_tests::waiting;

use crate::chart::{self, NAMESPACE};
use crate::controller::{CHAT, SOON, Scene, load};
use crate::objects::{object, wait_for_ready};

const API: &str = "/apis/external.metrics.k8s.io/v1beta1";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
/// A lease runs out, and another takes it.
const TAKEN_OVER: Duration = Duration::from_secs(90);

/// Secret with the controller's certificate.
pub(crate) const TLS_SECRET: &str = "tidegate-tls";
/// Service that it is for; also the account that the controller runs as.
pub(crate) const SERVICE: &str = "tidegate-controller";

/// A controller with the chart's rights, and with TLS.
pub(crate) async fn secured(scene: &Scene, identity: &str, arguments: &[&str]) -> Controller {
    let kubeconfig = scene.control_plane.kubeconfig_of(NAMESPACE, SERVICE).await;
    let name = format!("{SERVICE}.{NAMESPACE}.svc");
    let all = [&["--tls-secret", TLS_SECRET, "--tls-name", &name], arguments].concat();
    Controller::start_in(NAMESPACE, &kubeconfig, identity, &all).await
}

/// Installs the chart. Its own pods have no program behind them here, and must not be what leads.
pub(crate) fn chart(scene: &Scene, values: &[&str]) {
    let none = ["controller.nodeSelector.none=such", "restore.enabled=false", "agent.enabled=false"];
    chart::install(&scene.control_plane, &[&none, values].concat());
}

/// A controller that answers the API server on a port of its own.
struct Answering {
    controller: Controller,
    port: u16,
}

impl Answering {
    async fn start(scene: &Scene, identity: &str, port: u16) -> Self {
        let (addr, service) = (format!("127.0.0.1:{port}"), format!("{NAMESPACE}/{SERVICE}"));
        let arguments = ["--external-metrics", &addr, "--external-metrics-service", &service];
        Self { controller: secured(scene, identity, &arguments).await, port }
    }

    /// One by the chart's own APIService; waits until the API server uses it.
    async fn install(scene: &Scene) -> Self {
        let port = free_port();
        chart(scene, &["externalMetrics.enabled=true", &format!("ports.externalMetrics={port}")]);
        let external = json!({ "spec": { "type": "ExternalName", "externalName": "localhost" } });
        let services = Api::<Service>::namespaced(scene.client.clone(), NAMESPACE);
        services
            .patch(SERVICE, &PatchParams::default(), &Patch::Merge(&external))
            .await
            .expect("the chart made it");
        let one = Self::start(scene, "one", port).await;
        // It trusts nobody when it is made: that is the controller's to change.
        let api_services = Api::<APIService>::all(scene.client.clone());
        waiting::until("an API server that uses the API", TAKEN_OVER, async || {
            let conditions = api_services.get(API_SERVICE).await.ok()?.status?.conditions?;
            conditions.iter().any(|c| c.type_ == "Available" && c.status == "True").then_some(())
        })
        .await;
        one
    }

    async fn agent(&self, client: &Client) -> Agent {
        Agent::start_trusting(self.controller.digests(), "node-a", &authority(client).await)
    }
}

/// What agents trust the controller by.
pub(crate) async fn authority(client: &Client) -> String {
    let map = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE)
        .get("tidegate-ca")
        .await
        .expect("the controller published it");
    map.data.expect("it has data").remove("ca.crt").expect("it holds the authority")
}

fn path(namespace: &str, selector: &str) -> String {
    format!("{API}/namespaces/{namespace}/{}?labelSelector={selector}", external::REPLICAS)
}

/// What the API server answers: the document, or code and message.
async fn ask(client: &Client, path: &str) -> Result<Value, (u16, String)> {
    let request = Request::get(path).body(Vec::new()).expect("the path is right");
    match client.request::<Value>(request).await {
        Ok(document) => Ok(document),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// The value that the API server hands on.
async fn value(client: &Client, selector: &str) -> Result<i32, (u16, String)> {
    let list = ask(client, &path("default", selector)).await?;
    let items = list["items"].as_array().expect("a list has items");
    assert_eq!(items.len(), 1, "{list}");
    Ok(items[0]["value"].as_str().and_then(|value| value.parse().ok()).expect("a whole number"))
}

/// Writes a manifest of the repository as `kubectl apply --server-side` does.
async fn apply(client: &Client, collection: &str, name: &str, file: &str) {
    let manifest =
        std::fs::read(tidegate_tests::repository::root().join(file)).expect("it is in the repository");
    let request = Request::patch(format!("{collection}/{name}?fieldManager=tests"))
        .header("Content-Type", "application/apply-patch+yaml")
        .body(manifest);
    client
        .request::<Value>(request.expect("the manifest is bytes"))
        .await
        .unwrap_or_else(|error| panic!("{file}: {error}"));
}

async fn autoscaler(client: &Client) {
    let collection = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    apply(client, collection, "chat", "deploy/examples/autoscalers/hpa.yaml").await;
}

/// The size that the policy's status tells.
pub(crate) async fn wanted(scene: &Scene) -> Option<i32> {
    let replicas = scene.policies().get("chat").await.ok()?.status?.replicas?;
    i32::try_from(replicas.wanted).ok()
}

/// Waits until the Deployment has the size that the policy wants, and that is right.
pub(crate) async fn followed(scene: &Scene, what: &str, right: impl Fn(i32) -> bool) -> i32 {
    waiting::until(what, TAKEN_OVER, async || {
        let wanted = wanted(scene).await.filter(|wanted| right(*wanted))?;
        (scene.size().await == wanted).then_some(wanted)
    })
    .await
}

pub(crate) fn publishes() -> Value {
    json!({
        "act": { "via": "external_metric" },
        "replicas": { "min": 1, "max": 40 },
    })
}

#[tokio::test]
async fn the_real_autoscaler_follows_a_published_size_up_and_down_once_it_is_in_force() {
    let scene = Scene::set().await;
    let one = Answering::install(&scene).await;
    let agent = one.agent(&scene.client).await;
    agent.tell(CHAT, &load(45.0));
    scene.policy("shadow", publishes()).await;
    autoscaler(&scene.client).await;
    // In shadow: a plan, no value, and an autoscaler that says why it does nothing.
    waiting::until("a plan", SOON, async || wanted(&scene).await.filter(|wanted| *wanted >= 5)).await;
    let (code, message) = value(&scene.client, "policy%3Dchat").await.unwrap_err();
    assert!(code == 404 && message.contains("in shadow"), "{code} {message}");
    let held = waiting::until("an autoscaler that holds", SOON, async || {
        let conditions = scene.autoscalers().get("chat").await.ok()?.status?.conditions?;
        let scales = conditions.into_iter().find(|c| c.type_ == "ScalingActive" && c.status == "False")?;
        (scales.reason.as_deref() == Some("FailedGetExternalMetric")).then_some(scales.message?)
    })
    .await;
    assert!(held.contains("in shadow"), "{held}");
    assert_eq!(scene.size().await, 1);

    scene.set_mode("active").await;
    let size = followed(&scene, "a size for 45 requests a second", |wanted| wanted >= 5).await;
    assert_eq!(value(&scene.client, "policy%3Dchat").await, Ok(size));
    assert_eq!(value(&scene.client, "kind%3DDeployment,name%3Dchat").await, Ok(size), "by its target");
    wait_for_ready(&scene.client, "chat", size).await;
    // Above ten replicas one more is less than a tenth: followed all the same.
    agent.tell(CHAT, &load(200.0));
    let many = followed(&scene, "a size for 200 requests a second", |wanted| wanted >= 20).await;
    for most in [many - 1, 3] {
        bounds(&scene, most, json!({})).await;
        followed(&scene, "as many as are allowed now", |wanted| wanted == most).await;
    }

    bounds(&scene, 40, json!({ "tidegate.io/paused-until": "2999-01-01T00:00:00Z" })).await;
    let refused = waiting::until("no value while paused", SOON, async || {
        value(&scene.client, "policy%3Dchat").await.err()
    })
    .await;
    assert!(refused.1.contains("paused"), "{refused:?}");
    waiting::until("a plan for more", SOON, async || wanted(&scene).await.filter(|wanted| *wanted > 3)).await;
    assert_eq!(scene.size().await, 3, "nothing changes while it is paused");
}

/// Changes the upper bound, and annotations.
pub(crate) async fn bounds(scene: &Scene, most: i32, annotations: Value) {
    let patch =
        json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": { "max": most } } });
    scene
        .policies()
        .patch("chat", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("it is there");
}

#[tokio::test]
async fn the_api_server_knows_the_api_and_who_may_read_it() {
    let scene = Scene::set().await;
    let one = Answering::install(&scene).await;
    let resources = ask(&scene.client, API).await.unwrap();
    assert_eq!(resources["resources"][0]["name"], external::REPLICAS);
    let groups = ask(&scene.client, "/apis").await.unwrap();
    let names = groups["groups"].as_array().unwrap().iter().map(|group| &group["name"]);
    assert!(names.into_iter().any(|name| name == "external.metrics.k8s.io"), "{groups}");
    waiting::until("an OpenAPI document", SOON, async || {
        let path = format!("/openapi/v3{API}");
        let document = ask(&scene.client, &path).await.ok()?;
        document["paths"].get(format!("{API}/namespaces/{{namespace}}/{}", external::REPLICAS)).map(drop)
    })
    .await;

    let (code, message) = value(&scene.client, "policy%3Dchat").await.unwrap_err();
    assert!(code == 404 && message.contains("no policy"), "{code} {message}");
    let (code, _) = ask(&scene.client, &path("default", "policy%20of%20(a)")).await.unwrap_err();
    assert_eq!(code, 400);
    let (code, _) = ask(&scene.client, &format!("{API}/namespaces/default/other")).await.unwrap_err();
    assert_eq!(code, 404);
    // A ServiceAccount without rights, by the API server.
    let token = scene.control_plane.service_account_token("default", "default").await;
    let nobody = scene.control_plane.client_with_token(&token);
    let (code, _) = ask(&nobody, &path("default", "policy%3Dchat")).await.unwrap_err();
    assert_eq!(code, 403);

    // The same, of the controller itself, for whoever speaks for the user: only the front proxy gets a connection.
    let proxy = direct(&scene, Some(&scene.control_plane.front_proxy())).await;
    let url = format!("https://localhost:{}{}", one.port, path("default", "policy%3Dchat"));
    let asked = async |user: &str, group: &str| {
        let request = proxy.get(&url).header("X-Remote-User", user).header("X-Remote-Group", group);
        request.send().await.expect("the front proxy is answered").status().as_u16()
    };
    assert_eq!(asked("ada", "system:authenticated").await, 403);
    assert_eq!(asked("ada", "system:masters").await, 404, "may, but there is no policy");
    assert_eq!(proxy.get(&url).send().await.unwrap().status().as_u16(), 401, "for nobody");
    let stranger = direct(&scene, None).await;
    assert!(stranger.get(&url).send().await.is_err(), "without a certificate there is no connection");
    assert!(one.controller.get("/api/v1/workloads").await.is_some(), "the rest answers as ever");
}

/// A client for the controller's own port.
async fn direct(scene: &Scene, identity: Option<&str>) -> reqwest::Client {
    let trusted = reqwest::Certificate::from_pem(authority(&scene.client).await.as_bytes())
        .expect("it is a certificate");
    let mut options = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]);
    if let Some(identity) = identity {
        options = options.identity(
            reqwest::Identity::from_pem(identity.as_bytes()).expect("certificate and key are right"),
        );
    }
    options.build().expect("the options are valid")
}

#[tokio::test]
async fn every_controller_answers_with_the_size_that_the_leader_has_in_force() {
    let scene = Scene::set().await;
    chart(&scene, &["externalMetrics.enabled=true"]);
    let mut first = Answering::start(&scene, "first", free_port()).await;
    let second = Answering::start(&scene, "second", free_port()).await;
    let agents = [first.agent(&scene.client).await, second.agent(&scene.client).await];
    // The follower sees another load: its own plan would be another.
    agents[0].tell(CHAT, &load(45.0));
    agents[1].tell(CHAT, &load(200.0));
    scene.policy("active", publishes()).await;
    let proxy = direct(&scene, Some(&scene.control_plane.front_proxy())).await;
    let value_of = async |port: u16| -> Option<i32> {
        let url = format!("https://localhost:{port}{}", path("default", "policy%3Dchat"));
        let request = proxy.get(url).header("X-Remote-User", "a").header("X-Remote-Group", "system:masters");
        let list: Value = request.send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
        list["items"][0]["value"].as_str()?.parse().ok()
    };
    let size = waiting::until("one answer of both", SOON, async || {
        let (one, other) = (value_of(first.port).await?, value_of(second.port).await?);
        (one == other && one >= 5).then_some(one)
    })
    .await;
    assert!(size < 15, "the leader's plan, not the follower's: {size}");
    first.controller.kill();
    // Until its lease has run out the size stands; then there is none, until the other has taken over.
    let taken = waiting::until("the other's own plan", TAKEN_OVER, async || {
        let value = value_of(second.port).await?;
        assert!(value == size || value >= 15, "never anything between or below: {value}");
        (value >= 15).then_some(value)
    })
    .await;
    assert!(taken <= 40);
}

#[tokio::test]
async fn an_api_service_of_somebody_else_is_left_alone() {
    let scene = Scene::set().await;
    let api_services = Api::<APIService>::all(scene.client.clone());
    let others = object::<APIService>(json!({
        "metadata": { "name": API_SERVICE },
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "namespace": "keda", "name": "keda-operator-metrics-apiserver", "port": 443 },
        },
    }));
    api_services.create(&PostParams::default(), &others).await.unwrap();
    chart(&scene, &[]);
    let one = Answering::start(&scene, "one", free_port()).await;
    waiting::until("a word about it", SOON, async || {
        one.controller.errors().contains("could not be told what to trust").then_some(())
    })
    .await;
    let found = api_services.get(API_SERVICE).await.unwrap().spec.unwrap();
    assert!(found.ca_bundle.is_none(), "{found:?}");
}
