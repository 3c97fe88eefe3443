//! The predictor from outside: what it says about loads whose nature is known, and that no input breaks it.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_core::signals::Signal;
use tidegate_core::{Forecast, Series, Timestamp};
use tidegate_predictor::{FittedPredictor, Predictor, PredictorConfig};

const STEP: Duration = Duration::from_secs(5);

fn config() -> PredictorConfig {
    PredictorConfig {
        step: STEP,
        seasons: vec![Duration::from_secs(600)],
        horizon_steps: 60,
        lead_steps: 4,
        seed: 3,
    }
}

fn series(values: impl IntoIterator<Item = Option<f64>>) -> Series {
    Series::from_values(Timestamp::from_secs(1_700_000_000), STEP, values)
}

fn fit(values: impl IntoIterator<Item = f64>) -> FittedPredictor {
    Predictor::new(config()).fit(&series(values.into_iter().map(Some)))
}

fn said(fitted: &FittedPredictor) -> Option<Forecast> {
    fitted.predict(Signal::RequestsPerSecond, fitted.end())
}

/// Even noise in -1..1, the same for the same step.
fn noise(t: u32) -> f64 {
    let mut x = u64::from(t).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from(x >> 40).expect("24 bits are left");
    f64::from(high) / f64::from(1u32 << 23) - 1.0
}

/// A day of 120 steps between 20 and 100, with noise.
fn daily(t: u32) -> f64 {
    60.0 - 40.0 * (f64::from(t) * std::f64::consts::TAU / 120.0).cos() + 4.0 * noise(t)
}

#[test]
fn sees_the_rise_of_the_third_day_after_two() {
    // The load stands at its lowest at step 240 and reaches 60 half an hour of steps later.
    let forecast = said(&fit((0..244).map(daily))).unwrap();
    let ahead = forecast.steps[29].quantile(0.5);
    assert!((ahead - daily(273)).abs() < 15.0, "{ahead} for {}", daily(273));
    assert!(forecast.window_max[59].quantile(0.5) > 80.0, "{:?}", forecast.window_max[59]);
    assert!(forecast.score.unwrap().pinball_ratio < 0.9, "{:?}", forecast.score);
}

#[test]
fn covers_what_comes_as_often_as_it_says() {
    let mut fitted = fit((0..1000).map(daily));
    let (mut step, mut max) = (0u32, 0u32);
    for t in 1000..1600 {
        let forecast = said(&fitted).unwrap();
        let came: Vec<f64> = (t..t + 8).map(daily).collect();
        step += u32::from(came[7] <= forecast.steps[7].quantile(0.95));
        let largest = came.iter().copied().fold(0.0, f64::max);
        max += u32::from(largest <= forecast.window_max[7].quantile(0.95));
        fitted.observe(Some(daily(t)));
    }
    // 570 of 600 are due; neighbours overlap, so three times the deviation of 600 independent ones is allowed.
    assert!((540..=594).contains(&step) && (540..=594).contains(&max), "{step} and {max} of 600");
}

#[test]
fn falls_back_to_the_last_value_where_nothing_beats_it() {
    // Steps of random size at random times: a martingale.
    let mut level = 50.0;
    let mut walk = |t: u32| {
        if noise(t) > 0.9 {
            level = f64::max(level + 8.0 * noise(t + 100_000), 1.0);
        }
        level
    };
    let mut fitted = fit((0..2000).map(&mut walk));
    let reference = fitted.league().iter().find(|s| s.model == "last value").unwrap();
    assert!((reference.score.unwrap().pinball_ratio - 1.0).abs() < 1e-12);
    assert_eq!(fitted.league().iter().filter(|s| s.in_use).count(), 1);
    for t in 2000..2100 {
        let last = walk(t);
        fitted.observe(Some(last));
        let forecast = said(&fitted).unwrap();
        for h in [1, 4, 12] {
            let median = forecast.steps[h - 1].quantile(0.5);
            assert!((median - last).abs() <= 0.02 * last, "{median} after {last}, by {}", forecast.model);
        }
    }
}

/// A night of 12 until a quarter of the day, a steep rise to 120, a fall at two thirds; `shift` moves the rise, in days.
fn steep(day_part: f64, shift: f64) -> f64 {
    let (rise, fall) = ((day_part - 0.25 - shift) * 12.0, (day_part - 2.0 / 3.0) * 12.0);
    12.0 + 108.0 * (rise.clamp(0.0, 1.0) - fall.clamp(0.0, 1.0))
}

#[test]
fn a_clear_season_is_followed_at_every_horizon_from_the_second_day_on() {
    for lead_steps in [1, 4, 15] {
        let clear = |t: u32| steep(f64::from(t % 120) / 120.0, 0.0) * (1.0 + 0.03 * noise(t));
        let config = PredictorConfig { lead_steps, horizon_steps: 120, ..config() };
        let mut fitted = Predictor::new(config).fit(&series((0..240).map(|t| Some(clear(t)))));
        for t in 240..300 {
            let forecast = said(&fitted).unwrap();
            for h in [12, 15, 20, 40, 80] {
                // A step early or late is near enough.
                let largest = |to: u32| (t..to).map(clear).fold(0.0, f64::max);
                let [low, high] = [0.5, 0.99].map(|p| forecast.window_max[h as usize - 1].quantile(p));
                let (least, most) = (0.8 * largest(t + h - 1) - 2.0, 1.25 * largest(t + h + 1) + 4.0);
                assert!(low >= least, "{low} below {least} at {t}, {h} ahead");
                assert!(high <= most, "{high} above {most} at {t}, {h} ahead");
            }
            fitted.observe(Some(clear(t)));
        }
    }
}

/// Counts of five seconds as chance has them, a rise that comes up to 3 % of a day early or late, and a burst each day.
fn noisy(t: u32) -> f64 {
    let (day, part) = (t / 120, f64::from(t % 120) / 120.0);
    let burst_at = (noise(day + 77_000) + 1.0) / 2.0 * 0.97;
    let burst = if (burst_at..burst_at + 0.03).contains(&part) { 2.0 } else { 1.0 };
    let rate = burst * steep(part, 0.03 * noise(day + 55_000));
    // A sum of twelve even draws is nearly normal; its deviation is that of a Poisson count.
    let normal = (0..12).map(|i| noise(t * 12 + i + 900_000)).sum::<f64>() / 2.0;
    (rate + normal * (rate / 5.0).sqrt()).max(0.0)
}

#[test]
fn noisy_days_with_shifted_rises_and_bursts_are_forecast_sanely() {
    let mut fitted = fit((0..480).map(noisy));
    let mut covered = 0;
    for t in 480..960 {
        let forecast = said(&fitted).unwrap();
        let largest = (t..t + 8).map(noisy).fold(0.0, f64::max);
        covered += u32::from(largest <= forecast.window_max[7].quantile(0.95));
        fitted.observe(Some(noisy(t)));
    }
    // 456 of 480 are due; four bursts and four shifted rises decide about some 5 % either way.
    assert!((430..=478).contains(&covered), "{covered} of 480");
}

#[test]
fn a_promised_score_is_kept_on_what_comes_after() {
    // Cleaning looks at the whole history, outages and shifts included. If that let the trial see ahead, the score would
    // promise more than what comes keeps.
    let load = |t: u32| match t {
        0..400 => 0.2 * daily(t),
        700..730 => 0.0,
        _ => daily(t) * (1.0 + 0.3 * noise(t / 6 + 40_000)),
    };
    let mut fitted = fit((0..1600).map(load));
    let promised = said(&fitted).unwrap().score.unwrap();
    let (mut loss, mut covered) = (0.0, 0);
    for t in 1600..2560 {
        let forecast = said(&fitted).unwrap();
        let came = [load(t + 3), (t..t + 4).map(load).fold(0.0, f64::max)];
        for (said, came) in [&forecast.steps[3], &forecast.window_max[3]].into_iter().zip(came) {
            let miss = |p: f64| (p * (came - said.quantile(p))).max((p - 1.0) * (came - said.quantile(p)));
            loss += [0.5, 0.9, 0.95, 0.99].map(miss).iter().sum::<f64>() / 4.0;
            covered += u32::from(came <= said.quantile(0.95));
        }
        fitted.observe(Some(load(t)));
    }
    let kept = loss / 1920.0;
    assert!((0.8..1.15).contains(&(kept / promised.pinball)), "{kept} after {promised:?}");
    assert!((0.92..=0.98).contains(&(f64::from(covered) / 1920.0)), "{covered} of 1920");
}

#[test]
fn has_no_opinion_on_a_short_or_unknown_history_and_takes_observations() {
    for values in [vec![], vec![Some(3.0)], vec![Some(3.0); 20], vec![None; 500], vec![Some(f64::NAN); 500]] {
        let mut fitted = Predictor::new(config()).fit(&series(values.clone()));
        fitted.observe(Some(1.0));
        assert_eq!(said(&fitted), None, "{values:?}");
        assert_eq!(fitted.end(), series(values).end() + STEP);
    }
}

#[test]
fn a_constant_load_is_forecast_as_it_is() {
    for level in [0.0, 7.0, 1e12] {
        let forecast = said(&fit(std::iter::repeat_n(level, 400))).unwrap();
        for quantiles in forecast.steps.iter().chain(&forecast.window_max) {
            // A history holds six digits, and its transform seven.
            assert!((quantiles.quantile(0.99) - level).abs() <= 1e-4 * level, "{quantiles:?} for {level}");
        }
    }
}

#[test]
fn an_outage_is_not_learned_as_low_demand() {
    let out = |t: u32| (600..640).contains(&t);
    let with = said(&fit((0..960).map(|t| if out(t) { 0.0 } else { daily(t) }))).unwrap();
    let gap = (0..960).map(|t| (!out(t)).then(|| daily(t)));
    let without = said(&Predictor::new(config()).fit(&series(gap))).unwrap();
    assert_eq!(with, without);
}

#[test]
fn is_silent_once_nothing_was_known_for_half_a_horizon() {
    let mut fitted = fit((0..480).map(daily));
    (0..30).for_each(|_| fitted.observe(None));
    assert!(said(&fitted).is_some());
    fitted.observe(None);
    assert_eq!(said(&fitted), None);
}

/// Three weeks of minutes, as a workload's mind has them, with all that learns.
#[test]
fn three_weeks_of_minutes_take_a_bounded_memory() {
    let step = Duration::from_secs(60);
    let value =
        |t: u32| 50.0 - 30.0 * (f64::from(t % 1440) / 1440.0 * std::f64::consts::TAU).cos() + 8.0 * noise(t);
    let weeks = Series::from_values(Timestamp::EPOCH, step, (0..30_240).map(|t| Some(value(t))));
    let mut fitted = Predictor::new(PredictorConfig { step, ..PredictorConfig::default() }).fit(&weeks);
    (30_240..30_600).for_each(|t| fitted.observe(Some(value(t))));
    assert!(said(&fitted).is_some());
    assert!(fitted.size() <= 66 << 10, "{} bytes", fitted.size());
}

#[test]
fn ten_years_are_learned_from_and_what_is_kept_stays_bounded() {
    let step = Duration::from_secs(600);
    let value = |t: u32| 50.0 + 30.0 * (f64::from(t % 144) / 23.0).sin() + 4.0 * noise(t);
    let years = Series::from_values(Timestamp::EPOCH, step, (0..525_600).map(|t| Some(value(t))));
    let config = PredictorConfig { step, horizon_steps: 12, lead_steps: 2, ..PredictorConfig::default() };
    let fitted = Predictor::new(config).fit(&years);
    let ahead = said(&fitted).unwrap().steps[1];
    assert!((ahead.quantile(0.5) - value(525_601)).abs() < 8.0, "{ahead:?} for {}", value(525_601));
    assert!(fitted.size() <= 66 << 10, "{} bytes", fitted.size());
}

#[test]
fn the_same_input_gives_the_same_forecast() {
    assert_eq!(said(&fit((0..700).map(daily))), said(&fit((0..700).map(daily))));
}

/// Loads of every sort: levels, bursts, zeros, gaps, negative, huge and undefined values.
fn loads() -> impl Strategy<Value = Vec<Option<f64>>> {
    let value = prop_oneof![
        6 => (0.0..100.0f64).prop_map(Some),
        2 => Just(Some(0.0)),
        2 => Just(None),
        1 => Just(Some(-5.0)),
        1 => (0.0..1e20f64).prop_map(Some),
        1 => Just(Some(f64::INFINITY)),
    ];
    let run = (value, 1..60usize).prop_map(|(value, length)| vec![value; length]);
    prop::collection::vec(run, 0..25).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_load_breaks_it(values in loads(), later in loads()) {
        let mut fitted = Predictor::new(config()).fit(&series(values));
        for value in later.into_iter().take(20) {
            fitted.observe(value);
        }
        if let Some(forecast) = said(&fitted) {
            prop_assert_eq!((forecast.steps.len(), forecast.window_max.len()), (60, 60));
            for quantiles in forecast.steps.iter().chain(&forecast.window_max) {
                prop_assert!(quantiles.values().is_sorted() && quantiles.values()[0] >= 0.0);
                prop_assert!(quantiles.values().iter().all(|v| v.is_finite()));
            }
        }
    }

    #[test]
    fn the_future_changes_no_forecast(cut in 60usize..700, factor in 0.0..50.0f64) {
        let value = |t: usize| daily(u32::try_from(t).unwrap());
        let whole = series((0..700).map(|t| Some(value(t) * if t < cut { 1.0 } else { factor })));
        let known = series((0..cut).map(|t| Some(value(t))));
        let predictor = Predictor::new(config());
        let (a, b) = (predictor.fit(&whole.truncated(cut)), predictor.fit(&known));
        prop_assert_eq!(said(&a), said(&b));
        prop_assert_eq!(a.league(), b.league());
    }
}
