//! The mix: quantiles of several curves averaged with weights that follow their losses.
//!
//! A curve weighs as the inverse of its loss, to a power (Bates and Granger, "The combination of forecasts", 1969; Stock and
//! Watson, "Combination forecasts of output growth in a seven-country data set", 2004, whose powers are 1 and 2), for each
//! group of levels apart. Only ratios of losses count. Online aggregation on gradients, tried before, took its pace from the
//! largest miss ever seen, and so learned next to nothing after the first burst. A curve without an opinion sleeps: it neither
//! weighs nor learns that time.

use tidegate_core::forecast::LEVELS;

use crate::empirical::{Grid, pinball};

/// Group of each level: neighbours share what they learn, since the far levels alone see too few misses.
const GROUPS: [usize; LEVELS.len()] = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4];
const GROUP_COUNT: usize = 5;
/// The power. A curve that loses a tenth more than another weighs a seventh of it.
const POWER: f64 = 20.0;
/// What a loss still counts after each further one.
const MEMORY: f64 = 1.0 - 1.0 / 400.0;
/// Added to the shares of loss, so that a perfect curve is not alone for ever.
const SHARE_MIN: f64 = 1e-3;
/// Fewest judgements from which a curve weighs.
pub(crate) const LEARNED_MIN: u32 = 20;

/// Weights of curves, by group of levels.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    groups: [Vec<Learner>; GROUP_COUNT],
}

/// Fading losses of one curve, and of the reference at the same times.
#[derive(Debug, Clone, Copy, Default)]
struct Learner {
    own: f64,
    reference: f64,
    learned: u32,
}

impl Mix {
    pub(crate) fn new(curves: usize) -> Self {
        Self { groups: std::array::from_fn(|_| vec![Learner::default(); curves]) }
    }

    /// Weights of all curves at each level, those without an opinion at 0; they sum to 1 unless none has one. The reference
    /// is the first curve, and speaks alone while no other has learned.
    pub(crate) fn weights(&self, awake: &[bool]) -> [Vec<f64>; LEVELS.len()] {
        let by_group: Vec<Vec<f64>> = self.groups.iter().map(|group| weights_of(group, awake)).collect();
        std::array::from_fn(|level| by_group[GROUPS[level]].clone())
    }

    /// Takes over what another mix learned about curves that this one has seen too seldom.
    pub(crate) fn inherit(&mut self, from: &Self) {
        for (own, other) in self.groups.iter_mut().flatten().zip(from.groups.iter().flatten()) {
            if own.learned < LEARNED_MIN && other.learned >= LEARNED_MIN {
                *own = *other;
            }
        }
    }

    /// Learns from the value that came: what each curve had said of it, the reference first.
    pub(crate) fn learn(&mut self, said: &[Option<Grid>], value: f64) {
        let Some(Some(reference)) = said.first() else { return };
        for (group, learners) in self.groups.iter_mut().enumerate() {
            let loss = |said: &Grid| -> f64 {
                let levels = (0..LEVELS.len()).filter(|level| GROUPS[*level] == group);
                levels.map(|level| pinball(LEVELS[level], said[level], value)).sum()
            };
            let of_reference = loss(reference);
            for (learner, said) in learners.iter_mut().zip(said) {
                let Some(said) = said else { continue };
                learner.own = learner.own * MEMORY + loss(said);
                learner.reference = learner.reference * MEMORY + of_reference;
                learner.learned += 1;
            }
        }
    }
}

fn weights_of(group: &[Learner], awake: &[bool]) -> Vec<f64> {
    let raw = |(at, (learner, awake)): (usize, (&Learner, &bool))| match (awake, learner.learned) {
        (true, learned) if learned >= LEARNED_MIN => (learner.share() + SHARE_MIN).powf(-POWER),
        (true, _) if at == 0 => 1.0,
        _ => 0.0,
    };
    let raw: Vec<f64> = group.iter().zip(awake).enumerate().map(raw).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|r| if sum > 0.0 { r / sum } else { 0.0 }).collect()
}

impl Learner {
    /// The share of the reference's loss. Two perfect forecasts are equal.
    fn share(self) -> f64 {
        if self.own == self.reference { 1.0 } else { self.own / self.reference }
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

    fn learned(said: &[Option<Grid>]) -> Mix {
        let mut mix = Mix::new(said.len());
        for t in 0..300u32 {
            mix.learn(said, 10.0 + f64::from(t % 5));
        }
        mix
    }

    #[test]
    fn weight_moves_to_the_curve_that_is_right_and_sleepers_keep_out() {
        let [wrong, right] = [30.0, 10.0].map(|least| Some(LEVELS.map(|l| least + 5.0 * l)));
        let said = [wrong, right, None, None];
        let weights = learned(&said).weights(&[true, true, true, false]);
        for level in &weights {
            assert!(level[1] > 0.9 && level[2..] == [0.0, 0.0], "{weights:?}");
            assert!((level.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        assert_eq!(average(&[None, None, None, None], &weights), None);
    }

    #[test]
    fn equals_share_and_the_reference_is_alone_until_another_has_learned() {
        let same = Some(LEVELS.map(|l| 5.0 + 10.0 * l));
        let mix = learned(&[same, same]);
        assert!(mix.weights(&[true, true]).iter().all(|level| (level[0] - 0.5).abs() < 1e-9));
        assert!(Mix::new(2).weights(&[true, true]).iter().all(|level| level[..] == [1.0, 0.0]));
    }
}
