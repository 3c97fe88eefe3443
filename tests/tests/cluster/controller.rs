//! The controller against a real control plane: policies in, sizes and floors out, and nothing done that was not asked for.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::crds::{ServingPolicy, definitions};
use tidegate_core::{Metric, Signal};
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options};
use tidegate_tests::servers::{Agent, Controller};
use tidegate_tests::waiting;

use crate::objects::{deploy, object, wait_for_ready};

/// A decision and its write take seconds; this is for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Some rounds of the loop in which nothing may happen; bounded by the loop's own counter, not by this.
const ROUNDS: u64 = 8;
pub(crate) const CHAT: &str = "default/deployment/chat";

/// A cluster with something to scale in it.
pub(crate) struct Scene {
    pub(crate) control_plane: ControlPlane,
    pub(crate) client: Client,
    _kwok: Kwok,
}

impl Scene {
    /// A cluster with one node, a Deployment `chat` of one ready pod, and Tidegate's kinds.
    pub(crate) async fn set() -> Self {
        let options = Options { hpa_sync: Duration::from_secs(1), ..Options::default() };
        let control_plane = ControlPlane::start(&options).await;
        let kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 64)], Duration::ZERO).await;
        let client = control_plane.client();
        install(&client).await;
        deploy(&client, "chat", 1, json!({ "cpu": "1" }), json!({})).await;
        wait_for_ready(&client, "chat", 1).await;
        Self { control_plane, client, _kwok: kwok }
    }

    pub(crate) async fn controller(&self, identity: &str) -> Controller {
        self.controller_with(identity, &[]).await
    }

    pub(crate) async fn controller_with(&self, identity: &str, arguments: &[&str]) -> Controller {
        Controller::start(&self.control_plane.kubeconfig(), identity, arguments).await
    }

    /// A policy on `chat`: see [`policy`].
    pub(crate) async fn policy(&self, mode: &str, more: Value) {
        policy(&self.client, mode, more).await;
    }

    pub(crate) async fn set_mode(&self, mode: &str) {
        let patch = Patch::Merge(json!({ "spec": { "mode": mode } }));
        self.policies().patch("chat", &PatchParams::default(), &patch).await.expect("it is there");
    }

    pub(crate) fn policies(&self) -> Api<ServingPolicy> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) async fn size(&self) -> i32 {
        let deployments = Api::<Deployment>::default_namespaced(self.client.clone());
        deployments
            .get("chat")
            .await
            .expect("it is there")
            .spec
            .and_then(|spec| spec.replicas)
            .expect("it has a size")
    }

    /// Waits for a size.
    pub(crate) async fn sized(&self, what: &str, right: impl Fn(i32) -> bool) -> i32 {
        waiting::until(what, SOON, async || Some(self.size().await).filter(|size| right(*size))).await
    }

    /// Waits for a condition of the policy; gives its message.
    pub(crate) async fn condition(&self, kind: &str, status: &str, reason: &str) -> String {
        let what = format!("the condition {kind}={status} ({reason})");
        waiting::until(&what, SOON, async || {
            let policy = self.policies().get("chat").await.ok()?;
            let conditions = policy.status?.conditions;
            let found = conditions.into_iter().find(|condition| condition.type_ == kind)?;
            (found.status == status && found.reason == reason).then_some(found.message)
        })
        .await
    }

    pub(crate) async fn autoscaler(&self, min: i32, max: i32) {
        let autoscaler = object::<HorizontalPodAutoscaler>(json!({
            "metadata": { "name": "chat" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat" },
                "minReplicas": min, "maxReplicas": max,
            },
        }));
        self.autoscalers().create(&PostParams::default(), &autoscaler).await.expect("it is right");
    }

    pub(crate) fn autoscalers(&self) -> Api<HorizontalPodAutoscaler> {
        Api::default_namespaced(self.client.clone())
    }

    async fn floor(&self) -> Option<i32> {
        self.autoscalers().get("chat").await.expect("it is there").spec.min_replicas
    }

    pub(crate) async fn floored(&self, what: &str, right: impl Fn(Option<i32>) -> bool) -> Option<i32> {
        waiting::until(what, SOON, async || Some(self.floor().await).filter(|floor| right(*floor))).await
    }

    /// Waits until this one leads.
    pub(crate) async fn led_by(&self, identity: &str) {
        let leases = Api::<Lease>::default_namespaced(self.client.clone());
        waiting::until(&format!("{identity} to lead"), SOON, async || {
            let lease = leases.get("tidegate-controller").await.ok()?;
            (lease.spec?.holder_identity? == identity).then_some(())
        })
        .await;
    }
}

/// Makes a policy on `chat` with a hint of ten requests a second and replica.
pub(crate) async fn policy(client: &Client, mode: &str, more: Value) {
    let mut spec = json!({
        "target": { "kind": "Deployment", "name": "chat" },
        "mode": mode,
        "replicas": { "min": 1, "max": 12 },
        "slo": { "latency": "2s", "target": 0.99 },
        "capacity": { "requestsPerSecond": 10.0, "concurrency": 4 },
    });
    let (spec_map, more) = (spec.as_object_mut().expect("an object"), more.as_object().cloned());
    spec_map.extend(more.into_iter().flatten());
    let manifest = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy",
        "metadata": { "name": "chat" }, "spec": spec,
    });
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    policies.create(&PostParams::default(), &object(manifest)).await.expect("the policy is right");
}

/// Teaches the API server Tidegate's kinds.
pub(crate) async fn install(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for definition in definitions() {
        let name = definition.metadata.name.clone().expect("a definition has a name");
        let params = PatchParams::apply("tests").force();
        crds.patch(&name, &params, &Patch::Apply(&definition)).await.expect("the definition is right");
        waiting::until(&format!("{name} to be served"), SOON, async || {
            let conditions = crds.get(&name).await.ok()?.status?.conditions?;
            conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
    }
}

/// What an agent tells under such a load.
pub(crate) fn load(requests_per_second: f64) -> [(Signal, f64); 4] {
    [
        (Signal::RequestsPerSecond, requests_per_second),
        (Signal::CompletionsPerSecond, requests_per_second),
        // Four at a time for 0.4 s each: ten a second and replica, as the policy has it.
        (Signal::InFlight, requests_per_second * 0.4),
        (Signal::Queued, 0.0),
    ]
}

/// The value of a metric's series with these labels.
pub(crate) async fn metric(controller: &Controller, metric: Metric, labels: &str) -> Option<f64> {
    let name = metric.family().name;
    let series = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
    let page = controller.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix(&series)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// The controller's samples written so far: they grow with every round.
async fn rounds(controller: &Controller) -> u64 {
    let value = metric(controller, Metric::HistorySamples, "").await;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    value.map_or(0, |value| value as u64)
}

/// Waits until the loop has gone round a few times more.
pub(crate) async fn some_rounds(controller: &Controller) {
    let before = rounds(controller).await;
    waiting::until("further rounds", SOON, async || {
        (rounds(controller).await >= before + 3 * ROUNDS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_load_step_is_followed_by_a_new_size_and_told() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(2.0));
    scene.policy("active", json!({})).await;
    scene.condition("Active", "True", "Acting").await;
    agent.tell(CHAT, &load(45.0));
    let size = scene.sized("a size for 45 requests a second", |size| size >= 5).await;
    assert!(size <= 12, "never above the policy's maximum: {size}");
    wait_for_ready(&scene.client, "chat", scene.size().await).await;
    scene.condition("Ready", "True", "AsPlanned").await;
    let status = scene.policies().get("chat").await.unwrap().status.unwrap();
    assert_eq!(status.via.as_deref(), Some("scale"));
    let decision = status.last_decision.expect("it was decided");
    assert!(decision.applied && !decision.reasons.is_empty());
    let answer = controller.get(&format!("/api/v1/workloads/{CHAT}")).await.expect("the API knows it");
    assert_eq!(answer["mode"], "active");
    let events = Api::<k8s_openapi::api::events::v1::Event>::default_namespaced(scene.client.clone());
    waiting::until("an Event about it", SOON, async || {
        let all = events.list(&Default::default()).await.ok()?;
        let of_it = all.items.iter().find(|e| e.reason.as_deref() == Some("ScaledUp"))?;
        of_it.note.as_ref().filter(|note| note.contains("chat")).map(drop)
    })
    .await;
}

#[tokio::test]
async fn in_shadow_everything_is_said_and_nothing_is_done() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("shadow", json!({})).await;
    scene.condition("Active", "False", "Shadow").await;
    waiting::until("a plan", SOON, async || {
        let wanted = scene.policies().get("chat").await.ok()?.status?.replicas?.wanted;
        (wanted >= 5).then_some(())
    })
    .await;
    some_rounds(&controller).await;
    assert_eq!(scene.size().await, 1, "a shadow changes nothing");
    scene.set_mode("active").await;
    scene.sized("the size once it is active", |size| size >= 5).await;
}

#[tokio::test]
async fn the_floor_of_an_autoscaler_is_raised_and_given_back() {
    let scene = Scene::set().await;
    scene.autoscaler(2, 6).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(200.0));
    scene.policy("active", json!({})).await;
    let floor = scene.floored("a raised floor", |floor| floor > Some(2)).await;
    assert_eq!(floor, Some(6), "as much as is needed, but never above the maximum");
    // The real autoscaler puts it into effect.
    wait_for_ready(&scene.client, "chat", 6).await;
    let status = scene.policies().get("chat").await.unwrap().status.unwrap();
    assert_eq!(status.via.as_deref(), Some("hpa_floor"));
    scene.set_mode("shadow").await;
    scene.floored("the floor as it was", |floor| floor == Some(2)).await;
    let autoscaler = scene.autoscalers().get("chat").await.unwrap();
    let annotations = autoscaler.metadata.annotations.unwrap_or_default();
    assert!(!annotations.contains_key("tidegate.io/floor"), "{annotations:?}");
}

#[tokio::test]
async fn a_deleted_policy_leaves_the_autoscaler_as_it_was() {
    let scene = Scene::set().await;
    scene.autoscaler(1, 8).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    scene.floored("a raised floor", |floor| floor > Some(3)).await;
    assert!(metric(&controller, Metric::ProcessMemory, "").await > Some(1e6));
    assert!(controller.metrics().await.contains(CHAT), "it has series");
    scene.policies().delete("chat", &DeleteParams::default()).await.unwrap();
    scene.floored("the floor as it was", |floor| floor == Some(1)).await;
    waiting::until("a page without it", SOON, async || {
        (!controller.metrics().await.contains(CHAT)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_takes_over_from_a_leader_that_was_killed() {
    let scene = Scene::set().await;
    scene.autoscaler(1, 12).await;
    let mut first = scene.controller("first").await;
    scene.led_by("first").await;
    let second = scene.controller("second").await;
    let agents = [Agent::start(first.digests(), "node-a"), Agent::start(second.digests(), "node-a")];
    agents.iter().for_each(|agent| agent.tell(CHAT, &load(25.0)));
    scene.policy("active", json!({})).await;
    scene.floored("a raised floor", |floor| floor > Some(2)).await;
    first.kill();
    agents[1].tell(CHAT, &load(75.0));
    scene.led_by("second").await;
    scene.floored("a floor for three times the load", |floor| floor >= Some(8)).await;
    scene.policies().delete("chat", &DeleteParams::default()).await.unwrap();
    scene.floored("what the first had recorded", |floor| floor == Some(1)).await;
}

#[tokio::test]
async fn a_raised_floor_outlives_a_restart_and_a_pause() {
    let scene = Scene::set().await;
    scene.autoscaler(1, 12).await;
    let mut first = scene.controller("first").await;
    let agent = Agent::start(first.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    scene.floored("a raised floor", |floor| floor >= Some(5)).await;
    assert!(first.stop().success());
    drop(agent);
    // Any change of the spec counts, also one that was taken back before anybody looked.
    let generation = async || scene.autoscalers().get("chat").await.expect("it is there").metadata.generation;
    let before = generation().await;
    let second = scene.controller("second").await;
    scene.led_by("second").await;
    some_rounds(&second).await;
    assert_eq!(generation().await, before, "a controller that knows nothing yet changes nothing");
    let agent = Agent::start(second.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    let paused =
        json!({ "metadata": { "annotations": { "tidegate.io/paused-until": "2999-01-01T00:00:00Z" } } });
    scene.policies().patch("chat", &PatchParams::default(), &Patch::Merge(&paused)).await.unwrap();
    scene.condition("Active", "False", "Paused").await;
    some_rounds(&second).await;
    assert_eq!(generation().await, before, "a pause changes nothing");
}

#[tokio::test]
async fn two_on_one_target_are_told_and_do_not_fight() {
    let scene = Scene::set().await;
    scene.autoscaler(1, 8).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({ "act": { "via": "scale" } })).await;
    let message = scene.condition("Conflict", "True", "Autoscaler").await;
    assert!(message.contains("HorizontalPodAutoscaler chat"), "{message}");
    some_rounds(&controller).await;
    assert_eq!((scene.size().await, scene.floor().await), (1, Some(1)));
    let other = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "other" },
        "spec": {
            "target": { "kind": "Deployment", "name": "chat" }, "mode": "active",
            "replicas": { "min": 1, "max": 3 }, "slo": { "latency": "1s", "target": 0.9 },
        },
    });
    scene.policies().create(&PostParams::default(), &object(other)).await.unwrap();
    waiting::until("the younger policy to be told", SOON, async || {
        let conditions = scene.policies().get("other").await.ok()?.status?.conditions;
        let conflict = conditions.into_iter().find(|condition| condition.type_ == "Conflict")?;
        (conflict.reason == "OtherPolicy" && conflict.message.contains("default/chat")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_not_there_is_named_and_found_when_it_comes() {
    let scene = Scene::set().await;
    let deployments = Api::<Deployment>::default_namespaced(scene.client.clone());
    deployments.delete("chat", &DeleteParams::foreground()).await.unwrap();
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    scene.condition("TargetFound", "False", "NotFound").await;
    deploy(&scene.client, "chat", 1, json!({ "cpu": "1" }), json!({})).await;
    scene.condition("TargetFound", "True", "Found").await;
    scene.sized("a size for the load", |size| size >= 5).await;
}

#[tokio::test]
async fn the_api_server_may_go_and_come_back() {
    let mut scene = Scene::set().await;
    let mut controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(25.0));
    scene.policy("active", json!({})).await;
    scene.sized("a size", |size| size >= 3).await;
    scene.control_plane.stop_apiserver();
    // It is away for a minute.
    waiting::until("the controller to notice", 2 * SOON, async || {
        metric(&controller, Metric::ClusterBlindSeconds, "").await.filter(|seconds| *seconds > 60.0).map(drop)
    })
    .await;
    agent.tell(CHAT, &load(75.0));
    scene.control_plane.start_apiserver().await;
    scene.sized("a size for what came meanwhile", |size| size >= 8).await;
    assert!(controller.stop().success(), "it ends in good order: {}", controller.errors());
}

#[tokio::test]
async fn a_digest_of_a_node_that_is_none_is_refused_and_counted() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "no-such-node");
    agent.tell(CHAT, &load(45.0));
    waiting::until("a refusal", SOON, async || {
        let refused = metric(&controller, Metric::DigestsRefused, "cause=\"unknown_node\"").await;
        refused.filter(|count| *count > 0.0).map(drop)
    })
    .await;
    assert_eq!(metric(&controller, Metric::DigestsReceived, "").await, None);
}

#[tokio::test]
async fn a_node_whose_clock_is_hours_ahead_is_heard_like_the_others_and_the_distance_is_told() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let hours = Duration::from_secs(2 * 3600);
    let agent = Agent::start_ahead(controller.digests(), "node-a", hours);
    agent.tell(CHAT, &load(2.0));
    scene.policy("active", json!({})).await;
    scene.condition("Active", "True", "Acting").await;
    agent.tell(CHAT, &load(45.0));
    scene.sized("a size for 45 requests a second", |size| size >= 5).await;
    let demand = waiting::until("a demand that is told", SOON, async || {
        scene.policies().get("chat").await.ok()?.status?.demand.filter(|demand| demand.value > 40.0)
    })
    .await;
    let age = demand.age_seconds;
    assert!((0.0..10.0).contains(&age), "{age} s: an age is by the controller's own clock");
    let skew = metric(&controller, Metric::DigestSkewSeconds, "").await.expect("it is told");
    assert!((skew - hours.as_secs_f64()).abs() < 10.0, "{skew} s");
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_told_and_holds_up_no_other() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let scene = Scene::set().await;
    // A definition of another version, which lets in what this one would refuse.
    let crds = Api::<CustomResourceDefinition>::all(scene.client.clone());
    let name = "servingpolicies.tidegate.io";
    let mut definition = crds.get(name).await.unwrap();
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    definition.spec.versions[0].schema = Some(object(json!({ "openAPIV3Schema": anything })));
    crds.replace(name, &PostParams::default(), &definition).await.unwrap();
    let resource = kube::api::ApiResource::erase::<ServingPolicy>(&());
    let policies: Api<kube::api::DynamicObject> =
        Api::default_namespaced_with(scene.client.clone(), &resource);
    let odd = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "odd" },
        "spec": { "target": "the big one", "slo": "fast" },
    });
    waiting::until("the looser definition to be served", SOON, async || {
        policies.create(&PostParams::default(), &object(odd.clone())).await.ok()
    })
    .await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    scene.sized("a size by the policy that is right", |size| size >= 5).await;
    waiting::until("the other to be told what is wrong", SOON, async || {
        let odd = policies.get("odd").await.ok()?;
        let conditions = odd.data.pointer("/status/conditions")?.as_array()?.clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready")?;
        let message = ready["message"].as_str()?;
        (ready["reason"] == "Invalid" && message.contains("cannot be read")).then_some(())
    })
    .await;
}
