//! Reading: which tier answers which part of a range, and how buckets become steps. Never waits for a write to reach the disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadOnlyTable, ReadTransaction};
use tidegate_core::{Histogram, Series, Signal, Subject, Timestamp};

use super::Store;
use super::load::META_CHECKPOINT;
use crate::bucket::{Absorb, Aggregate, Bucket, Gathered};
use crate::chunk::{Figures, Kept, Wanted, first_start};
use crate::disk::{CHUNKS, META};
use crate::error::StoreError;
use crate::memory::{Buckets, Key, Kind, SeriesId, Tiers};
use crate::tier::Tier;

/// Most steps of an answer: two years of minutes, 40 MB while it is made.
const STEPS_MAX: u64 = 1 << 20;
/// Most steps of an answer made from histograms, each of which may take some KiB.
const HISTOGRAM_STEPS_MAX: u64 = 1 << 14;

impl Store {
    /// The signal of a subject over `[from, to)`, both widened to whole steps since the epoch; a step without a sample is a gap.
    ///
    /// The coarsest tier that the step is a multiple of answers; before the time to which that tier reaches back, the next coarser one does, and
    /// a step finer than its buckets repeats their mean, minimum and maximum, and has its share of sum and count. A step that is
    /// not a multiple of a tier takes the buckets that begin in it. What was appended is seen at once.
    ///
    /// # Errors
    /// When the step is shorter than a millisecond, when there would be more than 2²⁰ steps, or when the database cannot be read.
    pub fn read(
        &self,
        subject: &Subject,
        signal: Signal,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
        aggregate: Aggregate,
    ) -> Result<Series, StoreError> {
        let grid = Grid::new(from, to, step, STEPS_MAX)?;
        let mut steps = vec![Gathered::default(); grid.steps];
        if let Some(id) = self.id_of(subject, signal, Kind::Figures) {
            let gather = |bucket: &Bucket, index: usize, share: f64| steps[index].add(bucket, share);
            self.gather(id, &grid, &Source::figures(aggregate), gather).map_err(read_failed)?;
        }
        let values = steps.iter().map(|step| step.get(aggregate));
        Ok(Series::from_values(grid.start_time(), step, values))
    }

    /// The `p` quantile of the histograms of each step of `[from, to)`, as [`Store::read`] does for plain samples; where only coarser
    /// histograms are left, they count in the step in which they begin.
    ///
    /// # Errors
    /// When the step is shorter than a millisecond, when there would be more than 2¹⁴ steps, or when the database cannot be read.
    pub fn read_quantile(
        &self,
        subject: &Subject,
        signal: Signal,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
        p: f64,
    ) -> Result<Series, StoreError> {
        let grid = Grid::new(from, to, step, HISTOGRAM_STEPS_MAX)?;
        let steps = self.histograms(subject, signal, &grid)?;
        let values = steps.iter().map(|step| step.quantile(p));
        Ok(Series::from_values(grid.start_time(), step, values))
    }

    /// Everything that the histograms of `[from, to)` hold, merged; empty when there is nothing. The range is widened to whole seconds, and to
    /// whole buckets of the finest tier that still reaches back to `from`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn read_histogram(
        &self,
        subject: &Subject,
        signal: Signal,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Histogram, StoreError> {
        let whole = to.since(from);
        let tier = Tier::ALL.into_iter().find(|tier| whole <= tier.retention()).unwrap_or(Tier::FiveMinutes);
        let grid = Grid::new(from, to, tier.resolution(), u64::MAX)?.as_one_step();
        Ok(self.histograms(subject, signal, &grid)?.pop().unwrap_or_default())
    }

    fn histograms(
        &self,
        subject: &Subject,
        signal: Signal,
        grid: &Grid,
    ) -> Result<Vec<Histogram>, StoreError> {
        let mut steps = vec![Histogram::default(); grid.steps];
        if let Some(id) = self.id_of(subject, signal, Kind::Distributions) {
            let gather = |histogram: &Histogram, index: usize, _| steps[index].merge(histogram);
            self.gather(id, grid, &Source::distributions(), gather).map_err(read_failed)?;
        }
        Ok(steps)
    }

    /// Every subject that has a series, in order.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let subjects: BTreeSet<Subject> = self.memory().ids.keys().map(|key| key.subject.clone()).collect();
        subjects.into_iter().collect()
    }

    /// Every signal of a subject that has plain samples, in catalogue order.
    #[must_use]
    pub fn signals(&self, subject: &Subject) -> Vec<Signal> {
        let memory = self.memory();
        let of_subject = memory.ids.keys().filter(|key| key.kind == Kind::Figures && key.subject == *subject);
        of_subject.map(|key| key.signal).collect()
    }

    /// The newest sample of a signal. After a restart that may be the mean of its newest bucket, at that bucket's start. `None` when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn latest(&self, subject: &Subject, signal: Signal) -> Result<Option<(Timestamp, f64)>, StoreError> {
        let Some(id) = self.id_of(subject, signal, Kind::Figures) else { return Ok(None) };
        let newest = self.memory().newest.get(&id).copied().unwrap_or_default();
        let Some(at) = newest.at.map(Timestamp::from_millis) else { return Ok(None) };
        if let Some(value) = newest.value {
            return Ok(Some((at, value)));
        }
        // The finest tier that still has the bucket; a coarser one is widened to where it begins.
        for tier in Tier::ALL {
            let from = at.floor_to(tier.resolution());
            let to = from + tier.resolution();
            let found = self.read(subject, signal, from, to, tier.resolution(), Aggregate::Mean)?.get(0);
            if let Some(value) = found {
                return Ok(Some((from, value)));
            }
        }
        Ok(None)
    }

    fn id_of(&self, subject: &Subject, signal: Signal, kind: Kind) -> Option<SeriesId> {
        self.memory().ids.get(&Key { subject: subject.clone(), signal, kind }).copied()
    }

    /// Gives every bucket of the grid to `gather`, with the index of a step and the share of the bucket that falls into it.
    fn gather<B: Kept>(
        &self,
        id: SeriesId,
        grid: &Grid,
        source: &Source<B>,
        mut gather: impl FnMut(&B, usize, f64),
    ) -> Result<(), redb::Error> {
        let view = self.view(id, grid, source)?;
        let mut until = i64::MAX;
        for tier in Tier::ALL.into_iter().filter(|tier| *tier >= grid.tier()) {
            let seconds = tier.seconds();
            view.each(tier, grid, until, &mut |start, item| {
                if start.saturating_add(seconds) <= until {
                    grid.spread(start, seconds, source.divisible, |index, share| gather(item, index, share));
                }
            })?;
            match view.first(tier)? {
                Some(first) if first.saturating_mul(1000) <= grid.start => break,
                Some(first) => until = until.min(first),
                None => {}
            }
        }
        Ok(())
    }

    /// One moment's state of a series: what memory holds and the snapshot of the database that goes with it.
    fn view<B: Kept>(&self, id: SeriesId, grid: &Grid, source: &Source<B>) -> Result<View<B>, redb::Error> {
        let memory = self.memory();
        // Under the same lock as the buckets in memory: none may reach the disk in between.
        let snapshot = self.disk.read()?;
        let sealing = memory.sealing.as_ref().map(Arc::clone);
        let mut open = [const { Vec::new() }; 4];
        let mut first = [None; 4];
        let mut copy = |buckets: &Buckets| {
            let tiers = (source.tiers)(buckets);
            for tier in Tier::ALL.into_iter().filter(|tier| *tier >= grid.tier()) {
                let (from, to) = grid.seconds(tier);
                let part = tiers.range(id, tier, from, to).map(|(start, item)| (start, item.clone()));
                open[tier.index()].extend(part);
                first[tier.index()] = earlier(first[tier.index()], tiers.first(id, tier));
            }
        };
        copy(&memory.open);
        drop(memory);
        let on_disk = checkpoint_of(&snapshot)?;
        if let Some(sealing) = sealing.filter(|sealing| sealing.checkpoint > on_disk) {
            copy(&sealing.buckets);
        }
        Ok(View { id, open, first, chunks: snapshot.open_table(CHUNKS)?, each_stored: source.each })
    }
}

fn read_failed(source: redb::Error) -> StoreError {
    StoreError::Read { source: Box::new(source) }
}

fn checkpoint_of(snapshot: &ReadTransaction) -> Result<u64, redb::Error> {
    Ok(snapshot.open_table(META)?.get(META_CHECKPOINT)?.map_or(0, |number| number.value()))
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// Reads one chunk and gives each bucket; `false` when it is damaged.
type EachStored<B> = fn(Tier, i64, &[u8], Wanted, &mut dyn FnMut(i64, &B)) -> bool;

/// Where one kind of series is found.
struct Source<B> {
    tiers: fn(&Buckets) -> &Tiers<B>,
    each: (EachStored<B>, Wanted),
    /// Whether a bucket longer than a step has a share in each; else it counts whole where it begins.
    divisible: bool,
}

impl Source<Bucket> {
    fn figures(aggregate: Aggregate) -> Self {
        Self {
            tiers: |buckets| &buckets.figures,
            divisible: true,
            each: (
                |tier, start, bytes, wanted, give| {
                    let Ok(figures) = Figures::decode(tier, start, bytes, wanted) else { return false };
                    figures.buckets().for_each(|(start, bucket)| give(start, &bucket));
                    true
                },
                Wanted::Only(aggregate),
            ),
        }
    }
}

impl Source<Histogram> {
    fn distributions() -> Self {
        Self {
            tiers: |buckets| &buckets.distributions,
            divisible: false,
            each: (
                |tier, start, bytes, _, give| {
                    let Ok(histograms) = Histogram::decode(tier, start, bytes) else { return false };
                    histograms.iter().for_each(|(start, histogram)| give(*start, histogram));
                    true
                },
                Wanted::All,
            ),
        }
    }
}

/// One moment's state of one series.
struct View<B> {
    id: SeriesId,
    open: [Vec<(i64, B)>; 4],
    first: [Option<i64>; 4],
    chunks: ReadOnlyTable<(u32, u8, i64), &'static [u8]>,
    each_stored: (EachStored<B>, Wanted),
}

impl<B: Absorb> View<B> {
    /// Gives every bucket of the grid that starts before `until`. One bucket may come in parts, from disk and from memory.
    fn each(
        &self,
        tier: Tier,
        grid: &Grid,
        until: i64,
        give: &mut dyn FnMut(i64, &B),
    ) -> Result<(), redb::Error> {
        let (from, to) = grid.seconds(tier);
        let to = to.min(until);
        if from >= to {
            return Ok(());
        }
        let mut inside = |start: i64, item: &B| {
            if (from..to).contains(&start) {
                give(start, item);
            }
        };
        let (each_stored, wanted) = self.each_stored;
        for entry in self
            .chunks
            .range((self.id, tier.number(), tier.chunk_start(from))..(self.id, tier.number(), to))?
        {
            let (key, bytes) = entry?;
            if !each_stored(tier, key.value().2, bytes.value(), wanted, &mut inside) {
                return Err(redb::Error::Corrupted("a chunk cannot be read".to_owned()));
            }
        }
        self.open[tier.index()].iter().for_each(|(start, item)| inside(*start, item));
        Ok(())
    }

    /// The start of the first bucket of a tier, in seconds.
    fn first(&self, tier: Tier) -> Result<Option<i64>, redb::Error> {
        let range = (self.id, tier.number(), i64::MIN)..=(self.id, tier.number(), i64::MAX);
        let stored = match self.chunks.range(range)?.next().transpose()? {
            Some((key, bytes)) => first_start(tier, key.value().2, bytes.value())
                .map_err(|_| redb::Error::Corrupted("a chunk cannot be read".to_owned()))?,
            None => None,
        };
        Ok(earlier(self.first[tier.index()], stored))
    }
}

/// The steps of an answer, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
struct Grid {
    start: i64,
    step: i64,
    steps: usize,
}

impl Grid {
    fn new(from: Timestamp, to: Timestamp, step: Duration, steps_max: u64) -> Result<Self, StoreError> {
        let step_millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step_millis == 0 {
            return Err(StoreError::Range { steps: 0, steps_max });
        }
        let start = from.floor_to(step).as_millis();
        let span = u64::try_from(to.as_millis().saturating_sub(start)).unwrap_or(0);
        let steps = if to <= from { 0 } else { span.div_ceil(step_millis.unsigned_abs()) };
        match usize::try_from(steps) {
            Ok(steps) if steps as u64 <= steps_max => Ok(Self { start, step: step_millis, steps }),
            _ => Err(StoreError::Range { steps, steps_max }),
        }
    }

    /// The same range as a single step.
    fn as_one_step(self) -> Self {
        let steps = i64::try_from(self.steps).unwrap_or(i64::MAX);
        Self { step: self.step.saturating_mul(steps).max(1), steps: self.steps.min(1), ..self }
    }

    fn start_time(&self) -> Timestamp {
        Timestamp::from_millis(self.start)
    }

    /// The coarsest tier whose buckets fit the steps exactly; the finest when none does.
    fn tier(&self) -> Tier {
        let fits = |tier: &Tier| {
            let millis = tier.seconds() * 1000;
            self.step % millis == 0 && self.start % millis == 0
        };
        Tier::ALL.into_iter().rev().find(fits).unwrap_or(Tier::Second)
    }

    fn end(&self) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(self.steps).unwrap_or(i64::MAX)))
    }

    /// Where buckets of `tier` that touch the range start, in seconds: `[from, to)`.
    fn seconds(&self, tier: Tier) -> (i64, i64) {
        (tier.bucket_start(self.start), self.end().div_euclid(1000) + i64::from(self.end() % 1000 != 0))
    }

    /// Which steps a bucket falls into, and with what share of it: the one in which it begins when steps are longer or it cannot be
    /// divided, else all that it covers.
    #[expect(clippy::cast_precision_loss, reason = "steps and buckets are far below 2^53 ms")]
    fn spread(&self, start: i64, seconds: i64, divisible: bool, mut give: impl FnMut(usize, f64)) {
        let (first, length) = (start * 1000, seconds * 1000);
        if length <= self.step || !divisible {
            if let Some(index) = self.index(first) {
                give(index, 1.0);
            }
            return;
        }
        let mut at = first.max(self.start);
        let end = (first + length).min(self.end());
        while at < end {
            let Some(index) = self.index(at) else { return };
            let next = self.start + (at - self.start).div_euclid(self.step) * self.step + self.step;
            give(index, (next.min(end) - at) as f64 / length as f64);
            at = next;
        }
    }

    /// The step that holds a time.
    fn index(&self, at: i64) -> Option<usize> {
        let index = usize::try_from((at - self.start).div_euclid(self.step)).ok()?;
        (index < self.steps).then_some(index)
    }
}

#[cfg(test)]
mod tests;
