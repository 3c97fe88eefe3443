//! Whole days through a brain and through a fleet: what it sees is made here, second by second.

use std::time::Duration;

use tidegate_core::{
    Bounds, CapacitySource, Mode, Policy, ReasonCode, ReplicaCounts, Series, ServingPolicy, Timestamp,
    TrainingPolicy, WorkloadId,
};

use crate::{
    Brain, Event, Fleet, Flow, History, Ingredients, PoolSize, Progress, ResizeOutcome, Seen, Tokens,
};

const DAY_S: i64 = 600;
const STEP: Duration = Duration::from_secs(5);

fn id(name: &str) -> WorkloadId {
    WorkloadId::local(name).unwrap()
}

fn serving() -> ServingPolicy {
    serde_json::from_str(
        r#"{"mode":"active","replicas":{"min":1,"max":12},"slo":{"latency":"500ms","target":0.99},
            "capacity":{"requestsPerSecond":20},"forecast":{"step":"5s","seasons":["10m"]},
            "scaling":{"leadTime":"8s","scaleDownHold":"20s","flapWindow":"15s","scaleDownsPerHourMax":500}}"#,
    )
    .unwrap()
}

fn training() -> TrainingPolicy {
    serde_json::from_str(
        r#"{"mode":"active","workers":{"min":1,"max":10},"growHold":"30s","resizesPerHourMax":100}"#,
    )
    .unwrap()
}

/// A day with a steep morning: 12 req/s until a quarter of it, 120 req/s from a third to two thirds.
fn rate(second: i64) -> f64 {
    let phase = second.rem_euclid(DAY_S);
    let (rise, fall) = ((phase - 150) as f64 / 50.0, (phase - 400) as f64 / 50.0);
    12.0 + 108.0 * (rise.clamp(0.0, 1.0) - fall.clamp(0.0, 1.0))
}

fn history(days: i64) -> History {
    let steps = days * DAY_S / 5;
    let start = Timestamp::from_secs(-days * DAY_S);
    let value = |k: i64| {
        // A little chance, so that residuals are not all zero.
        let chance = f64::from(u32::try_from((k * 7919).rem_euclid(13)).unwrap()) - 6.0;
        Some(rate(k * 5 - days * DAY_S) * (1.0 + chance / 200.0))
    };
    History { demand: Some(Series::from_values(start, STEP, (0..steps).map(value))), tokens: None }
}

fn look(second: i64, replicas: ReplicaCounts) -> Seen {
    let arrivals = rate(second);
    let served = arrivals.min(f64::from(replicas.ready) * 24.0);
    let flow = Flow {
        window: Duration::from_secs(1),
        age: Duration::ZERO,
        arrivals,
        completed: served,
        ended: Some(arrivals),
        missed: Some(arrivals - served),
        tokens: None,
    };
    let at = Timestamp::from_secs(second);
    Seen {
        at,
        replicas,
        flow: Some(flow),
        in_flight: None,
        queued: Some(0.0),
        kv_utilisation: None,
        lost: 0,
        crash_loop: false,
    }
}

fn size(n: u32) -> ReplicaCounts {
    ReplicaCounts { wanted: n, ready: n, starting: 0, draining: 0 }
}

/// Runs the seconds with replicas that are ready 8 s after they are asked for; gives the size in force at each second.
fn run(brain: &mut Brain, seconds: std::ops::Range<i64>) -> Vec<u32> {
    let (mut wanted, mut ordered) = (1, Vec::<(i64, u32)>::new());
    let mut sizes = Vec::new();
    for second in seconds {
        ordered.retain(|(at, _)| *at + 8 > second);
        let starting = ordered.iter().map(|(_, n)| n).sum::<u32>().min(wanted);
        brain.ingest(Event::Seen(look(
            second,
            ReplicaCounts { wanted, ready: wanted - starting, starting, draining: 0 },
        )));
        brain.study();
        let (plan, _) = brain.tick(Timestamp::from_secs(second), None);
        if plan.replicas > wanted {
            ordered.push((second, plan.replicas - wanted));
        }
        wanted = plan.replicas;
        sizes.push(wanted);
    }
    sizes
}

#[test]
fn with_two_days_of_history_it_goes_up_before_the_rise() {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), history(2));
    let sizes = run(&mut brain, 0..300);
    let before_the_rise = sizes[148];
    assert!(
        before_the_rise >= 2,
        "12 req/s need one replica; the forecast should have asked for more, got {before_the_rise}"
    );
    assert!(brain.forecast().is_some());
    assert!(brain.league().iter().any(|standing| standing.in_use));
    assert!(sizes[290] >= 6);
}

#[test]
fn a_strict_objective_stands_for_the_most_that_was_seen_until_the_past_is_long() {
    let at_night = |target: &str, days| {
        let mut policy = serving();
        policy.slo.target = serde_json::from_str(target).unwrap();
        let mut brain = Brain::new(id("a"), Policy::Serving(policy), history(days));
        let sizes = run(&mut brain, 0..60);
        (sizes[59], brain.plan().unwrap().has(ReasonCode::ShortPast))
    };
    // A day has 40 windows of the lead time; the night asks for one replica, the day for seven.
    let (strict, said) = at_night("0.999", 1);
    assert!(strict >= 7 && said, "{strict}");
    let (ordinary, said) = at_night("0.99", 1);
    assert!(ordinary < 7 && !said, "{ordinary}");
    let (strict, said) = at_night("0.999", 6);
    assert!(strict < 7 && !said, "{strict}");
}

#[test]
fn without_history_it_follows_what_it_sees_and_says_that_it_has_no_forecast() {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), History::default());
    let sizes = run(&mut brain, 0..20);
    assert_eq!(sizes[19], 1);
    assert!(brain.plan().unwrap().has(ReasonCode::NoForecast));
    let sizes = run(&mut brain, 140..260);
    assert!(*sizes.last().unwrap() >= 6, "{sizes:?}");
}

#[test]
fn an_objective_that_nobody_measures_is_unmeasurable_and_not_fine() {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), History::default());
    let mut told = |seconds: std::ops::Range<i64>, missed: Option<f64>| {
        for second in seconds {
            let mut seen = look(second, size(2));
            seen.flow = seen.flow.map(|flow| Flow { ended: missed.map(|_| flow.completed), missed, ..flow });
            brain.ingest(Event::Seen(seen));
        }
        let now = brain.seen().expect("it was told").at;
        let (plan, _) = brain.tick(now, None);
        (plan.has(ReasonCode::SloUnmeasurable), brain.observed(now).and_then(|seen| seen.misses))
    };
    assert!(!told(0..10, None).0, "histograms may come a little after the counters");
    let (unmeasurable, misses) = told(10..60, None);
    assert!(unmeasurable && misses.is_none(), "no misses known, which is not none missed");
    assert!(!told(60..61, Some(0.0)).0);
}

#[test]
fn with_forecasting_off_it_never_forecasts() {
    let mut policy = serving();
    policy.forecast.enabled = false;
    let mut brain = Brain::new(id("a"), Policy::Serving(policy), history(2));
    let sizes = run(&mut brain, 0..149);
    assert_eq!(sizes.last(), Some(&1));
    assert!(brain.forecast().is_none() && brain.plan().unwrap().has(ReasonCode::ForecastOff));
}

/// A brain with these ingredients after a morning, and its sizes.
fn morning(ingredients: Ingredients) -> (Brain, Vec<u32>) {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), history(2)).with(ingredients);
    let sizes = run(&mut brain, 0..260);
    (brain, sizes)
}

#[test]
fn each_ingredient_can_be_left_out() {
    let all = Ingredients::default();
    let (whole, sizes) = morning(all);
    let now = Timestamp::from_secs(260);
    let by_peak = |brain: &Brain| brain.front().iter().any(|one| one.stance.peak.is_some());
    let source = |brain: &Brain| brain.capacity().map(|capacity| capacity.source);

    let (without, _) = morning(Ingredients { peak: false, ..all });
    assert!(by_peak(&whole) && !by_peak(&without) && without.stance(now).is_some());
    let (without, _) = morning(Ingredients { rehearsal: false, ..all });
    assert!(whole.stance(now).is_some() && without.stance(now).is_none());
    assert!(without.plan().unwrap().has(ReasonCode::Predicted), "by the forecast's own quantile");
    let (without, _) = morning(Ingredients { capacity: false, ..all });
    assert_eq!(
        (source(&whole), source(&without)),
        (Some(CapacitySource::Learned), Some(CapacitySource::Hint))
    );
    let (without, blind) = morning(Ingredients { reactive: false, ..all });
    assert!(without.front().iter().all(|one| one.stance.peak.is_some() && one.stance.level == 0.0));
    assert_ne!(blind, sizes);
}

#[test]
fn without_calibration_a_bad_day_changes_nothing() {
    let all = Ingredients::default();
    // Bursts that nothing announces, so that there is a choice between cost and misses.
    let value =
        |k: i64| Some(if k % 97 < 2 { 80.0 + (k / 97 * 37 % 140) as f64 } else { 60.0 + (k % 11) as f64 });
    let demand = Some(Series::from_values(Timestamp::from_secs(-6000), STEP, (0..1200).map(value)));
    let after_a_bad_day = |ingredients| {
        let history = History { demand: demand.clone(), tokens: None };
        let mut brain = Brain::new(id("a"), Policy::Serving(serving()), history).with(ingredients);
        brain.study();
        let before = brain.stance(Timestamp::EPOCH).copied();
        for second in (0..86_400).step_by(60) {
            let seen = look(second, size(3));
            let flow = seen.flow.map(|flow| Flow { missed: flow.ended.map(|ended| ended / 10.0), ..flow });
            brain.ingest(Event::Seen(Seen { flow, ..seen }));
            brain.tick(Timestamp::from_secs(second), None);
        }
        (before, brain.stance(Timestamp::from_secs(86_400)).copied())
    };
    let (before, after) = after_a_bad_day(Ingredients { calibration: false, ..all });
    assert!(before.is_some() && before == after);
    let (before, after) = after_a_bad_day(all);
    assert!(after.unwrap().missed < before.unwrap().missed, "{before:?} {after:?}");
}

#[test]
fn the_same_events_give_the_same_plans() {
    let make = || Brain::new(id("a"), Policy::Serving(serving()), history(2));
    assert_eq!(run(&mut make(), 0..200), run(&mut make(), 0..200));
}

#[test]
fn a_lesson_learned_late_is_as_good_as_one_learned_at_once() {
    let mut at_once = Brain::new(id("a"), Policy::Serving(serving()), history(2));
    let mut late = at_once.clone();
    let lesson = late.lesson().unwrap();
    assert!(late.lesson().is_none(), "one is enough until the history has grown");
    at_once.study();
    for brain in [&mut at_once, &mut late] {
        (0..12).for_each(|second| brain.ingest(Event::Seen(look(second, size(1)))));
    }
    late.tick(Timestamp::from_secs(12), None);
    assert!(late.forecast().is_none() && late.plan().unwrap().has(ReasonCode::NoForecast));
    late.adopt(lesson.learn());
    for brain in [&mut at_once, &mut late] {
        brain.tick(Timestamp::from_secs(13), None);
    }
    assert!(late.forecast().is_some());
    assert_eq!(late.forecast(), at_once.forecast());
}

#[test]
fn a_restart_keeps_what_was_learned() {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), history(2));
    for secs in [6, 6, 7] {
        brain.ingest(Event::Started { at: Timestamp::EPOCH, start_up: Duration::from_secs(secs) });
    }
    run(&mut brain, 0..260);
    let text = serde_json::to_string(&brain.snapshot()).unwrap();
    let again = Brain::new(id("a"), Policy::Serving(serving()), history(2))
        .restored(serde_json::from_str(&text).unwrap());
    assert_eq!((again.lead(), again.capacity()), (brain.lead(), brain.capacity()));
    assert_eq!(again.decisions().count(), brain.decisions().count());
}

#[test]
fn metrics_that_stop_hold_the_size_and_are_named() {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), History::default());
    run(&mut brain, 200..260);
    let held = brain.counts().wanted;
    for second in 260..300 {
        let blind = Seen { flow: None, queued: None, ..look(second, size(held)) };
        brain.ingest(Event::Seen(blind));
        assert_eq!(brain.tick(Timestamp::from_secs(second), None).0.replicas, held);
    }
    assert!(brain.plan().unwrap().has(ReasonCode::DemandStale));
}

fn progress(second: i64, workers: u32) -> Event {
    let at = Timestamp::from_secs(second);
    let samples_per_second = Some(f64::from(workers) * 100.0);
    Event::Progress(Progress {
        at,
        workers: size(workers),
        samples_per_second,
        steps_per_second: Some(5.0),
        resizing: false,
    })
}

#[test]
fn training_yields_before_the_rise_and_comes_back_at_the_ebb() {
    let serve = Brain::new(id("serve"), Policy::Serving(serving()), history(2));
    let mut train = Brain::new(id("train"), Policy::Training(training()), History::default());
    // As measured in the demo: a resize that takes as long as is assumed before one was seen would not pay for itself here.
    let (at, took) = (Timestamp::EPOCH, Duration::from_secs(2));
    train.ingest(Event::Resized { at, took, outcome: ResizeOutcome::Done });
    let mut fleet = Fleet::new([serve, train], Some(PoolSize::fixed(12)));
    let (mut serving, mut workers) = (1, 1);
    let mut at = |fleet: &mut Fleet, second: i64| {
        fleet.get_mut(&id("serve")).unwrap().ingest(Event::Seen(look(second, size(serving))));
        fleet.get_mut(&id("train")).unwrap().ingest(progress(second, workers));
        while let Some((id, lesson)) = fleet.lesson() {
            fleet.get_mut(&id).unwrap().adopt(lesson.learn());
        }
        let plans = fleet.tick(Timestamp::from_secs(second));
        serving = plans[&id("serve")].0.replicas;
        workers = plans[&id("train")].0.replicas;
        (serving, workers)
    };
    let all: Vec<_> = (0..DAY_S).map(|second| at(&mut fleet, second)).collect();
    let most = |range: std::ops::Range<usize>| all[range].iter().map(|(_, workers)| *workers).max().unwrap();
    assert!(most(20..90) >= 8, "the night belongs to training: {:?}", &all[20..90]);
    assert!(all[205].1 <= 5, "serving needs most of the pool at the peak: {:?}", all[205]);
    assert!(most(520..600) >= 8, "training comes back: {:?}", &all[520..600]);
    assert!(
        all.iter().all(|(serving, workers)| serving + workers <= 13),
        "one round of grace while a worker leaves"
    );
}

#[test]
fn a_resize_that_failed_is_named_and_not_tried_again_at_once() {
    let mut train = Brain::new(id("train"), Policy::Training(training()), History::default());
    train.ingest(progress(0, 2));
    train.ingest(Event::Resized {
        at: Timestamp::EPOCH,
        took: Duration::from_secs(3),
        outcome: ResizeOutcome::CheckpointFailed,
    });
    let (plan, decision) = train.take(Timestamp::from_secs(1), None);
    assert_eq!(plan.replicas, 2);
    assert!(plan.has(ReasonCode::CheckpointFailed) && decision.is_some());
    assert_eq!(train.take(Timestamp::from_secs(60), None).0.replicas, 10);
}

/// A look at an engine that takes 20 ms for an iteration, 0.4 ms more for each running request and 30 µs for each prompt token, with
/// `rate` requests per second of `prompt` and 200 tokens.
fn look_at_engine(second: i64, ready: u32, rate: f64, prompt: f64) -> Seen {
    let each = rate / f64::from(ready);
    let busy = (each * (0.000_4 * 200.0 + 0.000_03 * prompt)).min(0.95);
    let iteration_s = 0.02 / (1.0 - busy);
    let late = if iteration_s > 0.06 { rate * 5.0 } else { 0.0 };
    Seen {
        flow: Some(Flow {
            window: Duration::from_secs(5),
            age: Duration::ZERO,
            arrivals: rate * 5.0,
            completed: rate * 5.0,
            ended: Some(rate * 5.0),
            missed: Some(late),
            tokens: Some(Tokens {
                prompt: rate * 5.0 * prompt,
                output: rate * 5.0 * 200.0,
                per_output_token_s: Some(iteration_s),
            }),
        }),
        in_flight: Some(rate * 200.0 * iteration_s),
        ..look(second, size(ready))
    }
}

#[test]
fn longer_prompts_need_more_replicas_of_a_language_model_although_requests_are_as_many() {
    let policy = r#"{"mode":"active","replicas":{"min":1,"max":60},"slo":{"latency":"2s","perOutputToken":"60ms","target":0.99},"capacity":{"concurrency":64}}"#;
    let mut brain =
        Brain::new(id("llm"), Policy::Serving(serde_json::from_str(policy).unwrap()), History::default());
    let mut held = 6;
    let mut sizes = Vec::new();
    for step in 0..900i64 {
        // The load breathes, so that the engine's terms can be told apart; prompts grow to five times their length at half time.
        let rate = 20.0 + f64::from(u32::try_from(step % 60).unwrap()) / 6.0;
        let prompt = if step < 450 { 600.0 } else { 3000.0 };
        brain.ingest(Event::Seen(look_at_engine(step * 5, held, rate, prompt)));
        brain.study();
        held = brain.tick(Timestamp::from_secs(step * 5), None).0.replicas;
        sizes.push(held);
    }
    // 30 req/s of 0.098 s of work each, at most two thirds of an iteration being work: 4.4 replicas; then 0.17 s: 7.7.
    assert!((5..=9).contains(&sizes[440]), "{}", sizes[440]);
    assert!((8..=20).contains(&sizes[890]) && sizes[890] > sizes[440], "{} {}", sizes[440], sizes[890]);
}

/// Looks for a while at a size that nobody changes; gives the last plan.
fn watch(brain: &mut Brain, seconds: std::ops::Range<i64>, replicas: u32) -> tidegate_core::Plan {
    let mut last = None;
    for second in seconds {
        brain.ingest(Event::Seen(look(second, size(replicas))));
        last = Some(brain.tick(Timestamp::from_secs(second), None).0);
    }
    last.expect("it looked")
}

#[test]
fn when_a_shadow_begins_to_act_the_size_that_it_finds_is_nobodys_wish() {
    let policy = ServingPolicy { mode: Mode::Shadow, ..serving() };
    let mut brain = Brain::new(id("a"), Policy::Serving(policy), History::default());
    let plan = watch(&mut brain, 200..400, 1);
    assert!(plan.replicas > 1 && plan.has(ReasonCode::Shadow));
    // Long after its last decision, whichever way the mode is changed.
    let by_policy = brain.clone().under(Policy::Serving(serving()));
    brain.set_mode(Mode::Active);
    for mut brain in [brain, by_policy] {
        let plan = watch(&mut brain, 400..401, 1);
        assert!(plan.replicas > 1 && !plan.has(ReasonCode::ForeignWrite), "{:?}", plan.reasons);
    }
}

#[test]
fn another_intent_keeps_what_was_learned() {
    let mut brain = Brain::new(id("a"), Policy::Serving(serving()), history(2));
    run(&mut brain, 0..120);
    let known = brain.demand().expect("it serves").known_len();
    let bounds = ServingPolicy { replicas: Bounds { min: 2, max: 30 }, ..serving() };
    let wider = brain.clone().under(Policy::Serving(bounds));
    assert!(wider.forecast().is_some(), "bounds change nothing that is forecast");
    let mut stricter = serving();
    stricter.slo.latency = tidegate_core::Span::from_secs(1);
    let anew = brain.under(Policy::Serving(stricter));
    assert_eq!(anew.demand().expect("it serves").known_len(), known);
    assert_eq!(anew.lead().map(|lead| lead.starts), wider.lead().map(|lead| lead.starts));
}

#[test]
fn a_fleet_takes_minds_in_and_lets_them_go() {
    let mut fleet = Fleet::new([], Some(PoolSize::fixed(4)));
    assert!(fleet.insert(Brain::new(id("a"), Policy::Serving(serving()), History::default())).is_none());
    assert!(fleet.insert(Brain::new(id("t"), Policy::Training(training()), History::default())).is_none());
    assert_eq!(fleet.tick(Timestamp::from_secs(1)).len(), 2);
    fleet.set_pool(Some(PoolSize::fixed(9)));
    assert_eq!(fleet.pool().map(|pool| pool.most), Some(9));
    assert!(fleet.remove(&id("t")).is_some_and(|brain| brain.id() == &id("t")));
    assert!(fleet.remove(&id("t")).is_none());
    assert_eq!(fleet.tick(Timestamp::from_secs(2)).len(), 1);
}
