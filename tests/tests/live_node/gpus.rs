//! GPUs that are not there, given out by a device plugin through the real kubelet: the agent shows each with the pod that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_core::{Dcgm, Metric, Signal};
use tidegate_tests::servers::binary;
use tidegate_tests::servers::kubernetes::{ControlPlane, DevicePlugin, LiveNode, Options};
use tidegate_tests::{fake_nvml, images, waiting};

use crate::chart::{Ports, agents_page, installed, object, wait};

/// The kubelet is asked again within a minute.
const SHOWN: Duration = Duration::from_secs(150);
const WHOLE: &str = "nvidia.com/gpu";
/// As NVIDIA's plugin calls GPUs in time slices.
const SLICED: &str = "nvidia.com/gpu.shared";
/// As it calls instances of a GPU that is split (MIG).
const INSTANCE: &str = "nvidia.com/mig-1g.10gb";
/// GPUs that are given out whole; one more is sliced, and one is split.
const WHOLE_GPUS: usize = 4;
const SPLIT_GPU: usize = WHOLE_GPUS + 1;

fn uuid(gpu: usize) -> String {
    format!("GPU-00000000-0000-0000-0000-{gpu:012}")
}

fn instances() -> [String; 2] {
    [1, 2].map(|instance| format!("MIG-00000000-0000-0000-0000-{instance:012}"))
}

/// A pod of a program that does nothing, and gets so many of a resource.
fn template(app: &str, resource: &str, count: usize) -> Value {
    json!({
        "metadata": { "name": app, "labels": { "app": app } },
        "spec": { "hostNetwork": true, "terminationGracePeriodSeconds": 2, "containers": [{
            "name": "server",
            "image": format!("{}:latest", images::local("idle")), "imagePullPolicy": "Never",
            "resources": { "limits": { resource: count.to_string() } },
        }] },
    })
}

/// The chart on a node with six GPUs, of which the first four are given out whole, the next in two slices, and the last as two instances.
struct Setting {
    client: Client,
    pods: Api<Pod>,
    metrics: u16,
    plugin: DevicePlugin,
    _others: [DevicePlugin; 2],
    library: PathBuf,
    _dir: TempDir,
}

impl Setting {
    async fn new(control_plane: &ControlPlane, node: &LiveNode) -> Self {
        let client = control_plane.client();
        let dir = tempfile::tempdir().expect("a directory can be made");
        let uuids: Vec<_> = (0..=SPLIT_GPU).map(uuid).collect();
        let library = fake_nvml::driver(dir.path(), &uuids, &instances());
        let plugin = DevicePlugin::start(node, WHOLE, &uuids[..WHOLE_GPUS]);
        let slices = [0, 1].map(|slice| format!("{}::{slice}", uuid(WHOLE_GPUS)));
        let others =
            [DevicePlugin::start(node, SLICED, &slices), DevicePlugin::start(node, INSTANCE, &instances())];
        let ports = Ports::free();
        let values = [
            format!("agent.kubeletDir={}", node.kubelet_root().display()),
            // The agent sees the node's files below this.
            format!("agent.gpuLibrary=/host{}", library.display()),
            "agent.extraArgs[0]=--gpu-compat=dcgm".into(),
        ];
        installed(control_plane, node, &client, &ports, &values).await;
        let pods = Api::default_namespaced(client.clone());
        let setting =
            Self { client, pods, metrics: ports.metrics, plugin, _others: others, library, _dir: dir };
        setting.allocatable(WHOLE_GPUS).await;
        setting
    }

    /// Waits until so many GPUs can be given out whole.
    async fn allocatable(&self, count: usize) {
        let nodes = Api::<Node>::all(self.client.clone());
        wait("the GPUs that can be given out", async || {
            let [node] = nodes.list(&ListParams::default()).await.ok()?.items.try_into().ok()?;
            let has = node.status?.allocatable?.remove(WHOLE)?.0;
            (has == count.to_string()).then_some(())
        })
        .await;
    }

    async fn create(&self, app: &str, resource: &str, count: usize) -> Holder {
        let pod = object(template(app, resource, count));
        self.pods.create(&PostParams::default(), &pod).await.expect("the pod is right");
        self.running(app).await
    }

    /// The pod of an app, once it runs, with the GPUs that its process was told of.
    async fn running(&self, app: &str) -> Holder {
        let params = ListParams::default().labels(&format!("app={app}"));
        wait("a pod that runs", async || {
            let pods = self.pods.list(&params).await.ok()?;
            pods.items.iter().find_map(Holder::of)
        })
        .await
    }

    async fn delete(&self, holder: &Holder) {
        self.pods.delete(&holder.pod, &DeleteParams::default()).await.expect("the pod is there");
        wait("the end of the pod", async || {
            self.pods.get_opt(&holder.pod).await.ok()?.is_none().then_some(())
        })
        .await;
    }

    /// Waits until the agent shows each GPU with the pod that has it alone, by its own names and by DCGM's, and the others with none.
    async fn shows(&self, holders: &[&Holder]) -> String {
        let mut expected: BTreeMap<String, Whose> =
            (0..=SPLIT_GPU).map(|gpu| (uuid(gpu), Whose::default())).collect();
        for holder in holders {
            for uuid in &holder.gpus {
                let before = expected.insert(uuid.clone(), holder.whose());
                assert_eq!(before, Some(Whose::default()), "{uuid} is given out twice");
            }
        }
        let mut last = String::new();
        let seen = waiting::within(SHOWN, async || {
            last = agents_page(self.metrics).await?;
            // Of one that is split the driver tells no use.
            let mut used = expected.clone();
            used.remove(&uuid(SPLIT_GPU));
            let own = [(Signal::GpuPowerWatts, &expected), (Signal::GpuBusyRatio, &used)];
            let dcgm = [(Dcgm::PowerUsage, &expected), (Dcgm::GpuUtil, &used)];
            let as_expected = own
                .iter()
                .all(|(signal, expected)| shown(&last, signal.metric_name(), "uuid") == **expected)
                && dcgm.iter().all(|(name, expected)| {
                    without_uid(shown(&last, name.family().name, "UUID")) == without_uid((*expected).clone())
                });
            as_expected.then_some(())
        })
        .await;
        let power = Signal::GpuPowerWatts.metric_name();
        assert!(seen.is_some(), "{expected:#?} is not what is shown: {:#?}", shown(&last, power, "uuid"));
        last
    }

    fn check_node(&self, node: &LiveNode) -> (Output, BTreeMap<String, (String, String)>) {
        let mut command = Command::new(binary());
        command.args(["check", "node", "--output", "json", "--gpu-required", "--gpu-library"]);
        command.arg(&self.library).arg("--kubelet").arg(node.kubelet_root());
        let output = command.output().expect("the binary can be run");
        let told: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        let text = |finding: &Value, name: &str| finding[name].as_str().expect("a text").to_owned();
        let findings = told["findings"].as_array().expect("a list").iter();
        let findings = findings
            .map(|finding| (text(finding, "subject"), (text(finding, "verdict"), text(finding, "text"))));
        let findings = findings.collect();
        (output, findings)
    }
}

/// A pod that has GPUs.
#[derive(Debug)]
struct Holder {
    pod: String,
    uid: String,
    gpus: BTreeSet<String>,
}

impl Holder {
    /// `None` until it runs.
    fn of(pod: &Pod) -> Option<Self> {
        let [status] = pod.status.as_ref()?.container_statuses.as_deref()? else { return None };
        status.state.as_ref()?.running.as_ref()?;
        let id = status.container_id.as_ref()?.strip_prefix("containerd://")?;
        let gpus = visible(id)?;
        Some(Self { pod: pod.metadata.name.clone()?, uid: pod.metadata.uid.clone()?, gpus })
    }

    fn whose(&self) -> Whose {
        let own = |text: &str| text.to_owned();
        Whose {
            namespace: own("default"),
            pod: own(&self.pod),
            pod_uid: own(&self.uid),
            container: own("server"),
        }
    }
}

/// What a series says of whose a GPU is; all empty where it is nobody's, or several have it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Whose {
    namespace: String,
    pod: String,
    pod_uid: String,
    container: String,
}

/// The GPUs in the environment of a container's first process: what the plugin has answered, whatever the kubelet tells of it.
fn visible(container: &str) -> Option<BTreeSet<String>> {
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let is_in = |process: &Path| {
        fs::read_to_string(process.join("cgroup")).is_ok_and(|text| text.contains(container))
    };
    let process = processes.filter(|path| path.join("environ").exists()).find(|path| is_in(path))?;
    let environment = String::from_utf8(fs::read(process.join("environ")).ok()?).ok()?;
    let told =
        environment.split('\0').find_map(|variable| variable.strip_prefix("NVIDIA_VISIBLE_DEVICES="))?;
    Some(told.split(',').map(str::to_owned).collect())
}

/// The lines of a family on a page.
fn series<'a>(page: &'a str, family: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("{family}{{");
    page.lines().filter(move |line| line.starts_with(&start))
}

/// The value of a label; empty when there is none.
fn label<'a>(series: &'a str, name: &str) -> &'a str {
    let found = ["{", ","].iter().find_map(|before| series.split_once(&format!("{before}{name}=\"")));
    found.and_then(|(_, rest)| rest.split_once('"')).map_or("", |(value, _)| value)
}

/// Whose each GPU is, by a family of theirs.
fn shown(page: &str, family: &str, uuid: &str) -> BTreeMap<String, Whose> {
    let whose = |series: &str| {
        let own = |name| label(series, name).to_owned();
        let whose = Whose {
            namespace: own("namespace"),
            pod: own("pod"),
            pod_uid: own("pod_uid"),
            container: own("container"),
        };
        (own(uuid), whose)
    };
    series(page, family).map(whose).collect()
}

/// DCGM's names have no uid of a pod.
fn without_uid(all: BTreeMap<String, Whose>) -> BTreeMap<String, Whose> {
    all.into_iter().map(|(uuid, whose)| (uuid, Whose { pod_uid: String::new(), ..whose })).collect()
}

/// Parts of a GPU by pod, and whether they are estimated.
fn parts(page: &str, gpu: &str) -> BTreeMap<String, (String, f64)> {
    let of_gpu = series(page, Metric::GpuOwnerPart.family().name).filter(|line| label(line, "uuid") == gpu);
    let part = |line: &str| {
        let (_, value) = line.rsplit_once(' ').expect("a value follows the labels");
        let value = value.parse().expect("it is a number");
        (label(line, "pod").to_owned(), (label(line, "estimated").to_owned(), value))
    };
    of_gpu.map(part).collect()
}

#[tokio::test]
async fn each_gpu_is_shown_with_the_pod_that_the_kubelet_gave_it_to() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let mut node = LiveNode::start(&control_plane).await;
    let setting = Setting::new(&control_plane, &node).await;
    setting.shows(&[]).await;
    let (one, two) = (setting.create("one", WHOLE, 1).await, setting.create("two", WHOLE, 2).await);
    assert_eq!((one.gpus.len(), two.gpus.len()), (1, 2));
    let page = setting.shows(&[&one, &two]).await;
    for (holder, uuid) in
        [&one, &two].iter().flat_map(|holder| holder.gpus.iter().map(move |uuid| (holder, uuid)))
    {
        assert_eq!(parts(&page, uuid), [(holder.pod.clone(), ("false".into(), 1.0))].into());
    }

    // A GPU that fails stays with who has it, and one whose pod has gone is nobody's.
    setting.plugin.fail(two.gpus.first().expect("it has two"));
    setting.allocatable(WHOLE_GPUS - 1).await;
    setting.shows(&[&one, &two]).await;
    setting.delete(&one).await;
    setting.shows(&[&two]).await;

    let shares = shared(&setting, &two).await;
    split(&setting).await;
    let (output, found) = setting.check_node(&node);
    assert!(output.status.success(), "{found:#?}");
    assert_eq!(found["pod resources"].0, "fine", "{found:#?}");
    assert_eq!(found["GPU driver"].0, "fine", "{found:#?}");
    node.stop_kubelet();
    let (output, found) = setting.check_node(&node);
    assert_eq!(output.status.code(), Some(1), "{found:#?}");
    assert_eq!(found["pod resources"].0, "missing", "{found:#?}");
    // What was known holds while nobody tells anything else, and afterwards.
    setting.shows(&[&two]).await;
    node.start_kubelet().await;
    let three = deployed(&setting, "three").await;
    let page = setting.shows(&[&two, &three]).await;
    assert_eq!(parts(&page, &uuid(WHOLE_GPUS)), shares);
}

/// A pod of a Deployment: one that a kubelet refuses, which has no plugin yet, is replaced.
async fn deployed(setting: &Setting, app: &str) -> Holder {
    let deployment = json!({
        "metadata": { "name": app },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": app } }, "template": template(app, WHOLE, 1) },
    });
    let deployments = Api::<Deployment>::default_namespaced(setting.client.clone());
    deployments.create(&PostParams::default(), &object(deployment)).await.expect("it is right");
    setting.running(app).await
}

/// Each instance of a GPU is its own pod's, and the GPU itself nobody's.
async fn split(setting: &Setting) {
    let [first, second] =
        [setting.create("left", INSTANCE, 1).await, setting.create("right", INSTANCE, 1).await];
    let mut expected = BTreeMap::new();
    for holder in [&first, &second] {
        assert_eq!(holder.gpus.len(), 1, "{holder:?}");
        expected.extend(holder.gpus.iter().map(|uuid| (uuid.clone(), holder.whose())));
    }
    assert!(expected.keys().eq(instances().iter()), "{expected:#?}");
    let memory = Signal::GpuMemoryUsedBytes.metric_name();
    let mut last = BTreeMap::new();
    let seen = waiting::within(SHOWN, async || {
        let page = agents_page(setting.metrics).await?;
        last = shown(&page, memory, "uuid");
        last.retain(|uuid, _| expected.contains_key(uuid));
        (last == expected).then_some(())
    })
    .await;
    assert!(seen.is_some(), "{expected:#?} is not what is shown: {last:#?}");
}

/// A GPU in time slices is nobody's once two have it: their parts are estimates, and together no more than it.
async fn shared(setting: &Setting, other: &Holder) -> BTreeMap<String, (String, f64)> {
    let sliced = uuid(WHOLE_GPUS);
    let first = setting.create("first", SLICED, 1).await;
    assert_eq!(first.gpus, BTreeSet::from([sliced.clone()]));
    let page = setting.shows(&[other, &first]).await;
    assert_eq!(parts(&page, &sliced), [("first".to_owned(), ("true".to_owned(), 1.0))].into());
    let second = setting.create("second", SLICED, 1).await;
    assert_eq!(second.gpus, first.gpus);
    let page = setting.shows(&[other]).await;
    let halves = ["first", "second"].map(|pod| (pod.to_owned(), ("true".to_owned(), 0.5))).into();
    assert_eq!(parts(&page, &sliced), halves);
    halves
}
