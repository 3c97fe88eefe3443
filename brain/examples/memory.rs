//! What many minds weigh: memory of this process per serving workload with three weeks of minutes behind it, after it has learned, and
//! after it has decided for an hour, once a second.
//!
//! `cargo run --release -p tidegate-brain --example memory [WORKLOADS]`

use std::error::Error;
use std::f64::consts::TAU;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Poisson};
use tidegate_brain::{Brain, Event, Flow, History, Seen};
use tidegate_core::{Policy, ReplicaCounts, Series, Timestamp, WorkloadId};

type Outcome<T> = Result<T, Box<dyn Error>>;

const STEP: Duration = Duration::from_secs(60);
const STEPS: u32 = 21 * 1440;
const LOOKS: i64 = 3600;
const POLICY: &str = r#"{
    "replicas": {"min": 1, "max": 40},
    "slo": {"latency": "2s", "target": 0.99},
    "capacity": {"requestsPerSecond": 8.0, "concurrency": 4}
}"#;

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() -> Outcome<()> {
    let workloads: u32 = std::env::args().nth(1).map_or(Ok(40), |text| text.parse())?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    // One to begin with: what is there once and for all belongs to nobody.
    let first = learned(0, &mut random)?;
    let before = resident_kib()?;
    let mut brains = Vec::new();
    for number in 1..=workloads {
        brains.push(learned(number, &mut random)?);
    }
    let after = resident_kib()?;
    for brain in &mut brains {
        decide(brain, &mut random)?;
    }
    let decided = resident_kib()?;
    let each = |kib: f64| (kib - before) / f64::from(workloads);
    println!("{workloads} workloads, {} days of minutes each", STEPS / 1440);
    let kept: usize = brains.iter().map(Brain::size).sum();
    println!("past and what was learned from it: {} KiB each", kept / 1024 / brains.len());
    println!("after learning: {:.0} KiB each", each(after));
    println!("after an hour of decisions: {:.0} KiB each", each(decided));
    drop((first, brains));
    Ok(())
}

/// A mind with three weeks behind it, each a little different, and bursts.
fn learned(number: u32, random: &mut ChaCha8Rng) -> Outcome<Brain> {
    let values: Vec<Option<f64>> = (0..STEPS).map(|t| Some(rate(t, number, random))).collect();
    let demand = Series::from_values(Timestamp::EPOCH, STEP, values);
    let id = WorkloadId::local(&format!("workload-{number}"))?;
    let policy = Policy::Serving(serde_json::from_str(POLICY)?);
    let mut brain = Brain::new(id, policy, History { demand: Some(demand), tokens: None });
    brain.study();
    Ok(brain)
}

fn rate(t: u32, number: u32, random: &mut ChaCha8Rng) -> f64 {
    let day = 1.0 - (f64::from(t % 1440) / 1440.0 * TAU).cos();
    let burst = if random.random_range(0..400) == 0 { 3.0 } else { 1.0 };
    let mean = 60.0 * burst * (5.0 + 20.0 * day * (1.0 + 0.1 * f64::from(number % 7)));
    Poisson::new(mean).map_or(0.0, |drawn| drawn.sample(random) / 60.0)
}

fn decide(brain: &mut Brain, random: &mut ChaCha8Rng) -> Outcome<()> {
    let end = Timestamp::EPOCH + STEP * STEPS;
    let mut wanted = 8;
    for second in 0..LOOKS {
        let at = Timestamp::from_millis(end.as_millis() + 1000 * second);
        let minute = STEPS + u32::try_from(second / 60)?;
        let arrivals = rate(minute, 1, random).round();
        let flow = Flow {
            window: Duration::from_secs(1),
            age: Duration::ZERO,
            arrivals,
            completed: arrivals,
            ended: Some(arrivals),
            missed: Some(0.0),
            tokens: None,
        };
        brain.ingest(Event::Seen(Seen {
            at,
            replicas: ReplicaCounts { wanted, starting: 0, ready: wanted, draining: 0 },
            flow: Some(flow),
            in_flight: Some(arrivals * 0.5),
            queued: Some(0.0),
            kv_utilisation: None,
            lost: 0,
            crash_loop: false,
        }));
        wanted = brain.tick(at, None).0.replicas;
    }
    Ok(())
}

/// `VmRSS` of this process, in KiB.
fn resident_kib() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
