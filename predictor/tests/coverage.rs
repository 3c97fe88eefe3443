//! The 0.95 quantile covers 95 % of what comes, for loads of many kinds: each is refused by a two-sided binomial test at 0.001 when
//! it does not. Origins lie a lead apart, so that no step is judged twice.

use std::time::Duration;

use tidegate_core::signals::Signal;
use tidegate_core::{Series, Timestamp};
use tidegate_predictor::{Predictor, PredictorConfig};

const LEAD: usize = 3;
const LEARNED: usize = 1200;
const JUDGED: usize = 300;

/// Even draws in 0..1, the same for the same place.
fn even(t: usize, stream: u64) -> f64 {
    let mut x = (t as u64 ^ stream << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((x ^ (x >> 31)) >> 40).expect("24 bits are left");
    (f64::from(high) + 0.5) / f64::from(1u32 << 24)
}

/// A count as chance has it (Knuth's product of even draws).
fn poisson(rate: f64, t: usize) -> f64 {
    let (mut product, mut count) = (1.0, 0u32);
    while count < 200 {
        product *= even(t, 10 + u64::from(count));
        if product < (-rate).exp() {
            break;
        }
        count += 1;
    }
    f64::from(count)
}

fn wave(t: usize, season: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let turn = (t % season) as f64 / season as f64 * std::f64::consts::TAU;
    1.0 - 0.6 * turn.cos()
}

/// Level that jumps every now and then, and lasts.
fn regime(t: usize) -> f64 {
    10.0 + 40.0 * even(t / 150, 3)
}

type Load = fn(usize) -> Option<f64>;

/// Name, length of a step in seconds, steps of a season, load.
const KINDS: [(&str, u64, usize, Load); 9] = [
    ("counts near zero, a second", 1, 600, |t| Some(poisson(0.4, t))),
    ("counts, ten seconds", 10, 240, |t| Some(poisson(8.0 * wave(t, 240), t))),
    ("noise around a day, minutes", 60, 288, |t| Some(wave(t, 288) * (50.0 + 10.0 * even(t, 1)))),
    ("bursts with a heavy tail, minutes", 60, 288, |t| {
        Some(20.0 + 5.0 * even(t, 1) + if even(t, 2) < 0.05 { 10.0 / even(t, 3).powf(0.6) } else { 0.0 })
    }),
    ("level shifts, five minutes", 300, 288, |t| Some(regime(t) * (1.0 + 0.1 * even(t, 1)))),
    ("gaps, a minute", 60, 288, |t| {
        (even(t / 4, 5) > 0.15).then(|| wave(t, 288) * (30.0 + 9.0 * even(t, 1)))
    }),
    ("two outages, ten minutes", 600, 144, |t| {
        let out = (400..430).contains(&t) || (900..915).contains(&t);
        Some(if out { 0.0 } else { wave(t, 144) * (30.0 + 9.0 * even(t, 1)) })
    }),
    ("smooth, ten minutes", 600, 144, |t| Some(100.0 * wave(t, 144) + 0.5 * even(t, 1))),
    ("a walk on steps, a minute", 60, 288, |t| {
        Some(
            (t.saturating_sub(60)..=t)
                .filter(|s| even(*s, 1) < 0.1)
                .map(|s| 4.0 * even(s, 2))
                .sum::<f64>()
                .round(),
        )
    }),
];

/// Probability of at most `k` of `n` at `p`.
fn at_most(k: u32, n: u32, p: f64) -> f64 {
    let mut term = (f64::from(n) * (1.0 - p).ln()).exp();
    let mut sum = term;
    for i in 0..k {
        term *= f64::from(n - i) / f64::from(i + 1) * p / (1.0 - p);
        sum += term;
    }
    sum
}

/// Values below the quantile, values that do not exceed it, values judged. Between the first two lies what is due: a count is
/// often equal to its quantile.
#[derive(Debug, Default, Clone, Copy)]
struct Cover {
    below: u32,
    covered: u32,
    judged: u32,
}

impl Cover {
    fn add(&mut self, value: f64, quantile: f64) {
        // A forecast holds six digits.
        self.below += u32::from(value < quantile * (1.0 - 1e-4));
        self.covered += u32::from(value <= quantile * (1.0 + 1e-4));
        self.judged += 1;
    }

    fn is_refused(self) -> bool {
        let Self { below, covered, judged } = self;
        {
            let too_many = (judged - covered).checked_sub(1).map_or(1.0, |k| 1.0 - at_most(k, judged, 0.05));
            too_many < 5e-4 || at_most(judged - below, judged, 0.05) < 5e-4
        }
    }
}

#[test]
fn steps_and_window_maxima_are_covered_as_often_as_is_said() {
    for (name, step_s, season, load) in KINDS {
        let step = Duration::from_secs(step_s);
        let config = PredictorConfig {
            step,
            seasons: vec![step * u32::try_from(season).unwrap()],
            horizon_steps: 12,
            lead_steps: LEAD,
            seed: 1,
        };
        let learned = Series::from_values(Timestamp::from_secs(1_700_000_000), step, (0..LEARNED).map(load));
        let mut fitted = Predictor::new(config).fit(&learned);
        let mut covers = [Cover::default(); 2];
        for origin in (LEARNED..).step_by(LEAD).take(JUDGED) {
            let ahead: Vec<Option<f64>> = (origin..origin + LEAD).map(load).collect();
            if let Some(said) = fitted.predict(Signal::RequestsPerSecond, fitted.end()) {
                ahead[LEAD - 1].iter().for_each(|v| covers[0].add(*v, said.steps[LEAD - 1].quantile(0.95)));
                let max = ahead.iter().copied().collect::<Option<Vec<f64>>>();
                let max = max.map(|known| known.into_iter().fold(0.0, f64::max));
                max.iter().for_each(|v| covers[1].add(*v, said.window_max[LEAD - 1].quantile(0.95)));
            }
            ahead.into_iter().for_each(|value| fitted.observe(value));
        }
        assert!(covers.iter().all(|cover| cover.judged > 150), "{name}: {covers:?}");
        assert!(!covers.iter().any(|cover| cover.is_refused()), "{name}: {covers:?}");
    }
}

#[test]
fn the_test_refuses_what_it_should() {
    // 300 at 0.95: 285 are due, with a deviation of 3.8. The binomial quantiles of 0.0005 and 0.9995 are 271 and 296.
    let cover = |covered| Cover { below: covered, covered, judged: 300 };
    assert!(!cover(285).is_refused() && !cover(274).is_refused() && cover(268).is_refused());
    assert!(cover(299).is_refused() && !cover(294).is_refused() && at_most(300, 300, 0.05) > 1.0 - 1e-9);
}
