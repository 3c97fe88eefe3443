//! `tidegate controller` as a process of its own, and digests sent to it as an agent sends them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal as Kill;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_core::{Signal, Timestamp, WorkloadId};
use tidegate_digest::v1::digests_client::DigestsClient;
use tidegate_digest::{Part, Parts, v1};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::{Program, binary, crypto, free_port, http, http_options};
use crate::images::environment;
use crate::waiting::{self, now};

/// Its first line on standard output must be there by then, on a busy two-core machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Writes under way, and the lease.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// As often as an agent tells.
const DIGEST_EVERY: Duration = Duration::from_secs(1);

/// A running (or ended) `tidegate controller`.
#[derive(Debug)]
pub struct Controller {
    program: Program,
    url: String,
    digests: String,
    _dir: TempDir,
}

impl Controller {
    /// Starts one for the cluster of this kubeconfig, and waits until it has read the cluster's objects.
    ///
    /// # Panics
    /// When it has not in time.
    pub async fn start(kubeconfig: &Path, identity: &str, arguments: &[&str]) -> Self {
        Self::start_in("default", kubeconfig, identity, arguments).await
    }

    /// The same, with the lease in another namespace.
    ///
    /// # Panics
    /// When it has not read them in time.
    pub async fn start_in(namespace: &str, kubeconfig: &Path, identity: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let digests = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary());
        command.arg("controller").args(["--listen", "127.0.0.1:0", "--digests", &digests]);
        command.arg("--kubeconfig").arg(kubeconfig).arg("--data").arg(dir.path().join("data"));
        command.args(["--identity", identity, "--lease-namespace", namespace]).args(arguments);
        command
            .envs(environment())
            .env("HOME", dir.path())
            .env_remove("TIDEGATE_LOG")
            .current_dir(dir.path());
        let mut program = Program::start(identity, &mut command, dir.path());
        let url = waiting::until("the address of tidegate controller", READY_LIMIT, async || {
            program.must_run();
            let output = program.output();
            let line = output.lines().find_map(|line| line.strip_prefix("listening on "))?;
            output.ends_with('\n').then(|| line.trim().to_owned())
        })
        .await;
        let client = client(&url);
        waiting::until("a controller that has read the cluster", READY_LIMIT, async || {
            program.must_run();
            let answer = client.get(format!("{url}/readyz")).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        let scheme = url.split(':').next().unwrap_or("http");
        let digests = format!("{scheme}://{digests}");
        Self { program, url, digests, _dir: dir }
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Where agents reach it.
    #[must_use]
    pub fn digests(&self) -> &str {
        &self.digests
    }

    /// The JSON answer to `GET PATH`; `None` unless it is a success.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = client(&self.url).get(format!("{}{path}", self.url)).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    /// Status and answer to `GET PATH` by whoever has this token; `null` where the answer is no JSON.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ask(&self, path: &str, token: &str) -> (u16, Value) {
        let question = client(&self.url).get(format!("{}{path}", self.url)).bearer_auth(token);
        let answer = question.send().await.expect("it answers");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// The stream of events, for whoever has this token.
    ///
    /// # Panics
    /// When there is none.
    pub async fn events(&self, token: &str) -> reqwest::Response {
        let question = client(&self.url).get(format!("{}/api/v1/events", self.url)).bearer_auth(token);
        let answer = question.send().await.expect("it answers");
        assert!(answer.status().is_success(), "{answer:?}");
        answer
    }

    /// The page of metrics.
    ///
    /// # Panics
    /// When there is none.
    pub async fn metrics(&self) -> String {
        let answer = client(&self.url).get(format!("{}/metrics", self.url)).send().await.expect("it answers");
        answer.text().await.expect("metrics are text")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn errors(&self) -> String {
        self.program.errors()
    }

    /// Its resident memory.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.program.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
        let kilobytes = line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("it is a number");
        kilobytes * 1024
    }

    /// Kills it without a chance to tidy up.
    ///
    /// # Panics
    /// When it survives that.
    pub fn kill(&mut self) -> ExitStatus {
        self.program.signal(Kill::SIGKILL);
        self.program.wait(STOP_LIMIT).expect("nothing survives KILL")
    }

    /// Ends it in good order.
    pub fn stop(&mut self) -> ExitStatus {
        self.program.stop_within(STOP_LIMIT)
    }
}

/// A client for its API. Over TLS any certificate will do: whose it is, is for some tests to look at themselves.
fn client(url: &str) -> reqwest::Client {
    if url.starts_with("http://") {
        return http();
    }
    let options = http_options().danger_accept_invalid_certs(true);
    options.build().expect("the options are valid")
}

/// What is known of a workload: its signals, and what each pod has in flight.
type Told = BTreeMap<WorkloadId, (BTreeMap<Signal, f64>, BTreeMap<String, f64>)>;

/// An agent of a node, as far as its controller can tell: it sends digests, with the values that a test sets.
#[derive(Debug)]
pub struct Agent {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Sends digests of `node` to a controller until it is dropped, and again after a break.
    #[must_use]
    pub fn start(digests: &str, node: &str) -> Self {
        Self::start_with(digests, node, None, Duration::ZERO)
    }

    /// The same, by a clock that is ahead by so much.
    #[must_use]
    pub fn start_ahead(digests: &str, node: &str, by: Duration) -> Self {
        Self::start_with(digests, node, None, by)
    }

    /// The same, over TLS: the controller is trusted by this authority, PEM.
    #[must_use]
    pub fn start_trusting(digests: &str, node: &str, authority: &str) -> Self {
        crypto();
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        Self::start_with(digests, node, Some(tls), Duration::ZERO)
    }

    fn start_with(digests: &str, node: &str, tls: Option<ClientTlsConfig>, ahead: Duration) -> Self {
        let told: Arc<Mutex<Told>> = Arc::default();
        let (url, node, telling) = (digests.to_owned(), node.to_owned(), Arc::clone(&told));
        let task = tokio::spawn(async move {
            let mut sequence = 0;
            loop {
                // A controller that is away or refuses is what some tests are about.
                drop(stream(&url, tls.clone(), (&node, ahead), &telling, &mut sequence).await);
                tokio::time::sleep(DIGEST_EVERY).await;
            }
        });
        Self { told, task }
    }

    /// From now on, this holds of a workload.
    ///
    /// # Panics
    /// When `id` is none.
    pub fn tell(&self, id: &str, values: &[(Signal, f64)]) {
        self.change(id, |known| known.0 = values.iter().copied().collect());
    }

    /// From now on, these pods have so much in flight.
    ///
    /// # Panics
    /// When `id` is none.
    pub fn tell_pods(&self, id: &str, pods: BTreeMap<String, f64>) {
        self.change(id, |known| known.1 = pods);
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut (BTreeMap<Signal, f64>, BTreeMap<String, f64>))) {
        let id = id.parse().expect("the id is valid");
        change(self.told.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn stream(
    url: &str,
    tls: Option<ClientTlsConfig>,
    (node, ahead): (&str, Duration),
    told: &Mutex<Told>,
    sequence: &mut u64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?;
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    let mut client = DigestsClient::new(endpoint.connect().await?);
    let (digests, waiting) = mpsc::channel(4);
    let mut receipts = client.send(ReceiverStream::new(waiting)).await?.into_inner();
    loop {
        *sequence += 1;
        digests.send(digest(node, *sequence, now() + ahead, told)).await?;
        if receipts.message().await?.is_none() {
            return Ok(());
        }
        tokio::time::sleep(DIGEST_EVERY).await;
    }
}

fn digest(node: &str, sequence: u64, at: Timestamp, told: &Mutex<Told>) -> v1::Digest {
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let part = |(values, pods): &(BTreeMap<Signal, f64>, BTreeMap<String, f64>)| Part {
        answered: 1,
        targets: 1,
        readings: values.iter().map(|(signal, value)| (*signal, (*value, Duration::ZERO))).collect(),
        in_flight: pods.clone(),
        ..Part::default()
    };
    let workloads = told.iter().map(|(id, known)| (id.clone(), part(known))).collect();
    v1::Digest::from(&Parts { node: node.to_owned(), sequence, at, workloads })
}
