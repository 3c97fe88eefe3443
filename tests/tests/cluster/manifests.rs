//! The plain manifests: they are what the real helm makes of the chart, and a real API server takes them by server-side apply.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tidegate_actuator::cluster::rights::Identity;
use tidegate_actuator::crds::ServingPolicy;
use tidegate_tests::repository::{root, text};
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options, helm, manifests};
use tidegate_tests::waiting;

use crate::chart::NAMESPACE;
use crate::objects::SOON;
use crate::rights::{granted, needed};

/// Each manifest with the file of values that it is made with.
const MANIFESTS: [(&str, Option<&str>); 2] =
    [("tidegate.yaml", None), ("tidegate-no-gpu.yaml", Some("values-no-gpu.yaml"))];

const HEAD: &str = "\
# Made by helm of the chart; a test keeps it so. First the kinds:
#   kubectl apply --server-side -f deploy/crds
#   kubectl apply --server-side -f deploy/manifests/FILE
apiVersion: v1
kind: Namespace
metadata:
  name: tidegate
";

fn rendered(file: &str, values: Option<&str>) -> String {
    let chart = root().join("deploy/helm/tidegate").display().to_string();
    let values = values.map(|values| root().join("deploy/helm").join(values).display().to_string());
    let mut arguments = vec!["template", "tidegate", &chart, "--namespace", NAMESPACE];
    arguments.extend(values.iter().flat_map(|values| ["--values", values]));
    let output = helm(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("{}{}", HEAD.replace("FILE", file), String::from_utf8_lossy(&output.stdout))
}

#[test]
fn the_manifests_are_what_helm_makes_of_the_chart() {
    for (file, values) in MANIFESTS {
        let path = root().join("deploy/manifests").join(file);
        let made = rendered(file, values);
        if std::env::var_os("TIDEGATE_UPDATE").is_some() {
            fs::write(&path, &made).expect("the folder is there");
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == made,
            "deploy/manifests/{file} is not what helm makes; run this test with TIDEGATE_UPDATE=1"
        );
    }
}

#[test]
fn values_that_make_no_sense_are_refused_before_anything_is_made() {
    let chart = root().join("deploy/helm/tidegate").display().to_string();
    for value in [
        "architectures={mips}",
        "controller.replicas=0",
        "agent.without={all}",
        "agent.kernelLog=kern.log",
        "podMonitor.interval=often",
        "agent.otlp.push.protocol=udp",
        "no.such=value",
    ] {
        let output = helm(&["template", "tidegate", &chart, "--set", value]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("values don't meet"), "{value}: {said}");
    }
    // What only together makes no sense.
    for (value, missing) in [
        ("agent.otlp.receive.enabled=true", "agent.tlsSecretName"),
        ("agent.otlp.push.ca=true", "agent.otlp.push.secretName"),
    ] {
        let output = helm(&["template", "tidegate", &chart, "--set", value]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(missing), "{value}: {said}");
    }
}

fn objects(file: &str) -> Vec<DynamicObject> {
    manifests::objects(&text(file.as_ref()).expect("the file is there"))
}

/// Applies objects; gives the version that each then has.
async fn apply(client: &Client, objects: &[DynamicObject]) -> Vec<(String, Option<String>)> {
    let version = |applied: DynamicObject| {
        let kind = applied.types.as_ref().map_or("", |types| &types.kind);
        let name = format!("{kind} {}", applied.name_any());
        let generation = applied.metadata.generation.map(|generation| generation.to_string());
        (name, generation.or(applied.metadata.resource_version))
    };
    manifests::apply(client, objects).await.into_iter().map(version).collect()
}

async fn served(client: &Client) {
    let policies = Api::<ServingPolicy>::all(client.clone());
    waiting::until("the policies' kind to be served", SOON, async || {
        policies.list(&Default::default()).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_real_api_server_takes_them_by_server_side_apply() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let _kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 64)], Duration::ZERO).await;
    let client = control_plane.client();
    for plural in ["gpupools", "servingpolicies", "trainingpolicies"] {
        apply(&client, &objects(&format!("deploy/crds/tidegate.io_{plural}.yaml"))).await;
    }
    served(&client).await;
    let all = objects("deploy/manifests/tidegate.yaml");
    let first = apply(&client, &all).await;
    assert_eq!(granted(&client).await, needed(&[]), "the same rights as by helm");
    let sets = Api::<StatefulSet>::namespaced(client.clone(), NAMESPACE);
    waiting::until("both controllers on the node", SOON, async || {
        (sets.get(Identity::Controller.account()).await.ok()?.status?.ready_replicas == Some(2)).then_some(())
    })
    .await;
    // What the controller has filled in stays when they are applied again, and nothing else changes.
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let filled = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "tidegate-ca" }, "data": { "ca.crt": "x" } });
    maps.patch("tidegate-ca", &PatchParams::apply("tidegate"), &Patch::Apply(&filled))
        .await
        .expect("it is there");
    // The map was just changed, and the namespace by the controllers that look after namespaces.
    let is_kept =
        |(name, _): &&(String, Option<String>)| !name.ends_with("-ca") && !name.starts_with("Namespace");
    let second = apply(&client, &all).await;
    assert_eq!(
        first.iter().filter(is_kept).collect::<Vec<_>>(),
        second.iter().filter(is_kept).collect::<Vec<_>>()
    );
    let map = maps.get("tidegate-ca").await.expect("it is there");
    assert_eq!(map.data.and_then(|data| data.get("ca.crt").cloned()).as_deref(), Some("x"));

    apply(&client, &objects("deploy/manifests/tidegate-no-gpu.yaml")).await;
    let agents = Api::<DaemonSet>::namespaced(client, NAMESPACE)
        .get(Identity::Agent.account())
        .await
        .expect("it is there");
    let arguments = agents.spec.and_then(|spec| spec.template.spec?.containers.into_iter().next()?.args);
    assert!(arguments.is_some_and(|arguments| arguments.iter().any(|argument| argument == "--without=gpu")));
}
