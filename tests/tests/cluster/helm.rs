//! Helm really installs into the cluster, and takes away what it has installed.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};

const MANIFEST: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: from-helm }
data:
  release: {{ .Release.Name }}
  cluster: {{ .Capabilities.KubeVersion.Version }}
";

fn chart(dir: &Path) {
    fs::create_dir_all(dir.join("templates")).expect("the directory is writable");
    fs::write(dir.join("Chart.yaml"), "{ apiVersion: v2, name: small, version: 0.1.0 }")
        .expect("it is writable");
    fs::write(dir.join("templates/map.yaml"), MANIFEST).expect("it is writable");
}

fn helm(control_plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = control_plane.helm(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_chart_is_installed_and_uninstalled() {
    let control_plane = ControlPlane::start(&Options::default()).await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    chart(dir.path());
    let path = dir.path().display().to_string();
    let offline = helm(&control_plane, &["template", "offline", &path]);
    assert!(offline.contains("cluster: v1.36."), "without a cluster, it takes ours for granted: {offline}");

    helm(&control_plane, &["install", "first", &path]);
    let maps = Api::<ConfigMap>::default_namespaced(control_plane.client());
    let data = maps.get("from-helm").await.expect("it was installed").data.expect("it has data");
    assert_eq!((data["release"].as_str(), data["cluster"].as_str()), ("first", "v1.36.3"));
    helm(&control_plane, &["uninstall", "first"]);
    assert!(maps.get_opt("from-helm").await.expect("the cluster answers").is_none());
}
