//! Each fault has the effect that it says, and none, whatever the mixture, breaks the account.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_brain::History;
use tidegate_core::{Ratio, Timestamp};
use tidegate_sim::scalers::Tidegate;
use tidegate_sim::{Fault, FaultKind, Llm, Load, Retries, Run, Service, Sizes, StartUp, World, simulate};

use crate::{Probe, at, world};

/// Ten requests a second on two replicas for ten minutes, with this fault in the fifth minute.
fn faulty(kind: FaultKind, plan: &[u32]) -> (Run, Probe) {
    let mut probe = Probe::new(plan);
    let faults = vec![Fault { from: at(240), until: at(300), kind }];
    let start_up = StartUp { median: Duration::from_secs(15), sigma: 0.0 };
    let run = simulate(&World { faults, start_up, ..world(10.0, 600) }, &mut probe);
    (run, probe)
}

fn arrivals(probe: &Probe, second: u64) -> Option<f64> {
    probe.at(second).figures.map(|figures| figures.arrivals)
}

#[test]
fn a_gap_leaves_nothing_to_read() {
    let (_, probe) = faulty(FaultKind::MetricGap, &[2]);
    assert_eq!(arrivals(&probe, 240), None);
    assert_eq!(arrivals(&probe, 290), None);
    assert!(arrivals(&probe, 230).is_some() && arrivals(&probe, 300).is_some());
}

#[test]
fn nan_is_what_is_read() {
    let (_, probe) = faulty(FaultKind::MetricNan, &[2]);
    assert!(arrivals(&probe, 250).unwrap().is_nan());
    assert!(arrivals(&probe, 300).unwrap() > 0.0);
}

#[test]
fn a_delay_shows_what_was_seen_before() {
    let (_, probe) = faulty(FaultKind::MetricDelay(Duration::from_secs(50)), &[2]);
    assert_eq!(probe.at(250).age, Duration::from_secs(50));
    assert_eq!(arrivals(&probe, 250), arrivals(&probe, 200));
    assert_eq!(arrivals(&probe, 280), arrivals(&probe, 230));
}

#[test]
fn a_counter_reset_hides_what_came_before_it() {
    let mut probe = Probe::new([2]);
    let fault = Fault { from: at(246), until: at(246), kind: FaultKind::CounterReset };
    simulate(&World { faults: vec![fault], ..world(10.0, 600) }, &mut probe);
    let (_, whole) = faulty(FaultKind::LostReplicas(0), &[2]);
    assert!(arrivals(&probe, 250).unwrap() < 0.7 * arrivals(&whole, 250).unwrap(), "four seconds of ten");
    assert_eq!(arrivals(&probe, 260), arrivals(&whole, 260));
}

#[test]
fn failed_starts_are_never_ready_while_it_lasts() {
    // Ordered at 240, tried again every 15 s, ready with the first try after the end.
    let mut plan = vec![2; 23];
    plan.push(4);
    let (_, probe) = faulty(FaultKind::FailedStarts, &plan);
    assert_eq!(probe.at(290).replicas.ready, 2);
    assert_eq!(probe.looks.iter().map(|look| look.lost).sum::<u32>(), 2 * 3);
    assert!(probe.at(290).crash_loop && !probe.at(310).crash_loop);
    assert_eq!(probe.at(310).replicas.ready, 4);
}

#[test]
fn lost_replicas_take_their_requests_with_them_and_are_replaced() {
    let (run, probe) = faulty(FaultKind::LostReplicas(2), &[2]);
    let counts = probe.at(240).replicas;
    assert_eq!((counts.ready, counts.starting, probe.at(240).lost), (0, 2, 2));
    assert_eq!(probe.at(260).replicas.ready, 2);
    assert!(run.totals.dropped > 0, "what they had is lost");
    assert!(run.totals.missed > run.totals.dropped, "what came meanwhile waited");
}

#[test]
fn a_slow_api_puts_orders_off() {
    let mut plan = vec![2; 24];
    plan.extend([5, 3]);
    let (_, probe) = faulty(FaultKind::SlowApi(Duration::from_secs(45)), &plan);
    let wanted = |second| probe.at(second).replicas.wanted;
    assert_eq!((wanted(290), wanted(300)), (2, 5), "ordered at 250");
    assert_eq!(wanted(310), 3, "ordered at 260: one order does not overtake another");
}

#[test]
fn what_is_dropped_comes_again() {
    let overload = |retries| simulate(&World { retries, ..world(40.0, 600) }, &mut Probe::new([2])).totals;
    let (once, again) = (overload(None), overload(Some(Retries { times: 2, after: Duration::from_secs(5) })));
    assert!(again.arrived > once.arrived + once.dropped);
    assert_eq!(again.arrived, again.completed + again.dropped);
}

fn kinds() -> impl Strategy<Value = FaultKind> {
    let span = || (0u64..400).prop_map(Duration::from_secs);
    prop_oneof![
        Just(FaultKind::MetricGap),
        Just(FaultKind::MetricNan),
        span().prop_map(FaultKind::MetricDelay),
        Just(FaultKind::CounterReset),
        Just(FaultKind::FailedStarts),
        (0u32..9).prop_map(FaultKind::LostReplicas),
        span().prop_map(FaultKind::SlowApi),
    ]
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let time = |second: u64| -> Timestamp { at(second) };
    let fault = (0u64..1200, 0u64..600, kinds()).prop_map(move |(from, span, kind)| Fault {
        from: time(from),
        until: time(from + span),
        kind,
    });
    prop::collection::vec(fault, 0..8)
}

fn services() -> impl Strategy<Value = Service> {
    prop_oneof![Just(world(0.0, 1).service), Just(Service::Llm(Llm::default()))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_request_has_one_end_whatever_goes_wrong(
        faults in faults(),
        service in services(),
        plan in prop::collection::vec(0u32..12, 1..60),
        tries in 0u8..3,
        seed: u64,
    ) {
        let retries = Some(Retries { times: tries, after: Duration::from_secs(3) });
        let load = Load::constant(12.0, Sizes { prompt_mean: 300.0, output_mean: 60.0, ..Sizes::default() });
        let world = World { faults, service, retries, load, seed, ..world(0.0, 900) };
        let run = simulate(&world, &mut Probe::new(plan));
        prop_assert_eq!(run.totals.arrived, run.totals.completed + run.totals.dropped + run.totals.inside);
        prop_assert_eq!(run.totals.inside, 0);
        prop_assert_eq!(run.minutes.len(), 15);
        let missed: u64 = run.minutes.iter().map(|minute| minute.missed).sum();
        prop_assert!(missed <= run.totals.missed, "what comes again after the end counts in no minute");
        let cost: f64 = run.minutes.iter().map(|minute| minute.replica_seconds).sum();
        prop_assert!((cost - run.totals.replica_seconds).abs() < 1e-6 * cost.max(1.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn tidegate_keeps_its_bounds_whatever_goes_wrong(faults in faults(), service in services(), seed: u64) {
        let mut world = World { faults, service, seed, ..world(12.0, 1200) };
        world.bounds.min = 1;
        let policy = Tidegate::policy(&world, Ratio::new(0.99).unwrap());
        let mut tidegate = Tidegate::new(policy, History::default(), Tidegate::PIPELINE);
        let run = simulate(&world, &mut tidegate);
        prop_assert!(run.minutes.iter().all(|minute| (1..=64).contains(&minute.wanted)));
        prop_assert_eq!(run.totals.arrived, run.totals.completed + run.totals.dropped);
    }
}
