//! The node itself: a pod of an image of ours runs, writes its log where logs are, and nothing of it is left.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use tidegate_tests::images::{Images, local};
use tidegate_tests::servers::kubernetes::{ControlPlane, LiveNode, Options, pause};
use tidegate_tests::waiting;

/// What a kubelet does within seconds, on a busy two-core machine.
const SOON: Duration = Duration::from_secs(90);
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/kubepods", "/sys/fs/cgroup/pids/kubepods"];

/// A pod of an image of one static program, which prints its arguments and waits.
fn pod(name: &str, image: &str) -> Pod {
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 10,
            "containers": [{
                "name": "speaker",
                "image": format!("{}:latest", local(image)),
                "imagePullPolicy": "Never",
                "args": ["the tide is coming", "in"],
            }],
        },
    });
    serde_json::from_value(pod).expect("the manifest has the right types")
}

async fn run(pods: &Api<Pod>, pod: &Pod) -> Pod {
    let name = pod.metadata.name.as_deref().expect("it has a name");
    pods.create(&PostParams::default(), pod).await.expect("the pod is right");
    waiting::until("a ready pod", SOON, async || {
        let seen = pods.get(name).await.ok()?;
        let conditions = seen.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        ready.then_some(seen)
    })
    .await
}

fn log_of(pod: &Pod) -> PathBuf {
    let (name, uid) = (pod.metadata.name.as_deref(), pod.metadata.uid.as_deref());
    let folder = format!("default_{}_{}", name.expect("it is named"), uid.expect("it was created"));
    Path::new("/var/log/pods").join(folder).join("speaker/0.log")
}

fn mounts_below(dir: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there is one");
    mounts.lines().filter(|line| line.contains(&dir.display().to_string())).count()
}

fn has_cgroups() -> bool {
    CGROUPS.iter().any(|path| Path::new(path).exists())
}

#[tokio::test]
async fn a_pod_runs_and_writes_its_log_and_nothing_is_left() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let mut node = LiveNode::start(&control_plane).await;
    let images = Images::new();
    images.from_program("speaker", &pause());
    node.import(&images, "speaker");
    let pods = Api::<Pod>::default_namespaced(control_plane.client());
    let seen = run(&pods, &pod("first", "speaker")).await;

    let log = fs::read_to_string(log_of(&seen)).expect("the kubelet has the log");
    let lines: Vec<_> =
        log.lines().filter_map(|line| line.split_once(" stdout F ")).map(|(_, text)| text).collect();
    assert_eq!(lines, ["the tide is coming", "in"], "{log}");
    assert!(node.pod_resources_socket().exists(), "the kubelet tells which devices pods have");
    assert!(has_cgroups());

    node.stop_kubelet();
    node.start_kubelet().await;
    let after = pods.get("first").await.expect("it is still there");
    assert_eq!(restarts(&after), Some(0), "a pod outlives the kubelet's restart");

    pods.delete("first", &DeleteParams::default()).await.expect("it is there");
    waiting::until("the end of the pod", SOON, async || {
        pods.get_opt("first").await.ok()?.is_none().then_some(())
    })
    .await;
    drop(node);
    assert!(!has_cgroups());
}

fn restarts(pod: &Pod) -> Option<i32> {
    Some(pod.status.as_ref()?.container_statuses.as_ref()?.first()?.restart_count)
}

#[tokio::test]
async fn nothing_is_left_of_pods_that_run_when_a_test_panics() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let pods = Api::<Pod>::default_namespaced(control_plane.client());
    let mut left = None;
    let fails = async {
        let node = LiveNode::start(&control_plane).await;
        let images = Images::new();
        images.from_program("speaker", &pause());
        node.import(&images, "speaker");
        let seen = run(&pods, &pod("left", "speaker")).await;
        let dir = node.containerd_socket().parent().expect("it lies in a directory").to_owned();
        assert!(mounts_below(&dir) > 0, "a running pod has mounts");
        left = Some((seen, dir));
        panic!("a test has failed");
    };
    AssertUnwindSafe(fails).catch_unwind().await.expect_err("it has panicked");
    let (seen, dir) = left.expect("the pod ran");
    assert!(!log_of(&seen).exists() && !has_cgroups() && !dir.exists());
    assert_eq!(mounts_below(&dir), 0);
}
