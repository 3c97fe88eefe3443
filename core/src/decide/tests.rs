//! The properties that every decision keeps, and one table per step.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::alerts::Alert;
use crate::forecast::{LEVELS, Quantiles, Score};
use crate::observed::{CapacitySource, Misses, Reading, ReplicaCounts};
use crate::signals::Signal;

const T0: Timestamp = Timestamp::from_secs(1_700_000_000);

fn policy() -> ServingPolicy {
    let text = r#"{"mode":"active","replicas":{"min":1,"max":20},"slo":{"latency":"400ms","target":0.99}}"#;
    serde_json::from_str(text).unwrap()
}

fn seen(wanted: u32, demand: f64) -> Observed {
    Observed {
        replicas: ReplicaCounts { wanted, ready: wanted, starting: 0, draining: 0 },
        demand: Reading::new(demand, Duration::ZERO),
        queued: Reading::new(0.0, Duration::ZERO),
        ..Observed::default()
    }
}

fn forecast(demand: f64, ratio: f64) -> Forecast {
    let flat = Quantiles::new([demand; LEVELS.len()]).unwrap();
    Forecast {
        signal: Signal::RequestsPerSecond,
        issued_at: T0,
        start: T0,
        step: Duration::from_secs(60),
        model: "flat".into(),
        steps: vec![flat; 120],
        window_max: vec![flat; 120],
        score: Some(Score { pinball: 1.0, pinball_ratio: ratio, coverage95: 0.95, origins: 50 }),
    }
}

/// 25 req/s for so many minutes, then 62.
fn rises_after(minutes: usize) -> Forecast {
    let demand =
        |minute: usize| Quantiles::new([if minute < minutes { 25.0 } else { 62.0 }; LEVELS.len()]).unwrap();
    let steps: Vec<_> = (0..120).map(demand).collect();
    Forecast { window_max: steps.clone(), steps, ..forecast(25.0, 0.8) }
}

fn inputs<'a>(
    policy: &'a ServingPolicy,
    observed: &'a Observed,
    forecast: Option<&'a Forecast>,
) -> Inputs<'a> {
    Inputs {
        policy,
        observed,
        forecast,
        provision: None,
        largest: None,
        capacity: Some(Capacity {
            low: 10.0,
            mid: 11.0,
            high: 12.0,
            spare: 0.0,
            source: CapacitySource::Hint,
        }),
        lead: Lead { p50: Duration::from_secs(8), p90: Duration::from_secs(10), starts: 3 },
        room: None,
    }
}

fn after(secs: u64) -> Timestamp {
    T0 + Duration::from_secs(secs)
}

#[test]
fn an_objective_that_nobody_measures_is_told_and_changes_no_size() {
    let policy = policy();
    let measured = Observed { slo_unmeasurable: false, ..seen(4, 25.0) };
    let blind = Observed { slo_unmeasurable: true, ..measured.clone() };
    let (with, _) = decide(&inputs(&policy, &measured, None), &State::default(), T0);
    let (without, _) = decide(&inputs(&policy, &blind, None), &State::default(), T0);
    assert!(without.has(ReasonCode::SloUnmeasurable) && !with.has(ReasonCode::SloUnmeasurable));
    assert_eq!(without.replicas, with.replicas);
}

#[test]
fn reacts_to_demand_and_to_what_waits() {
    let policy = policy();
    let (plan, _) = decide(&inputs(&policy, &seen(1, 35.0), None), &State::default(), T0);
    assert_eq!(plan.replicas, 4);
    assert!(plan.has(ReasonCode::NoForecast));
    let waiting = Observed { queued: Reading::new(100.0, Duration::ZERO), ..seen(1, 35.0) };
    let (plan, _) = decide(&inputs(&policy, &waiting, None), &State::default(), T0);
    assert_eq!(plan.replicas, 5);
    assert!(plan.has(ReasonCode::Backlog));
}

#[test]
fn goes_up_before_demand_comes_when_the_forecast_is_trusted() {
    let policy = policy();
    let decide_with = |ratio| {
        decide(&inputs(&policy, &seen(2, 15.0), Some(&forecast(72.0, ratio))), &State::default(), T0).0
    };
    assert_eq!(decide_with(0.8).replicas, 8);
    let plan = decide_with(1.3);
    assert_eq!(plan.replicas, 2);
    assert!(plan.has(ReasonCode::ForecastNotTrusted));
}

#[test]
fn holds_when_no_fresh_sample() {
    let policy = policy();
    let stale = Observed { demand: Reading::new(1.0, Duration::from_secs(60)), ..seen(7, 1.0) };
    let (plan, state) = decide(&inputs(&policy, &stale, None), &State::default(), T0);
    assert_eq!(plan.replicas, 7);
    assert!(plan.has(ReasonCode::DemandStale));
    let with_fallback = ServingPolicy { fallback: Some(9), ..policy };
    let (plan, _) = decide(&inputs(&with_fallback, &stale, None), &state, after(301));
    assert_eq!(plan.replicas, 9);
    assert!(plan.has(ReasonCode::DemandUnknown));
}

#[test]
fn uses_concurrency_where_demand_is_unknown() {
    let mut policy = policy();
    policy.capacity.concurrency = Some(4);
    let blind = Observed {
        demand: None,
        in_flight: Reading::new(12.0, Duration::ZERO),
        queued: Reading::new(5.0, Duration::ZERO),
        ..seen(2, 0.0)
    };
    let (plan, _) = decide(&inputs(&policy, &blind, None), &State::default(), T0);
    assert_eq!(plan.replicas, 5);
    assert!(plan.has(ReasonCode::DemandFromConcurrency));
}

#[test]
fn comes_down_only_after_the_hold_and_outside_the_flap_window() {
    let policy = policy();
    let (plan, state) = decide(&inputs(&policy, &seen(2, 80.0), None), &State::default(), T0);
    assert_eq!(plan.replicas, 8);
    let (plan, state) = decide(&inputs(&policy, &seen(8, 20.0), None), &state, after(30));
    assert_eq!(plan.replicas, 8);
    assert!(plan.has(ReasonCode::Held));
    let (plan, state) = decide(&inputs(&policy, &seen(8, 20.0), None), &state, after(121));
    assert_eq!(plan.replicas, 2);
    assert_eq!(state.decided(), Some(2));
}

#[test]
fn does_not_come_down_when_the_forecast_says_it_would_be_needed_again() {
    let policy = policy();
    let state = State::default();
    let (plan, _) = decide(&inputs(&policy, &seen(8, 20.0), Some(&forecast(65.0, 0.9))), &state, T0);
    assert_eq!(plan.replicas, 7);
    let mut rising = forecast(15.0, 0.9);
    let high = Quantiles::new([65.0; LEVELS.len()]).unwrap();
    rising.window_max[2..].fill(high);
    let (plan, _) = decide(&inputs(&policy, &seen(8, 20.0), Some(&rising)), &state, T0);
    assert_eq!(plan.replicas, 7);
    assert!(plan.has(ReasonCode::Consolidation));
}

#[test]
fn takes_a_bad_scale_down_back_at_once_and_holds_longer() {
    let policy = policy();
    let (plan, state) = decide(&inputs(&policy, &seen(8, 20.0), None), &State::default(), T0);
    assert_eq!(plan.replicas, 2, "nothing was needed before, so there is nothing to hold for");
    let late = Observed { misses: Some(Misses { ended: 100.0, missed: 20.0 }), ..seen(2, 20.0) };
    let (plan, state) = decide(&inputs(&policy, &late, None), &state, after(10));
    assert_eq!(plan.replicas, 8);
    assert!(plan.has(ReasonCode::RolledBack));
    let (plan, _) = decide(&inputs(&policy, &seen(8, 20.0), None), &state, after(200));
    assert_eq!(plan.replicas, 8, "the hold has doubled to 240 s");
    let (plan, _) = decide(&inputs(&policy, &seen(8, 20.0), None), &state, after(300));
    assert_eq!(plan.replicas, 2);
}

#[test]
fn respects_what_somebody_else_wrote_for_a_while() {
    let policy = policy();
    let (_, state) = decide(&inputs(&policy, &seen(3, 30.0), None), &State::default(), T0);
    let (plan, state) = decide(&inputs(&policy, &seen(6, 30.0), None), &state, after(5));
    assert_eq!(plan.replicas, 6);
    assert!(plan.has(ReasonCode::ForeignWrite));
    let (plan, _) = decide(&inputs(&policy, &seen(6, 90.0), None), &state, after(606));
    assert_eq!(plan.replicas, 9);
}

#[test]
fn no_scale_out_of_a_crash_loop() {
    let policy = policy();
    let looping = Observed { crash_loop: true, ..seen(2, 90.0) };
    let (plan, _) = decide(&inputs(&policy, &looping, None), &State::default(), T0);
    assert_eq!(plan.replicas, 2);
    assert!(plan.has(ReasonCode::CrashLoop));
}

#[test]
fn an_alert_and_the_schedule_raise_the_floor_within_the_bounds() {
    let mut policy = policy();
    policy.alerts = serde_json::from_str(r#"[{"match":{"alertname":"Slow"},"add":3}]"#).unwrap();
    let mut state = State::default();
    let alert =
        Alert { fingerprint: "f".into(), firing: true, labels: [("alertname".into(), "Slow".into())].into() };
    state.boosts.admit(&policy, &alert, 2, T0);
    let (plan, state) = decide(&inputs(&policy, &seen(2, 15.0), None), &state, T0);
    assert_eq!(plan.replicas, 5);
    assert!(plan.has(ReasonCode::AlertBoost));
    policy.schedule = serde_json::from_str(r#"[{"from":"00:00","to":"23:59","min":7}]"#).unwrap();
    let (plan, _) = decide(&inputs(&policy, &seen(5, 15.0), None), &state, T0);
    assert_eq!(plan.replicas, 7);
}

#[test]
fn one_step_is_limited_and_the_pool_is_not_overdrawn() {
    let mut policy = policy();
    policy.scaling.step_up_max = Some(2);
    let (plan, state) = decide(&inputs(&policy, &seen(2, 90.0), None), &State::default(), T0);
    assert_eq!(plan.replicas, 4);
    let (plan, state) = decide(&inputs(&policy, &seen(4, 90.0), None), &state, after(5));
    assert_eq!(plan.replicas, 4, "the window is not over");
    let (plan, _) = decide(&inputs(&policy, &seen(4, 90.0), None), &state, after(15));
    assert_eq!(plan.replicas, 6);
    policy.scaling.step_up_max = None;
    let observed = seen(2, 90.0);
    let short = Inputs {
        room: Some(Room { present: 5, most: 5, node_wait: Duration::ZERO }),
        ..inputs(&policy, &observed, None)
    };
    let (plan, _) = decide(&short, &State::default(), T0);
    assert_eq!(
        (plan.replicas, plan.unpooled),
        (5, 9),
        "the pool is told the whole need, else it never frees a slot"
    );
    assert!(plan.has(ReasonCode::PoolLimit));
}

#[test]
fn what_does_not_fit_onto_the_nodes_that_are_there_is_asked_for_as_early_as_one_more_takes() {
    let policy = policy();
    let (observed, later) = (seen(3, 25.0), rises_after(4));
    let room = |present, wait_s| {
        let room = Room { present, most: 12, node_wait: Duration::from_secs(wait_s) };
        let inputs = Inputs { room: Some(room), ..inputs(&policy, &observed, Some(&later)) };
        decide(&inputs, &State::default(), T0).0
    };
    let plan = room(4, 300);
    assert!(plan.replicas == 7 && plan.has(ReasonCode::NodeAhead), "{plan:?}");
    let soon = room(4, 60);
    assert!(soon.replicas == 3 && !soon.has(ReasonCode::NodeAhead), "the rise is further off: {soon:?}");
    let fits = room(7, 300);
    assert!(fits.replicas == 3 && !fits.has(ReasonCode::NodeAhead), "a replica takes seconds: {fits:?}");
    let grown = room(12, 300);
    assert!(grown.replicas == 3, "it cannot grow: {grown:?}");
}

#[test]
fn misses_lower_the_risk_and_their_absence_raises_it_slowly() {
    let policy = policy();
    let run = |missed: f64| {
        let observed = Observed { misses: Some(Misses { ended: 1000.0, missed }), ..seen(20, 150.0) };
        let mut state = State::default();
        for minute in 0..30 {
            state = decide(&inputs(&policy, &observed, None), &state, after(minute * 60)).1;
        }
        state.risk.exceedance.unwrap()
    };
    assert!(run(50.0) < 0.002, "{}", run(50.0));
    assert!((0.011..=0.04).contains(&run(0.0)), "{}", run(0.0));
}

#[test]
fn one_more_replica_when_requests_are_late_although_the_size_should_do() {
    let policy = policy();
    let late = Observed {
        misses: Some(Misses { ended: 100.0, missed: 30.0 }),
        queued: Reading::new(8.0, Duration::ZERO),
        ..seen(4, 30.0)
    };
    let (plan, _) = decide(&inputs(&policy, &late, None), &State::default(), T0);
    assert_eq!(plan.replicas, 5);
    assert!(plan.has(ReasonCode::StillMissing));
}

prop_compose! {
    fn observations()(
        wanted in 0u32..25, demand in prop::option::of(0.0f64..400.0), age in 0u64..400, queued in 0.0f64..300.0,
        ended in 0.0f64..1000.0, share in 0.0f64..1.0, crash_loop in any::<bool>(),
    ) -> Observed {
        let age = Duration::from_secs(age);
        Observed {
            demand: demand.and_then(|d| Reading::new(d, age)),
            queued: Reading::new(queued, age),
            misses: Some(Misses { ended, missed: ended * share }),
            crash_loop,
            ..seen(wanted, 0.0)
        }
    }
}

prop_compose! {
    fn states()(steps in prop::collection::vec((observations(), 0u64..200), 0..6)) -> State {
        let policy = policy();
        let mut state = State::default();
        let mut before = 1200u64;
        for (observed, gap) in steps {
            before = before.saturating_sub(gap);
            state = decide(&inputs(&policy, &observed, None), &state, T0.before(Duration::from_secs(before))).1;
        }
        // What somebody else wrote is another matter: these properties are about our own decisions.
        state.forget_decided();
        state.foreign_until = None;
        state
    }
}

proptest! {
    #[test]
    fn a_plan_is_in_bounds_and_settles(observed in observations(), state in states(), ahead in prop::option::of(0.0f64..400.0)) {
        let policy = policy();
        let ahead = ahead.map(|demand| forecast(demand, 0.9));
        let (first, state) = decide(&inputs(&policy, &observed, ahead.as_ref()), &state, T0);
        prop_assert!(policy.replicas.min <= first.replicas && first.replicas <= policy.replicas.max);
        let mut then = observed;
        then.replicas.wanted = first.replicas;
        let (again, _) = decide(&inputs(&policy, &then, ahead.as_ref()), &state, T0);
        prop_assert_eq!(first.replicas, again.replicas, "{:?} then {:?}", first, again);
    }

    #[test]
    fn more_demand_never_means_fewer_replicas(observed in observations(), state in states(), demand in 0.0f64..400.0, more in 0.0f64..200.0) {
        let policy = policy();
        let with = |demand: f64| {
            let observed = Observed { demand: Reading::new(demand, Duration::ZERO), ..observed.clone() };
            decide(&inputs(&policy, &observed, None), &state, T0).0.replicas
        };
        prop_assert!(with(demand + more) >= with(demand));
    }

    #[test]
    fn nan_is_as_good_as_no_reading(observed in observations(), state in states()) {
        let policy = policy();
        let absent = Observed { demand: None, ..observed.clone() };
        let nan = Observed { demand: Reading::new(f64::NAN, Duration::ZERO), ..observed };
        let (a, b) = (decide(&inputs(&policy, &absent, None), &state, T0), decide(&inputs(&policy, &nan, None), &state, T0));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn no_scale_down_within_the_flap_window(observed in observations(), state in states(), later in 0u64..60) {
        let policy = policy();
        let up = decide(&inputs(&policy, &seen(2, 100.0), None), &state, T0).1;
        let mut then = observed;
        then.replicas.wanted = up.decided().unwrap();
        let (plan, _) = decide(&inputs(&policy, &then, None), &up, after(later));
        prop_assert!(plan.replicas >= then.replicas.wanted.min(policy.replicas.max));
    }

    #[test]
    fn a_state_reads_back_as_it_was_written(state in states()) {
        let text = serde_json::to_string(&state).unwrap();
        let back: State = serde_json::from_str(&text).unwrap();
        let (policy, observed) = (policy(), seen(3, 50.0));
        let a = decide(&inputs(&policy, &observed, None), &state, T0).0;
        prop_assert_eq!(a, decide(&inputs(&policy, &observed, None), &back, T0).0);
    }
}

#[test]
fn a_rehearsed_stance_gives_headroom_quantile_and_hold() {
    let policy = policy();
    let observed = seen(2, 15.0);
    let stance = Stance { level: 1.5, usual: 0.5, peak: None, tilt: 0.0, hold: Duration::from_secs(300) };
    let peak = Quantiles::new(LEVELS.map(|level| 100.0 * level)).unwrap();
    let decide_with = |stance: &Stance, state: &State, observed: &Observed, now| {
        let provision = Provision { stance, expected: 0.01, usual: 20.0, peak: Some(&peak) };
        decide(&Inputs { provision: Some(provision), ..inputs(&policy, observed, None) }, state, now)
    };
    let (plan, _) = decide_with(&stance, &State::default(), &observed, T0);
    assert_eq!(plan.replicas, 4, "15 × 1.5 + 20 × 0.5 req/s at 10 a replica");
    assert!(plan.has(ReasonCode::Headroom) && plan.has(ReasonCode::ForecastDoesNotPay));
    let (plan, state) = decide_with(&Stance { peak: Some(0.95), ..stance }, &State::default(), &observed, T0);
    assert_eq!(plan.replicas, 10);
    assert!(plan.has(ReasonCode::Predicted));
    let (held, state) = decide_with(&stance, &state, &seen(10, 15.0), after(299));
    assert_eq!(held.replicas, 10, "what was needed is held for as long as was rehearsed");
    let blind =
        Provision { stance: &Stance { peak: Some(0.95), ..stance }, expected: 0.01, usual: 20.0, peak: None };
    let unknown = Inputs { provision: Some(blind), ..inputs(&policy, &observed, None) };
    let plan = decide(&unknown, &State::default(), T0).0;
    assert!(plan.has(ReasonCode::NoForecast) && !plan.has(ReasonCode::ForecastDoesNotPay));
    assert_eq!(plan.replicas, 4, "headroom stands without a peak");
    assert!(decide_with(&stance, &state, &seen(10, 15.0), after(302)).0.replicas < 10);
}
