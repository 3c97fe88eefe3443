//! The real helm: on the cluster of a control plane, or by itself, as it renders a chart.

use std::path::Path;
use std::process::{Command, Output};

use super::ControlPlane;
use crate::servers::directory;

/// Runs helm without a cluster, with nothing of whoever runs the tests.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn helm(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    command(home.path())
        .env_remove("KUBECONFIG")
        .args(arguments)
        .output()
        .expect("helm was built by cargo xtask")
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(directory("helm", "cluster").join("bin/helm"));
    for (variable, name) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(variable, home.join(name));
    }
    command.env("HOME", home);
    command
}

impl ControlPlane {
    /// Runs helm as an administrator, with nothing of whoever runs the tests.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn helm(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.dir().join("helm"));
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments);
        command.output().expect("helm was built by cargo xtask")
    }
}
