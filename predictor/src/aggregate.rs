//! The mix: quantiles of several curves averaged with weights that follow their losses.
//!
//! Bernstein online aggregation (Wintenberger, "Optimal learning with Bernstein online aggregation", Machine Learning 106,
//! 2017) on the linearised pinball loss, for each group of levels apart (Berrisch and Ziel, "CRPS learning", Journal of
//! Econometrics 237, 2023). A curve without an opinion sleeps: it neither weighs nor learns that time.

use tidegate_core::forecast::LEVELS;

use crate::empirical::Grid;
use crate::grid::steps;

/// Group of each level: neighbours share what they learn, since the far levels alone see too few misses.
const GROUPS: [usize; LEVELS.len()] = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4];
const GROUP_COUNT: usize = 5;
/// Share of the weight that is spread evenly, so that a curve that was bad can come back.
const EVEN_SHARE: f64 = 0.02;

/// Weights of curves, by group of levels.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    curves: usize,
    groups: [Vec<Learner>; GROUP_COUNT],
}

#[derive(Debug, Clone, Copy, Default)]
struct Learner {
    regret: f64,
    squares: f64,
    largest: f64,
    learned: u32,
}

impl Mix {
    pub(crate) fn new(curves: usize) -> Self {
        Self { curves, groups: std::array::from_fn(|_| vec![Learner::default(); curves]) }
    }

    /// Weights of all curves at each level, those without an opinion at 0; they sum to 1 unless none has one.
    pub(crate) fn weights(&self, awake: &[bool]) -> [Vec<f64>; LEVELS.len()] {
        let by_group: Vec<Vec<f64>> =
            self.groups.iter().map(|group| self.group_weights(group, awake)).collect();
        std::array::from_fn(|level| by_group[GROUPS[level]].clone())
    }

    fn group_weights(&self, group: &[Learner], awake: &[bool]) -> Vec<f64> {
        // One that has not learned yet is as careful as the most careful of the others.
        let careful = group.iter().filter_map(|l| l.rate(self.curves)).fold(f64::INFINITY, f64::min);
        let unlearned = if careful.is_finite() { careful } else { 1.0 };
        let score = |l: &Learner| {
            let rate = l.rate(self.curves).unwrap_or(unlearned);
            l.regret * rate + rate.ln()
        };
        let scores: Vec<f64> = group.iter().map(score).collect();
        let best =
            scores.iter().zip(awake).filter(|(_, a)| **a).map(|(s, _)| *s).fold(f64::NEG_INFINITY, f64::max);
        let raw: Vec<f64> =
            scores.iter().zip(awake).map(|(s, a)| if *a { (s - best).exp() } else { 0.0 }).collect();
        let (sum, count) = (raw.iter().sum::<f64>(), awake.iter().filter(|a| **a).count());
        let even = EVEN_SHARE / steps(count.max(1));
        let share = |(r, a): (&f64, &bool)| if *a { even + (1.0 - EVEN_SHARE) * r / sum } else { 0.0 };
        raw.iter().zip(awake).map(share).collect()
    }

    /// Takes over what another mix learned about curves that this one has seen fewer than `times`; whether there was one.
    pub(crate) fn inherit(&mut self, from: &Self, times: u32) -> bool {
        let mut any = false;
        for (own, other) in self.groups.iter_mut().flatten().zip(from.groups.iter().flatten()) {
            if own.learned < times && other.learned >= times {
                *own = *other;
                any = true;
            }
        }
        any
    }

    /// Learns from the value that came: what each curve had said, and what the mix of them had said.
    pub(crate) fn learn(&mut self, said: &[Option<Grid>], mixed: &Grid, value: f64) {
        for (group, learners) in self.groups.iter_mut().enumerate() {
            for (learner, said) in learners.iter_mut().zip(said) {
                let Some(said) = said else { continue };
                // The gradient of the pinball loss at the mix prices each curve's distance from it.
                let gain: f64 = (0..LEVELS.len())
                    .filter(|level| GROUPS[*level] == group)
                    .map(|level| {
                        let gradient =
                            if value < mixed[level] { 1.0 - LEVELS[level] } else { -LEVELS[level] };
                        gradient * (mixed[level] - said[level])
                    })
                    .sum();
                learner.learn(gain, self.curves);
            }
        }
    }
}

impl Learner {
    /// `None` until it has learned something.
    fn rate(self, curves: usize) -> Option<f64> {
        let by_squares = (steps(curves.max(2)).ln() / self.squares).sqrt();
        (self.largest > 0.0).then(|| by_squares.min(0.5 / self.largest))
    }

    fn learn(&mut self, gain: f64, curves: usize) {
        if !gain.is_finite() {
            return;
        }
        self.learned += 1;
        self.largest = self.largest.max(gain.abs());
        self.squares += gain * gain;
        self.regret += gain - self.rate(curves).unwrap_or(0.0) * gain * gain;
    }
}

/// The average of the curves' quantiles, level by level, in rising order; `None` when none has an opinion.
pub(crate) fn average(said: &[Option<Grid>], weights: &[Vec<f64>; LEVELS.len()]) -> Option<Grid> {
    let mut mixed = [0.0; LEVELS.len()];
    for (level, mixed) in mixed.iter_mut().enumerate() {
        let sum = |total: (f64, f64), (said, weight): (&Option<Grid>, &f64)| match said {
            Some(said) => (total.0 + weight * said[level], total.1 + weight),
            None => total,
        };
        let (value, weight) = said.iter().zip(&weights[level]).fold((0.0, 0.0), sum);
        if weight <= 0.0 {
            return None;
        }
        *mixed = value / weight;
    }
    mixed.sort_by(f64::total_cmp);
    Some(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_moves_to_the_curve_that_is_right_and_sleepers_keep_out() {
        let mut mix = Mix::new(3);
        for t in 0..300u32 {
            let value = 10.0 + f64::from(t % 5);
            let said = [Some(LEVELS.map(|l| 10.0 + 5.0 * l)), Some(LEVELS.map(|l| 30.0 + 5.0 * l)), None];
            let mixed = average(&said, &mix.weights(&[true, true, false])).unwrap();
            mix.learn(&said, &mixed, value);
        }
        let weights = mix.weights(&[true, true, false]);
        for level in &weights {
            assert!(level[0] > 0.9 && level[2] == 0.0, "{weights:?}");
            assert!((level.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert_eq!(average(&[None, None, None], &weights), None);
    }
}
