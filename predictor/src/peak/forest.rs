//! Extremely randomised trees whose leaves keep what they were made from: a forest that answers with a distribution.

use tidegate_core::forecast::LEVELS;

use super::features::{FEATURES, RATIO_MAX, RATIO_MIN, State};
use crate::grid::steps;

/// Quantiles at [`LEVELS`].
pub(super) type Grid = [f64; LEVELS.len()];

/// Trees. Each block of the history is unknown to half of them.
const TREES: usize = 32;
/// Fewest rows in a leaf.
const LEAF_MIN: usize = 8;
/// Features of which the best cut is taken, at each node.
const TRIED: usize = FEATURES / 2;
/// Depth at which a leaf is made in any case.
const DEPTH_MAX: usize = 24;
/// Resolution of the ratios that leaves keep: 0.8 %.
const BINS: usize = 1792;

/// A state, and what came after it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) state: State,
    /// Logarithm of the ratio of the peak to the level.
    pub(super) ratio: f64,
    /// Part of the history that it belongs to.
    pub(super) block: usize,
}

/// A fitted forest.
#[derive(Debug, Clone)]
pub(super) struct Forest {
    trees: Vec<Tree>,
}

#[derive(Debug, Clone)]
struct Tree {
    /// Bit `b`: block `b` was learned from.
    seen: u32,
    nodes: Vec<Node>,
    /// Bins of the ratios, by leaf.
    kept: Vec<u16>,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    /// Below the cut: `left`, else the one after it.
    Cut { feature: u8, cut: f32, left: u32 },
    /// A range of `kept`.
    Leaf { from: u32, to: u32 },
}

impl Forest {
    pub(super) fn fit(rows: &[Row], blocks: usize, seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5851_f42d_4c95_7f2d);
        let trees = (0..TREES).map(|_| {
            let seen = half_of(blocks, &mut random);
            let mut chosen: Vec<u32> =
                (0u32..).zip(rows).filter(|(_, row)| seen >> row.block & 1 == 1).map(|(at, _)| at).collect();
            let mut tree = Tree { seen, nodes: vec![Node::Leaf { from: 0, to: 0 }], kept: Vec::new() };
            tree.grow(0, rows, &mut chosen, 0, &mut random);
            tree
        });
        Self { trees: trees.collect() }
    }

    /// What came after states like this one.
    pub(super) fn quantiles(&self, state: &State) -> Grid {
        read(self.trees.iter(), state).unwrap_or([0.0; LEVELS.len()])
    }

    /// The same, by the trees that have not seen this block; `None` when all have.
    pub(super) fn apart_from(&self, block: usize, state: &State) -> Option<Grid> {
        read(self.trees.iter().filter(|tree| tree.seen >> block & 1 == 0), state)
    }

    pub(super) fn size(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes.len() * size_of::<Node>() + tree.kept.len() * 2).sum()
    }
}

/// Each leaf's rows share the weight of one tree; the quantiles are those of all rows together.
fn read<'a>(trees: impl Iterator<Item = &'a Tree>, state: &State) -> Option<Grid> {
    let mut weights = [0.0f32; BINS];
    let mut total = 0.0;
    for kept in trees.map(|tree| tree.leaf(state)).filter(|kept| !kept.is_empty()) {
        #[expect(clippy::cast_possible_truncation, reason = "a share")]
        let share = (1.0 / steps(kept.len())) as f32;
        kept.iter().for_each(|bin| weights[usize::from(*bin)] += share);
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

impl Tree {
    fn leaf(&self, state: &State) -> &[u16] {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Cut { feature, cut, left } => {
                    at = left as usize + usize::from(state[usize::from(feature)] >= cut);
                }
                Node::Leaf { from, to } => return &self.kept[from as usize..to as usize],
            }
        }
    }

    fn grow(&mut self, at: usize, rows: &[Row], chosen: &mut [u32], depth: usize, random: &mut Random) {
        let split = if chosen.len() < 2 * LEAF_MIN || depth >= DEPTH_MAX {
            None
        } else {
            best_cut(rows, chosen, random)
        };
        let Some((feature, cut)) = split else { return self.close(at, rows, chosen) };
        let middle = partition(chosen, |row| rows[row as usize].state[feature] < cut);
        let left = self.nodes.len();
        self.nodes.extend([Node::Leaf { from: 0, to: 0 }; 2]);
        let feature = u8::try_from(feature).expect("there are fewer than 256 features");
        self.nodes[at] = Node::Cut { feature, cut, left: u32::try_from(left).expect("a tree has few nodes") };
        let (below, above) = chosen.split_at_mut(middle);
        self.grow(left, rows, below, depth + 1, random);
        self.grow(left + 1, rows, above, depth + 1, random);
    }

    fn close(&mut self, at: usize, rows: &[Row], chosen: &[u32]) {
        let index = |n: usize| u32::try_from(n).expect("a tree keeps few rows");
        let from = index(self.kept.len());
        self.kept.extend(chosen.iter().map(|row| bin_of(rows[*row as usize].ratio)));
        self.nodes[at] = Node::Leaf { from, to: index(self.kept.len()) };
    }
}

/// The cut that leaves least variance, of one random cut for each of some random features.
fn best_cut(rows: &[Row], chosen: &[u32], random: &mut Random) -> Option<(usize, f32)> {
    let mut order: [usize; FEATURES] = std::array::from_fn(|feature| feature);
    let mut best: Option<(f64, usize, f32)> = None;
    for place in 0..TRIED {
        order.swap(place, place + random.below(FEATURES - place));
        let feature = order[place];
        let values = || chosen.iter().map(|row| rows[*row as usize].state[feature]);
        let (low, high) = values().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if low >= high {
            continue;
        }
        let cut = low + (high - low) * random.share();
        let mut sides = [(0usize, 0.0f64); 2];
        for row in chosen {
            let row = &rows[*row as usize];
            let side = &mut sides[usize::from(row.state[feature] >= cut)];
            side.0 += 1;
            side.1 += row.ratio;
        }
        if sides.iter().any(|(count, _)| *count < LEAF_MIN) {
            continue;
        }
        // Least variance within is most between.
        let gain = sides.iter().map(|(count, sum)| sum * sum / steps(*count)).sum::<f64>();
        if best.is_none_or(|(most, ..)| gain > most) {
            best = Some((gain, feature, cut));
        }
    }
    best.map(|(_, feature, cut)| (feature, cut))
}

/// Moves those that are `first` to the front; gives how many.
fn partition(chosen: &mut [u32], first: impl Fn(u32) -> bool) -> usize {
    let mut middle = 0;
    for at in 0..chosen.len() {
        if first(chosen[at]) {
            chosen.swap(at, middle);
            middle += 1;
        }
    }
    middle
}

/// A random half of `blocks` (at most 32) as bits.
fn half_of(blocks: usize, random: &mut Random) -> u32 {
    let mut order: Vec<usize> = (0..blocks.min(32)).collect();
    for place in 0..order.len() / 2 {
        let other = place + random.below(order.len() - place);
        order.swap(place, other);
    }
    order[..order.len() / 2].iter().fold(0, |bits, block| bits | 1 << block)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bins")]
fn bin_of(ratio: f64) -> u16 {
    let share = (ratio - RATIO_MIN) / (RATIO_MAX - RATIO_MIN);
    (share * steps(BINS)).clamp(0.0, steps(BINS - 1)) as u16
}

fn middle_of(bin: usize) -> f64 {
    RATIO_MIN + (steps(bin) + 0.5) * (RATIO_MAX - RATIO_MIN) / steps(BINS)
}

/// SplitMix64 (Steele, Lea, Flood, 2014): all that is drawn follows from the seed.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// In 0..1.
    fn share(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 random bits")]
        let share = (self.next() >> 40) as f32 / (1u64 << 24) as f32;
        share
    }
}
