//! How fast a day of 300 requests a second is simulated, by scaler, on one core. Prints seconds of processor time and what came of it.
//! Arguments: names of scalers; without, all.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Duration;

use tidegate_brain::History;
use tidegate_core::{Bounds, Ratio, Series, Timestamp};
use tidegate_sim::scalers::{
    Hpa, Keda, KedaSettings, Kpa, KpaSettings, Metric, Oracle, Schedule, Static, Tidegate,
};
use tidegate_sim::{Generic, Llm, Load, Scaler, Service, Sizes, StartUp, World, simulate};

/// Mean rate of the day for a generic service, and for a language model.
const GENERIC_RPS: f64 = 300.0;
const LLM_RPS: f64 = 30.0;

/// A rate that swings by half around its mean once a day.
fn rates(start: Timestamp, hours: u32, mean_rps: f64) -> Series {
    let minute = Duration::from_secs(60);
    let value = |i: u32| mean_rps * (1.0 - 0.5 * (f64::from(i) / 1440.0 * std::f64::consts::TAU).cos());
    Series::from_values(start, minute, (0..hours * 60).map(|i| Some(value(i))))
}

fn world(service: Service, mean_rps: f64) -> World {
    let start = Timestamp::from_secs(1_700_006_400);
    World {
        load: Load::rate(&rates(start, 24, mean_rps), Sizes::default()),
        service,
        drop_after: Duration::from_secs(30),
        retries: None,
        start_up: StartUp::MODEL,
        bounds: Bounds { min: 1, max: 100 },
        replicas: 60,
        start,
        warm_up: Duration::ZERO,
        end: start + Duration::from_secs(86_400),
        faults: Vec::new(),
        seed: 1,
    }
}

fn time<S: Scaler>(name: &str, world: &World, make: impl FnOnce() -> S) {
    let mut names = std::env::args().skip(1).peekable();
    if names.peek().is_some() && !names.any(|wanted| wanted == name) {
        return;
    }
    let began = processor_s();
    let totals = simulate(world, &mut make()).totals;
    let missed = 100.0 * totals.miss_fraction().unwrap_or(0.0);
    println!(
        "{name:<14} {:>6.2} s   {} requests, {missed:.3} % missed, {:.0} replica-hours, {} actions",
        processor_s() - began,
        totals.arrived,
        totals.replica_hours(),
        totals.actions()
    );
}

/// Seconds that this thread has run: others on the machine do not count.
fn processor_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds come first") / 1e9
}

fn all(name: &str, world: &World, mean_rps: f64) {
    let target = Ratio::new(0.99).expect("0.99 is a share");
    let full = world.service.full_rps(Sizes::default());
    let slots = world.service.concurrency(Sizes::default());
    let week = rates(world.start.before(Duration::from_secs(7 * 86_400)), 7 * 24, mean_rps);
    println!(
        "{name}: a day at {mean_rps} requests a second on average; one replica serves {full:.2} at most"
    );
    time("static", world, || Static(world.replicas));
    time("hpa", world, || Hpa::new(Metric::Requests, 0.7 * full, world.bounds));
    time("keda", world, || Keda::new(KedaSettings::new(Metric::Requests, 0.7 * full, world.bounds)));
    time("kpa", world, || Kpa::new(KpaSettings::new(0.7 * slots)));
    time("schedule", world, || Schedule::from_history(&week, 0.95, 1.2, full).expect("the week has values"));
    time("oracle", world, || Oracle::new(world, target, 1.5));
    let policy = Tidegate::policy(world, target);
    let history = History { demand: Some(week.clone()), ..History::default() };
    time("tidegate", world, || Tidegate::new(policy.clone(), history.clone(), Tidegate::PIPELINE));
    let mut reactive = policy.clone();
    reactive.forecast.enabled = false;
    time("reactive", world, || Tidegate::new(reactive, history.clone(), Tidegate::PIPELINE));
}

fn main() {
    all("generic", &world(Service::Generic(Generic::default()), GENERIC_RPS), GENERIC_RPS);
    all("llm", &world(Service::Llm(Llm::default()), LLM_RPS), LLM_RPS);
}
