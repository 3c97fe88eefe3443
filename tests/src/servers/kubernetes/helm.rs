//! The real helm, on the cluster of a control plane.

use std::process::{Command, Output};

use super::ControlPlane;
use crate::servers::directory;

impl ControlPlane {
    /// Runs helm as an administrator, with nothing of whoever runs the tests.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn helm(&self, arguments: &[&str]) -> Output {
        let home = self.dir().join("helm");
        let mut command = Command::new(directory("helm", "cluster").join("bin/helm"));
        for (variable, name) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, home.join(name));
        }
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &home).args(arguments);
        command.output().expect("helm was built by cargo xtask")
    }
}
