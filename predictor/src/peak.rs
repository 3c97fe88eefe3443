//! The peak: the largest demand from now until a replica ordered now could carry load, as a distribution that depends on the
//! state of the load at this moment. It is what a size is chosen by, so it is asked for at every decision and not once a step.
//!
//! A quantile forest (Meinshausen, *Quantile Regression Forests*, JMLR 7, 2006) of extremely randomised trees (Geurts, Ernst,
//! Wehenkel, *Machine Learning* 63, 2006) over the ratio of the peak to the present level: the past states that resemble this
//! one say what came after them. So the far tail is what really happened, and not a parameter.

mod features;
mod forest;

use std::time::Duration;

use tidegate_core::forecast::Quantiles;
use tidegate_core::{Series, Timestamp};

use crate::grid::steps;
use features::{FEATURES, Features, State};
use forest::Forest;

/// Most states that are learned from: a week of minutes. Older ones matter only through the seasons.
const STATES_MAX: usize = 10_080;
/// Fewest states from which a peak has an opinion.
const STATES_MIN: usize = 120;
/// The history is cut into this many blocks; each tree learns from a random half of them.
const BLOCKS: usize = 24;
/// Added to level and peak before their ratio is taken, as a share of the mean: near zero, ratios mean nothing.
const FLOOR_SHARE: f64 = 0.05;

/// What a peak must be told about a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeakConfig {
    /// Length of a step of the history.
    pub step: Duration,
    /// Lengths of the cycles that the load may follow. An hour is looked at by itself: clocks start jobs.
    pub seasons: Vec<Duration>,
    /// Steps from a decision to its effect, rounded up; at least 1.
    pub window_steps: usize,
    /// Seed of all that is drawn.
    pub seed: u64,
}

/// A peak that has learned from a history.
#[derive(Debug, Clone)]
pub struct PeakModel {
    features: Features,
    forest: Forest,
}

/// What the model would have said at each step of its own history, by trees that had not seen that part of it.
#[derive(Debug, Clone)]
pub struct PeakPast {
    /// Index in the series of the first step that has an answer.
    pub first: usize,
    /// One for each step from there on; `None`: nothing was known.
    pub said: Vec<Option<Quantiles>>,
}

impl PeakModel {
    /// Learns from a history; `None` when it is too short. Total: gaps are carried over, and states whose future is not known
    /// are left out.
    #[must_use]
    pub fn fit(config: &PeakConfig, series: &Series) -> Option<(Self, PeakPast)> {
        let values = series.values();
        let window = config.window_steps.max(1);
        let end = values.len();
        let mean = values.iter().flatten().sum::<f64>() / steps(series.known_len().max(1));
        if end <= window || !(mean > 0.0 && mean.is_finite()) {
            return None;
        }
        let median = median(values)?;
        let largest = values.iter().flatten().copied().fold(0.0, f64::max);
        let features = Features::new(config, FLOOR_SHARE * mean, median, largest);
        let first = end.saturating_sub(STATES_MAX).max(end.min(STATES_MAX) / 20);
        let block = (end - first).div_ceil(BLOCKS).max(1);
        let look = |at: usize| {
            let level = values[at].filter(|level| level.is_finite())?;
            let past = |ago: usize| values.get(at.checked_sub(ago)?).copied().flatten();
            let state = features.state(past, level, series.time(at + 1));
            Some((state, level))
        };
        let states: Vec<Option<(State, f64)>> = (first..end).map(look).collect();
        let mut rows = Vec::new();
        for (offset, state) in states.iter().enumerate() {
            let Some((state, level)) = state else { continue };
            let ahead = values.get(first + offset + 1..=first + offset + window);
            let Some(peak) = ahead.and_then(whole_max) else { continue };
            rows.push(forest::Row {
                state: *state,
                ratio: features.ratio(peak, *level),
                block: u8::try_from(offset / block).unwrap_or(u8::MAX),
            });
        }
        if rows.len() < STATES_MIN {
            return None;
        }
        let forest = Forest::fit(&rows, BLOCKS, config.seed);
        let said = states.iter().enumerate().map(|(offset, state)| {
            let (state, level) = state.as_ref()?;
            forest.apart_from(offset / block, state).map(|grid| features.peaks(&grid, *level))
        });
        let past = PeakPast { first, said: said.collect() };
        Some((Self { features, forest }, past))
    }

    /// The distribution of the peak after `now`. `past(ago)` is the mean demand of the step that ended `ago` steps ago, 0 being
    /// the one that ends now; `level` is the present demand, as finely as it is known.
    #[must_use]
    pub fn peak(&self, past: impl Fn(usize) -> Option<f64>, level: f64, now: Timestamp) -> Quantiles {
        let state = self.features.state(past, level, now);
        self.features.peaks(&self.forest.quantiles(&state), level)
    }

    /// Bytes kept.
    #[must_use]
    pub fn size(&self) -> usize {
        self.forest.size() + size_of::<Self>()
    }
}

/// The largest of all of them; `None` when one is unknown.
fn whole_max(values: &[Option<f64>]) -> Option<f64> {
    values.iter().try_fold(0.0f64, |max, value| Some(max.max((*value)?)))
}

fn median(values: &[Option<f64>]) -> Option<f64> {
    let mut known: Vec<f64> = values.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    known.get(known.len() / 2).copied()
}

const _: () = assert!(FEATURES <= u8::MAX as usize, "a feature's index fits in a byte");

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(60);

    fn config() -> PeakConfig {
        PeakConfig { step: STEP, seasons: vec![Duration::from_secs(86_400)], window_steps: 3, seed: 1 }
    }

    /// Even in 0..1, without a pattern: the output function of SplitMix64.
    fn noise(t: usize) -> f64 {
        let mut z = u64::try_from(t + 1).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        steps(usize::try_from(z >> 44).unwrap()) / steps(1 << 20)
    }

    fn series(value: impl Fn(usize) -> f64, n: usize) -> Series {
        Series::from_values(Timestamp::EPOCH, STEP, (0..n).map(|t| Some(value(t))))
    }

    fn at_end(model: &PeakModel, series: &Series) -> Quantiles {
        let values = series.values();
        let past = |ago: usize| values.get((values.len() - 1).checked_sub(ago)?).copied().flatten();
        model.peak(past, values.last().copied().flatten().unwrap(), series.end())
    }

    #[test]
    fn a_job_at_every_half_hour_is_seen_coming_and_only_then() {
        let load = |t: usize| if t % 30 < 4 { 160.0 } else { 40.0 } + noise(t);
        let (model, _) = PeakModel::fit(&config(), &series(load, 4320)).unwrap();
        let before = at_end(&model, &series(load, 4320 + 29));
        let between = at_end(&model, &series(load, 4320 + 15));
        assert!(before.quantile(0.5) > 140.0, "{before:?}");
        assert!(between.quantile(0.9) < 60.0, "{between:?}");
    }

    #[test]
    fn what_it_says_of_its_own_past_covers_as_often_as_it_claims() {
        let load = |t: usize| 40.0 + 20.0 * (steps(t) / 229.0).sin() + 60.0 * noise(t).powi(8);
        let series = series(load, 5000);
        let (_, past) = PeakModel::fit(&config(), &series).unwrap();
        let mut covered = 0;
        let mut judged = 0;
        for (offset, said) in past.said.iter().enumerate() {
            let at = past.first + offset;
            let Some(peak) = series.values().get(at + 1..=at + 3).and_then(whole_max) else { continue };
            judged += 1;
            covered += usize::from(peak <= said.unwrap().quantile(0.95));
        }
        let share = steps(covered) / steps(judged);
        assert!((0.92..=0.98).contains(&share), "{share} of {judged}");
    }

    #[test]
    fn nothing_is_no_opinion_and_gaps_are_survived() {
        assert!(PeakModel::fit(&config(), &Series::new(Timestamp::EPOCH, STEP)).is_none());
        assert!(PeakModel::fit(&config(), &series(|_| 0.0, 1000)).is_none());
        assert!(PeakModel::fit(&config(), &series(|_| 5.0, 60)).is_none());
        let holes = (0..2000).map(|t| (t % 9 != 0).then(|| 10.0 + noise(t)));
        let holes = Series::from_values(Timestamp::EPOCH, STEP, holes);
        let (model, past) = PeakModel::fit(&config(), &holes).unwrap();
        assert!(past.said.iter().flatten().all(|q| q.quantile(0.99) < 40.0));
        assert!(model.peak(|_| None, 10.0, holes.end()).quantile(0.5).is_finite());
    }

    #[test]
    fn a_week_of_minutes_takes_a_bounded_memory() {
        let load = |t: usize| 40.0 + 20.0 * (steps(t) / 229.0).sin() + 60.0 * noise(t);
        let (model, _) = PeakModel::fit(&config(), &series(load, 10_080)).unwrap();
        assert!(model.size() < 22 << 10, "{} bytes", model.size());
    }

    #[test]
    fn the_future_is_not_read() {
        let load = |t: usize| 30.0 + 10.0 * noise(t);
        let (model, _) = PeakModel::fit(&config(), &series(load, 2000)).unwrap();
        let (cut, whole) = (series(load, 1500), series(load, 2000));
        let values = whole.values();
        let past = |ago: usize| values.get(1499usize.checked_sub(ago)?).copied().flatten();
        assert_eq!(model.peak(past, values[1499].unwrap(), cut.end()), at_end(&model, &cut));
    }
}
