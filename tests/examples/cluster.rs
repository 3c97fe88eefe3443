//! What `tidegate controller` takes at thousands of workloads on a real API server: time of a round, memory, CPU, and requests to the
//! API server at rest.
//!
//! `cargo xtask bench cluster [WORKLOADS] [SECONDS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::{Duration, Instant};

use kube::Client;
use tidegate_core::{Metric, Signal};
use tidegate_tests::servers::kubernetes::stand_ins::{self, PODS};
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};
use tidegate_tests::servers::{Agent, Controller};
use tidegate_tests::waiting;

/// Workloads that one agent tells of; a digest has room for 2,000.
const PER_NODE: usize = 1000;
/// Every workload must be decided by then.
const DECIDED_MAX: Duration = Duration::from_secs(600);
/// What happens at a start is over.
const SETTLED: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |usual: usize| arguments.next().map_or(usual, |text| text.parse().expect("a number"));
    let (workloads, seconds) = (number(5000), number(120));
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    let begun = now();
    stand_ins::make(&client, workloads, workloads.div_ceil(PER_NODE)).await;
    println!("{workloads} workloads of {PODS} pods made in {:.0} s", begun.elapsed().as_secs_f64());
    let before = requests_over(&client, Duration::from_secs(60)).await;

    let begun = now();
    let controller = Controller::start(&control_plane.kubeconfig(), "bench", &[]).await;
    let nodes = workloads.div_ceil(PER_NODE);
    let agents: Vec<_> =
        (0..nodes).map(|n| Agent::start(controller.digests(), &format!("node-{n}"))).collect();
    for w in 0..workloads {
        agents[w / PER_NODE].tell(&stand_ins::id(w), &load(w));
    }
    waiting::until("every workload to be decided", DECIDED_MAX, async || {
        let all = controller.get("/api/v1/workloads").await?;
        let known = all["workloads"].as_array()?.iter().filter(|one| one["demand"][0]["value"].is_number());
        (known.count() == workloads).then_some(())
    })
    .await;
    println!("all decided {:.0} s after the start", begun.elapsed().as_secs_f64());
    tokio::time::sleep(SETTLED).await;

    let cpu = processor_seconds(controller.id());
    let asked = requests(&client).await;
    let begun = now();
    let mut rounds = Vec::new();
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        rounds.push(figure(&controller, Metric::DecisionSeconds.family().name).await);
    }
    let took = begun.elapsed().as_secs_f64();
    let cpu = (processor_seconds(controller.id()) - cpu) / took;
    let asked = (requests(&client).await - asked) * 60.0 / took;
    rounds.sort_by(f64::total_cmp);
    let (median, slow) = (rounds[rounds.len() / 2], rounds[rounds.len() * 99 / 100]);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let many = workloads as f64;
    println!(
        "a round: p50 {:.0} ms, p99 {:.0} ms: {:.0} workloads a second",
        median * 1e3,
        slow * 1e3,
        many / median
    );
    println!("CPU: {cpu:.2} cores, with the page of metrics read once a second");
    let resident = resident_mib(controller.id());
    println!("resident memory: {resident:.0} MiB, {:.0} KiB a workload", resident * 1024.0 / many);
    println!("requests to the API server: {asked:.0} a minute, {before:.0} without the controller");
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}

/// Between one and ten requests a second; each replica carries ten.
fn load(workload: usize) -> [(Signal, f64); 4] {
    #[expect(clippy::cast_precision_loss, reason = "below ten")]
    let rate = 1.0 + (workload % 10) as f64;
    [
        (Signal::RequestsPerSecond, rate),
        (Signal::CompletionsPerSecond, rate),
        (Signal::InFlight, rate * 0.4),
        (Signal::Queued, 0.0),
    ]
}

/// Requests that the API server has answered so far.
async fn requests(client: &Client) -> f64 {
    let page = client.request_text(http::Request::get("/metrics").body(Vec::new()).expect("a request"));
    let page = page.await.expect("the API server has a page of metrics");
    let lines = page.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Requests a minute, over a while.
async fn requests_over(client: &Client, span: Duration) -> f64 {
    let before = requests(client).await;
    tokio::time::sleep(span).await;
    (requests(client).await - before) * 60.0 / span.as_secs_f64()
}

/// What a process has used of the processors, as `/proc` has it in ticks of 10 ms.
fn processor_seconds(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process runs");
    // After the name, which may hold blanks: user and system time are the 12th and 13th.
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn resident_mib(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok());
    kib.expect("a number") / 1024.0
}

/// A metric without labels.
async fn figure(controller: &Controller, name: &str) -> f64 {
    let page = controller.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} on the page"))
}
