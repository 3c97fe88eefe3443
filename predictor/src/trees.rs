//! Extremely randomised trees (Geurts, Ernst, Wehenkel, *Machine Learning* 63, 2006) whose leaves keep the rows that they were
//! made from: a state is answered with the past rows that resemble it. What these rows say is the caller's business.

use serde::{Deserialize, Serialize};

use crate::grid::steps;
use crate::packed;

/// How trees are grown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) trees: usize,
    /// Fewest rows in a leaf.
    pub(crate) leaf_min: usize,
    /// Most rows that a leaf keeps, evenly spread over the ranks of their targets.
    pub(crate) kept_max: usize,
    /// Features of which the best cut is taken, at each node.
    pub(crate) tried: usize,
}

/// Depth at which a leaf is made in any case.
const DEPTH_MAX: usize = 24;
/// Mark of a leaf in place of a feature.
const LEAF: u8 = u8::MAX;
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

/// Fitted trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trees(Vec<Tree>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
struct Tree {
    /// Bit `b`: block `b` was learned from.
    seen: u32,
    nodes: Vec<Node>,
    /// Rows, by leaf.
    kept: Vec<u16>,
}

/// A cut, or a leaf.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    /// Where a cut parts, as the upper half of a float; unused in a leaf.
    cut: u16,
    /// Of a cut the node below it, which the one above follows; of a leaf its first row among those kept.
    at: u16,
    /// [`LEAF`] marks a leaf.
    feature: u8,
    /// Rows that a leaf keeps.
    count: u8,
}

impl Trees {
    /// Each tree learns from a random half of the `blocks` parts of the history.
    pub(crate) fn fit(table: &Table, blocks: usize, growth: Growth, seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5851_f42d_4c95_7f2d);
        let mut grower = Grower { table, growth, values: Vec::new(), targets: Vec::new() };
        let trees = (0..growth.trees).map(|_| {
            let seen = half_of(blocks, &mut random);
            let mut chosen: Vec<u16> = (0u16..)
                .zip(&table.blocks)
                .filter(|(_, block)| seen >> **block & 1 == 1)
                .map(|(at, _)| at)
                .collect();
            let mut tree = Tree { seen, nodes: vec![Node::leaf()], kept: Vec::new() };
            grower.grow(&mut tree, 0, &mut chosen, 0, &mut random);
            tree
        });
        Self(trees.collect())
    }

    /// The rows that resemble a state, by tree.
    pub(crate) fn alike(&self, state: &[f32]) -> impl Iterator<Item = &[u16]> {
        self.0.iter().map(move |tree| tree.leaf(state)).filter(|rows| !rows.is_empty())
    }

    /// The same, by the trees that have not seen this block.
    pub(crate) fn alike_apart_from(&self, block: usize, state: &[f32]) -> impl Iterator<Item = &[u16]> {
        let apart = self.0.iter().filter(move |tree| tree.seen >> block & 1 == 0);
        apart.map(move |tree| tree.leaf(state)).filter(|rows| !rows.is_empty())
    }

    /// Bytes kept.
    pub(crate) fn size(&self) -> usize {
        let of_tree =
            |tree: &Tree| size_of_val(&tree.nodes[..]) + size_of_val(&tree.kept[..]) + size_of::<Tree>();
        self.0.iter().map(of_tree).sum()
    }
}

impl Node {
    const fn leaf() -> Self {
        Self { cut: 0, at: 0, feature: LEAF, count: 0 }
    }

    fn cut(self) -> f32 {
        f32::from_bits(u32::from(self.cut) << 16)
    }
}

/// The form in which a tree is stored: numbers of 16 bits as text.
#[derive(Serialize, Deserialize)]
struct Packed {
    seen: u32,
    nodes: String,
    kept: String,
}

impl From<Tree> for Packed {
    fn from(tree: Tree) -> Self {
        let parts = |node: &Node| [node.cut, node.at, u16::from(node.feature) << 8 | u16::from(node.count)];
        let nodes: Vec<u16> = tree.nodes.iter().flat_map(parts).collect();
        Self { seen: tree.seen, nodes: packed::counts_text(&nodes), kept: packed::counts_text(&tree.kept) }
    }
}

impl From<Packed> for Tree {
    fn from(packed: Packed) -> Self {
        let parts = packed::counts(&packed.nodes);
        let node = |[cut, at, rest]: &[u16; 3]| {
            let [feature, count] = rest.to_be_bytes();
            Node { cut: *cut, at: *at, feature, count }
        };
        let nodes = parts.as_chunks::<3>().0.iter().map(node).collect();
        Self { seen: packed.seen, nodes, kept: packed::counts(&packed.kept) }
    }
}

impl Tree {
    fn leaf(&self, state: &[f32]) -> &[u16] {
        let (mut node, mut depth) = (self.nodes.first().copied(), 0);
        // What was read back may be no tree.
        while let Some(cut) = node.filter(|node| node.feature != LEAF && depth <= DEPTH_MAX) {
            let value = state.get(usize::from(cut.feature)).copied().unwrap_or(0.0);
            node = self.nodes.get(usize::from(cut.at) + usize::from(value >= cut.cut())).copied();
            depth += 1;
        }
        let leaf = node.filter(|node| node.feature == LEAF);
        let rows = leaf.map(|leaf| usize::from(leaf.at)..usize::from(leaf.at) + usize::from(leaf.count));
        rows.and_then(|rows| self.kept.get(rows)).unwrap_or_default()
    }
}

struct Grower<'a> {
    table: &'a Table,
    growth: Growth,
    /// Of the rows of a node: one feature, and the targets.
    values: Vec<f32>,
    targets: Vec<f32>,
}

impl Grower<'_> {
    fn grow(&mut self, tree: &mut Tree, at: usize, chosen: &mut [u16], depth: usize, random: &mut Random) {
        // Nodes and kept rows are counted in 16 bits; so many rows have no more of either.
        let split = if chosen.len() < 2 * self.growth.leaf_min || depth >= DEPTH_MAX {
            None
        } else {
            self.best_cut(chosen, random)
        };
        let Some((feature, cut)) = split else { return self.close(tree, at, chosen) };
        let column = self.table.column(feature);
        let middle = partition(chosen, |row| column[usize::from(row)] < cut);
        let below = tree.nodes.len();
        tree.nodes.extend([Node::leaf(); 2]);
        let feature = u8::try_from(feature).expect("there are fewer than 255 features");
        tree.nodes[at] = Node { cut: upper_half(cut), at: index(below), feature, count: 0 };
        let (low, high) = chosen.split_at_mut(middle);
        self.grow(tree, below, low, depth + 1, random);
        self.grow(tree, below + 1, high, depth + 1, random);
    }

    fn close(&self, tree: &mut Tree, at: usize, chosen: &mut [u16]) {
        let from = index(tree.kept.len());
        let kept = chosen.len().min(self.growth.kept_max);
        if kept < chosen.len() {
            let target = |row: &u16| self.table.targets[usize::from(*row)];
            chosen.sort_unstable_by(|a, b| target(a).total_cmp(&target(b)));
        }
        // The middle of each of as many equal parts.
        tree.kept.extend((0..kept).map(|part| chosen[(2 * part + 1) * chosen.len() / (2 * kept)]));
        tree.nodes[at] = Node { count: u8::try_from(kept).unwrap_or(u8::MAX), at: from, ..Node::leaf() };
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

fn index(n: usize) -> u16 {
    u16::try_from(n).expect("a tree of 65,536 rows at most has no more nodes and keeps no more rows")
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

    const GROWTH: Growth = Growth { trees: 16, leaf_min: 4, kept_max: 255, tried: 2 };

    /// The second feature decides, the first is noise.
    fn table(rows: usize) -> Table {
        let states: Vec<[f32; 2]> = (0..rows).map(|row| [share(row * 7919 % 101), share(row % 10)]).collect();
        let targets = states.iter().map(|state| if state[1] >= 5.0 { 100.0 } else { 0.0 }).collect();
        Table::new(&states, targets, (0..rows).map(|row| u8::try_from(row * 8 / rows).unwrap()).collect())
    }

    #[test]
    fn rows_alike_are_found_and_those_of_a_block_left_out() {
        let table = table(400);
        let trees = Trees::fit(&table, 8, GROWTH, 3);
        let alike: Vec<u16> = trees.alike(&[50.0, 8.0]).flatten().copied().collect();
        let high = alike.iter().filter(|row| *row % 10 >= 5).count();
        assert!(high * 10 >= alike.len() * 9, "{high} of {}", alike.len());
        assert!(trees.alike_apart_from(2, &[50.0, 8.0]).flatten().all(|row| *row / 50 != 2));
        assert_eq!(trees, Trees::fit(&table, 8, GROWTH, 3));
    }

    #[test]
    fn a_leaf_keeps_an_even_choice_of_its_rows() {
        let trees = Trees::fit(&table(400), 8, Growth { kept_max: 3, leaf_min: 200, ..GROWTH }, 3);
        for rows in trees.alike(&[0.0, 0.0]) {
            let high = rows.iter().filter(|row| *row % 10 >= 5).count();
            assert!(rows.len() == 3 && (1..=2).contains(&high), "{rows:?}");
        }
        assert!(trees.size() <= 16 * 72, "{}", trees.size());
    }

    #[test]
    fn what_is_no_tree_finds_nothing_and_ends() {
        let stored = |nodes: &[u16]| {
            let text = packed::counts_text(nodes);
            let json = format!(r#"[{{"seen":1,"nodes":"{text}","kept":""}}]"#);
            serde_json::from_str::<Trees>(&json).unwrap()
        };
        // A cut that leads to itself, one that leads nowhere, a leaf of rows that are not there, and nothing at all.
        for nodes in [&[0, 0, 0, 0, 0, 0][..], &[0, 900, 0], &[0, 7, 0xff09], &[]] {
            assert_eq!(stored(nodes).alike(&[1.0]).count(), 0, "{nodes:?}");
        }
    }
}
