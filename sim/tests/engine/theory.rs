//! The engine against queueing theory, and against itself.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_core::units::replicas_ceil;
use tidegate_core::{Bounds, Ratio, Series};
use tidegate_sim::scalers::{Hpa, Metric, Oracle, Staffing, Static};
use tidegate_sim::theory::{erlang_c, late_share, waits_longer};
use tidegate_sim::{Generic, Load, Service, ServiceTime, Sizes, World, simulate};

use crate::{Probe, world};

/// Replicas of one place with exponential service of a second.
fn markov(servers: u32, load: f64, seconds: u64, latency: Duration) -> World {
    let generic = Generic { concurrency: 1, time: ServiceTime::Exponential { mean_s: 1.0 }, latency };
    World {
        service: Service::Generic(generic),
        replicas: servers,
        drop_after: Duration::from_secs(100_000),
        warm_up: Duration::from_secs(600),
        ..world(load * f64::from(servers), seconds)
    }
}

/// Enough for a million arrivals, so that chance moves the mean wait by a few percent at most.
fn seconds_for(rate_rps: f64) -> u64 {
    u64::from(replicas_ceil(1e6 / rate_rps)) + 600
}

#[test]
fn waits_agree_with_erlang_c() {
    for (servers, load) in [(1, 0.5), (1, 0.8), (4, 0.7), (8, 0.9), (24, 0.9), (48, 0.9)] {
        let world = markov(servers, load, seconds_for(load * f64::from(servers)), Duration::from_secs(3));
        let run = simulate(&world, &mut Static(servers));
        let mean = run.latency.sum() / run.totals.completed as f64;
        let wait_exact = erlang_c(servers, load * f64::from(servers)) / (f64::from(servers) * (1.0 - load));
        let wait = mean - 1.0;
        assert!(
            (wait / wait_exact - 1.0).abs() < 0.08 || (wait - wait_exact).abs() < 0.01,
            "{servers} at {load}: waits {wait}, exact {wait_exact}"
        );
    }
}

#[test]
fn the_share_that_waits_long_agrees_with_erlang_c() {
    for (servers, load, wait) in [(1, 0.8, 4), (4, 0.9, 2), (24, 0.95, 1)] {
        let time = ServiceTime::Exponential { mean_s: 1.0 };
        let world = markov(servers, load, seconds_for(load * f64::from(servers)), Duration::from_secs(wait));
        let Service::Generic(generic) = &world.service else { panic!("it is generic") };
        let run = simulate(&world, &mut Static(servers));
        let rate = load * f64::from(servers);
        let late = late_share(generic, servers, rate);
        let seen = run.totals.miss_fraction().unwrap();
        assert!((seen / late - 1.0).abs() < 0.1, "{servers} at {load}: late {seen}, exact {late}");
        assert!(late > waits_longer(time, servers, rate, Duration::from_secs(wait)));
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_a_different_one() {
    let run = |seed| {
        simulate(
            &World { seed, ..world(30.0, 3600) },
            &mut Hpa::new(Metric::Requests, 6.0, Bounds { min: 1, max: 64 }),
        )
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_hpa_follows_a_steady_load_to_its_target() {
    let bounds = Bounds { min: 1, max: 64 };
    let run = simulate(&world(48.0, 3600), &mut Hpa::new(Metric::Requests, 6.0, bounds));
    let last = run.minutes.last().unwrap();
    assert!((8..=9).contains(&last.wanted), "48 / 6 = 8, and up to 10 % more is tolerated: {}", last.wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_request_has_one_end(rates in prop::collection::vec(0.0f64..60.0, 1..20), replicas in 0u32..6, seed: u64) {
        let mut world = world(0.0, 1800);
        let values = rates.iter().map(|rate| Some(*rate));
        world.load = Load::rate(&Series::from_values(world.start, Duration::from_secs(60), values), Sizes::default());
        world.seed = seed;
        let totals = simulate(&world, &mut Static(replicas)).totals;
        prop_assert_eq!(totals.arrived, totals.completed + totals.dropped + totals.inside);
        prop_assert_eq!(totals.inside, 0);
        prop_assert!(totals.missed >= totals.dropped && totals.missed <= totals.arrived);
    }
}

#[test]
fn requests_inside_are_rate_times_time() {
    // Little's law, exactly: the area under what is inside is the sum of all latencies, but for those cut off at the end.
    let mut probe = Probe::new([3]);
    let run = simulate(&world(20.0, 7200), &mut probe);
    let area: f64 =
        probe.looks.iter().filter_map(|look| look.figures).map(|f| (f.in_flight + f.queued) * 10.0).sum();
    assert!((area / run.latency.sum() - 1.0).abs() < 0.003, "{area} beside {}", run.latency.sum());
}

#[test]
fn staffing_gives_what_the_target_needs_and_no_more() {
    let target = Ratio::new(0.99).unwrap();
    let world = World { warm_up: Duration::from_secs(600), ..world(60.0, 40_000) };
    let replicas = Staffing::new(&world, target).replicas(60.0);
    let missed = |n| simulate(&World { replicas: n, ..world.clone() }, &mut Static(n)).totals.miss_fraction();
    assert!(missed(replicas).unwrap() <= 0.011, "{replicas} replicas miss {:?}", missed(replicas));
    assert!(missed(replicas - 1).unwrap() > 0.009, "{} replicas would do", replicas - 1);
}

#[test]
fn the_oracle_is_ready_when_a_step_comes() {
    let mut stepped = world(0.0, 7200);
    let rates = (0..120).map(|minute| Some(if minute < 60 { 10.0 } else { 80.0 }));
    let series = Series::from_values(stepped.start, Duration::from_secs(60), rates);
    stepped.load = Load::rate(&series, Sizes::default());
    stepped.bounds.min = 1;
    let mut oracle = Oracle::new(&stepped, Ratio::new(0.99).unwrap(), 2.0);
    let oracle = simulate(&stepped, &mut oracle).totals;
    let hpa = simulate(&stepped, &mut Hpa::new(Metric::Requests, 5.6, stepped.bounds)).totals;
    assert!(oracle.miss_fraction() < Some(0.02), "{oracle:?}");
    assert!(hpa.missed > 5 * oracle.missed, "{hpa:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Holds because nobody gives up: where requests are dropped, one replica more may serve a long one that another then waits for.
    #[test]
    fn one_replica_more_never_misses_more(rate in 5.0f64..60.0, replicas in 1u32..10, seed: u64) {
        let world = World { seed, drop_after: Duration::from_secs(1_000_000), ..world(rate, 900) };
        let missed = |n| simulate(&World { replicas: n, ..world.clone() }, &mut Static(n)).totals.missed;
        prop_assert!(missed(replicas + 1) <= missed(replicas));
    }
}
