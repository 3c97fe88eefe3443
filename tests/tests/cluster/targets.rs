//! Sizes of the kinds that policies may target: with the real controllers where Kubernetes has them, at the object's level for those
//! of others.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tidegate_actuator::cluster::kinds::{SizePath, TARGET_KINDS, TargetKind};
use tidegate_core::Signal;
use tidegate_tests::servers::Agent;
use tidegate_tests::waiting;

use crate::controller::{CHAT, Scene, load};
use crate::objects::{SOON, object, wait_for_ready};

/// A smaller size must have been enough for a while.
const FALLEN: Duration = Duration::from_secs(180);

pub(crate) fn template(app: &str, restart: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "restartPolicy": restart, "containers": [{ "name": "c", "image": "c" }] },
    })
}

#[tokio::test]
async fn a_stateful_set_is_sized_by_its_scale() {
    let scene = Scene::set().await;
    let sets = Api::<StatefulSet>::default_namespaced(scene.client.clone());
    let set = json!({
        "metadata": { "name": "db" },
        "spec": {
            "serviceName": "db", "replicas": 1, "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": "db" } }, "template": template("db", "Always"),
        },
    });
    sets.create(&PostParams::default(), &object(set)).await.unwrap();
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell("default/statefulset/db", &load(45.0));
    scene.policy("active", json!({ "target": { "kind": "StatefulSet", "name": "db" } })).await;
    waiting::until("five ready pods of the set", SOON, async || {
        (sets.get("db").await.ok()?.status?.ready_replicas? >= 5).then_some(())
    })
    .await;
    scene.condition("Ready", "True", "AsPlanned").await;
}

#[tokio::test]
async fn when_a_size_falls_the_pods_with_the_least_in_flight_go() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    // Without a forecast: one that begins goes no lower than the load has been.
    let quick = json!({
        "scaling": { "scaleDownHold": "5s", "flapWindow": "5s" }, "forecast": { "enabled": false },
    });
    scene.policy("active", quick).await;
    let size = scene.sized("a size for the load", |size| size >= 5).await;
    wait_for_ready(&scene.client, "chat", size).await;
    let pods = Api::<Pod>::default_namespaced(scene.client.clone());
    let named = ListParams::default().labels("app=chat");
    let living = async || -> Vec<String> {
        let all = pods.list(&named).await.expect("pods can be listed").items;
        let alive = all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        alive.filter_map(|pod| pod.metadata.name).collect()
    };
    let all = living().await;
    // The eldest would be the last to go, did nobody say that it is idle.
    let (idle, busy) = all.split_first().expect("there are pods");
    let told = busy.iter().map(|pod| (pod.clone(), 4.0)).chain([(idle.clone(), 0.0)]);
    agent.tell_pods(CHAT, told.collect::<BTreeMap<_, _>>());
    agent.tell(CHAT, &load(12.0));
    let left = waiting::until("a pod to go", FALLEN, async || {
        let left = living().await;
        (left.len() < all.len()).then_some(left)
    })
    .await;
    assert!(!left.contains(idle), "the idle pod {idle} goes first, of {all:?}; left: {left:?}");
}

#[tokio::test]
async fn a_jobs_parallelism_is_written() {
    let scene = Scene::set().await;
    let jobs = Api::<Job>::default_namespaced(scene.client.clone());
    let job = json!({
        "metadata": { "name": "llm" },
        "spec": { "parallelism": 1, "completions": 1000, "template": template("llm", "Never") },
    });
    jobs.create(&PostParams::default(), &object(job)).await.unwrap();
    let _controller = scene.controller("one").await;
    let spec = json!({
        "target": { "kind": "Job", "name": "llm" }, "mode": "active", "workers": { "min": 3, "max": 3 },
        "growHold": "1s",
    });
    scene.train("llm", spec).await;
    waiting::until("three at a time", SOON, async || {
        (jobs.get("llm").await.ok()?.spec?.parallelism == Some(3)).then_some(())
    })
    .await;
}

/// A definition that stands for another project's: of its names, without its rules, and with `scale` where it has that.
fn definition(kind: &TargetKind) -> CustomResourceDefinition {
    let subresources = match kind.size {
        SizePath::Scale(path) => json!({ "status": {}, "scale": {
            "specReplicasPath": format!(".{}", path.join(".")), "statusReplicasPath": ".status.replicas",
        }}),
        SizePath::Field(_) | SizePath::Group { .. } => json!({ "status": {} }),
    };
    object(json!({
        "metadata": { "name": format!("{}.{}", kind.plural, kind.group) },
        "spec": {
            "group": kind.group, "scope": "Namespaced",
            "names": { "kind": kind.kind, "plural": kind.plural, "singular": kind.kind.to_lowercase() },
            "versions": [{
                "name": kind.version, "served": true, "storage": true, "subresources": subresources,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    }))
}

/// An object of the kind with two of two, and the path to that size.
fn example(kind: &TargetKind) -> (Value, String) {
    let nested =
        |path: &[&str], value: Value| path.iter().rev().fold(value, |inner, part| json!({ *part: inner }));
    let (spec, pointer) = match kind.size {
        SizePath::Scale(path) | SizePath::Field(path) => {
            (nested(path, json!(2)), format!("/{}", path.join("/")))
        }
        SizePath::Group { list, key, size } => {
            let other = json!({ key: "other" });
            let mut group = nested(size, json!(2));
            group[key] = json!("workers");
            let pointer = format!("/{}/1/{}", list.join("/"), size.join("/"));
            (nested(list, json!([other, group])), pointer)
        }
    };
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": { "name": "llm" },
    });
    object.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    (object, pointer)
}

#[tokio::test]
async fn kinds_of_other_projects_are_sized_where_their_size_stands() {
    let scene = Scene::set().await;
    let others: Vec<_> =
        TARGET_KINDS.iter().filter(|kind| !["apps", "batch"].contains(&kind.group)).collect();
    assert!(others.len() >= 5, "JobSet, PyTorchJob, TrainJob, RayCluster and more");
    let crds = Api::<CustomResourceDefinition>::all(scene.client.clone());
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    scene.pool(1000).await;
    for kind in others {
        let name = format!("{}.{}", kind.plural, kind.group);
        crds.patch(&name, &PatchParams::apply("tests"), &Patch::Apply(&definition(kind))).await.unwrap();
        let gvk = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        let api: Api<DynamicObject> = Api::default_namespaced_with(scene.client.clone(), &resource);
        let (object, pointer) = example(kind);
        waiting::until(&format!("{name} to be served"), SOON, async || {
            api.create(&PostParams::default(), &serde_json::from_value(object.clone()).ok()?).await.ok()
        })
        .await;
        let low = kind.kind.to_lowercase();
        let group = kind.grouped.then_some("workers");
        let id = format!("default/{low}/llm{}", group.map(|g| format!("/{g}")).unwrap_or_default());
        agent.tell(&id, &[(Signal::StepsPerSecond, 2.0), (Signal::SamplesPerSecond, 64.0)]);
        let mut target = json!({ "kind": kind.kind, "name": "llm" });
        if let Some(group) = group {
            target["group"] = json!(group);
        }
        scene
            .train(
                &low,
                json!({ "target": target, "mode": "active", "workers": { "min": 3, "max": 3 }, "growHold": "1s" }),
            )
            .await;
        waiting::until(&format!("three at {pointer} of a {}", kind.kind), SOON, async || {
            let object = serde_json::to_value(api.get("llm").await.ok()?).ok()?;
            (object.pointer(&pointer) == Some(&json!(3))).then_some(())
        })
        .await;
    }
}
