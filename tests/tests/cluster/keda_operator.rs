//! KEDA's own operator beside Tidegate: it follows the published size by its own client of the external scaler, and it puts into effect the
//! floors that are raised on its ScaledObjects. What the scaler answers to whom is looked at in `keda`.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, ObjectMeta, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::cluster::floor::ANNOTATION;
use tidegate_actuator::cluster::way::AutoscalerKind;
use tidegate_tests::repository::text;
use tidegate_tests::servers::kubernetes::{Keda, manifests};
use tidegate_tests::servers::{Agent, Prometheus, free_port};
use tidegate_tests::waiting;
use tokio::time::Instant;

use crate::chart::NAMESPACE;
use crate::controller::{CHAT, Scene, load, some_rounds};
use crate::keda::KEDA_SECRET;
use crate::objects::{object, wait_for_ready};
use crate::prometheus::Ingress;
use crate::published::{authority, bounds, chart, followed, publishes, secured, wanted};

/// The HPA that KEDA makes for the ScaledObject `chat`.
const HPA: &str = "keda-hpa-chat";
/// Where the chart has the scaler.
const ADDRESS: &str = "tidegate-controller.tidegate.svc:9099";
/// KEDA looks at a ScaledObject every half minute unless that says otherwise.
const SEEN: Duration = Duration::from_secs(90);
/// What it is told of itself, it acts on without looking.
const AT_ONCE: Duration = Duration::from_secs(8);

/// A ScaledObject on `chat` whose trigger asks for nothing but in one minute of four years, with more in its spec.
async fn scaled_object(scene: &Scene, more: Value) {
    let trigger = json!({ "type": "cron", "metadata": {
        "timezone": "Etc/UTC", "start": "0 0 29 2 *", "end": "1 0 29 2 *", "desiredReplicas": "2",
    }});
    let now = json!({ "scaleDown": { "stabilizationWindowSeconds": 0 } });
    let mut spec = json!({
        "scaleTargetRef": { "name": "chat" }, "maxReplicaCount": 12, "pollingInterval": 1, "triggers": [trigger],
        "advanced": { "horizontalPodAutoscalerConfig": { "behavior": now } },
    });
    let (map, more) = (spec.as_object_mut().expect("an object"), more.as_object().cloned());
    map.extend(more.into_iter().flatten());
    let made = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": "chat", "labels": { "team": "a" } }, "spec": spec,
    });
    scaled_objects(scene).create(&PostParams::default(), &object(made)).await.expect("KEDA takes it");
}

fn scaled_objects(scene: &Scene) -> Api<DynamicObject> {
    Api::default_namespaced_with(scene.client.clone(), &AutoscalerKind::ScaledObject.resource())
}

/// The floor of the ScaledObject, as it is written.
async fn floor(scene: &Scene) -> Option<u64> {
    scaled_objects(scene).get("chat").await.ok()?.data["spec"]["minReplicaCount"].as_u64()
}

/// Waits until the HPA that KEDA keeps is right.
async fn kept<T>(scene: &Scene, what: &str, right: impl Fn(HorizontalPodAutoscaler) -> Option<T>) -> T {
    waiting::until(what, SEEN, async || right(scene.autoscalers().get_opt(HPA).await.ok()??)).await
}

/// Waits until that has this floor.
async fn kept_with_floor(scene: &Scene, what: &str, right: impl Fn(i32) -> bool) -> i32 {
    kept(scene, what, |hpa| hpa.spec.min_replicas.filter(|floor| right(*floor))).await
}

/// The certificate that KEDA is to show, copied to where the ScaledObject is.
async fn copy_secret(scene: &Scene) {
    let from = Api::<Secret>::namespaced(scene.client.clone(), NAMESPACE);
    let made = from.get(KEDA_SECRET).await.expect("the controller made it");
    let metadata = ObjectMeta { name: Some(KEDA_SECRET.to_owned()), ..ObjectMeta::default() };
    let copy = Secret { metadata, ..made };
    let to = Api::<Secret>::default_namespaced(scene.client.clone());
    to.create(&PostParams::default(), &copy).await.expect("it is right");
}

/// The manifests that users are shown, but for the scaler's address and these fields of the ScaledObject.
async fn example(scene: &Scene, port: u16, fields: Value) {
    let shown = text("deploy/examples/autoscalers/scaled-object.yaml".as_ref()).expect("it is there");
    let mut objects = manifests::objects(&shown);
    for object in &mut objects {
        let Some(trigger) = object.data.pointer_mut("/spec/triggers/0") else { continue };
        assert_eq!(trigger["metadata"]["scalerAddress"], ADDRESS);
        trigger["metadata"]["scalerAddress"] = json!(format!("localhost:{port}"));
        for (pointer, value) in fields.as_object().into_iter().flatten() {
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer into the spec");
            object.data.pointer_mut(&format!("/spec{parent}")).expect("it is there")[name] = value.clone();
        }
    }
    manifests::apply(&scene.client, &objects).await;
}

#[tokio::test]
async fn keda_follows_a_published_size_up_and_down_once_it_is_in_force() {
    let scene = Scene::set().await;
    let keda = Keda::start(&scene.control_plane).await;
    let port = free_port();
    chart(&scene, &["keda.enabled=true"]);
    let arguments = ["--keda", &format!("127.0.0.1:{port}"), "--keda-secret", KEDA_SECRET];
    let mut controller = secured(&scene, "one", &arguments).await;
    let agent = Agent::start_trusting(controller.digests(), "node-a", &authority(&scene.client).await);
    agent.tell(CHAT, &load(45.0));
    scene.policy("shadow", publishes()).await;
    copy_secret(&scene).await;
    example(&scene, port, json!({})).await;

    // In shadow: a plan, an HPA of KEDA's for it, and no value.
    waiting::until("a plan", SEEN, async || wanted(&scene).await.filter(|wanted| *wanted >= 5)).await;
    let held = kept(&scene, "an autoscaler that holds", |hpa| {
        let conditions = hpa.status?.conditions?;
        let scales = conditions.into_iter().find(|c| c.type_ == "ScalingActive" && c.status == "False")?;
        (scales.reason.as_deref() == Some("FailedGetExternalMetric")).then_some(scales.message?)
    })
    .await;
    assert!(keda.errors().contains("in shadow"), "{held}: {}", keda.errors());
    assert_eq!(scene.size().await, 1);

    scene.set_mode("active").await;
    let size = followed(&scene, "a size for 45 requests a second", |wanted| wanted >= 5).await;
    wait_for_ready(&scene.client, "chat", size).await;
    let metric = kept(&scene, "its metric", |hpa| hpa.spec.metrics?.into_iter().next()?.external).await;
    assert_eq!(metric.target.type_, "AverageValue", "a size divided by one is the size");
    agent.tell(CHAT, &load(200.0));
    let many = followed(&scene, "a size for 200 requests a second", |wanted| wanted >= 20).await;
    for most in [many - 1, 3] {
        bounds(&scene, most, json!({})).await;
        followed(&scene, "as many as are allowed now", |wanted| wanted == most).await;
    }

    // One that begins anew knows of no demand yet: it holds what is there.
    drop(agent);
    assert!(controller.stop().success());
    let second = secured(&scene, "two", &arguments).await;
    some_rounds(&second).await;
    scene.condition("Active", "True", "Acting").await;
    assert_eq!(wanted(&scene).await, Some(3));
    assert_eq!(scene.size().await, 3);
}

#[tokio::test]
async fn a_workload_at_none_is_woken_by_what_keda_is_told_of_itself() {
    let scene = Scene::set().await;
    let _keda = Keda::start(&scene.control_plane).await;
    let ingress = Ingress::start(0.0).await;
    let prometheus = Prometheus::start(std::slice::from_ref(&ingress.address), &[]).await;
    let port = free_port();
    chart(&scene, &["keda.enabled=true"]);
    let keda = format!("127.0.0.1:{port}");
    let arguments = ["--keda", &keda, "--keda-secret", KEDA_SECRET, "--prometheus", prometheus.url()];
    let _controller = secured(&scene, "one", &arguments).await;
    copy_secret(&scene).await;
    let pushed = json!({ "/minReplicaCount": 0, "/cooldownPeriod": 0, "/triggers/0/type": "external-push" });
    example(&scene, port, pushed).await;
    kept(&scene, "KEDA's HPA", Some).await;
    let policy = json!({
        "act": { "via": "external_metric" },
        "replicas": { "min": 0, "max": 12 },
        "scaling": { "scaleDownHold": "1s", "flapWindow": "1s" },
        "demand": { "prometheus": { "query": "sum(rate(ingress_requests_total[10s]))" } },
    });
    scene.policy("active", policy).await;
    scene.sized("none without a request", |size| size == 0).await;
    ingress.load(45.0);
    waiting::until("a plan", SEEN, async || wanted(&scene).await.filter(|wanted| *wanted > 0)).await;
    let planned = Instant::now();
    scene.sized("the first replica", |size| size > 0).await;
    let took = planned.elapsed();
    assert!(took < AT_ONCE, "{took:?}: KEDA was not told, but looked by itself");
    followed(&scene, "a size for 45 requests a second", |wanted| wanted >= 5).await;
}

#[tokio::test]
async fn the_floor_of_a_scaled_object_is_raised_put_into_effect_by_keda_and_given_back() {
    let scene = Scene::set().await;
    let _keda = Keda::start(&scene.control_plane).await;
    scaled_object(&scene, json!({ "minReplicaCount": 1 })).await;
    kept_with_floor(&scene, "KEDA's HPA", |floor| floor == 1).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    let floor_of_hpa = kept_with_floor(&scene, "a floor for 45 requests a second", |floor| floor >= 5).await;
    wait_for_ready(&scene.client, "chat", floor_of_hpa).await;
    scene.condition("Active", "True", "Acting").await;
    let status = scene.policies().get("chat").await.unwrap().status.unwrap();
    assert_eq!(status.via.as_deref(), Some("scaled_object_floor"));
    agent.tell(CHAT, &load(200.0));
    kept_with_floor(&scene, "as much as the ceiling allows", |floor| floor == 12).await;
    wait_for_ready(&scene.client, "chat", 12).await;

    let said = scene.says(&["release", "chat"]);
    assert!(said.contains("ScaledObject default/chat"), "{said}");
    let found = scaled_objects(&scene).get("chat").await.unwrap();
    assert_eq!(found.data["spec"]["minReplicaCount"], 1);
    assert!(!found.metadata.annotations.unwrap_or_default().contains_key(ANNOTATION));
    kept_with_floor(&scene, "KEDA's HPA as it was", |floor| floor == 1).await;
    scene.sized("what KEDA's own trigger asks for", |size| size == 1).await;

    // Whoever would write the size beside KEDA is told, and does not.
    scene.policies().delete("chat", &Default::default()).await.unwrap();
    waiting::until("the policy to be gone", SEEN, async || {
        scene.policies().get_opt("chat").await.ok()?.is_none().then_some(())
    })
    .await;
    scene.policy("active", json!({ "act": { "via": "scale" } })).await;
    let message = scene.condition("Conflict", "True", "ScaledObject").await;
    assert!(message.contains("ScaledObject chat"), "{message}");
    some_rounds(&controller).await;
    assert_eq!((scene.size().await, floor(&scene).await), (1, Some(1)));
}

#[tokio::test]
async fn a_scaled_object_that_goes_down_to_none_is_adopted_held_at_one_replaced_and_put_back() {
    let scene = Scene::set().await;
    let _keda = Keda::start(&scene.control_plane).await;
    scaled_object(&scene, json!({})).await;
    scene.sized("KEDA to take the last replica away", |size| size == 0).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(2.0));

    let adopt = ["adopt", "scaledobject/chat", "--latency", "2s", "--requests-per-second", "10"];
    let printed = scene.says(&[&adopt[..], &["--dry-run"]].concat());
    assert!(
        printed.contains("~ ScaledObject chat: minReplicaCount 0 → what is needed, up to 12"),
        "{printed}"
    );
    scene.says(&adopt);
    scene.says(&["activate", "chat"]);
    scene.sized("a replica for a little load", |size| size == 1).await;
    assert_eq!(floor(&scene).await, Some(1));
    agent.tell(CHAT, &load(45.0));
    scene.sized("a size for 45 requests a second", |size| size >= 5).await;
    scene.condition("Active", "True", "Acting").await;

    scene.says(&["adopt", "scaledobject/chat", "--replace"]);
    waiting::until("KEDA to let go", SEEN, async || {
        let replaced = scaled_objects(&scene).get_opt("chat").await.ok()?.is_none();
        (replaced && scene.autoscalers().get_opt(HPA).await.ok()?.is_none()).then_some(())
    })
    .await;
    agent.tell(CHAT, &load(85.0));
    scene.sized("a size by the policy alone", |size| size >= 8).await;

    let said = scene.says(&["release", "chat"]);
    assert!(said.contains("ScaledObject default/chat: as it was"), "{said}");
    let back = scaled_objects(&scene).get("chat").await.expect("it is back");
    assert_eq!(back.data["spec"].get("minReplicaCount"), None, "with the user's own floor");
    assert_eq!(back.metadata.labels.unwrap_or_default().get("team").map(String::as_str), Some("a"));
    kept_with_floor(&scene, "KEDA's HPA again", |floor| floor == 1).await;
    scene.sized("KEDA to take the last replica away", |size| size == 0).await;
}
