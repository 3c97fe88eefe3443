//! From an autoscaler to a policy and back: `adopt`, `activate`, `adopt --replace`, `release`, by the binary that users run.

use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tidegate_tests::servers::{Agent, binary};

use crate::controller::{CHAT, Scene, load};
use crate::objects::object;

impl Scene {
    /// Runs a command of the binary against the cluster.
    fn tidegate(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--kubeconfig").arg(self.control_plane.kubeconfig());
        command.output().expect("the binary can be run")
    }

    /// The same; what it printed, for it must succeed.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.tidegate(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// Whether a field of the Deployment is Tidegate's.
    async fn owns(&self) -> bool {
        let deployments = Api::<Deployment>::default_namespaced(self.client.clone());
        let managers =
            deployments.get("chat").await.expect("it is there").metadata.managed_fields.unwrap_or_default();
        managers.iter().any(|entry| entry.manager.as_deref() == Some("tidegate"))
    }

    async fn adoptable(&self) {
        let autoscaler = object::<HorizontalPodAutoscaler>(json!({
            "metadata": { "name": "chat", "labels": { "team": "a" } },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat" },
                "minReplicas": 2, "maxReplicas": 9,
                "behavior": { "scaleDown": { "stabilizationWindowSeconds": 90 } },
            },
        }));
        self.autoscalers().create(&PostParams::default(), &autoscaler).await.expect("it is right");
    }
}

#[tokio::test]
async fn an_autoscaler_is_adopted_replaced_and_put_back() {
    let scene = Scene::set().await;
    scene.adoptable().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));

    let early = scene.tidegate(&["adopt", "hpa/chat", "--replace"]);
    assert_eq!(early.status.code(), Some(64), "nobody would size it");
    let adopt = ["adopt", "hpa/chat", "--latency", "2s", "--requests-per-second", "10"];
    let printed = scene.says(&[&adopt[..], &["--dry-run"]].concat());
    assert!(
        printed.contains("~ HorizontalPodAutoscaler chat: minReplicas 2 → what is needed, up to 9"),
        "{printed}"
    );
    assert!(scene.policies().get_opt("chat").await.unwrap().is_none(), "a dry run makes nothing");
    scene.says(&adopt);
    let policy = scene.policies().get("chat").await.expect("it was made");
    assert_eq!(policy.spec.policy.scaling.scale_down_hold.get().as_secs(), 90);
    let again = scene.tidegate(&[&adopt[..], &["--policy", "second"]].concat());
    assert_eq!(again.status.code(), Some(64), "one target, one policy");

    scene.says(&["activate", "chat"]);
    scene.floored("a raised floor", |floor| floor >= Some(3)).await;
    scene.condition("Active", "True", "Acting").await;
    scene.says(&["adopt", "hpa/chat", "--replace"]);
    assert!(scene.autoscalers().get_opt("chat").await.unwrap().is_none(), "it is replaced");
    agent.tell(CHAT, &load(85.0));
    scene.sized("a size by the policy alone", |size| size >= 8).await;

    let said = scene.says(&["release", "chat"]);
    assert!(said.contains("HorizontalPodAutoscaler default/chat: as it was"), "{said}");
    let back = scene.autoscalers().get("chat").await.expect("it is back");
    let spec = back.spec;
    assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 9), "with the user's own floor");
    assert_eq!(back.metadata.labels.unwrap_or_default().get("team").map(String::as_str), Some("a"));
    scene.condition("Active", "False", "Shadow").await;
}

#[tokio::test]
async fn a_size_that_was_written_comes_back_and_the_field_is_given_up() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    scene.sized("a size for the load", |size| size >= 5).await;
    let before = tidegate_tests::waiting::until("the size from before", crate::objects::SOON, async || {
        scene.policies().get("chat").await.ok()?.status?.size_before
    })
    .await;
    assert_eq!(before, 1);
    let dry = scene.says(&["release", "deploy/chat", "--dry-run"]);
    assert!(dry.contains("→ 1, as before"), "{dry}");
    assert!(scene.size().await >= 5, "a dry run changes nothing");
    scene.says(&["release", "deploy/chat"]);
    assert_eq!(scene.size().await, 1);
    assert!(!scene.owns().await, "whoever applies manifests finds no conflict");
}

#[tokio::test]
async fn a_size_that_was_left_in_shadow_stays_and_the_field_is_given_up() {
    let scene = Scene::set().await;
    let controller = scene.controller("one").await;
    let agent = Agent::start(controller.digests(), "node-a");
    agent.tell(CHAT, &load(45.0));
    scene.policy("active", json!({})).await;
    let size = scene.sized("a size for the load", |size| size >= 5).await;
    scene.set_mode("shadow").await;
    tidegate_tests::waiting::until("nothing to come back to", crate::objects::SOON, async || {
        scene.policies().get("chat").await.ok()?.status?.size_before.is_none().then_some(())
    })
    .await;
    assert!(scene.owns().await, "the size is still Tidegate's");
    let dry = scene.says(&["release", "chat", "--dry-run"]);
    assert!(dry.contains("would be given up as it is") && scene.owns().await, "{dry}");
    let said = scene.says(&["release", "chat"]);
    assert!(said.contains("Deployment default/chat: its size is given up as it is"), "{said}");
    assert_eq!((scene.size().await, scene.owns().await), (size, false));
    assert!(!scene.says(&["release", "chat"]).contains("given up"), "there is nothing left to give up");
}
