//! Seasons by MSTL (`augurs`; Bandara, Hyndman, Bergmeir, 2021), the remainder by exponential smoothing.
//! Long seasons are decomposed in buckets: a day in minutes has no season of single minutes worth its cost.

use augurs::Fit;
use augurs::mstl::MSTLModel;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use crate::grid::steps;
use crate::history::History;

/// Most buckets in the longest season; the cost of a decomposition grows with their square.
const BUCKETS_MAX: usize = 336;
/// Most cycles of the longest season that are decomposed: older ones say little more.
const CYCLES_MAX: usize = 5;

/// Seasonal profiles, and the filter of what they leave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decomposed {
    seasons: Seasons,
    filter: Filter,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seasons {
    /// Steps in a bucket.
    bucket: usize,
    /// The step at which each profile's last cycle started, and that cycle.
    profiles: Vec<(usize, Vec<f32>)>,
}

impl Decomposed {
    pub(crate) fn fit(history: &History, upto: usize, seasons: &[usize]) -> Option<Self> {
        // A season is known from two full cycles on.
        let usable: Vec<usize> = seasons.iter().copied().filter(|s| *s >= 4 && s * 2 < upto).collect();
        let longest = *usable.last()?;
        let bucket = longest.div_ceil(BUCKETS_MAX);
        let periods: Vec<usize> = usable.iter().map(|s| s / bucket).filter(|p| *p >= 4).collect();
        let count = (upto / bucket).min(CYCLES_MAX * longest / bucket);
        let from = upto - count * bucket;
        let y: Vec<f64> =
            (0..count).map(|i| history.z_mean(from + i * bucket, from + (i + 1) * bucket - 1)).collect();
        if periods.is_empty() || periods.iter().any(|p| p * 2 >= count) || y.iter().all(|v| *v == y[0]) {
            return None;
        }
        let fitted = MSTLModel::naive(periods.clone()).fit(&y).ok()?;
        let last_cycle = |(period, component): (&usize, &Vec<f32>)| {
            let start = component.len().checked_sub(*period)?;
            let cycle = component[start..].to_vec();
            cycle.iter().all(|v| v.is_finite()).then_some((from + start * bucket, cycle))
        };
        let profiles: Option<Vec<_>> = periods.iter().zip(fitted.fit().seasonal()).map(last_cycle).collect();
        let seasons = Seasons { bucket, profiles: profiles? };
        let filter = Filter::fit(history, upto, |t| seasons.at(t))?;
        Some(Self { seasons, filter })
    }

    pub(crate) fn advance(&mut self, history: &History, to: usize) {
        self.filter.advance(history, to, |t| self.seasons.at(t));
    }

    pub(crate) fn path(&self, origin: usize, path: &mut [f64]) {
        debug_assert_eq!(self.filter.next(), origin + 1, "advanced to the origin");
        self.filter.path(path);
        path.iter_mut().enumerate().for_each(|(ahead, z)| *z += self.seasons.at(origin + 1 + ahead));
    }
}

impl Seasons {
    /// The sum of the seasons at step `t`, linear between the middles of buckets.
    fn at(&self, t: usize) -> f64 {
        let one = |(start, cycle): &(usize, Vec<f32>)| {
            let length = self.bucket * cycle.len();
            let since = (t + length * (start / length + 1) - start) % length;
            let middle = (steps(since) + 0.5) / steps(self.bucket) - 0.5;
            let share = middle.rem_euclid(1.0);
            let below =
                (2 * since + 1 + self.bucket * (2 * cycle.len() - 1)) / (2 * self.bucket) % cycle.len();
            let above = (below + 1) % cycle.len();
            f64::from(cycle[below]) * (1.0 - share) + f64::from(cycle[above]) * share
        };
        self.profiles.iter().map(one).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_between_the_middles_of_its_buckets() {
        let seasons = Seasons { bucket: 2, profiles: vec![(8, vec![0.0, 1.0, 2.0])] };
        let near =
            |t: usize, value: f64| assert!((seasons.at(t) - value).abs() < 1e-9, "{t}: {}", seasons.at(t));
        near(8, 0.5); // a quarter of the way from the last bucket's middle, which holds 2, is 0.25 × 2
        near(9, 0.25);
        near(10, 0.75);
        near(12, 1.75);
        near(14, 0.5);
        near(2, 0.5);
    }

    #[test]
    fn knows_a_clean_season_and_nothing_before_two_cycles() {
        let mut history = History::new(0, 10.0, 10_000);
        let wave = |t: u32| {
            10.0 + 6.0 * (f64::from(t) * std::f64::consts::TAU / 24.0).sin() + f64::from(t % 5) * 0.1
        };
        (0..240).for_each(|t| history.push(Some(wave(t))));
        assert_eq!(Decomposed::fit(&history, 48, &[24]), None);
        let fitted = Decomposed::fit(&history, 240, &[24]).unwrap();
        let mut path = [0.0; 24];
        fitted.path(239, &mut path);
        for (ahead, z) in (240..).zip(path) {
            let error = history.backward(z) - wave(ahead);
            assert!(error.abs() < 1.0, "step {ahead} is off by {error} of a wave of 12");
        }
    }
}
