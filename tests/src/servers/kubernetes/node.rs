//! A real node: containerd and the kubelet, as root on this machine. Pods on it are real processes with real cgroups, logs and devices.
//! There is no service network: pods are asked at their own addresses, which the machine reaches, or use the network of the host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use tempfile::TempDir;

use super::credentials::NODE_NAME;
use super::{ControlPlane, command, is_ready};
use crate::images::Images;
use crate::servers::{Program, directory, free_port};
use crate::waiting;
use containers::Containers;
use remains::Remains;

mod containers;
mod remains;

/// The kubelet's first look at a busy two-core machine takes a while.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// Another suite on this machine may have a node: only one can be, for its directories are the machine's.
const TURN_LIMIT: Duration = Duration::from_secs(900);
/// Address of the node, on the machine's loopback interface: neither kubelets nor API servers take one of 127.0.0.0/8 for a node's.
const ADDRESS: &str = "10.231.255.1";
/// The image that holds a pod together.
const PAUSE: &str = "pause";
const SUITE: &str = "live-node";

/// A running node. The order of the fields is the order in which they end: the kubelet, which would start pods again; the containers; what
/// ran them; what all of them left on the machine.
#[derive(Debug)]
pub struct LiveNode {
    kubelet: Option<Program>,
    containers: Containers,
    _containerd: Program,
    remains: Remains,
    kubelet_command: KubeletCommand,
    nodes: Api<Node>,
    dir: TempDir,
    _turn: File,
}

/// How the kubelet is started, and started again.
#[derive(Debug)]
struct KubeletCommand {
    config: PathBuf,
    kubeconfig: PathBuf,
    root: PathBuf,
}

impl LiveNode {
    /// Starts one for a control plane, and waits until it is ready to take pods.
    ///
    /// # Panics
    /// When it is not ready in time, this is not root, or the machine is a node of a cluster already.
    pub async fn start(control_plane: &ControlPlane) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "a real node needs root: run `cargo xtask test --suite {SUITE}` as root"
        );
        let turn = turn().await;
        let dir = tempfile::Builder::new().prefix("tidegate-node-").tempdir();
        let dir = dir.expect("a temporary directory can be made");
        let remains = Remains::of(dir.path(), ADDRESS);
        let mut containerd = start_containerd(dir.path());
        let containers = Containers::new(&directory("containerd", SUITE).join("bin/ctr"), dir.path());
        waiting::until("containerd", READY_LIMIT, async || {
            containerd.must_run();
            containers.are_known().then_some(())
        })
        .await;
        let images = Images::new();
        images.from_program(PAUSE, &pause());
        containers.import(&images, PAUSE);
        let kubelet_command = KubeletCommand::write(dir.path(), control_plane);
        let nodes = Api::all(control_plane.client());
        let mut node = Self {
            kubelet: None,
            containers,
            _containerd: containerd,
            remains,
            kubelet_command,
            nodes,
            dir,
            _turn: turn,
        };
        node.start_kubelet().await;
        node
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NODE_NAME
    }

    /// The kubelet's directory; its device plugins' is another, the machine's own.
    #[must_use]
    pub fn kubelet_root(&self) -> &Path {
        &self.kubelet_command.root
    }

    /// The kubelet's socket that tells which devices a pod has.
    #[must_use]
    pub fn pod_resources_socket(&self) -> PathBuf {
        self.kubelet_command.root.join("pod-resources/kubelet.sock")
    }

    /// Where device plugins put their sockets; a kubelet that starts empties it, and plugins register anew.
    #[must_use]
    pub fn device_plugins(&self) -> &'static Path {
        Path::new("/var/lib/kubelet/device-plugins")
    }

    /// The socket of containerd.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    /// Gives an image of a store to the node. Pods name it `localhost/IMAGE:latest`, with `imagePullPolicy: Never`.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn import(&self, images: &Images, image: &str) {
        self.containers.import(images, image);
    }

    /// Directories of pods' logs that were not there before this node: `NAMESPACE_POD_UID`.
    #[must_use]
    pub fn log_directories(&self) -> Vec<PathBuf> {
        self.remains.log_directories()
    }

    /// Stops the kubelet. Pods run on.
    pub fn stop_kubelet(&mut self) {
        drop(self.kubelet.take());
    }

    /// Starts the kubelet, and waits until the node is ready.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start_kubelet(&mut self) {
        self.stop_kubelet();
        let mut kubelet = Program::start("kubelet", &mut self.kubelet_command.command(), self.dir.path());
        waiting::until("a ready kubelet", READY_LIMIT, async || {
            kubelet.must_run();
            is_ready(&self.nodes.get(NODE_NAME).await.ok()?).then_some(())
        })
        .await;
        self.kubelet = Some(kubelet);
    }
}

impl KubeletCommand {
    fn write(dir: &Path, control_plane: &ControlPlane) -> Self {
        let config = dir.join("kubelet.yaml");
        let words = [
            ("ADDRESS", ADDRESS.to_owned()),
            ("PORT", free_port().to_string()),
            ("HEALTH_PORT", free_port().to_string()),
            ("CA", control_plane.credentials.ca().display().to_string()),
        ];
        write_filled(&config, include_str!("node/kubelet.yaml"), dir, &words.into());
        Self { config, kubeconfig: control_plane.credentials.node_kubeconfig(), root: dir.join("kubelet") }
    }

    fn command(&self) -> Command {
        let mut command = command("kubelet");
        command.arg("--config").arg(&self.config).arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--root-dir").arg(&self.root).arg("--cert-dir").arg(self.root.join("pki"));
        command.args(["--hostname-override", NODE_NAME, "--node-ip", ADDRESS]);
        command
    }
}

/// The program that does nothing, for images of pods that do nothing: it prints its arguments and waits for TERM.
///
/// # Panics
/// When the suite was not started by `cargo xtask test`.
#[must_use]
pub fn pause() -> PathBuf {
    directory("pause", SUITE).join("bin/pause")
}

fn start_containerd(dir: &Path) -> Program {
    let config = dir.join("containerd.toml");
    write_filled(&config, include_str!("node/containerd.toml"), dir, &BTreeMap::new());
    let networks = dir.join("cni");
    fs::create_dir(&networks).expect("the directory is writable");
    // Each pod is linked to the machine by a pair of its own: the machine and its pods reach each other, and nobody else.
    let ranges = serde_json::json!([[{ "subnet": "10.231.0.0/24" }]]);
    let addresses = serde_json::json!({
        "type": "host-local", "dataDir": dir.join("cni-addresses"), "ranges": ranges, "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let network = serde_json::json!({
        "cniVersion": "1.0.0", "name": "pods", "plugins": [{ "type": "ptp", "ipam": addresses }],
    });
    fs::write(networks.join("10-pods.conflist"), network.to_string()).expect("the directory is writable");
    let bin = directory("containerd", SUITE).join("bin");
    let mut command = Command::new(bin.join("containerd"));
    command.arg("--config").arg(&config).args(["--log-level", "warn"]);
    // It finds its shim on the path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [bin].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(path).expect("no directory has a colon in its name"));
    Program::start("containerd", &mut command, dir)
}

fn write_filled(path: &Path, template: &str, dir: &Path, words: &BTreeMap<&str, String>) {
    let mut text = template.replace("@DIR@", &dir.display().to_string());
    for (word, value) in words {
        text = text.replace(&format!("@{word}@"), value);
    }
    fs::write(path, text).expect("the directory is writable");
}

/// Waits until no other test on this machine has a node; the turn ends when the file is closed.
async fn turn() -> File {
    let path = std::env::temp_dir().join("tidegate-live-node.lock");
    let file = File::create(&path).expect("the temporary directory is writable");
    waiting::until("the turn to have a node on this machine", TURN_LIMIT, async || file.try_lock().ok())
        .await;
    file
}
