//! A forest whose leaves keep the ratios that came after like states: it answers with a distribution.

use tidegate_core::forecast::LEVELS;

use super::features::{FEATURES, State};
use crate::empirical::Grid;
use crate::grid::steps;
use crate::trees::{Growth, Table, Trees};

/// Fewest rows of a leaf, of which the largest is one.
const LEAF_MIN: usize = 24;
/// Fewest and most trees. Each block of the history is unknown to half of them.
const TREES: [usize; 2] = [12, 32];
/// Leaves of all trees together, about: a long history has fewer and larger trees, so that all take the same memory.
const LEAVES: usize = 2500;
/// The rows of a leaf, by rising ratio, are cut at these shares, finer above, where a decision looks; the row in the middle of a part
/// speaks for it. That of the last is the largest, in leaves of the usual size.
const CUTS: [f64; PARTS + 1] = [0.0, 0.15, 0.3, 0.5, 0.7, 0.83, 0.92, 0.98, 1.0];
const PARTS: usize = 8;
/// Ratios that leaves choose from. Their ranks are even below and ever closer above, up to the largest: `UPPER` of them lie in the
/// upper [`UPPER_SHARE`] of all.
const RATIOS: usize = 256;
const UPPER: usize = 96;
const UPPER_SHARE: f64 = 0.05;

/// A state, and what came after it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) state: State,
    /// Logarithm of the ratio of the peak to the level.
    pub(super) ratio: f64,
    /// Part of the history that it belongs to.
    pub(super) block: u8,
}

/// A fitted forest.
#[derive(Debug, Clone)]
pub(super) struct Forest {
    trees: Trees,
    /// Rising.
    ratios: Vec<f32>,
    /// By leaf and part: which of the ratios.
    leaves: Vec<[u8; PARTS]>,
}

impl Forest {
    /// From at most 65,536 rows, and at least one.
    pub(super) fn fit(rows: &[Row], blocks: usize, seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a ratio are enough")]
        let targets: Vec<f32> = rows.iter().map(|row| row.ratio as f32).collect();
        let states: Vec<&State> = rows.iter().map(|row| &row.state).collect();
        let ratios = chosen(targets.clone());
        let nearest: Vec<u8> = targets.iter().map(|ratio| nearest(&ratios, *ratio)).collect();
        let table = Table::new(&states, targets, rows.iter().map(|row| row.block).collect());
        // Of half of the rows.
        let of_tree = rows.len().div_ceil(2 * LEAF_MIN);
        let trees = (LEAVES / of_tree).clamp(TREES[0], TREES[1]);
        let growth = Growth { trees, leaf_min: LEAF_MIN, tried: FEATURES / 2 };
        let mut leaves = Vec::new();
        let trees = Trees::fit(&table, blocks, growth, seed, |rows| {
            let mut of: Vec<u8> = rows.iter().map(|row| nearest[usize::from(*row)]).collect();
            of.sort_unstable();
            leaves.push(std::array::from_fn(|part| {
                of[whole((CUTS[part] + CUTS[part + 1]) / 2.0 * steps(of.len()))]
            }));
        });
        leaves.shrink_to_fit();
        Self { trees, ratios, leaves }
    }

    /// What came after states like this one.
    pub(super) fn quantiles(&self, state: &State) -> Grid {
        self.read(self.trees.leaves(state)).unwrap_or([0.0; LEVELS.len()])
    }

    /// The same, by the trees that have not seen this block; `None` when all have.
    pub(super) fn apart_from(&self, block: usize, state: &State) -> Option<Grid> {
        self.read(self.trees.leaves_apart_from(block, state))
    }

    /// Bytes kept.
    pub(super) fn size(&self) -> usize {
        self.trees.size()
            + self.ratios.capacity() * size_of::<f32>()
            + self.leaves.capacity() * size_of::<[u8; PARTS]>()
    }

    /// Leaves weigh alike; the quantiles are those of all their parts together.
    fn read(&self, leaves: impl Iterator<Item = usize>) -> Option<Grid> {
        let mut weights = [0.0; RATIOS];
        let mut total = 0.0;
        for leaf in leaves {
            for (part, ratio) in self.leaves[leaf].iter().enumerate() {
                weights[usize::from(*ratio)] += CUTS[part + 1] - CUTS[part];
            }
            total += 1.0;
        }
        if total == 0.0 {
            return None;
        }
        let (mut at, mut sum) = (0, weights[0]);
        Some(LEVELS.map(|level| {
            while sum < level * total - 1e-6 && at + 1 < self.ratios.len() {
                at += 1;
                sum += weights[at];
            }
            f64::from(self.ratios[at])
        }))
    }
}

/// The ratios that leaves choose from.
fn chosen(mut ratios: Vec<f32>) -> Vec<f32> {
    ratios.sort_unstable_by(f32::total_cmp);
    let n = steps(ratios.len());
    let even = (0..RATIOS - UPPER).map(|i| (steps(i) + 0.5) / steps(RATIOS - UPPER) * (1.0 - UPPER_SHARE));
    // From the upper share down to a single row, by a constant factor.
    let factor = |i: usize| (UPPER_SHARE * n).max(1.0).powf(-steps(i) / steps(UPPER - 1));
    let upper = (0..UPPER).map(|i| 1.0 - UPPER_SHARE * factor(i));
    let mut chosen: Vec<f32> =
        even.chain(upper).map(|share| ratios[whole(share * n).min(ratios.len() - 1)]).collect();
    chosen.dedup();
    chosen.shrink_to_fit();
    chosen
}

/// The place of the nearest of at most 256 rising ratios.
fn nearest(ratios: &[f32], ratio: f32) -> u8 {
    let above = ratios.partition_point(|other| *other < ratio).min(ratios.len() - 1);
    let below = above.saturating_sub(1);
    let place = if ratio - ratios[below] < ratios[above] - ratio { below } else { above };
    u8::try_from(place).unwrap_or(u8::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
fn whole(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_ratios_reach_from_the_least_to_the_largest_and_are_closest_above() {
        let ratios = chosen((0..10_000u16).map(|i| f32::from(i) / 1000.0).collect());
        assert!(ratios.is_sorted() && ratios.len() > 200 && ratios.len() <= RATIOS);
        assert_eq!(ratios.last(), Some(&9.999));
        let above = ratios.iter().filter(|ratio| **ratio > 9.9).count();
        assert!(above > 30, "{above} in the last hundredth");
        for ratio in [-1.0, 0.0, 3.3, 9.97, 20.0] {
            let off = (ratios[usize::from(nearest(&ratios, ratio))] - ratio).abs();
            assert!(off <= 0.04 || !(0.0..10.0).contains(&ratio), "{ratio} is off by {off}");
        }
        assert_eq!(chosen(vec![2.0; 500]), [2.0]);
    }
}
