//! Simulated nodes: kwok plays the kubelet. Pods on them have states and no processes; everything else in the cluster is real.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use tempfile::TempDir;

use super::{ControlPlane, is_ready};
use crate::servers::{Program, directory, free_port};
use crate::waiting;

const READY_LIMIT: Duration = Duration::from_secs(60);
/// Marks the nodes that kwok plays, so that it leaves real ones alone.
const FAKE: (&str, &str) = ("kwok.x-k8s.io/node", "fake");
/// Annotation of a pod: after how long it is ready (`30s`), in place of what [`Kwok::start`] was told.
pub const READY_AFTER: &str = "tests.tidegate.io/ready-after";
/// Annotation of a pod: how long it runs, once ready, before it ends with success (`1m`). Without it, a pod runs until it is deleted.
pub const RUNS_FOR: &str = "tests.tidegate.io/runs-for";

/// A node to be simulated.
#[derive(Debug, Clone)]
pub struct FakeNode {
    /// Its name.
    pub name: String,
    /// CPU cores.
    pub cpus: u32,
    /// Devices of `nvidia.com/gpu`; with none, the node does not know the resource.
    pub gpus: u32,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
}

impl FakeNode {
    /// A node with CPUs alone.
    #[must_use]
    pub fn with_cpus(name: &str, cpus: u32) -> Self {
        Self { name: name.to_owned(), cpus, gpus: 0, labels: BTreeMap::new() }
    }

    /// A node with GPUs of a product (`NVIDIA-H100-80GB-HBM3`), labelled as GPU feature discovery does it, and 16 CPUs for each.
    #[must_use]
    pub fn with_gpus(name: &str, gpus: u32, product: &str) -> Self {
        let label = ("nvidia.com/gpu.product".to_owned(), product.to_owned());
        Self { name: name.to_owned(), cpus: 16 * gpus, gpus, labels: BTreeMap::from([label]) }
    }

    fn object(&self) -> Node {
        let quantity = |name: &str, value: String| (name.to_owned(), Quantity(value));
        let mut resources = BTreeMap::from([
            quantity("cpu", self.cpus.to_string()),
            quantity("memory", format!("{}Gi", 8 * self.cpus)),
            quantity("pods", "1000".to_owned()),
        ]);
        if self.gpus > 0 {
            resources.extend([quantity("nvidia.com/gpu", self.gpus.to_string())]);
        }
        let mut labels = self.labels.clone();
        for (label, value) in [("hostname", self.name.as_str()), ("os", "linux"), ("arch", "amd64")] {
            labels.insert(format!("kubernetes.io/{label}"), value.to_owned());
        }
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(FAKE.0.to_owned(), FAKE.1.to_owned())])),
            ..ObjectMeta::default()
        };
        let status = NodeStatus {
            capacity: Some(resources.clone()),
            allocatable: Some(resources),
            ..NodeStatus::default()
        };
        Node { metadata, status: Some(status), spec: None }
    }
}

/// A running kwok. It ends with the test; end it before the control plane, as locals do when it is made after.
#[derive(Debug)]
pub struct Kwok {
    program: Program,
    nodes: Api<Node>,
    _dir: TempDir,
}

impl Kwok {
    /// Starts one with these nodes, whose pods run at once and are ready after a while, and waits until all nodes are ready.
    ///
    /// # Panics
    /// When they are not ready in time.
    pub async fn start(control_plane: &ControlPlane, nodes: &[FakeNode], ready_after: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let pods = dir.path().join("pod-stages.yaml");
        fs::write(&pods, pod_stages(ready_after)).expect("the directory is writable");
        let built = directory("kwok", "cluster");
        let mut command = Command::new(built.join("bin/kwok"));
        command.arg("--kubeconfig").arg(control_plane.kubeconfig());
        command.arg(format!("--manage-nodes-with-annotation-selector={}={}", FAKE.0, FAKE.1));
        command.arg(format!("--server-address=127.0.0.1:{}", free_port()));
        // What it would read from the home of whoever runs the tests.
        command.env("HOME", dir.path()).env("KWOK_WORKDIR", dir.path());
        // Its workers compile the stages' expressions at first use and share an unguarded map then: two at once end it.
        command.env("GOMAXPROCS", "1");
        for stage in files_in(&built.join("stages")).into_iter().chain([pods]) {
            command.arg("--config").arg(stage);
        }
        let program = Program::start("kwok", &mut command, dir.path());
        let mut started = Self { program, nodes: Api::all(control_plane.client()), _dir: dir };
        started.add(nodes).await;
        started
    }

    /// Adds nodes, and waits until they are ready.
    ///
    /// # Panics
    /// When the cluster refuses one, or one is not ready in time.
    pub async fn add(&mut self, nodes: &[FakeNode]) {
        for node in nodes {
            let made = self.nodes.create(&PostParams::default(), &node.object()).await;
            made.unwrap_or_else(|error| panic!("node {} was refused: {error}", node.name));
        }
        for node in nodes {
            waiting::until(&format!("the ready node {}", node.name), READY_LIMIT, async || {
                self.program.must_run();
                is_ready(&self.nodes.get(&node.name).await.ok()?).then_some(())
            })
            .await;
        }
    }

    /// Takes a node away, as a cloud does it: the object goes, and its pods are then the controllers' to remove.
    ///
    /// # Panics
    /// When the cluster refuses it.
    pub async fn remove(&self, name: &str) {
        self.nodes.delete(name, &DeleteParams::default()).await.expect("the node is there");
    }
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("cargo xtask put the stages there").flatten();
    entries.map(|entry| entry.path()).collect()
}

fn pod_stages(ready_after: Duration) -> String {
    include_str!("pod-stages.yaml")
        .replace("@READY_AFTER_MS@", &ready_after.as_millis().to_string())
        .replace("@READY_AFTER@", READY_AFTER)
        .replace("@RUNS_FOR@", RUNS_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_stages_is_filled_in() {
        let stages = pod_stages(Duration::from_millis(1500));
        assert!(stages.contains("durationMilliseconds: 1500") && stages.contains(READY_AFTER));
        assert!(
            !stages.lines().filter(|line| !line.starts_with('#')).any(|line| line.contains('@')),
            "{stages}"
        );
    }

    #[test]
    fn a_node_has_the_resource_of_gpus_only_with_gpus() {
        let capacity = |node: FakeNode| node.object().status.unwrap().capacity.unwrap();
        let with = capacity(FakeNode::with_gpus("a", 8, "NVIDIA-H100-80GB-HBM3"));
        assert_eq!(with["nvidia.com/gpu"], Quantity("8".to_owned()));
        assert!(!capacity(FakeNode::with_cpus("b", 4)).contains_key("nvidia.com/gpu"));
    }
}
