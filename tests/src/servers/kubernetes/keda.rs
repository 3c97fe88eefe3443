//! KEDA's own operator and metrics adapter, installed by its own manifests and with no more rights than these give. They run beside the
//! cluster and not in it, and have the certificates that KEDA would make for itself from the test.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tempfile::TempDir;

use super::super::certificates::{Authority, Signed};
use super::{ControlPlane, manifests};
use crate::servers::{Program, directory, free_port, http};
use crate::waiting;

/// Its namespace, by its manifests; the account is of the same.
const NAMESPACE: &str = "keda";
const ACCOUNT: &str = "keda-operator";
/// The Service by which the API server reaches the adapter.
const SERVICE: &str = "keda-metrics-apiserver";
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
/// In the order in which they can be applied.
const MANIFESTS: [&str; 7] = [
    "general/namespace.yaml",
    "service_account/service_account.yaml",
    "rbac/role.yaml",
    "rbac/role_binding.yaml",
    "metrics-server/role.yaml",
    "metrics-server/role_binding.yaml",
    "metrics-server/service.yaml",
];
/// A start on a machine that is busy with other tests; the API server looks at an aggregated API once in half a minute.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A running KEDA, which the API server asks for external metrics.
#[derive(Debug)]
pub struct Keda {
    operator: Program,
    _adapter: Program,
    _dir: TempDir,
}

impl Keda {
    /// Installs and starts one; waits until it is used.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn start(control_plane: &ControlPlane) -> Self {
        let client = control_plane.client();
        let config = directory("keda", "cluster").join("config");
        install(&client, &config).await;
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let authority = certificates(dir.path());
        let kubeconfig = control_plane.kubeconfig_of(NAMESPACE, ACCOUNT).await;
        let (health, metrics) = (free_port(), free_port());
        let mut operator = command("keda", &kubeconfig, dir.path());
        operator
            .args(["--metrics-bind-address=0", &format!("--health-probe-bind-address=127.0.0.1:{health}")]);
        operator.arg(format!("--metrics-service-bind-address=127.0.0.1:{metrics}"));
        let mut operator = Program::start("keda", &mut operator, dir.path());
        let (http, url) = (http(), format!("http://127.0.0.1:{health}/readyz"));
        waiting::until("KEDA's operator", READY_LIMIT, async || {
            operator.must_run();
            http.get(&url).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        let port = free_port();
        let mut adapter = command("keda-adapter", &kubeconfig, dir.path());
        for flag in ["lister-kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
            adapter.arg(format!("--{flag}={}", kubeconfig.display()));
        }
        for (flag, file) in
            [("client-ca-file", "ca.crt"), ("tls-cert-file", "tls.crt"), ("tls-private-key-file", "tls.key")]
        {
            adapter.arg(format!("--{flag}={}", dir.path().join(file).display()));
        }
        adapter.args(["--bind-address=127.0.0.1", "--port=0", &format!("--secure-port={port}")]);
        adapter.arg(format!("--metrics-service-address=127.0.0.1:{metrics}"));
        let mut adapter = Program::start("keda-adapter", &mut adapter, dir.path());
        serve(&client, &config, port, &authority, &mut adapter).await;
        Self { operator, _adapter: adapter, _dir: dir }
    }

    /// What its operator has logged so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.operator.errors()
    }
}

fn command(name: &str, kubeconfig: &Path, certificates: &Path) -> Command {
    let mut command = Command::new(directory("keda", "cluster").join("bin").join(name));
    command.env("KUBECONFIG", kubeconfig).env("WATCH_NAMESPACE", "");
    // A pod finds its namespace in a file.
    command.env("POD_NAMESPACE", NAMESPACE).env("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE);
    command.arg(format!("--cert-dir={}", certificates.display()));
    command
}

async fn install(client: &Client, config: &Path) {
    let read = |path: &Path| fs::read_to_string(path).expect("it was built by cargo xtask");
    for entry in fs::read_dir(config.join("crd/bases")).expect("it was built by cargo xtask") {
        let path = entry.expect("the folder can be read").path();
        for definition in manifests::apply(client, &manifests::objects(&read(&path))).await {
            established(client, &definition.name_any()).await;
        }
    }
    for file in MANIFESTS {
        manifests::apply(client, &manifests::objects(&read(&config.join(file)))).await;
    }
}

async fn established(client: &Client, name: &str) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    waiting::until(&format!("{name} to be served"), READY_LIMIT, async || {
        let conditions = definitions.get(name).await.ok()?.status?.conditions?;
        conditions.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
    })
    .await;
}

/// Writes what KEDA's programs know each other by, under the names that they look for; gives the authority.
fn certificates(dir: &Path) -> String {
    let authority = Authority::new();
    let Signed { certificate, key } = authority.service(&format!("{SERVICE}.{NAMESPACE}.svc"));
    for (file, text) in [("ca.crt", &authority.pem), ("tls.crt", &certificate), ("tls.key", &key)] {
        fs::write(dir.join(file), text).expect("the directory is writable");
    }
    authority.pem
}

/// Has the API server ask the adapter on this port.
async fn serve(client: &Client, config: &Path, port: u16, authority: &str, adapter: &mut Program) {
    let services = Api::<Service>::namespaced(client.clone(), NAMESPACE);
    let here = json!({ "spec": { "type": "ExternalName", "externalName": "localhost" } });
    services.patch(SERVICE, &PatchParams::default(), &Patch::Merge(&here)).await.expect("it is installed");
    let file = config.join("metrics-server/api_service.yaml");
    let text = fs::read_to_string(file).expect("it was built by cargo xtask");
    let mut objects = manifests::objects(&text);
    for object in &mut objects {
        let spec = &mut object.data["spec"];
        spec["service"]["port"] = json!(port);
        spec["caBundle"] = json!(ByteString(authority.as_bytes().to_vec()));
    }
    manifests::apply(client, &objects).await;
    let api_services = Api::<APIService>::all(client.clone());
    waiting::until("an API server that uses KEDA's adapter", READY_LIMIT, async || {
        adapter.must_run();
        let conditions = api_services.get(API_SERVICE).await.ok()?.status?.conditions?;
        conditions.iter().any(|c| c.type_ == "Available" && c.status == "True").then_some(())
    })
    .await;
}
