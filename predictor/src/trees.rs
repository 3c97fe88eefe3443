//! Extremely randomised trees (Geurts, Ernst, Wehenkel, *Machine Learning* 63, 2006) that lead a state to leaves: the past rows that
//! resemble it. What is kept of these rows, and what they say, is the caller's business.

use crate::grid::steps;

/// How trees are grown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) trees: usize,
    /// Fewest rows in a leaf.
    pub(crate) leaf_min: usize,
    /// Features of which the best cut is taken, at each node.
    pub(crate) tried: usize,
}

/// Depth at which a leaf is made in any case.
const DEPTH_MAX: usize = 24;
/// Most leaves of a tree: cuts are counted in bytes.
const LEAVES_MAX: usize = 256;
/// Sums that run beside each other, so that they need not wait for one another.
const LANES: usize = 8;

/// What is learned from: at most 65,536 rows of at most 255 features.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Column by column.
    states: Vec<f32>,
    targets: Vec<f32>,
    /// By row: the part of the history that it belongs to, below 32.
    blocks: Vec<u8>,
}

impl Table {
    /// From states of one length, row by row, with what each is to explain and its part of the history.
    pub(crate) fn new(rows: &[impl AsRef<[f32]>], targets: Vec<f32>, blocks: Vec<u8>) -> Self {
        let width = rows.first().map_or(0, |row| row.as_ref().len());
        let column = |feature: usize| rows.iter().map(move |row| row.as_ref()[feature]);
        Self { states: (0..width).flat_map(column).collect(), targets, blocks }
    }

    fn width(&self) -> usize {
        self.states.len() / self.targets.len().max(1)
    }

    fn column(&self, feature: usize) -> &[f32] {
        &self.states[feature * self.targets.len()..][..self.targets.len()]
    }
}

/// Fitted trees. Their leaves are numbered through all trees, and what a leaf has to say is kept by whoever grew them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trees {
    trees: Vec<Tree>,
    cuts: Vec<Cut>,
}

#[derive(Debug, Clone, PartialEq)]
struct Tree {
    /// Bit `b`: block `b` was learned from.
    seen: u32,
    /// Its first cut, and how many there are. It has a leaf more than cuts.
    first: u32,
    cuts: u32,
}

/// A cut. All on its low side stands directly after it, then all on its high side; what has no cut is a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    /// Where it parts, as the upper half of a float.
    at: u16,
    feature: u8,
    /// Cuts on its low side.
    low: u8,
}

impl Trees {
    /// Each tree learns from a random half of the `blocks` parts of the history. `close` is told the rows of each
    /// leaf, in the order of their numbers.
    pub(crate) fn fit(
        table: &Table,
        blocks: usize,
        growth: Growth,
        seed: u64,
        mut close: impl FnMut(&mut [u16]),
    ) -> Self {
        let mut random = Random(seed ^ 0x5851_f42d_4c95_7f2d);
        let mut grower = Grower { table, growth, values: Vec::new(), targets: Vec::new(), cuts: Vec::new() };
        let mut trees = Vec::with_capacity(growth.trees);
        for _ in 0..growth.trees {
            let seen = half_of(blocks, &mut random);
            let mut chosen: Vec<u16> = (0u16..)
                .zip(&table.blocks)
                .filter(|(_, block)| seen >> **block & 1 == 1)
                .map(|(at, _)| at)
                .collect();
            grower.growth.leaf_min = growth.leaf_min.max(chosen.len().div_ceil(LEAVES_MAX));
            let first = grower.cuts.len();
            grower.grow(&mut chosen, 0, &mut random, &mut close);
            let index = |n: usize| u32::try_from(n).expect("there are fewer cuts than rows times trees");
            trees.push(Tree { seen, first: index(first), cuts: index(grower.cuts.len() - first) });
        }
        grower.cuts.shrink_to_fit();
        Self { trees, cuts: grower.cuts }
    }

    /// The leaf that a state falls into, of each tree.
    pub(crate) fn leaves(&self, state: &[f32]) -> impl Iterator<Item = usize> {
        self.trees.iter().enumerate().map(move |(number, tree)| self.leaf(number, tree, state))
    }

    /// The same, of the trees that have not seen this block.
    pub(crate) fn leaves_apart_from(&self, block: usize, state: &[f32]) -> impl Iterator<Item = usize> {
        let apart = self.trees.iter().enumerate().filter(move |(_, tree)| tree.seen >> block & 1 == 0);
        apart.map(move |(number, tree)| self.leaf(number, tree, state))
    }

    fn leaf(&self, number: usize, tree: &Tree, state: &[f32]) -> usize {
        let (mut at, mut cuts) = (tree.first as usize, tree.cuts as usize);
        // Before a tree's leaves stand those of the trees before it, of which each has a leaf more than cuts.
        let mut leaf = at + number;
        while cuts > 0 {
            let cut = self.cuts[at];
            let low = usize::from(cut.low);
            if state[usize::from(cut.feature)] >= cut.value() {
                (at, leaf, cuts) = (at + 1 + low, leaf + low + 1, cuts - 1 - low);
            } else {
                (at, cuts) = (at + 1, low);
            }
        }
        leaf
    }

    /// Bytes kept.
    pub(crate) fn size(&self) -> usize {
        self.trees.capacity() * size_of::<Tree>() + self.cuts.capacity() * size_of::<Cut>()
    }
}

impl Cut {
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self.at) << 16)
    }
}

struct Grower<'a> {
    table: &'a Table,
    growth: Growth,
    /// Of the rows of a node: one feature, and the targets.
    values: Vec<f32>,
    targets: Vec<f32>,
    cuts: Vec<Cut>,
}

impl Grower<'_> {
    fn grow(
        &mut self,
        chosen: &mut [u16],
        depth: usize,
        random: &mut Random,
        close: &mut impl FnMut(&mut [u16]),
    ) {
        let split = if chosen.len() < 2 * self.growth.leaf_min || depth >= DEPTH_MAX {
            None
        } else {
            self.best_cut(chosen, random)
        };
        let Some((feature, cut)) = split else { return close(chosen) };
        let column = self.table.column(feature);
        let middle = partition(chosen, |row| column[usize::from(row)] < cut);
        let feature = u8::try_from(feature).expect("there are at most 255 features");
        let at = self.cuts.len();
        self.cuts.push(Cut { at: upper_half(cut), feature, low: 0 });
        let (low, high) = chosen.split_at_mut(middle);
        self.grow(low, depth + 1, random, close);
        self.cuts[at].low =
            u8::try_from(self.cuts.len() - at - 1).expect("a tree has at most LEAVES_MAX leaves");
        self.grow(high, depth + 1, random, close);
    }

    /// The cut that leaves least variance, of one random cut for each of some random features.
    fn best_cut(&mut self, chosen: &[u16], random: &mut Random) -> Option<(usize, f32)> {
        let of = |column: &[f32], into: &mut Vec<f32>| {
            into.clear();
            into.extend(chosen.iter().map(|row| column[usize::from(*row)]));
        };
        of(&self.table.targets, &mut self.targets);
        let total: f32 = self.targets.iter().sum();
        let width = self.table.width();
        let mut order: Vec<usize> = (0..width).collect();
        let mut best: Option<(f32, usize, f32)> = None;
        for place in 0..self.growth.tried.min(width) {
            order.swap(place, place + random.below(width - place));
            let feature = order[place];
            of(self.table.column(feature), &mut self.values);
            let (low, high) = range(&self.values);
            if low >= high {
                continue;
            }
            let drawn = low + (high - low) * random.share();
            let cut = f32::from_bits(u32::from(upper_half(drawn)) << 16);
            let (count, sum) = above(&self.values, &self.targets, cut);
            let rest = self.values.len() - count;
            if count.min(rest) < self.growth.leaf_min {
                continue;
            }
            // Least variance within is most between.
            let gain = sum * sum / share(count) + (total - sum) * (total - sum) / share(rest);
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, feature, cut));
            }
        }
        best.map(|(_, feature, cut)| (feature, cut))
    }
}

fn upper_half(value: f32) -> u16 {
    u16::try_from(value.to_bits() >> 16).expect("16 bits are left")
}

fn range(values: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for lane in 0..LANES {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    let ends = low.into_iter().chain(high).chain(rest.iter().copied()).filter(|v| v.is_finite());
    ends.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
}

/// How many values reach the cut, and the sum of their targets.
fn above(values: &[f32], targets: &[f32], cut: f32) -> (usize, f32) {
    let (mut counts, mut sums) = ([0u32; LANES], [0.0f32; LANES]);
    let (values, values_rest) = values.as_chunks::<LANES>();
    let (targets, targets_rest) = targets.as_chunks::<LANES>();
    for (values, targets) in values.iter().zip(targets) {
        for lane in 0..LANES {
            let reaches = values[lane] >= cut;
            counts[lane] += u32::from(reaches);
            sums[lane] += if reaches { targets[lane] } else { 0.0 };
        }
    }
    let mut count: usize = counts.iter().map(|count| *count as usize).sum();
    let mut sum: f32 = sums.iter().sum();
    for (_, target) in values_rest.iter().zip(targets_rest).filter(|(value, _)| **value >= cut) {
        count += 1;
        sum += target;
    }
    (count, sum)
}

#[expect(clippy::cast_possible_truncation, reason = "counts of rows are small")]
fn share(count: usize) -> f32 {
    steps(count) as f32
}

/// Moves those that are `first` to the front; gives how many.
fn partition(chosen: &mut [u16], first: impl Fn(u16) -> bool) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    const GROWTH: Growth = Growth { trees: 16, leaf_min: 4, tried: 2 };

    /// The second feature decides, the first is noise.
    fn table(rows: usize) -> Table {
        let states: Vec<[f32; 2]> = (0..rows).map(|row| [share(row * 7919 % 101), share(row % 10)]).collect();
        let targets = states.iter().map(|state| if state[1] >= 5.0 { 100.0 } else { 0.0 }).collect();
        Table::new(&states, targets, (0..rows).map(|row| u8::try_from(row * 8 / rows).unwrap()).collect())
    }

    /// Trees, and the rows of their leaves.
    fn grown(growth: Growth) -> (Trees, Vec<Vec<u16>>) {
        let mut leaves = Vec::new();
        let trees = Trees::fit(&table(400), 8, growth, 3, |rows| leaves.push(rows.to_vec()));
        (trees, leaves)
    }

    #[test]
    fn rows_alike_are_found_and_those_of_a_block_left_out() {
        let (trees, leaves) = grown(GROWTH);
        let alike: Vec<u16> = trees.leaves(&[50.0, 8.0]).flat_map(|leaf| leaves[leaf].clone()).collect();
        let high = alike.iter().filter(|row| *row % 10 >= 5).count();
        assert!(high * 10 >= alike.len() * 9, "{high} of {}", alike.len());
        let apart: Vec<&u16> =
            trees.leaves_apart_from(2, &[50.0, 8.0]).flat_map(|leaf| &leaves[leaf]).collect();
        assert!(!apart.is_empty() && apart.iter().all(|row| **row / 50 != 2));
        assert_eq!((trees, leaves), grown(GROWTH));
    }

    #[test]
    fn every_row_is_found_again_in_the_leaf_that_it_was_put_into() {
        let (trees, leaves) = grown(GROWTH);
        let table = table(400);
        for (leaf, rows) in leaves.iter().enumerate() {
            for row in rows {
                let state = [table.column(0)[usize::from(*row)], table.column(1)[usize::from(*row)]];
                assert!(trees.leaves(&state).any(|found| found == leaf), "row {row} of leaf {leaf}");
            }
        }
    }

    #[test]
    fn a_tree_has_a_bounded_number_of_leaves() {
        let growth = Growth { leaf_min: 1, tried: 1, ..GROWTH };
        let states: Vec<[f32; 1]> = (0..2000).map(|row| [share(row)]).collect();
        let targets = (0..2000).map(|row| share(row * 7919 % 997)).collect();
        let blocks = (0..2000).map(|row| u8::try_from(row / 250).unwrap()).collect();
        let mut leaves = 0;
        let trees = Trees::fit(&Table::new(&states, targets, blocks), 8, growth, 3, |_| leaves += 1);
        assert!(trees.trees.iter().all(|tree| (1..256).contains(&tree.cuts)), "{trees:?}");
        assert_eq!(trees.leaves(&[-1.0]).next(), Some(0));
        assert_eq!(trees.leaves(&[1e9]).last(), Some(leaves - 1));
        assert!(trees.size() <= 16 * 16 + 4 * leaves, "{}", trees.size());
    }
}
