//! The life of replicas: starts, drains, and what they cost.

use std::time::Duration;

use tidegate_sim::{
    Fault, FaultKind, Generic, Load, Minute, Request, Service, ServiceTime, StartUp, World, simulate,
};

use crate::{Probe, START, at, world};

#[test]
fn the_kth_replica_takes_the_same_time_whoever_orders_it() {
    let started = |plan: &[u32]| {
        let mut probe = Probe::new(plan);
        simulate(&world(1.0, 3600), &mut probe);
        probe.started.sort();
        probe.started
    };
    let at_once = started(&[8]);
    assert_eq!(at_once.len(), 6);
    assert_eq!(started(&[2, 3, 3, 3, 4, 5, 6, 6, 8]), at_once);
    assert!(at_once.first() < at_once.last(), "start-up times differ from each other");
}

#[test]
fn starting_replicas_cost_as_ready_ones_do() {
    let slow = StartUp { median: Duration::from_secs(100_000), sigma: 0.0 };
    let run = simulate(&World { start_up: slow, ..world(1.0, 100) }, &mut Probe::new([5]));
    assert_eq!(run.totals.replica_seconds, 10.0 * 2.0 + 90.0 * 5.0, "two until the first look, then five");
    let minutes: Vec<f64> = run.minutes.iter().map(|minute| minute.ready_seconds).collect();
    assert_eq!(minutes, [120.0, 80.0], "of which two are ever ready");
}

#[test]
fn a_draining_replica_costs_until_it_is_idle() {
    let time = ServiceTime::Lognormal { mean_s: 45.0, cv: 0.0, cut: 2.0 };
    let generic = Generic { concurrency: 1, time, latency: Duration::from_secs(60) };
    let load = Load::requests(vec![(at(1), Request::default())]);
    let world = World { load, service: Service::Generic(generic), replicas: 1, ..world(0.0, 100) };
    let mut probe = Probe::new([0]);
    let run = simulate(&world, &mut probe);
    assert_eq!(run.totals.completed, 1, "it is not cut off");
    assert_eq!(run.totals.replica_seconds, 46.0);
    let counts = probe.at(20).replicas;
    assert_eq!((counts.ready, counts.draining, counts.wanted), (0, 1, 0));
}

#[test]
fn the_newest_starting_replicas_are_given_up_first() {
    let slow = StartUp { median: Duration::from_secs(35), sigma: 0.0 };
    let mut probe = Probe::new([4, 6, 4]);
    let old = FaultKind::MetricDelay(Duration::from_secs(10));
    let faults = vec![Fault { from: at(50), until: at(51), kind: old }];
    simulate(&World { start_up: slow, faults, ..world(0.0, 100) }, &mut probe);
    assert_eq!(probe.at(40).replicas.starting, 2, "those ordered at 10 s stay");
    assert_eq!(probe.at(50).replicas.ready, 4);
    assert_eq!(probe.at(50).fresh, 2, "ready since 45 s, and the window ended at 40 s");
}

#[test]
fn a_warm_up_is_not_scored() {
    let whole = simulate(&world(20.0, 1200), &mut Probe::new([4]));
    let warm =
        simulate(&World { warm_up: Duration::from_secs(600), ..world(20.0, 1200) }, &mut Probe::new([4]));
    assert_eq!(warm.minutes, whole.minutes[10..], "the same happens, minute by minute");
    assert_eq!(warm.minutes[0].at, START + Duration::from_secs(600));
    let arrivals: u64 = warm.minutes.iter().map(|minute| minute.arrivals).sum();
    assert_eq!(warm.totals.arrived, arrivals);
    assert_eq!(warm.totals.replica_seconds, 4.0 * 600.0);
}

#[test]
fn hours_add_up_and_the_worst_is_named() {
    let run = simulate(&world(20.0, 3 * 3600), &mut Probe::new([4, 4, 0, 4]));
    let hours = run.by(Duration::from_secs(3600));
    let sum = |of: fn(&Minute) -> u64| hours.iter().map(of).sum::<u64>();
    assert_eq!((sum(|hour| hour.arrivals), sum(|hour| hour.missed)), (run.totals.arrived, run.totals.missed));
    let worst = run.worst_hour().unwrap();
    assert_eq!(worst.at, START.floor_to(Duration::from_secs(3600)), "the one in which there were none");
    assert_eq!((run.totals.scale_ups, run.totals.scale_downs), (2, 1));
}
