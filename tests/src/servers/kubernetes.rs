//! A real Kubernetes control plane: etcd, the API server, the controller manager and the scheduler, each a process on the loopback.
//! It has no nodes of its own: simulated ones are [`Kwok`]'s, a real one is a [`LiveNode`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Api, PostParams};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Program, crypto, directory, free_port, http};
use crate::waiting;
use credentials::{ADMIN_TOKEN, Credentials};

mod adapter;
mod credentials;
mod device_plugin;
mod helm;
mod keda;
mod kwok;
pub mod manifests;
mod node;
pub mod stand_ins;

pub use adapter::PrometheusAdapter;
pub use device_plugin::DevicePlugin;
pub use helm::helm;
pub use keda::Keda;
pub use kwok::{FakeNode, Kwok, READY_AFTER, RUNS_FOR};
pub use node::{LiveNode, pause};

/// A cold start of two Go programs on a busy two-core machine.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// A request of a test's client that takes longer hangs; watches are ended and begun again by who watches.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What differs between the control planes of tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often the HPA controller looks at its objects.
    pub hpa_sync: Duration,
    /// Further arguments of the API server, such as `--feature-gates=…`.
    pub apiserver_arguments: Vec<String>,
    /// Further arguments of the controller manager.
    pub controller_manager_arguments: Vec<String>,
}

impl Default for Options {
    /// As Kubernetes has it.
    fn default() -> Self {
        Self {
            hpa_sync: Duration::from_secs(15),
            apiserver_arguments: Vec::new(),
            controller_manager_arguments: Vec::new(),
        }
    }
}

/// A running control plane. The order of the fields is the order in which they end: an API server whose etcd is gone hangs for up to
/// a minute.
#[derive(Debug)]
pub struct ControlPlane {
    scheduler: Program,
    controller_manager: Program,
    apiserver: Option<Program>,
    _etcd: Program,
    options: Options,
    credentials: Credentials,
    etcd_url: String,
    port: u16,
    dir: TempDir,
}

impl ControlPlane {
    /// Starts one with no data, and waits until it takes pods.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start(options: &Options) -> Self {
        let dir = tempfile::Builder::new().prefix("tidegate-kubernetes-").tempdir();
        let dir = dir.expect("a temporary directory can be made");
        let port = free_port();
        let credentials = Credentials::write(dir.path(), &url_of(port));
        let (etcd, etcd_url) = start_etcd(dir.path()).await;
        let mut apiserver = start_apiserver(dir.path(), &etcd_url, port, options);
        wait_for_apiserver(&mut apiserver, &credentials, port).await;
        let controller_manager = start_controller_manager(dir.path(), &credentials, options);
        let scheduler = start_scheduler(dir.path(), &credentials);
        let (options, apiserver) = (options.clone(), Some(apiserver));
        let mut started = Self {
            scheduler,
            controller_manager,
            apiserver,
            _etcd: etcd,
            options,
            credentials,
            etcd_url,
            port,
            dir,
        };
        started.wait_for_controllers().await;
        started
    }

    /// Address of its API; the same after [`Self::stop_apiserver`] and [`Self::start_apiserver`].
    #[must_use]
    pub fn url(&self) -> String {
        url_of(self.port)
    }

    /// Port of its API on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A kubeconfig for an administrator, as `KUBECONFIG` names it. It holds all it needs and may be copied.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.credentials.kubeconfig()
    }

    /// A kubeconfig for a service account, with a token as in [`Self::service_account_token`].
    ///
    /// # Panics
    /// When there is no such account.
    pub async fn kubeconfig_of(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.service_account_token(namespace, name).await;
        self.credentials.kubeconfig_with(&self.url(), name, &token)
    }

    /// The authority that signed the API server's certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.credentials.ca()
    }

    /// Certificate and key of its front proxy, PEM: whoever has them may speak for any user to an aggregated API.
    #[must_use]
    pub fn front_proxy(&self) -> String {
        self.credentials.front_proxy()
    }

    /// Where its programs write what they have to say: `kube-apiserver.err` and so on.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A client for an administrator. Belongs to the runtime in which it is made.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client_with_token(ADMIN_TOKEN)
    }

    /// A client for whoever owns a token: see [`Self::service_account_token`].
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn client_with_token(&self, token: &str) -> kube::Client {
        crypto();
        let mut config = kube::Config::new(self.url().parse().expect("the address is valid"));
        config.root_cert = Some(self.credentials.ca_der());
        config.read_timeout = Some(READ_TIMEOUT);
        config.auth_info.token = Some(token.to_owned().into());
        kube::Client::try_from(config).expect("the configuration is valid")
    }

    /// A token for a service account, valid for an hour, as a pod of it would have.
    ///
    /// # Panics
    /// When there is no such account.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> String {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        let request = TokenRequest::default();
        let made = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let made = made.unwrap_or_else(|error| panic!("no token for {namespace}/{name}: {error}"));
        made.status.and_then(|status| status.token).expect("a request that was granted has a token")
    }

    /// Stops the API server as a power cut does; its data stay, and the other programs go on without it. Told to end, it would wait for
    /// its watches for up to a minute.
    pub fn stop_apiserver(&mut self) {
        if let Some(mut apiserver) = self.apiserver.take() {
            apiserver.signal(Signal::SIGKILL);
        }
    }

    /// Starts the API server on the same port and data.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn start_apiserver(&mut self) {
        self.stop_apiserver();
        let mut apiserver = start_apiserver(self.dir.path(), &self.etcd_url, self.port, &self.options);
        wait_for_apiserver(&mut apiserver, &self.credentials, self.port).await;
        self.apiserver = Some(apiserver);
    }

    /// The API server's process; `None` while it is stopped.
    pub fn apiserver(&mut self) -> Option<&mut Program> {
        self.apiserver.as_mut()
    }

    /// A pod is refused until the account that it runs as is there, and the controller manager makes it.
    async fn wait_for_controllers(&mut self) {
        let accounts = Api::<ServiceAccount>::default_namespaced(self.client());
        waiting::until("a service account made by the controller manager", READY_LIMIT, async || {
            for program in [&mut self.controller_manager, &mut self.scheduler] {
                program.must_run();
            }
            accounts.get_opt("default").await.ok()?.map(drop)
        })
        .await;
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // All but etcd take their leave at the same time; then the fields end one after the other.
        for program in
            [&mut self.scheduler, &mut self.controller_manager].into_iter().chain(&mut self.apiserver)
        {
            program.signal(Signal::SIGTERM);
        }
    }
}

fn url_of(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// One of the programs of Kubernetes; they are all one binary.
fn command(name: &str) -> Command {
    let mut command = Command::new(directory("kubernetes", "cluster").join("bin/kubernetes"));
    command.arg(name);
    command
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn start_etcd(dir: &Path) -> (Program, String) {
    let url = format!("http://127.0.0.1:{}", free_port());
    let peers = format!("http://127.0.0.1:{}", free_port());
    let mut command = command("etcd");
    command.args(["--name", "test", "--unsafe-no-fsync", "--log-level", "warn", "--data-dir"]);
    command.arg(dir.join("etcd")).args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    command.args(["--initial-cluster", &format!("test={peers}")]);
    let mut etcd = Program::start("etcd", &mut command, dir);
    let (client, health) = (http(), format!("{url}/health"));
    waiting::until("a healthy etcd", READY_LIMIT, async || {
        etcd.must_run();
        client.get(&health).send().await.ok()?.status().is_success().then_some(())
    })
    .await;
    (etcd, url)
}

fn start_apiserver(dir: &Path, etcd_url: &str, port: u16, options: &Options) -> Program {
    let mut command = command("kube-apiserver");
    command.args([
        "--etcd-servers",
        etcd_url,
        "--bind-address",
        "127.0.0.1",
        "--authorization-mode",
        "Node,RBAC",
    ]);
    command.args(["--secure-port", &port.to_string(), "--service-cluster-ip-range", "10.0.0.0/16"]);
    command.args(["--allow-privileged", "--cert-dir"]).arg(dir.join("apiserver"));
    command.args(Credentials::apiserver_arguments(dir)).args(&options.apiserver_arguments);
    Program::start("kube-apiserver", &mut command, dir)
}

async fn wait_for_apiserver(apiserver: &mut Program, credentials: &Credentials, port: u16) {
    let (client, url) = (credentials.http(), format!("{}/readyz", url_of(port)));
    waiting::until("a ready API server", READY_LIMIT, async || {
        apiserver.must_run();
        let answer = client.get(&url).bearer_auth(ADMIN_TOKEN).send().await.ok()?;
        (answer.text().await.ok()? == "ok").then_some(())
    })
    .await;
}

fn start_controller_manager(dir: &Path, credentials: &Credentials, options: &Options) -> Program {
    let mut command = command("kube-controller-manager");
    command.args(["--leader-elect=false", "--secure-port=0", "--use-service-account-credentials"]);
    command.arg("--kubeconfig").arg(credentials.kubeconfig()).args(Credentials::controller_arguments(dir));
    let sync = format!("{}ms", options.hpa_sync.as_millis());
    command
        .args(["--horizontal-pod-autoscaler-sync-period", &sync])
        .args(&options.controller_manager_arguments);
    Program::start("kube-controller-manager", &mut command, dir)
}

fn start_scheduler(dir: &Path, credentials: &Credentials) -> Program {
    let mut command = command("kube-scheduler");
    command.args(["--leader-elect=false", "--secure-port=0", "--kubeconfig"]).arg(credentials.kubeconfig());
    Program::start("kube-scheduler", &mut command, dir)
}
