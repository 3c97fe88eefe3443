//! Knative's autoscaler against the cases of upstream's own tests: numbers in, numbers out. Left out: excess burst capacity, activation
//! scale and unreachable revisions, which nothing here uses.
//!
//! Source: knative/serving, `pkg/autoscaler/scaling/autoscaler_test.go`; there, too, rates are limited to ten times, panic begins at
//! twice, and the stable window is a minute.

use std::time::Duration;

use tidegate_core::Timestamp;
use tidegate_sim::scalers::{KpaSettings, KpaState};

fn settings(target: f64) -> KpaSettings {
    KpaSettings { up_rate_max: 10.0, down_rate_max: 10.0, ..KpaSettings::new(target) }
}

/// One tick: seconds, ready replicas, stable and panic value, expected size, expected start of the panic.
type Tick = (i64, u32, f64, f64, u32, Option<i64>);

/// Name after `TestAutoscaler`, target, ticks.
const RUNS: [(&str, f64, &[Tick]); 14] = [
    ("Scale/NoDataAtZeroNoAutoscale", 10.0, &[(0, 1, 0.0, 0.0, 0, None)]),
    ("Scale/StableModeUnlimitedTBC", 181.0, &[(0, 1, 21.0, 26.0, 1, None)]),
    ("Scale/0TBC", 10.0, &[(0, 1, 50.0, 49.0, 5, Some(0))]),
    ("Scale/StableModeNoChangeAlreadyScaled", 10.0, &[(0, 5, 50.0, 50.0, 5, None)]),
    ("Scale/PanicModeDoublePodCount", 10.0, &[(0, 1, 50.0, 100.0, 10, Some(0))]),
    (
        "StableModeIncreaseWithConcurrencyDefault",
        10.0,
        &[(0, 1, 50.0, 10.0, 5, None), (0, 1, 100.0, 10.0, 10, None)],
    ),
    // With a panic window of 10 the second tick of StableModeIncreaseWithRPS is in panic and goes to 10 by either value.
    ("StableModeIncreaseWithRPS", 10.0, &[(0, 1, 50.0, 50.0, 5, Some(0)), (0, 1, 100.0, 99.0, 10, Some(0))]),
    (
        "UnpanicAfterSlowIncrease",
        1.0,
        &[
            (0, 10, 11.0, 25.0, 25, Some(0)),
            (30, 40, 30.0, 41.0, 41, Some(0)),
            (62, 55, 50.0, 56.0, 50, None),
        ],
    ),
    ("ExtendPanicWindow", 1.0, &[(0, 10, 11.0, 25.0, 25, Some(0)), (30, 40, 30.0, 80.0, 80, Some(30))]),
    ("StableModeDecrease", 10.0, &[(0, 8, 100.0, 100.0, 10, None), (0, 8, 50.0, 50.0, 5, None)]),
    ("StableModeNoTrafficScaleToZero", 10.0, &[(0, 1, 1.0, 0.0, 1, None), (0, 1, 0.0, 0.0, 0, None)]),
    (
        "PanicModeExponentialTrackAndStabilize",
        1.0,
        &[
            (0, 1, 6.0, 6.0, 6, Some(0)),
            (0, 6, 36.0, 36.0, 36, Some(0)),
            (1, 36, 216.0, 216.0, 216, Some(1)),
            (1, 216, 1296.0, 1296.0, 1296, Some(1)),
            (2, 1296, 1296.0, 1296.0, 1296, Some(1)),
        ],
    ),
    (
        "PanicThenUnPanicScaleDown",
        10.0,
        &[
            (0, 1, 100.0, 100.0, 10, Some(0)),
            (0, 10, 100.0, 1000.0, 100, Some(0)),
            (30, 10, 1.0, 1.0, 100, Some(0)),
            (61, 10, 1.0, 1.0, 1, None),
        ],
    ),
    ("RateLimitScaleUp", 10.0, &[(0, 1, 1000.0, 1001.0, 10, Some(0)), (0, 10, 1000.0, 1001.0, 100, Some(0))]),
];

fn run(name: &str, settings: &KpaSettings, mut state: KpaState, ticks: &[Tick]) {
    for (at, ready, stable, panic, expected, panics_since) in ticks {
        let wanted = state.scale(settings, Timestamp::from_secs(*at), *ready, *stable, *panic);
        assert_eq!(wanted, *expected, "{name} at {at} s");
        assert_eq!(state.panic_since(), panics_since.map(Timestamp::from_secs), "panic of {name} at {at} s");
    }
}

#[test]
fn stable_and_panic_mode() {
    for (name, target, ticks) in RUNS {
        run(name, &settings(target), KpaState::default(), ticks);
    }
}

#[test]
fn rates_limit_a_step() {
    let down = [(0, 100, 1.0, 1.0, 10, None), (0, 10, 1.0, 1.0, 1, None)];
    run("RateLimitScaleDown", &settings(10.0), KpaState::default(), &down);
    let small_up = KpaSettings { up_rate_max: 1.1, ..settings(1.0) };
    run(
        "Scale/StableModeIncreaseWithSmallScaleUpRate",
        &small_up,
        KpaState::default(),
        &[(0, 2, 3.0, 3.1, 3, Some(0))],
    );
    let small_down = KpaSettings { down_rate_max: 1.1, ..settings(10.0) };
    run(
        "Scale/StableModeDecreaseWithSmallScaleDownRate",
        &small_down,
        KpaState::default(),
        &[(0, 100, 1.0, 1.0, 90, None)],
    );
    run(
        "UseOnePodAsMinimumIfEndpointsNotFound",
        &settings(10.0),
        KpaState::default(),
        &[(0, 0, 1000.0, 888.0, 10, Some(0))],
    );
}

#[test]
fn in_panic_the_larger_of_both_values_counts() {
    // Upstream sets the panic by hand to five seconds ago with five pods; a start with five replicas does the same.
    for (name, stable, panic, expected) in [
        ("Scale/PanicStableLargerThanPanic", 50.0, 30.0, 50),
        ("Scale/PanicStableLessThanPanic", 20.0, 30.0, 30),
    ] {
        let state = KpaState::started(5, Timestamp::from_secs(0));
        run(name, &settings(1.0), state, &[(5, 5, stable, panic, expected, Some(5))]);
    }
}

#[test]
fn more_than_one_replica_at_the_start_is_a_panic() {
    // TestStartInPanicMode.
    let at = Timestamp::from_secs(3);
    for ready in [0, 1] {
        assert_eq!(KpaState::started(ready, at).panic_since(), None);
    }
    assert_eq!(KpaState::started(2, at).panic_since(), Some(at));
}

#[test]
fn a_scale_down_waits_for_the_delay() {
    // TestAutoscalerScaleDownDelay, `simple` and `gradual`; no panic in it.
    let delayed =
        KpaSettings { down_delay: Duration::from_secs(300), panic_threshold: 100.0, ..settings(10.0) };
    let ticks = [
        (2, 40.0, 4),
        (300, 0.0, 4),
        (302, 0.0, 0),
        (540, 40.0, 4),
        (600, 30.0, 4),
        (660, 0.0, 4),
        (840, 0.0, 3),
        (900, 0.0, 0),
    ];
    let ticks = ticks.map(|(at, value, expected)| (at, 0, value, value, expected, None));
    run("ScaleDownDelay", &delayed, KpaState::default(), &ticks);
    // TestAutoscalerScaleDownDelayZero.
    let at_once = KpaSettings { down_delay: Duration::ZERO, ..delayed };
    run(
        "ScaleDownDelayZero",
        &at_once,
        KpaState::default(),
        &[(0, 0, 40.0, 40.0, 4, None), (0, 0, 20.0, 20.0, 2, None)],
    );
}
