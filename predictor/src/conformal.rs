//! Conformal calibration online: where reality falls above a quantile too often, a higher one is read, and back.
//!
//! Adaptive conformal inference (Gibbs and Candès, 2021) with its step on the log-odds of the level, so that no level
//! leaves 0..1 and the far levels move as carefully as they are seen.

use tidegate_core::Quantiles;
use tidegate_core::forecast::LEVELS;

use crate::empirical::Grid;

/// Step of one independent judgement: some 100 of them move a level by its own size.
const STEP: f64 = 0.01;
/// Largest move of the log-odds: 0.95 becomes 0.993 at most.
const MOVE_MAX: f64 = 2.0;

/// How far each level's log-odds have been moved.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Conformal {
    moves: [f32; LEVELS.len()],
}

impl Conformal {
    /// The calibrated form of a distribution.
    pub(crate) fn apply(&self, quantiles: &Quantiles) -> Option<Quantiles> {
        let mut values = [0.0; LEVELS.len()];
        for ((value, level), moved) in values.iter_mut().zip(LEVELS).zip(self.moves) {
            let odds = (level / (1.0 - level)).ln() + f64::from(moved);
            *value = quantiles.quantile(1.0 / (1.0 + (-odds).exp()));
        }
        Quantiles::new(values)
    }

    /// Learns from the value that came after the calibrated distribution `said`. `weight` is 1 for a judgement that shares
    /// nothing with the one before, less for overlapping ones.
    pub(crate) fn learn(&mut self, said: &Grid, value: f64, weight: f64) {
        for ((moved, level), said) in self.moves.iter_mut().zip(LEVELS).zip(said) {
            let above = f64::from(u8::from(value > *said));
            let step = STEP * weight * (above - (1.0 - level)) / (level * (1.0 - level)).sqrt();
            #[expect(clippy::cast_possible_truncation, reason = "seven digits of a small number")]
            let next = (f64::from(*moved) + step).clamp(-MOVE_MAX, MOVE_MAX) as f32;
            // A value equal to the quantile (a constant load) says nothing about coverage.
            if value != *said {
                *moved = next;
            }
        }
    }

    /// Between two, as horizons lie between two of the grid.
    pub(crate) fn between(&self, other: &Self, share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a share of 0..=1")]
        let share = share as f32;
        Self { moves: std::array::from_fn(|i| self.moves[i] + share * (other.moves[i] - self.moves[i])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_half_as_wide_as_reality_is_widened_to_cover_it() {
        let mut conformal = Conformal::default();
        let narrow = Quantiles::new(LEVELS.map(|level| 100.0 + 50.0 * level)).unwrap();
        let mut above = 0;
        // Values spread evenly over 75..175: the 0.95 quantile is 170, of which the forecast knows nothing.
        for t in 0..20_000u32 {
            let value = 75.0 + f64::from(t * 7919 % 1000) / 10.0;
            let said = conformal.apply(&narrow).unwrap();
            above += u32::from(t >= 10_000 && value > said.values()[7]);
            conformal.learn(&said.values(), value, 1.0);
        }
        // No level lies beyond the forecast's own range, so 150 of 175 is all that it can cover: 25 % lie above.
        assert!((2_300..=2_700).contains(&above), "{above}");
        assert_eq!(Conformal::default().apply(&narrow).unwrap().values()[3], narrow.values()[3]);
    }
}
