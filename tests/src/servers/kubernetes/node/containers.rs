//! The containers of one node, by containerd's own client. When it is dropped, none runs any more.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::remains::kill_pods;
use crate::images::Images;

/// The namespace in which the kubelet has its containers made.
const NAMESPACE: &str = "k8s.io";
/// A request that takes longer hangs.
const TIMEOUT: &str = "60s";

/// Speaks to containerd.
#[derive(Debug)]
pub(super) struct Containers {
    client: PathBuf,
    dir: PathBuf,
}

impl Containers {
    /// For the containerd whose socket lies in `dir`.
    pub(super) fn new(client: &Path, dir: &Path) -> Self {
        Self { client: client.to_owned(), dir: dir.to_owned() }
    }

    /// Whether containerd answers.
    pub(super) fn are_known(&self) -> bool {
        self.ctr(&["containers", "list"]).status.success()
    }

    /// Takes an image from a store.
    pub(super) fn import(&self, images: &Images, image: &str) {
        let archive = self.dir.join(format!("{image}.tar"));
        images.archive(image, &archive);
        let path = archive.display().to_string();
        let output = self.ctr(&["images", "import", "--no-unpack", &path]);
        assert!(output.status.success(), "{image}: {}", String::from_utf8_lossy(&output.stderr));
        std::fs::remove_file(&archive).expect("it was just written");
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.client);
        command.arg("--address").arg(self.dir.join("containerd.sock"));
        command.args(["--namespace", NAMESPACE, "--timeout", TIMEOUT]).args(arguments);
        command.output().expect("cargo xtask built it")
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // In order first, so that the shims take their own files away; then whatever did not listen.
        let listed = self.ctr(&["tasks", "list", "--quiet"]);
        for id in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            self.ctr(&["tasks", "delete", "--force", id]);
        }
        kill_pods();
    }
}
