//! Quantile forest (Meinshausen, *Quantile Regression Forests*, JMLR 7, 2006) of the change against the last value: past origins
//! that resemble the present one, and where the series went from there. It speaks with a distribution of its own.
//!
//! Trees are grown for a few horizons. The origins that they find alike have a known course at all horizons, and so the
//! horizons between, and the window maxima, are read from the same origins.

mod features;
mod leaves;

use std::borrow::Cow;

use tidegate_core::forecast::LEVELS;

use crate::empirical::Grid;
use crate::grid::{Place, steps};
use crate::history::History;
use crate::judge::Target;
use crate::trees::{Growth, Table, Trees};
use features::Features;
use leaves::Leaves;

/// Latest steps that are learned from: a week of minutes, which is what a history keeps for seasons too.
const SPAN_MAX: usize = 10_080;
/// Most origins that are learned from: beyond, neighbours overlap so much that they add cost and little knowledge.
const ROWS_MAX: usize = 1000;
/// Fewest origins from which it has an opinion.
const ROWS_MIN: usize = 48;
/// Each horizon that trees are grown for is at least this many times as far as the one before.
const APART: usize = 6;
/// The origins are cut into this many blocks; each tree learns from a random half of them.
const BLOCKS: usize = 24;
const GROWTH: Growth = Growth { trees: 12, leaf_min: 8, tried: 12 };
/// Seed of the draw of features and cuts: nothing is gained by changing it.
const SEED: u64 = 1;

/// Trees for some horizons, and the origins that they learned from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forest {
    features: Features,
    grid: Vec<usize>,
    /// The first step not learned from.
    upto: usize,
    first: usize,
    stride: usize,
    /// Origins learned from, in strides from the first.
    rows: Vec<u16>,
    anchors: Vec<Anchor>,
    /// By row, then by horizon of the grid: the change at that step, and the largest up to it; NaN where one is not known.
    /// Empty when they are to be read from the history.
    changes: Vec<[f32; 2]>,
}

/// Trees grown for one horizon.
#[derive(Debug, Clone, PartialEq)]
struct Anchor {
    horizon: usize,
    trees: Trees,
    leaves: Leaves,
}

/// Distributions at the horizons of the grid, in the unit of the series; `None`: no opinion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Distributions {
    pub(crate) steps: Vec<Option<Grid>>,
    pub(crate) maxima: Vec<Option<Grid>>,
}

/// The weight of a past origin, and the changes after it.
type Alike<'a> = (f32, Cow<'a, [[f32; 2]]>);

impl Distributions {
    pub(crate) fn of(&self, target: Target) -> &[Option<Grid>] {
        match target {
            Target::Step => &self.steps,
            Target::Max => &self.maxima,
        }
    }

    /// The distribution at a place on the grid, linear between the neighbours.
    pub(crate) fn between(&self, target: Target, place: Place) -> Option<Grid> {
        let of = self.of(target);
        let (below, above) = ((*of.get(place.below)?)?, (*of.get(place.above)?)?);
        Some(std::array::from_fn(|i| below[i] + place.share * (above[i] - below[i])))
    }
}

impl Forest {
    pub(crate) fn fit(history: &History, upto: usize, seasons: &[usize], grid: &[usize]) -> Option<Self> {
        let features = Features::new(history, upto, seasons);
        let first = upto.saturating_sub(SPAN_MAX).max(features.first_origin(upto));
        let stride = upto.saturating_sub(first).div_ceil(ROWS_MAX).max(1);
        let known = |row: &u16| history.is_known(first + usize::from(*row) * stride);
        let count = u16::try_from(upto.saturating_sub(first).div_ceil(stride)).ok()?;
        let rows: Vec<u16> = (0..count).filter(known).collect();
        let mut forest = Self {
            features,
            grid: grid.to_vec(),
            upto,
            first,
            stride,
            rows,
            anchors: Vec::new(),
            changes: Vec::new(),
        };
        forest.changes =
            (0..forest.rows.len()).flat_map(|row| forest.course(history, row, forest.grid.len())).collect();
        let mut base: Vec<Vec<f32>> = Vec::with_capacity(forest.rows.len());
        for row in 0..forest.rows.len() {
            let mut state = Vec::new();
            forest.features.of_origin(history, forest.origin(row), &mut state);
            base.push(state);
        }
        for anchor in anchors(grid) {
            let Some(anchor) = forest.grow(history, &base, anchor) else { break };
            forest.anchors.push(anchor);
        }
        (!forest.anchors.is_empty()).then_some(forest)
    }

    fn grow(&self, history: &History, base: &[Vec<f32>], place: usize) -> Option<Anchor> {
        let change = |row: usize| self.changes[row * self.grid.len() + place][0];
        let usable =
            (0..self.rows.len()).take_while(|row| self.origin(*row) + self.grid[place] < self.upto).count();
        if (0..usable).filter(|row| !change(*row).is_nan()).count() < ROWS_MIN {
            return None;
        }
        let mut states = Vec::with_capacity(usable);
        for (row, base) in base.iter().enumerate().take(usable) {
            let mut state = base.clone();
            self.features.of_horizon(history, self.origin(row), self.grid[place], &mut state);
            states.push(state);
        }
        // A row whose change is not known is in a block that no tree sees, so that rows keep their numbers.
        let block = |row: usize| if change(row).is_nan() { BLOCKS } else { row * BLOCKS / usable };
        let blocks = (0..usable).map(|row| u8::try_from(block(row)).unwrap_or(u8::MAX)).collect();
        let targets =
            (0..usable).map(|row| Some(change(row)).filter(|c| !c.is_nan()).unwrap_or(0.0)).collect();
        let table = Table::new(&states, targets, blocks);
        let mut leaves = Leaves::default();
        let trees = Trees::fit(&table, BLOCKS, GROWTH, SEED, |rows| leaves.push(rows));
        leaves.shrink();
        Some(Anchor { horizon: self.grid[place], trees, leaves })
    }

    fn origin(&self, row: usize) -> usize {
        self.first + usize::from(self.rows[row]) * self.stride
    }

    /// The changes after a row's origin, at the first `places` horizons of the grid.
    fn course(&self, history: &History, row: usize, places: usize) -> Vec<[f32; 2]> {
        let origin = self.origin(row);
        let now = history.z(origin);
        let (mut max, mut gaps, mut from) = (f64::NEG_INFINITY, 0, 1);
        let mut course = Vec::with_capacity(self.grid.len());
        for h in &self.grid[..places] {
            for ahead in from..=*h {
                if history.is_known(origin + ahead) {
                    max = max.max(history.z(origin + ahead) - now);
                } else {
                    gaps += 1;
                }
            }
            from = h + 1;
            let over = origin + h >= self.upto;
            let step =
                if over || !history.is_known(origin + h) { f64::NAN } else { history.z(origin + h) - now };
            let max = if over || gaps * 5 > *h { f64::NAN } else { max };
            #[expect(clippy::cast_possible_truncation, reason = "seven digits of a change are enough")]
            course.push([step as f32, max as f32]);
        }
        course
    }

    /// Keeps no more than what the history does not hold.
    pub(crate) fn slim(&mut self) {
        self.changes = Vec::new();
    }

    /// Bytes kept.
    pub(crate) fn size(&self) -> usize {
        let of_anchor = |anchor: &Anchor| anchor.trees.size() + anchor.leaves.size() + size_of::<Anchor>();
        let anchors: usize = self.anchors.iter().map(of_anchor).sum();
        anchors
            + self.rows.capacity() * size_of::<u16>()
            + self.grid.capacity() * size_of::<usize>()
            + self.changes.capacity() * size_of::<[f32; 2]>()
    }

    /// Where the series may go from an origin.
    pub(crate) fn distributions(&self, history: &History, origin: usize) -> Distributions {
        let mut said = Distributions { steps: Vec::new(), maxima: Vec::new() };
        let now = history.z(origin);
        let mut base = Vec::new();
        self.features.of_origin(history, origin, &mut base);
        let mut near: Option<(usize, Vec<Alike<'_>>)> = None;
        for (place, h) in self.grid.iter().enumerate() {
            let nearest = self.nearest(*h);
            if near.as_ref().is_none_or(|(anchor, _)| *anchor != nearest) {
                let anchor = &self.anchors[nearest];
                // Courses are followed no further than these trees are asked for.
                let places = self.grid.iter().take_while(|h| self.nearest(**h) <= nearest).count();
                let mut state = base.clone();
                self.features.of_horizon(history, origin, anchor.horizon, &mut state);
                near = Some((nearest, self.alike(history, anchor, &state, places)));
            }
            let Some((_, alike)) = &near else { continue };
            let read = |which: usize| {
                let changes = alike.iter().map(|(weight, course)| (course[place][which], *weight));
                let grid = quantiles(changes.filter(|(change, _)| !change.is_nan()).collect())?;
                Some(grid.map(|change| history.backward((now + change).max(0.0))))
            };
            said.steps.push(read(0));
            said.maxima.push(read(1));
        }
        said
    }

    /// The trees that a horizon is read from.
    fn nearest(&self, h: usize) -> usize {
        let apart = |horizon: usize| (steps(horizon) / steps(h)).ln().abs();
        let by_distance = |a: &usize, b: &usize| {
            apart(self.anchors[*a].horizon).total_cmp(&apart(self.anchors[*b].horizon))
        };
        (0..self.anchors.len()).min_by(by_distance).unwrap_or(0)
    }

    /// The courses after the origins that resemble a state, with their weights.
    fn alike<'a>(
        &'a self,
        history: &History,
        anchor: &Anchor,
        state: &[f32],
        places: usize,
    ) -> Vec<Alike<'a>> {
        let weights = anchor.leaves.weights(anchor.trees.leaves(state), self.rows.len());
        let heard = weights.into_iter().enumerate().filter(|(_, weight)| *weight > 0.0);
        let course = |row: usize| match self.changes.get(row * self.grid.len()..(row + 1) * self.grid.len()) {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(self.course(history, row, places)),
        };
        heard.map(|(row, weight)| (weight, course(row))).collect()
    }

    /// Steps of history that it reads back from an origin; the origins that it learned from move away, though.
    pub(crate) fn reach(&self) -> usize {
        self.features.reach(self.grid.last().copied().unwrap_or(1)).max(self.upto - self.first)
    }
}

/// Places in a grid of the horizons that trees are grown for.
fn anchors(grid: &[usize]) -> Vec<usize> {
    let mut anchors: Vec<usize> = Vec::new();
    for (place, h) in grid.iter().enumerate() {
        if anchors.last().is_none_or(|last| *h >= APART * grid[*last]) {
            anchors.push(place);
        }
    }
    anchors
}

/// Quantiles of weighted changes, each at the middle of its weight; `None` when there is none.
fn quantiles(mut changes: Vec<(f32, f32)>) -> Option<Grid> {
    changes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = changes.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let (mut at, mut middle) = (0, f64::from(changes.first()?.1) / 2.0);
    let mut before = (middle, f64::from(changes[0].0));
    Some(LEVELS.map(|level| {
        let due = level * total;
        while middle < due && at + 1 < changes.len() {
            before = (middle, f64::from(changes[at].0));
            middle += f64::from(changes[at].1 + changes[at + 1].1) / 2.0;
            at += 1;
        }
        let here = f64::from(changes[at].0);
        let width = middle - before.0;
        if due >= middle || width <= 0.0 {
            here
        } else {
            before.1 + (here - before.1) * ((due - before.0) / width).max(0.0)
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_changes_are_read_between_the_middles_of_their_weights() {
        // Middles at 0.5, 1.5 and 3 of 4.
        let grid = quantiles(vec![(20.0, 1.0), (40.0, 2.0), (10.0, 1.0)]).unwrap();
        assert!((grid[3] - (20.0 + 20.0 / 3.0)).abs() < 1e-5, "{grid:?}");
        assert!(
            (grid[0] - 10.0).abs() < 1e-5 && (grid[12] - 40.0).abs() < 1e-5 && grid.is_sorted(),
            "{grid:?}"
        );
        assert_eq!(quantiles(Vec::new()), None);
    }

    /// A spike of random height now and then, announced three steps before by a dip.
    fn announced() -> History {
        let mut history = History::new(0, 10.0);
        for t in 0..900usize {
            let height = 30.0 + steps(t * 7919 % 31);
            history.push(Some(match t % 37 {
                10 => 5.0,
                13 => height,
                _ => 10.0 + steps(t * 104_729 % 7) / 10.0,
            }));
        }
        history
    }

    #[test]
    fn what_is_announced_is_seen_in_the_step_and_in_the_window_and_nowhere_else() {
        let history = announced();
        let forest = Forest::fit(&history, 850, &[], &[1, 2, 3, 5]).unwrap();
        let dip = (850..890).find(|t| t % 37 == 10).unwrap();
        let said = forest.distributions(&history, dip);
        let [before, at] = [1, 2].map(|place| said.steps[place].unwrap());
        assert!(before[10] < 20.0, "{before:?}");
        assert!(at[1] > 20.0 && at[10] > 50.0 && at[12] < 70.0, "{at:?}");
        let [short, long] = [1, 3].map(|place| said.maxima[place].unwrap());
        assert!(short[10] < 20.0 && long[1] > 20.0, "{short:?} {long:?}");
    }

    #[test]
    fn says_the_same_when_it_was_slimmed() {
        let history = announced();
        let mut forest = Forest::fit(&history, 850, &[37], &[1, 2, 3, 5, 8]).unwrap();
        let said = forest.distributions(&history, 870);
        forest.slim();
        assert_eq!(forest.distributions(&history, 870), said);
    }

    #[test]
    fn few_or_unknown_origins_are_no_opinion() {
        let mut history = History::new(0, 10.0);
        (0..300).for_each(|t| history.push((t % 9 == 0).then_some(steps(t))));
        assert_eq!(Forest::fit(&history, 300, &[], &[1, 2, 3]), None);
        assert_eq!(anchors(&[1, 2, 3, 5, 8, 12, 20, 40, 60, 120]), [0, 4, 8]);
    }
}
