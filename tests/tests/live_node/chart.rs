//! The chart on a real node: its image, its identities, and pods that the controller asks for and the kubelet runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, AttachParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_actuator::crds::{ServingPolicy, definitions};
use tidegate_agent::logs::{
    LogConfig, LogFormat, LogPipeline, LogSource, NdjsonConfig, ShipLimits, SinkConfig, TailLimits,
};
use tidegate_core::{Field, Metric, Signal};
use tidegate_tests::images::{Images, local};
use tidegate_tests::repository::root;
use tidegate_tests::servers::kubernetes::{ControlPlane, LiveNode, Options, pause};
use tidegate_tests::servers::{binary, free_port, https};
use tidegate_tests::waiting;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(120);
/// What the distroless base has, too: glibc, libgcc, certificates; no shell.
const RUNTIME_PACKAGES: [&str; 3] = ["ca-certificates", "libc6", "libgcc-s1"];
pub(crate) const NAMESPACE: &str = "tidegate";

pub(crate) fn object<K: DeserializeOwned>(manifest: Value) -> K {
    serde_json::from_value(manifest).expect("the manifest has the right types")
}

/// Tidegate's image from the repository's Dockerfile, and one of a program that does nothing.
fn images(node: &LiveNode) {
    let images = Images::new();
    images.from_packages("runtime", &RUNTIME_PACKAGES, &[], &[]);
    let context = images.folder("context");
    fs::copy(binary(), context.join("tidegate")).expect("the binary was built");
    let runtime = format!("RUNTIME={}", local("runtime"));
    images.build("tidegate", &context, &["--target", "prebuilt", "--build-arg", &runtime]);
    node.import(&images, "tidegate");
    images.from_program("idle", &pause());
    node.import(&images, "idle");
}

pub(crate) struct Ports {
    api: u16,
    digests: u16,
    pub(crate) metrics: u16,
    otlp: [u16; 2],
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self {
            api: free_port(),
            digests: free_port(),
            metrics: free_port(),
            otlp: [free_port(), free_port()],
        }
    }
}

/// Installs the chart for a node without a network for pods: all in the node's. `more`: further values of it.
fn install(control_plane: &ControlPlane, ports: &Ports, more: &[String]) {
    let chart = root().join("deploy/helm/tidegate").display().to_string();
    let image = local("tidegate");
    let values = [
        format!("image.repository={image}"),
        "image.tag=latest".into(),
        "image.pullPolicy=Never".into(),
        "apiServer.host=127.0.0.1".into(),
        format!("apiServer.port={}", control_plane.port()),
        format!("ports.api={},ports.digests={},ports.metrics={}", ports.api, ports.digests, ports.metrics),
        format!("ports.otlpGrpc={},ports.otlpHttp={}", ports.otlp[0], ports.otlp[1]),
        "controller.replicas=1,controller.hostNetwork=true".into(),
        "agent.hostNetwork=true,restore.hostNetwork=true".into(),
        format!("agent.controllerUrl=https://127.0.0.1:{}", ports.digests),
        // The root of a test machine is no shared mount.
        "agent.priorityClassName=,agent.mountPropagation=None".into(),
    ];
    let mut arguments = vec!["install", "tidegate", &chart, "--namespace", NAMESPACE, "--skip-crds"];
    arguments.extend(values.iter().chain(more).flat_map(|value| ["--set", value.as_str()]));
    let output = control_plane.helm(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn teach(client: &Client) {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    for definition in definitions() {
        crds.create(&PostParams::default(), &definition).await.expect("the definition is right");
    }
    waiting::until("the policies' kind to be served", SOON, async || {
        Api::<ServingPolicy>::all(client.clone()).list(&ListParams::default()).await.ok().map(drop)
    })
    .await;
}

/// What Tidegate's pods have logged, for the message of a wait that was in vain.
fn logs() -> String {
    let mut text = String::new();
    let pods = fs::read_dir("/var/log/pods").into_iter().flatten().flatten();
    for pod in pods.filter(|pod| pod.file_name().to_string_lossy().starts_with(&format!("{NAMESPACE}_"))) {
        let containers = fs::read_dir(pod.path()).into_iter().flatten().flatten();
        for log in
            containers.flat_map(|container| fs::read_dir(container.path()).into_iter().flatten().flatten())
        {
            let lines = fs::read_to_string(log.path()).unwrap_or_default();
            let last = lines.lines().rev().take(30).collect::<Vec<_>>();
            let last: Vec<_> = last.into_iter().rev().collect();
            text += &format!("\n--- {}\n{}", log.path().display(), last.join("\n"));
        }
    }
    text
}

pub(crate) async fn wait<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    match waiting::within(SOON, probe).await {
        Some(value) => value,
        None => panic!("waited in vain for {what}{}", logs()),
    }
}

async fn ready(client: &Client) {
    let controllers = Api::<StatefulSet>::namespaced(client.clone(), NAMESPACE);
    wait("a ready controller", async || {
        let status = controllers.get("tidegate-controller").await.ok()?.status?;
        (status.ready_replicas == Some(1)).then_some(())
    })
    .await;
    let agents = Api::<DaemonSet>::namespaced(client.clone(), NAMESPACE);
    wait("a ready agent", async || {
        let status = agents.get("tidegate-agent").await.ok()?.status?;
        (status.number_ready == 1).then_some(())
    })
    .await;
}

/// A value on a page of metrics, of the first series that bears this text.
fn value(page: &str, name: &str, with: &str) -> Option<f64> {
    let mut lines = page.lines().filter(|line| line.starts_with(name) && line.contains(with));
    lines.next()?.rsplit(' ').next()?.parse().ok()
}

pub(crate) async fn agents_page(port: u16) -> Option<String> {
    // The certificate is the agent's own, made for this run.
    let client = reqwest::Client::builder().no_proxy().danger_accept_invalid_certs(true).build().ok()?;
    let answer = client.get(format!("https://127.0.0.1:{port}/metrics")).send().await.ok()?;
    answer.text().await.ok()
}

async fn controllers_page(client: &Client, port: u16) -> Option<String> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let authority = maps.get("tidegate-ca").await.ok()?.data?.remove("ca.crt")?;
    let answer =
        https(authority.as_bytes()).get(format!("https://127.0.0.1:{port}/metrics")).send().await.ok()?;
    answer.text().await.ok()
}

/// Tidegate's own, unless it is there.
async fn create_namespace(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    if namespaces.get_opt(NAMESPACE).await.expect("the API server answers").is_none() {
        let namespace = object(json!({ "metadata": { "name": NAMESPACE } }));
        namespaces.create(&PostParams::default(), &namespace).await.expect("it is new");
    }
}

/// Values of the chart with which pods may push to the agent, with a certificate and a token of the user's; and what the
/// certificate is trusted by.
async fn takes_pushes(client: &Client) -> (Vec<String>, String) {
    create_namespace(client).await;
    let names = vec!["localhost".to_owned(), format!("tidegate-agent.{NAMESPACE}.svc")];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = json!({
        "metadata": { "name": "agents" }, "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": certificate, "tls.key": key },
    });
    let tokens =
        json!({ "metadata": { "name": "senders" }, "stringData": { "tokens": format!("{SENDER} push\n") } });
    for secret in [tls, tokens] {
        secrets.create(&PostParams::default(), &object(secret)).await.expect("it is new");
    }
    let values = [
        "agent.tlsSecretName=agents",
        "agent.otlp.receive.enabled=true",
        "agent.otlp.receive.tokensSecretName=senders",
        "agent.syslog=true",
    ];
    (values.map(str::to_owned).to_vec(), certificate)
}

/// Token of whoever pushes.
const SENDER: &str = "sender-of-the-test";

/// Metrics are taken over TLS by the user's certificate, of whoever has the token, and stand on the agent's page.
async fn pushed(ports: &Ports, authority: &str) {
    let nanoseconds = format!("{}000000", waiting::now().as_millis());
    let metrics = json!({ "resourceMetrics": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "chat" } }] },
        "scopeMetrics": [{ "metrics": [{
            "name": "pushed.by.the.test",
            "gauge": { "dataPoints": [{ "timeUnixNano": nanoseconds, "asDouble": 42.5 }] },
        }] }],
    }] });
    let url = format!("https://localhost:{}/v1/metrics", ports.otlp[1]);
    let push = || https(authority.as_bytes()).post(&url).json(&metrics);
    let denied = push().send().await.expect("it answers");
    assert_eq!(denied.status(), 401, "nobody pushes without a token");
    let taken = push().bearer_auth(SENDER).send().await.expect("it answers");
    assert_eq!(taken.status(), 200, "{}", taken.text().await.unwrap_or_default());
    wait("what was pushed", async || {
        let page = agents_page(ports.metrics).await?;
        value(&page, "pushed_by_the_test", "").filter(|told| (*told - 42.5).abs() < 1e-9)
    })
    .await;
}

/// What an agent's own pod finds on its node, by the command that the documentation names.
async fn checked(client: &Client, kubelet: &Path) {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let params = ListParams::default().labels("app.kubernetes.io/component=agent");
    let agents = pods.list(&params).await.expect("they can be listed").items;
    let name = agents.into_iter().next().and_then(|pod| pod.metadata.name).expect("there is one");
    let kubelet = kubelet.display().to_string();
    let command = ["tidegate", "check", "node", "--root", "/host", "--kubelet", &kubelet, "--output", "json"];
    let asked = AttachParams { stdin: false, stdout: true, stderr: false, ..AttachParams::default() };
    let mut running = pods.exec(&name, command, &asked).await.expect("it can be run there");
    let mut said = String::new();
    let mut stdout = running.stdout().expect("it was asked for");
    stdout.read_to_string(&mut said).await.expect("it is text");
    let found: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let findings = found["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for subject in ["proc", "cgroups", "pod resources", "kernel log", "pods' logs"] {
        let finding = findings.iter().find(|finding| finding["subject"] == subject);
        assert_eq!(finding.map(|finding| &finding["verdict"]), Some(&json!("fine")), "{subject}: {found:#}");
    }
}

/// Images, kinds and the chart, with these values besides those of every test; ready.
pub(crate) async fn installed(
    control_plane: &ControlPlane,
    node: &LiveNode,
    client: &Client,
    ports: &Ports,
    values: &[String],
) {
    images(node);
    teach(client).await;
    create_namespace(client).await;
    install(control_plane, ports, values);
    ready(client).await;
}

#[tokio::test]
async fn the_chart_runs_with_its_own_identities_and_the_kubelet_runs_what_the_controller_asks_for() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let node = LiveNode::start(&control_plane).await;
    let client = control_plane.client();
    let ports = Ports::free();
    let (values, authority) = takes_pushes(&client).await;
    installed(&control_plane, &node, &client, &ports, &values).await;

    // By its own token, over TLS, the agent tells the controller.
    wait("digests", async || {
        let page = controllers_page(&client, ports.api).await?;
        value(&page, Metric::DigestsReceived.family().name, "").filter(|count| *count > 1.0)
    })
    .await;
    // It sees the machine, and the node's containers with the names of their pods.
    wait("containers by the names of their pods", async || {
        let page = agents_page(ports.metrics).await?;
        value(&page, Signal::MemoryTotalBytes.metric_name(), "").filter(|bytes| *bytes > 1e8)?;
        page.contains("pod=\"tidegate-controller-0\"").then_some(())
    })
    .await;

    logged().await;
    pushed(&ports, &authority).await;
    checked(&client, node.kubelet_root()).await;

    let deployment = object::<Deployment>(json!({
        "metadata": { "name": "idle" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "idle" } },
            "template": {
                "metadata": { "labels": { "app": "idle" } },
                "spec": { "hostNetwork": true, "terminationGracePeriodSeconds": 2, "containers": [{
                    "name": "idle", "image": format!("{}:latest", local("idle")), "imagePullPolicy": "Never",
                }] },
            },
        },
    }));
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &deployment).await.expect("it is right");
    let policy = object::<ServingPolicy>(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "idle" },
        "spec": {
            "target": { "kind": "Deployment", "name": "idle" }, "mode": "active",
            "replicas": { "min": 3, "max": 5 }, "slo": { "latency": "1s", "target": 0.99 },
        },
    }));
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    policies.create(&PostParams::default(), &policy).await.expect("it is right");
    wait("three pods that the kubelet runs", async || {
        let status = deployments.get("idle").await.ok()?.status?;
        (status.ready_replicas == Some(3)).then_some(())
    })
    .await;
    wait("a status that says so", async || {
        let status = policies.get("idle").await.ok()?.status?;
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
        (ready.status == "True" && status.replicas?.ready == 3).then_some(())
    })
    .await;
    restored(&client).await;
    uninstalled(&control_plane, &client).await;
}

/// What the controller writes is found in the kubelet's folder, taken out of its frame and named after its pod.
async fn logged() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let source = LogSource {
        paths: vec!["/var/log/pods/*/*/*.log*".into()],
        format: LogFormat::Cri,
        ..LogSource::default()
    };
    let (_sources, followed) = watch::channel(vec![source]);
    let shipped = dir.path().join("shipped");
    let logs = LogPipeline::start(LogConfig {
        host: "node".into(),
        sources: followed,
        pods: None,
        sink: SinkConfig::Ndjson(NdjsonConfig::new(shipped.clone())),
        state_dir: dir.path().join("state"),
        tail: TailLimits::default(),
        ship: ShipLimits::default(),
        spool: None,
    })
    .expect("the log path starts");
    let pod = format!("\"{}\":\"tidegate-controller-0\"", Field::KubernetesPod.name());
    let stream = format!("\"{}\":\"stderr\"", Field::Stream.name());
    wait("a line of the controller", async || {
        let files = fs::read_dir(&shipped).into_iter().flatten().flatten();
        let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
        let found = texts
            .into_iter()
            .any(|text| text.lines().any(|line| line.contains(&pod) && line.contains(&stream)));
        found.then_some(())
    })
    .await;
    logs.shutdown(SOON).await;
}

/// The job that gives floors back runs, as its own identity.
async fn restored(client: &Client) {
    let cron = Api::<CronJob>::namespaced(client.clone(), NAMESPACE);
    let template = cron.get("tidegate-restore").await.expect("the chart has it").spec;
    let job =
        object::<Job>(json!({ "metadata": { "name": "restore-now" }, "spec": template.job_template.spec }));
    let jobs = Api::<Job>::namespaced(client.clone(), NAMESPACE);
    jobs.create(&PostParams::default(), &job).await.expect("it is right");
    wait("the job that gives floors back", async || {
        let status = jobs.get("restore-now").await.ok()?.status?;
        (status.succeeded == Some(1)).then_some(())
    })
    .await;
}

/// Uninstalls the chart, and waits until its pods are gone.
pub(crate) async fn uninstall(control_plane: &ControlPlane, client: &Client) {
    let output = control_plane.helm(&["uninstall", "tidegate", "--namespace", NAMESPACE]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    wait("the end of its pods", async || {
        let left = pods
            .list(&ListParams::default().labels("app.kubernetes.io/component in (controller, agent)"))
            .await
            .ok()?;
        left.items.is_empty().then_some(())
    })
    .await;
}

/// Nothing of it is left but the kinds and the policies, which are the user's; and what it sized runs on.
async fn uninstalled(control_plane: &ControlPlane, client: &Client) {
    uninstall(control_plane, client).await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let status = deployments.get("idle").await.expect("it is there").status.expect("it has one");
    assert_eq!(status.ready_replicas, Some(3));
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    deployments.patch("idle", &PatchParams::default(), &none).await.expect("it is there");
}
