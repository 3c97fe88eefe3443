//! The chart, as the real helm installs it on a control plane: what tests of its parts begin with.

use tidegate_tests::repository::root;
use tidegate_tests::servers::kubernetes::ControlPlane;

/// Where the tests install Tidegate.
pub(crate) const NAMESPACE: &str = "tidegate";

/// Installs the chart, or upgrades what is installed of it, with these values.
pub(crate) fn install(control_plane: &ControlPlane, values: &[&str]) {
    let chart = root().join("deploy/helm/tidegate").display().to_string();
    let mut arguments =
        vec!["upgrade", "--install", "tidegate", &chart, "--namespace", NAMESPACE, "--create-namespace"];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let output = control_plane.helm(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
