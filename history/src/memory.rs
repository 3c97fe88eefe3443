//! What is in memory: the names of the series, the buckets that no chunk holds yet, and the samples that are not on disk at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidegate_core::{Histogram, Signal, Subject, Timestamp};

use crate::bucket::{Absorb, Bucket};
use crate::tier::Tier;
use crate::wal::Batch;

/// What a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Plain samples.
    Figures,
    /// Histograms.
    Distributions,
}

/// What names a series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) subject: Subject,
    pub(crate) signal: Signal,
    pub(crate) kind: Kind,
}

/// Number of a series on disk and in memory.
pub(crate) type SeriesId = u32;

/// Buckets of one series and tier, by start. Nearly all come in order: a sorted list takes a third of what a tree does.
#[derive(Debug, Clone)]
pub(crate) struct Run<B>(Vec<(i64, B)>);

impl<B> Default for Run<B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: Absorb> Run<B> {
    /// Adds to the bucket that starts then; gives by how much the memory in use grew, in buckets.
    fn add(&mut self, start: i64, item: &B) -> usize {
        let Self(buckets) = self;
        match buckets.binary_search_by_key(&start, |(at, _)| *at) {
            Ok(place) => {
                buckets[place].1.absorb(item);
                0
            }
            Err(place) => {
                if buckets.len() == buckets.capacity() {
                    // Thousands of series have a few buckets each: a doubling would be most of what they take.
                    buckets.reserve_exact((buckets.len() / 4).max(1));
                }
                buckets.insert(place, (start, item.clone()));
                item.weight()
            }
        }
    }

    /// All, by start.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &B)> {
        self.0.iter().map(|(start, item)| (*start, item))
    }

    fn range(&self, from: i64, to: i64) -> &[(i64, B)] {
        let place = |at: i64| self.0.partition_point(|(start, _)| *start < at);
        if from < to { &self.0[place(from)..place(to)] } else { &[] }
    }
}

/// Buckets of many series, by tier.
#[derive(Debug, Clone)]
pub(crate) struct Tiers<B>(pub(crate) HashMap<SeriesId, [Run<B>; 4]>);

impl<B> Default for Tiers<B> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<B: Absorb> Tiers<B> {
    /// Adds to the bucket of every tier; gives by how much the memory in use grew, in buckets.
    fn add(&mut self, id: SeriesId, at_millis: i64, item: &B) -> usize {
        let tiers = self.0.entry(id).or_default();
        Tier::ALL.iter().map(|tier| tiers[tier.index()].add(tier.bucket_start(at_millis), item)).sum()
    }

    fn absorb(&mut self, other: &Self) {
        for (id, theirs) in &other.0 {
            let ours = self.0.entry(*id).or_default();
            for (ours, theirs) in ours.iter_mut().zip(theirs) {
                for (start, item) in theirs.iter() {
                    ours.add(start, item);
                }
            }
        }
    }

    /// The buckets of one series and tier that start in `[from, to)`.
    pub(crate) fn range(
        &self,
        id: SeriesId,
        tier: Tier,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = (i64, &B)> {
        let run = self.0.get(&id).map(|tiers| &tiers[tier.index()]);
        run.into_iter().flat_map(move |run| run.range(from, to)).map(|(start, item)| (*start, item))
    }

    /// The start of the first bucket of one series and tier.
    pub(crate) fn first(&self, id: SeriesId, tier: Tier) -> Option<i64> {
        self.0.get(&id)?[tier.index()].0.first().map(|(start, _)| *start)
    }
}

/// Buckets that no chunk holds yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buckets {
    pub(crate) figures: Tiers<Bucket>,
    pub(crate) distributions: Tiers<Histogram>,
    /// Memory in use, in plain buckets.
    pub(crate) weight: usize,
}

impl Buckets {
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.figures.absorb(&other.figures);
        self.distributions.absorb(&other.distributions);
        self.weight += other.weight;
    }

    pub(crate) fn add(&mut self, batch: &Batch) {
        for (id, at, value) in &batch.figures {
            self.weight += self.figures.add(*id, *at, &Bucket::of(*value));
        }
        for (id, at, histogram) in &batch.distributions {
            self.weight += self.distributions.add(*id, *at, histogram);
        }
    }
}

/// Buckets on their way into chunks. They count until a reader sees their checkpoint in its snapshot of the database.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) checkpoint: u64,
    pub(crate) buckets: Buckets,
}

/// What is known of a series without reading the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Newest {
    /// Time of the newest sample, in milliseconds; after a restart the start of its bucket.
    pub(crate) at: Option<i64>,
    /// The newest sample, when it came in since the start.
    pub(crate) value: Option<f64>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) ids: BTreeMap<Key, SeriesId>,
    pub(crate) newest: HashMap<SeriesId, Newest>,
    pub(crate) next_id: SeriesId,
    /// Series whose name is not on disk yet.
    pub(crate) unnamed: Vec<(SeriesId, Key)>,
    pub(crate) open: Buckets,
    pub(crate) sealing: Option<Arc<Sealing>>,
    /// What the write-ahead table does not have yet.
    pub(crate) pending: Batch,
}

/// What became of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Stored,
    Late,
    NoRoom,
}

impl Memory {
    /// The number of a series; a new one while there are fewer than `series_max`.
    fn id(&mut self, subject: &Subject, signal: Signal, kind: Kind, series_max: usize) -> Option<SeriesId> {
        let key = Key { subject: subject.clone(), signal, kind };
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        if self.ids.len() >= series_max {
            return None;
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1)?;
        self.unnamed.push((id, key.clone()));
        self.ids.insert(key, id);
        Some(id)
    }

    /// Notes that something came in; `false` when it is older than the window for late samples.
    fn in_time(&mut self, id: SeriesId, at: i64, late_max_millis: i64, value: Option<f64>) -> bool {
        let newest = self.newest.entry(id).or_default();
        match newest.at {
            Some(newest) if at < newest.saturating_sub(late_max_millis) => false,
            Some(last) if at < last => true,
            _ => {
                *newest = Newest { at: Some(at), value };
                true
            }
        }
    }

    /// Takes in one sample.
    pub(crate) fn take_figure(
        &mut self,
        (subject, signal): (&Subject, Signal),
        at: Timestamp,
        value: f64,
        limits: Limits,
    ) -> Taken {
        let Some(id) = self.id(subject, signal, Kind::Figures, limits.series_max) else {
            return Taken::NoRoom;
        };
        let at = at.as_millis();
        if !self.in_time(id, at, limits.late_max_millis, Some(value)) {
            return Taken::Late;
        }
        self.open.weight += self.open.figures.add(id, at, &Bucket::of(value));
        self.pending.figures.push((id, at, value));
        Taken::Stored
    }

    /// Takes in one histogram.
    pub(crate) fn take_distribution(
        &mut self,
        (subject, signal): (&Subject, Signal),
        at: Timestamp,
        histogram: &Histogram,
        limits: Limits,
    ) -> Taken {
        let Some(id) = self.id(subject, signal, Kind::Distributions, limits.series_max) else {
            return Taken::NoRoom;
        };
        let at = at.as_millis();
        if !self.in_time(id, at, limits.late_max_millis, None) {
            return Taken::Late;
        }
        self.open.weight += self.open.distributions.add(id, at, histogram);
        self.pending.distributions.push((id, at, histogram.clone()));
        Taken::Stored
    }

    /// Memory in use, in plain buckets.
    pub(crate) fn weight(&self) -> usize {
        let sealing = self.sealing.as_ref().map_or(0, |sealing| sealing.buckets.weight);
        self.open.weight + sealing + self.pending.weight()
    }
}

/// Bounds on what memory takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) series_max: usize,
    pub(crate) late_max_millis: i64,
}
