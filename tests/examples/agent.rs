//! What `tidegate agent` takes on a node of many pods and eight GPUs at rest: memory, CPU, and how fast `/metrics` answers. The pods are
//! objects of a real API server and a tree of cgroups that is made for this; the GPUs are the fake driver's.
//!
//! `cargo xtask bench agent [PODS] [SECONDS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_core::Signal;
use tidegate_tests::fake_nvml;
use tidegate_tests::images::environment;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};
use tidegate_tests::servers::{Program, binary, http};
use tidegate_tests::waiting;

/// Requests to the API server at once, while the scene is set.
const AT_ONCE: usize = 16;
const CONTAINERS: [&str; 2] = ["server", "proxy"];
const GPUS: usize = 8;
const SCRAPES: usize = 1000;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |usual: usize| arguments.next().map_or(usual, |text| text.parse().expect("a number"));
    let (pods, seconds) = (number(200), number(120));
    let control_plane = ControlPlane::start(&Options::default()).await;
    let uids = set(&control_plane.client(), pods).await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let root = dir.path().join("root");
    uids.iter().enumerate().for_each(|(pod, uid)| cgroups(&root, pod, uid));
    std::os::unix::fs::symlink("/proc", root.join("proc")).expect("the directory is writable");
    let uuids: Vec<_> = (0..GPUS).map(|gpu| format!("GPU-{gpu}")).collect();
    let library = fake_nvml::driver(dir.path(), &uuids, &[]);

    let mut command = Command::new(binary());
    command.args(["agent", "--node", "node-a", "--listen", "127.0.0.1:0", "--root"]).arg(&root);
    command.arg("--kubeconfig").arg(control_plane.kubeconfig()).arg("--gpu-library").arg(&library);
    command.envs(environment()).env("HOME", dir.path()).current_dir(dir.path());
    let agent = Program::start("agent", &mut command, dir.path());
    let url = waiting::until("its address", LIMIT, async || {
        agent.output().lines().find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()))
    })
    .await;
    // One for all: making one takes far longer than the answer.
    let client = http();
    let series = waiting::until("all containers and GPUs to be shown", LIMIT, async || {
        let page = page(&client, &url).await;
        let of = |signal: Signal| {
            let series = format!("{}{{", signal.metric_name());
            page.lines().filter(|line| line.starts_with(&series)).count()
        };
        let shown = of(Signal::ContainerMemoryWorkingSetBytes) == pods * CONTAINERS.len()
            && of(Signal::GpuPowerWatts) == GPUS;
        shown.then(|| page.lines().filter(|line| !line.starts_with('#')).count())
    })
    .await;
    println!("{pods} pods of {} containers, {GPUS} GPUs: {series} series", CONTAINERS.len());
    let before = figure(&page(&client, &url).await, "process_cpu_seconds_total");
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let last = page(&client, &url).await;
    let cpu = figure(&last, "process_cpu_seconds_total") - before;
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    let share = cpu / seconds as f64;
    println!("CPU over {seconds} s: {:.1} mCPU", share * 1000.0);
    let mut times: Vec<Duration> = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        let begun = now();
        page(&client, &url).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "/metrics over {SCRAPES} scrapes: p50 {:?}, p99 {:?}",
        times[SCRAPES / 2],
        times[SCRAPES * 99 / 100]
    );
    let resident = figure(&page(&client, &url).await, "process_resident_memory_bytes") / f64::from(1 << 20);
    println!("resident memory: {resident:.1} MiB");
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}

fn object<K: DeserializeOwned>(manifest: Value) -> K {
    serde_json::from_value(manifest).expect("the manifest has the right types")
}

fn id(pod: usize, container: usize) -> String {
    format!("{:064x}", pod * CONTAINERS.len() + container + 1)
}

/// The node and its pods; gives their uids.
async fn set(client: &Client, pods: usize) -> Vec<String> {
    let nodes = Api::<Node>::all(client.clone());
    let node = object(json!({ "metadata": { "name": "node-a" } }));
    nodes.create(&PostParams::default(), &node).await.expect("the node is right");
    futures::stream::iter(0..pods)
        .map(|pod| async move { one(client, pod).await })
        .buffered(AT_ONCE)
        .collect()
        .await
}

async fn one(client: &Client, pod: usize) -> String {
    let (name, api) = (format!("chat-{pod:03}"), Api::<Pod>::default_namespaced(client.clone()));
    let containers: Vec<_> =
        CONTAINERS.iter().map(|name| json!({ "name": name, "image": "image" })).collect();
    let manifest = json!({
        "metadata": { "name": name, "labels": { "app": "chat" } },
        "spec": { "nodeName": "node-a", "containers": containers },
    });
    let made = api.create(&PostParams::default(), &object(manifest)).await.expect("the pod is right");
    let statuses = CONTAINERS.iter().enumerate().map(|(at, name)| {
        json!({
            "name": name, "image": "image", "imageID": "", "ready": true, "restartCount": 0,
            "containerID": format!("containerd://{}", id(pod, at)),
            "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
        })
    });
    let status =
        json!({ "status": { "phase": "Running", "containerStatuses": statuses.collect::<Vec<_>>() } });
    let patch = Patch::Strategic(status);
    api.patch_status(&name, &PatchParams::default(), &patch).await.expect("the status is right");
    made.metadata.uid.expect("what was made has a uid")
}

/// A pod's cgroups, as the unified hierarchy has them.
fn cgroups(root: &Path, pod: usize, uid: &str) {
    let base = root.join("sys/fs/cgroup");
    let slice = format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
        uid.replace('-', "_")
    );
    let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    let files = [
        (
            "cpu.stat",
            "usage_usec 123456789\nuser_usec 1\nsystem_usec 1\nnr_periods 100\nnr_throttled 3\nthrottled_usec 9\n",
        ),
        ("cpu.max", "200000 100000\n"),
        ("memory.current", "1073741824\n"),
        ("memory.stat", "anon 805306368\nfile 268435456\ninactive_file 134217728\nactive_file 134217728\n"),
        ("memory.max", "2147483648\n"),
        ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
        ("io.stat", "259:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
        ("cpu.pressure", pressure),
        ("memory.pressure", pressure),
        ("io.pressure", pressure),
        ("cgroup.procs", "1\n"),
    ];
    for container in 0..CONTAINERS.len() {
        let scope = base.join(&slice).join(format!("cri-containerd-{}.scope", id(pod, container)));
        fs::create_dir_all(&scope).expect("the directory is writable");
        for (name, text) in files {
            fs::write(scope.join(name), text).expect("the directory is writable");
        }
    }
    fs::write(base.join("cgroup.controllers"), "cpuset cpu io memory pids\n")
        .expect("the directory is writable");
}

async fn page(client: &reqwest::Client, url: &str) -> String {
    let answer = client.get(format!("{url}/metrics")).send().await.expect("it answers");
    answer.text().await.expect("a text")
}

fn figure(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} on the page"))
}
