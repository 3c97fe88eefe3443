//! Training jobs whose pods run on simulated nodes, resized by the course that the controller takes: also by two controllers, one
//! after the other.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::crds::{GpuPool, TrainingPolicy, TrainingPolicyStatus};
use tidegate_core::{Metric, Signal};
use tidegate_tests::servers::{Agent, Controller};
use tidegate_tests::waiting;

use crate::controller::{Scene, metric};
use crate::objects::{SOON, object};
use crate::targets::template;

/// A resize waits for its growth to have been free for a while, and for steps to advance.
const RESIZED: Duration = Duration::from_secs(120);

impl Scene {
    pub(crate) async fn train(&self, name: &str, spec: Value) {
        let manifest = json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "TrainingPolicy", "metadata": { "name": name }, "spec": spec,
        });
        let policies = Api::<TrainingPolicy>::default_namespaced(self.client.clone());
        policies.create(&PostParams::default(), &object(manifest)).await.expect("the policy is right");
    }

    pub(crate) async fn pool(&self, slots: u32) {
        let manifest = json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "GpuPool", "metadata": { "name": "gpus" },
            "spec": { "slots": slots },
        });
        let pools = Api::<GpuPool>::all(self.client.clone());
        pools.create(&PostParams::default(), &object(manifest)).await.expect("the pool is right");
    }

    /// A job of workers that run on: simulated nodes end the pods of a Job at once.
    async fn job(&self, workers: u32) -> Api<StatefulSet> {
        let sets = Api::<StatefulSet>::default_namespaced(self.client.clone());
        let set = json!({
            "metadata": { "name": "llm" },
            "spec": {
                "serviceName": "llm", "replicas": workers, "podManagementPolicy": "Parallel",
                "selector": { "matchLabels": { "app": "llm" } }, "template": template("llm", "Always"),
            },
        });
        sets.create(&PostParams::default(), &object(set)).await.expect("it is right");
        sets
    }

    /// Waits until the job's resize stands so.
    async fn resize(&self, phase: &str) -> TrainingPolicyStatus {
        let policies = Api::<TrainingPolicy>::default_namespaced(self.client.clone());
        waiting::until(&format!("a resize that is {phase}"), RESIZED, async || {
            let status = policies.get("llm").await.ok()?.status?;
            status.resize.as_ref().is_some_and(|resize| resize.phase == phase).then_some(status)
        })
        .await
    }
}

const LLM: &str = "default/statefulset/llm";

/// The spec of a policy under which the job grows to four workers.
fn grows(min: u32, more: Value) -> Value {
    let mut spec = json!({
        "target": { "kind": "StatefulSet", "name": "llm" }, "mode": "active", "pool": "gpus",
        "workers": { "min": min, "max": 4 },
    });
    let (known, more) = (spec.as_object_mut().expect("an object"), more.as_object().cloned());
    known.extend(more.into_iter().flatten());
    spec
}

#[tokio::test]
async fn a_training_job_grows_into_what_is_free_and_its_steps_are_seen_to_go_on() {
    let scene = Scene::set().await;
    let jobs = scene.job(1).await;
    scene.pool(4).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(LLM, &[(Signal::StepsPerSecond, 2.0), (Signal::SamplesPerSecond, 64.0)]);
    scene.train("llm", grows(1, json!({}))).await;
    let status = scene.resize("done").await;
    let resize = status.resize.expect("it was just there");
    assert_eq!((resize.kind.as_str(), resize.to), ("voluntary", 4));
    assert_eq!(jobs.get("llm").await.unwrap().spec.unwrap().replicas, Some(4));
    assert!(resize.since.is_some() && status.size_before == Some(1), "{resize:?} {:?}", status.size_before);
}

#[tokio::test]
async fn a_job_whose_steps_stand_still_at_the_new_size_gets_the_former_one_back() {
    let scene = Scene::set().await;
    let jobs = scene.job(2).await;
    scene.pool(4).await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(LLM, &[(Signal::StepsPerSecond, 0.0), (Signal::SamplesPerSecond, 64.0)]);
    scene.train("llm", grows(2, json!({ "stepsDeadline": "5s" }))).await;
    scene.resize("restored").await;
    assert_eq!(jobs.get("llm").await.unwrap().spec.unwrap().replicas, Some(2));
}

/// Two controllers that are told the same of a job; the first leads.
struct Two {
    first: Controller,
    second: Controller,
    _agents: [Agent; 2],
}

impl Scene {
    async fn two_controllers(&self, steps_per_second: f64) -> Two {
        let first = self.controller("first").await;
        self.led_by("first").await;
        let second = self.controller("second").await;
        let agents = [Agent::start(first.digests(), "node-a"), Agent::start(second.digests(), "node-a")];
        let told = [(Signal::StepsPerSecond, steps_per_second), (Signal::SamplesPerSecond, 64.0)];
        agents.iter().for_each(|agent| agent.tell(LLM, &told));
        Two { first, second, _agents: agents }
    }
}

#[tokio::test]
async fn another_leader_ends_a_resize_whose_workers_were_still_to_come() {
    let scene = Scene::set().await;
    let jobs = scene.job(1).await;
    scene.pool(4).await;
    waiting::until("the first worker", SOON, async || {
        (jobs.get("llm").await.ok()?.status?.ready_replicas == Some(1)).then_some(())
    })
    .await;
    let quotas = Api::<ResourceQuota>::default_namespaced(scene.client.clone());
    let quota = json!({ "metadata": { "name": "full" }, "spec": { "hard": { "pods": "2" } } });
    quotas.create(&PostParams::default(), &object(quota)).await.expect("it is right");
    let mut two = scene.two_controllers(2.0).await;
    scene.train("llm", grows(1, json!({}))).await;
    scene.resize("resizing").await;
    let size = async || jobs.get("llm").await.ok()?.spec?.replicas;
    waiting::until("the new size", SOON, async || (size().await == Some(4)).then_some(())).await;
    two.first.kill();
    scene.led_by("second").await;

    quotas.delete("full", &DeleteParams::default()).await.expect("it is there");
    // A change has the set looked at now, where it waits longer after each refusal.
    let touched = json!({ "metadata": { "annotations": { "quota": "gone" } } });
    jobs.patch("llm", &PatchParams::default(), &Patch::Merge(touched)).await.expect("it is there");
    let status = scene.resize("done").await;
    let resize = status.resize.expect("it was just there");
    assert_eq!((resize.kind.as_str(), resize.from, resize.to), ("voluntary", 1, 4));
    assert_eq!((status.size_before, size().await), (Some(1), Some(4)));
    let done = metric(&two.second, Metric::Resizes, &format!(r#"workload="{LLM}",outcome="done""#)).await;
    assert_eq!(done, Some(1.0), "the second counts it, once");
}

#[tokio::test]
async fn another_leader_takes_a_resize_back_whose_steps_stand_still() {
    let scene = Scene::set().await;
    let jobs = scene.job(2).await;
    scene.pool(4).await;
    let mut two = scene.two_controllers(0.0).await;
    scene.train("llm", grows(2, json!({ "stepsDeadline": "5s" }))).await;
    scene.resize("verifying").await;
    two.first.kill();
    assert_eq!(
        jobs.get("llm").await.unwrap().spec.unwrap().replicas,
        Some(4),
        "it was cut off in the middle"
    );
    scene.led_by("second").await;
    let resize = scene.resize("restored").await.resize.expect("it was just there");
    assert_eq!((resize.from, resize.to), (2, 4));
    assert_eq!(
        jobs.get("llm").await.unwrap().spec.unwrap().replicas,
        Some(2),
        "the first had written down that it was two"
    );
}
