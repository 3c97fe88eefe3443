//! How long it takes from a load step to the new size, all the way: pages of metrics that a real agent scrapes, its digests, a real
//! controller, and the object at a real API server. Requests arrive at random; what a server has of them is computed, so that a hundred
//! servers cost nothing. Each one steps once, at a moment of its own within the agent's and the controller's intervals.
//!
//! `cargo xtask bench reaction [WORKLOADS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::ListParams;
use tidegate_tests::images::environment;
use tidegate_tests::servers::kubernetes::stand_ins::{self, PODS};
use tidegate_tests::servers::kubernetes::{ControlPlane, Options};
use tidegate_tests::servers::{Controller, Program, binary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Requests per second before the step, and from it on. A replica carries ten; two are there.
const BEFORE: f64 = 6.0;
const AFTER: f64 = 45.0;
/// A size that is an answer to the step.
const ANSWER: u64 = 5;
/// Requests served at once by the two, and how long each takes: twenty a second together.
const SLOTS: usize = 8;
const SERVICE_S: f64 = 0.4;
/// Until the first step: the load of before is known by then.
const FIRST: Duration = Duration::from_secs(60);
/// From one workload's step to the next one's: at no multiple of an interval of anybody.
const APART: Duration = Duration::from_millis(437);
/// From the last step to the end.
const LAST: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    let workloads = std::env::args().nth(1).map_or(100, |text| text.parse().expect("a number"));
    let control_plane = ControlPlane::start(&Options::default()).await;
    let client = control_plane.client();
    stand_ins::make(&client, workloads, 1).await;
    let controller = Controller::start(&control_plane.kubeconfig(), "bench", &[]).await;
    let begun = now();
    let steps: Vec<_> = (0..workloads).map(|w| FIRST + APART * u32::try_from(w).expect("few")).collect();
    let end = steps.last().copied().unwrap_or_default() + LAST;
    let servers: Vec<_> = (0..workloads).map(|w| Server::new(w as u64, steps[w], end)).collect();
    let url = serve(servers.into(), begun).await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut command = Command::new(binary());
    command.args([
        "agent",
        "--node",
        "node-0",
        "--listen",
        "127.0.0.1:0",
        "--controller",
        controller.digests(),
    ]);
    command.args(["containers", "pods", "gpu", "node"].iter().flat_map(|source| ["--without", source]));
    for w in 0..workloads {
        command.arg("--target").arg(format!("{}={url}/{w}", stand_ins::id(w)));
    }
    command.envs(environment()).env("HOME", dir.path()).current_dir(dir.path());
    let _agent = Program::start("agent", &mut command, dir.path());

    let objects = stand_ins::servers(&client);
    let mut answered: Vec<Option<Duration>> = vec![None; workloads];
    let mut early = 0;
    while begun.elapsed() < end {
        tokio::time::sleep(LOOK).await;
        let all = objects.list(&ListParams::default()).await.expect("they can be listed");
        let at = begun.elapsed();
        for server in all.items {
            let size = server.data.pointer("/spec/replicas").and_then(serde_json::Value::as_u64).unwrap_or(0);
            let w =
                server.name_any().rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).expect("a number");
            if answered[w].is_none() && size >= ANSWER {
                early += usize::from(at < steps[w]);
                answered[w] = Some(at.saturating_sub(steps[w]));
            }
        }
    }
    let mut times: Vec<f64> = answered.iter().flatten().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "few"
        )]
        let rank = (share * times.len() as f64).ceil() as usize;
        times[rank.clamp(1, times.len()) - 1]
    };
    println!(
        "{BEFORE} to {AFTER} requests a second at {PODS} replicas, {workloads} times: {} answered, {early} of them before the step",
        times.len()
    );
    println!(
        "from the step to {ANSWER} replicas or more written: p50 {:.1} s, p90 {:.1} s, p99 {:.1} s, most {:.1} s",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}

/// The requests of one workload, in the order of their arrival: when each came, was begun and was ended, in seconds.
struct Server {
    arrived: Vec<f64>,
    begun: Vec<f64>,
    ended: Vec<f64>,
}

impl Server {
    fn new(seed: u64, step: Duration, end: Duration) -> Self {
        let (step, end) = (step.as_secs_f64(), end.as_secs_f64());
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (mut arrived, mut begun, mut ended) = (Vec::new(), Vec::new(), Vec::<f64>::new());
        let mut at = 0.0;
        while at < end {
            let rate = if at < step { BEFORE } else { AFTER };
            // Exponential gaps, of a generator by Marsaglia (xorshift).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            #[expect(clippy::cast_precision_loss, reason = "53 bits are enough")]
            let uniform = ((state >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
            at += -uniform.ln() / rate;
            // Each takes as long as the others, so that they end in the order in which they began.
            let free = ended.len().checked_sub(SLOTS).map_or(0.0, |last| ended[last]);
            let start = free.max(at);
            arrived.push(at);
            begun.push(start);
            ended.push(start + SERVICE_S);
        }
        Self { arrived, begun, ended }
    }

    /// What its page says at this moment, as vLLM would.
    fn page(&self, at: f64) -> String {
        let until = |times: &[f64]| times.partition_point(|time| *time <= at);
        let (arrived, begun, ended) = (until(&self.arrived), until(&self.begun), until(&self.ended));
        let labels = "{model_name=\"m\"}";
        format!(
            "vllm:request_success_total{labels} {ended}\nvllm:num_requests_running{labels} {}\nvllm:num_requests_waiting{labels} {}\n",
            begun - ended,
            arrived - begun
        )
    }
}

/// Serves the pages; gives the address that they are below.
async fn serve(servers: Arc<[Server]>, begun: Instant) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, Arc::clone(&servers), begun));
        }
    });
    format!("http://{address}")
}

async fn answer(mut connection: TcpStream, servers: Arc<[Server]>, begun: Instant) -> std::io::Result<()> {
    let mut request = [0; 4096];
    loop {
        let length = connection.read(&mut request).await?;
        if length == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&request[..length]);
        let asked = text.strip_prefix("GET /").and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        let Some(server) = asked.and_then(|w| servers.get(w)) else { return Ok(()) };
        let body = server.page(begun.elapsed().as_secs_f64());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length:";
        connection.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    }
}
