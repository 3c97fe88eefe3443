//! A forest whose leaves keep the ratios that came after like states: it answers with a distribution.

use tidegate_core::forecast::LEVELS;

use super::features::{FEATURES, RATIO_MAX, RATIO_MIN, State};
use crate::empirical::Grid;
use crate::grid::steps;
use crate::trees::{Growth, Table, Trees};

/// Each block of the history is unknown to half of the trees.
const GROWTH: Growth = Growth { trees: 32, leaf_min: 24, kept_max: 8, tried: FEATURES / 2 };
/// Resolution of the ratios that are kept: 0.8 %.
const BINS: usize = 1792;

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
    /// Bin of the ratio, by row.
    bins: Vec<u16>,
}

impl Forest {
    /// From at most 65,536 rows.
    pub(super) fn fit(rows: &[Row], blocks: usize, seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "seven digits of a ratio are enough")]
        let targets = rows.iter().map(|row| row.ratio as f32).collect();
        let states: Vec<&State> = rows.iter().map(|row| &row.state).collect();
        let table = Table::new(&states, targets, rows.iter().map(|row| row.block).collect());
        let trees = Trees::fit(&table, blocks, GROWTH, seed);
        Self { trees, bins: rows.iter().map(|row| bin_of(row.ratio)).collect() }
    }

    /// What came after states like this one.
    pub(super) fn quantiles(&self, state: &State) -> Grid {
        self.read(self.trees.alike(state)).unwrap_or([0.0; LEVELS.len()])
    }

    /// The same, by the trees that have not seen this block; `None` when all have.
    pub(super) fn apart_from(&self, block: usize, state: &State) -> Option<Grid> {
        self.read(self.trees.alike_apart_from(block, state))
    }

    pub(super) fn size(&self) -> usize {
        self.trees.size() + size_of_val(&self.bins[..])
    }

    /// Each leaf's rows share the weight of one tree; the quantiles are those of all rows together.
    fn read<'a>(&self, leaves: impl Iterator<Item = &'a [u16]>) -> Option<Grid> {
        let mut weights = [0.0f32; BINS];
        let mut total = 0.0;
        for rows in leaves {
            #[expect(clippy::cast_possible_truncation, reason = "a share")]
            let share = (1.0 / steps(rows.len())) as f32;
            rows.iter().for_each(|row| weights[usize::from(self.bins[usize::from(*row)])] += share);
            total += 1.0;
        }
        if total == 0.0 {
            return None;
        }
        let mut grid = [0.0; LEVELS.len()];
        let (mut bin, mut sum) = (0, f64::from(weights[0]));
        for (value, level) in grid.iter_mut().zip(LEVELS) {
            while sum < level * total - 1e-6 && bin + 1 < BINS {
                bin += 1;
                sum += f64::from(weights[bin]);
            }
            *value = middle_of(bin);
        }
        Some(grid)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
fn bin_of(ratio: f64) -> u16 {
    let share = (ratio - RATIO_MIN) / (RATIO_MAX - RATIO_MIN);
    (share * steps(BINS)).clamp(0.0, steps(BINS - 1)) as u16
}

fn middle_of(bin: usize) -> f64 {
    RATIO_MIN + (steps(bin) + 0.5) * (RATIO_MAX - RATIO_MIN) / steps(BINS)
}
