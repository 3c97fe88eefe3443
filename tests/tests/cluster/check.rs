//! `tidegate check cluster` against a real API server: what is missing is named with what to do, whoever asks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tidegate_actuator::cluster::rights::{Identity, permissions};
use tidegate_actuator::cluster::versions::KUBERNETES_TESTED;
use tidegate_actuator::crds::{ServingPolicy, TrainingPolicy};
use tidegate_tests::servers::kubernetes::{ControlPlane, FakeNode, Kwok, Options};
use tidegate_tests::servers::{Controller, binary};
use tidegate_tests::waiting;

use crate::chart::{self, NAMESPACE};
use crate::objects::{SOON, object};

/// What `tidegate check cluster` found: whether it passed, and each finding as `VERDICT SUBJECT: TEXT`.
struct Report {
    passed: bool,
    lines: Vec<String>,
}

impl Report {
    fn has(&self, verdict: &str, subject: &str, text: &str) -> bool {
        let start = format!("{verdict} {subject}: ");
        self.lines.iter().any(|line| line.starts_with(&start) && line.contains(text))
    }

    /// Asserts that there is such a finding.
    fn must(&self, verdict: &str, subject: &str, text: &str) {
        assert!(self.has(verdict, subject, text), "no `{verdict} {subject}: …{text}…` in {:#?}", self.lines);
    }
}

fn check(kubeconfig: &Path) -> Report {
    let mut command = Command::new(binary());
    command.args(["check", "cluster", "--output", "json", "--kubeconfig"]).arg(kubeconfig);
    let output = command.env_remove("POD_NAMESPACE").output().expect("the binary was built");
    let said = String::from_utf8_lossy(&output.stdout);
    let value: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("no report: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let passed = value["passed"] == true;
    assert_eq!(output.status.code(), Some(i32::from(!passed)), "the exit status says the same");
    let line = |finding: &Value| {
        let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {} [{}]", word("verdict"), word("subject"), word("text"), word("remedy"))
    };
    Report { passed, lines: value["findings"].as_array().into_iter().flatten().map(line).collect() }
}

fn policy(target: Value) -> ServingPolicy {
    object(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "chat" },
        "spec": { "target": target, "replicas": { "min": 1, "max": 3 }, "slo": { "latency": "1s", "target": 0.9 } },
    }))
}

#[tokio::test]
async fn before_an_installation_it_says_what_is_not_there() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let report = check(&control_plane.kubeconfig());
    assert!(!report.passed);
    report.must("fine", "server", &format!("Kubernetes v1.{KUBERNETES_TESTED}."));
    report.must("missing", "definitions", "servingpolicies.tidegate.io lacks version v1alpha1");
    report.must("missing", "definitions", "tidegate crds | kubectl apply --server-side -f -");
    report.must("missing", "controller", "there is no StatefulSet tidegate-controller in tidegate");
    report.must("missing", "leader", "no controller leads");
    report.must(
        "missing",
        "rights",
        "tidegate-controller may not patch deployments.apps/scale in the cluster: that is needed for",
    );
    // Without KEDA nobody misses what would be done to its objects.
    report.must("warning", "rights", "patch scaledobjects.keda.sh");
    report.must("absent", "KEDA", "keda.sh is not installed");
    report.must("absent", "JobSet", "");
}

#[tokio::test]
async fn after_one_all_is_fine_and_whatever_is_taken_away_is_named() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let _kwok = Kwok::start(&control_plane, &[FakeNode::with_cpus("node-a", 64)], Duration::ZERO).await;
    let client = control_plane.client();
    chart::install(&control_plane, &[]);
    // The pods on a simulated node are ready and do nothing: another controller leads, as the chart's identity.
    let kubeconfig = control_plane.kubeconfig_of(NAMESPACE, Identity::Controller.account()).await;
    let mut controller = Controller::start_in(NAMESPACE, &kubeconfig, "one", &[]).await;
    let report = waiting::until("a check that passes", SOON, async || {
        let report = check(&control_plane.kubeconfig());
        (report.passed && report.has("fine", "controller", "2 of 2")).then_some(report)
    })
    .await;
    report.must("fine", "definitions", "");
    report.must("fine", "agents", "1 of 1 are ready");
    report.must("fine", "leader", "one");
    for identity in Identity::ALL {
        let all = permissions(identity).len();
        report.must("fine", "rights", &format!("{} has all {all}", identity.account()));
    }
    report.must("absent", "rights", "controller.checkpointExec of the chart is off");
    report.must("absent", "targets", "there is no policy yet");
    whoever_asks(&control_plane).await;
    a_right_is_gone(&control_plane, &client).await;
    targets(&control_plane, &client).await;

    controller.kill();
    let leases = Api::<Lease>::namespaced(client, NAMESPACE);
    let long_ago = Patch::Merge(json!({ "spec": { "renewTime": "2026-01-31T08:00:00.000000Z" } }));
    leases
        .patch(Identity::Controller.account(), &PatchParams::default(), &long_ago)
        .await
        .expect("it is there");
    check(&control_plane.kubeconfig()).must("missing", "leader", "one has not renewed its lease");
}

/// From within a pod each identity learns at least of itself; nothing that it may not see is called missing.
async fn whoever_asks(control_plane: &ControlPlane) {
    let of =
        async |identity: Identity| check(&control_plane.kubeconfig_of(NAMESPACE, identity.account()).await);
    let controller = of(Identity::Controller).await;
    for identity in Identity::ALL {
        controller.must("fine", "rights", identity.account());
    }
    controller.must("fine", "leader", "one");
    controller.must("unknown", "agents", "may not read the DaemonSet");
    assert!(controller.passed, "{:#?}", controller.lines);
    let agent = of(Identity::Agent).await;
    agent.must("fine", "rights", "tidegate-agent has all 2");
    agent.must("unknown", "rights", "whoever asks may not ask what tidegate-controller may");
    agent.must("unknown", "definitions", "");
    assert!(agent.passed, "{:#?}", agent.lines);
}

async fn a_right_is_gone(control_plane: &ControlPlane, client: &Client) {
    let roles = Api::<ClusterRole>::all(client.clone());
    let name = Identity::Agent.account();
    let before = roles.get(name).await.expect("the chart has it");
    let pods = |verbs: Value| {
        Patch::Merge(json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": verbs }] }))
    };
    roles.patch(name, &PatchParams::default(), &pods(json!(["list"]))).await.expect("it is there");
    let report = waiting::until("a check that notices", SOON, async || {
        let report = check(&control_plane.kubeconfig());
        (!report.passed).then_some(report)
    })
    .await;
    report.must("missing", "rights", "tidegate-agent may not watch pods in the cluster");
    assert!(!report.has("missing", "rights", "list pods"), "{:#?}", report.lines);
    let rules = Patch::Merge(json!({ "rules": before.rules }));
    roles.patch(name, &PatchParams::default(), &rules).await.expect("it is there");
}

async fn targets(control_plane: &ControlPlane, client: &Client) {
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    let known = policy(json!({ "kind": "Deployment", "name": "chat" }));
    policies.create(&PostParams::default(), &known).await.expect("it is right");
    check(&control_plane.kubeconfig()).must("fine", "targets", "policies: 1; kinds: Deployment");
    policies.delete("chat", &DeleteParams::default()).await.expect("it is there");
    let foreign = policy(json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "chat" }));
    policies.create(&PostParams::default(), &foreign).await.expect("it is right");
    check(&control_plane.kubeconfig()).must(
        "missing",
        "targets",
        "no Rollout of argoproj.io/v1alpha1, which default/chat targets",
    );
    policies.delete("chat", &DeleteParams::default()).await.expect("it is there");
    // One that the server has, and that the chart grants nothing on.
    let built_in = policy(json!({ "apiVersion": "v1", "kind": "ReplicationController", "name": "chat" }));
    policies.create(&PostParams::default(), &built_in).await.expect("it is right");
    let report = check(&control_plane.kubeconfig());
    report.must("missing", "targets", "tidegate-controller may not list replicationcontrollers");
    report.must("missing", "targets", "controller.extraTargets");
    policies.delete("chat", &DeleteParams::default()).await.expect("it is there");
    let training = object::<TrainingPolicy>(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "TrainingPolicy", "metadata": { "name": "tune" },
        "spec": {
            "target": { "kind": "Job", "name": "tune" }, "workers": { "min": 1, "max": 4 },
            "checkpoint": { "exec": { "command": ["save"] } },
        },
    }));
    let trainings = Api::<TrainingPolicy>::default_namespaced(client.clone());
    trainings.create(&PostParams::default(), &training).await.expect("it is right");
    let report = check(&control_plane.kubeconfig());
    report.must("missing", "targets", "default/tune asks for a checkpoint by a command");
    report.must("missing", "targets", "set controller.checkpointExec of the chart");
    trainings.delete("tune", &DeleteParams::default()).await.expect("it is there");
}
