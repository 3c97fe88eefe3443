//! A model server under a load that rises and falls: pods that the kubelet starts, asked at their own addresses as an ingress does, and
//! no request lost while the size falls.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;
use tidegate_actuator::crds::ServingPolicy;
use tidegate_tests::images::local;
use tidegate_tests::servers::binary;
use tidegate_tests::servers::kubernetes::{ControlPlane, LiveNode, Options};
use tidegate_tests::waiting;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chart::{NAMESPACE, Ports, installed, object, uninstall, wait};

const PORT: u16 = 8000;
/// Two at a time, a fifth of a second each: ten a second and replica.
const PER_REPLICA: f64 = 10.0;
/// Requests that wait for a replica while more are started are answered in the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the addresses are looked up, as an ingress learns of them.
const LOOK: Duration = Duration::from_millis(100);
/// Until a load step is answered, on a busy two-core machine.
const SOON: Duration = Duration::from_secs(60);
/// A smaller size must have been enough for a while.
const FALLEN: Duration = Duration::from_secs(180);

/// Sends requests to the pods that are ready, in turns, at a rate that a test sets.
struct Ingress {
    per_second: Arc<AtomicU32>,
    answered: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Ingress {
    fn start(client: &Client) -> Self {
        let per_second = Arc::new(AtomicU32::new(0));
        let (answered, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let ready: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let looking = tokio::spawn(look(client.clone(), Arc::clone(&ready)));
        let (rate, counted, lost) = (Arc::clone(&per_second), Arc::clone(&answered), Arc::clone(&failed));
        let sending = tokio::spawn(async move {
            let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
            let http = http.expect("a client can be made");
            for turn in 0_usize.. {
                let rate = rate.load(Ordering::Relaxed);
                if rate == 0 {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                tokio::time::sleep(Duration::from_secs(1) / rate).await;
                let all = ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(address) = all.get(turn % all.len().max(1)).copied() else { continue };
                let (http, counted, lost) = (http.clone(), Arc::clone(&counted), Arc::clone(&lost));
                tokio::spawn(async move {
                    let image = json!({ "pixels": vec![0.5; 64] });
                    let asked = http.post(format!("http://{address}/predict")).json(&image).send().await;
                    let wrong = match asked {
                        Ok(answer) if answer.status().is_success() => {
                            counted.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        Ok(answer) => {
                            let status = answer.status();
                            format!("{address}: {status} {}", answer.text().await.unwrap_or_default())
                        }
                        Err(error) => format!("{address}: {error:?}"),
                    };
                    lost.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
                });
            }
        });
        Self { per_second, answered, failed, tasks: vec![looking, sending] }
    }

    fn load(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Waits for so many more answers.
    async fn answers(&self, more: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        wait("more answers", async || (self.answered.load(Ordering::Relaxed) >= before + more).then_some(()))
            .await;
    }

    fn failed(&self) -> Vec<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps the addresses of the pods that are ready and not on their way out.
async fn look(client: Client, ready: Arc<Mutex<Vec<SocketAddr>>>) {
    let pods = Api::<Pod>::default_namespaced(client);
    let params = ListParams::default().labels("app=digits");
    loop {
        if let Ok(list) = pods.list(&params).await {
            let found = list.items.iter().filter_map(address).collect();
            *ready.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn address(pod: &Pod) -> Option<SocketAddr> {
    let status = pod.status.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_none())?;
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")?;
    let ip = status.pod_ip.as_ref().filter(|_| ready.status == "True")?.parse().ok()?;
    Some(SocketAddr::new(ip, PORT))
}

/// Trains the little model that the server serves.
fn train(dir: &Path) {
    let mut command = Command::new(binary());
    command.args(["sample", "digits-train", "--once", "--out"]).arg(dir.join("digits.model"));
    let output = command.current_dir(dir).output().expect("the binary can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn deploy(client: &Client, models: &Path) {
    let port = PORT.to_string();
    let serve = [
        "sample",
        "digits-serve",
        "--address",
        "0.0.0.0",
        "--port",
        &port,
        "--model",
        "/models/digits.model",
        "--service-time",
        "200ms",
        "--concurrency",
        "2",
        "--load-time",
        "3s",
        "--queue",
        "1000",
    ];
    let deployment = json!({
        "metadata": { "name": "digits" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "digits" } },
            "template": {
                "metadata": {
                    "labels": { "app": "digits" },
                    "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": port },
                },
                "spec": {
                    "terminationGracePeriodSeconds": 120,
                    "volumes": [{ "name": "models", "hostPath": { "path": models } }],
                    "containers": [{
                        "name": "server",
                        "image": format!("{}:latest", local("tidegate")), "imagePullPolicy": "Never",
                        "args": serve,
                        "volumeMounts": [{ "name": "models", "mountPath": "/models", "readOnly": true }],
                        "readinessProbe": { "httpGet": { "path": "/readyz", "port": PORT }, "periodSeconds": 1 },
                        // Whoever still has its address may use it for so long.
                        "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } },
                    }],
                },
            },
        },
    });
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    deployments.create(&PostParams::default(), &object(deployment)).await.expect("it is right");
    let policy = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "ServingPolicy", "metadata": { "name": "digits" },
        "spec": {
            "target": { "kind": "Deployment", "name": "digits" }, "mode": "active",
            "replicas": { "min": 1, "max": 5 }, "slo": { "latency": "2s", "target": 0.99 },
            "capacity": { "requestsPerSecond": PER_REPLICA, "concurrency": 2 },
            "scaling": { "scaleDownHold": "5s", "flapWindow": "5s", "leadTime": "10s" },
            // Without a forecast: one that begins goes no lower than the load has been.
            "forecast": { "enabled": false },
        },
    });
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    policies.create(&PostParams::default(), &object(policy)).await.expect("it is right");
}

/// Kills the pod of one of Tidegate's parts without a word to it, and waits until another is ready in its place.
async fn kill(client: &Client, component: &str) {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let params = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
    let list = async || pods.list(&params).await.ok().map(|list| list.items);
    let [pod] = list().await.expect("they can be listed").try_into().expect("one");
    let name = pod.metadata.name.expect("it has a name");
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await.expect("it is there");
    wait("a pod in its place", async || {
        let [next]: [Pod; 1] = list().await?.try_into().ok()?;
        let ready = next.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == "Ready")?;
        (next.metadata.uid != pod.metadata.uid && ready.status == "True").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_load_that_rises_and_falls_is_served_by_pods_that_come_and_go_and_no_request_is_lost() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let mut node = LiveNode::start(&control_plane).await;
    let client = control_plane.client();
    let ports = Ports::free();
    installed(&control_plane, &node, &client, &ports, &[]).await;
    let models = tempfile::tempdir().expect("a temporary directory can be made");
    train(models.path());
    deploy(&client, models.path()).await;
    let deployments = Api::<Deployment>::default_namespaced(client.clone());
    let ready = async || deployments.get("digits").await.ok()?.status?.ready_replicas;
    wait("a first replica", async || ready().await.filter(|ready| *ready >= 1)).await;

    let ingress = Ingress::start(&client);
    ingress.load(4);
    wait("some answers", async || (ingress.answered.load(Ordering::Relaxed) > 20).then_some(())).await;
    let stepped = Instant::now();
    ingress.load(25);
    waiting::until("a size for 25 requests a second", SOON, async || {
        let asked = deployments.get("digits").await.ok()?.spec?.replicas?;
        (asked >= 3)
            .then(|| println!("from the load step to {asked} replicas written: {:.1?}", stepped.elapsed()))
    })
    .await;
    wait("replicas for 25 requests a second", async || ready().await.filter(|ready| *ready >= 3)).await;
    // A kubelet that restarts may call a pod ready before it has asked it: none is to be on its way up meanwhile.
    wait("all replicas that were asked for", async || {
        let (ready, asked) = (ready().await?, deployments.get("digits").await.ok()?.spec?.replicas?);
        (ready == asked).then_some(())
    })
    .await;
    // What has been written holds while the kubelet is away, and Tidegate goes on afterwards.
    node.stop_kubelet();
    node.start_kubelet().await;
    ingress.answers(50).await;
    kill(&client, "controller").await;
    kill(&client, "agent").await;
    ingress.load(38);
    wait("replicas for 38 requests a second", async || ready().await.filter(|ready| *ready >= 4)).await;
    ingress.load(3);
    waiting::until("the size to fall", FALLEN, async || {
        let size = deployments.get("digits").await.ok()?.status?.replicas?;
        (size <= 1).then_some(())
    })
    .await;
    let policies = Api::<ServingPolicy>::default_namespaced(client.clone());
    let status = policies.get("digits").await.expect("it is there").status.expect("it has one");
    assert_eq!(status.via.as_deref(), Some("scale"));

    // What it has written stays when it is taken away in the middle of a load.
    ingress.load(25);
    wait("replicas for 25 requests a second again", async || ready().await.filter(|ready| *ready >= 3)).await;
    uninstall(&control_plane, &client).await;
    let size = async || deployments.get("digits").await.ok()?.spec?.replicas;
    let left = size().await;
    assert!(left >= Some(3), "{left:?} replicas are left");
    ingress.answers(100).await;
    assert_eq!(size().await, left, "nobody changes it any more");
    let (lost, answered) = (ingress.failed(), ingress.answered.load(Ordering::Relaxed));
    assert!(lost.is_empty(), "{} were lost, {answered} answered: {lost:?}", lost.len());
}
