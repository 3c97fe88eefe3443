//! Chunks of plain buckets: columns of counts, sums, minima and maxima, each left out where another says it already.

use std::collections::BTreeMap;

use super::{FORMAT, LEVEL, put_starts, take_format, take_starts};
use crate::bucket::{Aggregate, Bucket};
use crate::columns::{Column, Damaged, put_column};
use crate::tier::Tier;

/// Every bucket is one sample: the sums say everything.
const SINGLE: u8 = 1;

/// Writes a chunk.
pub(super) fn encode(tier: Tier, chunk_start: i64, buckets: &BTreeMap<i64, Bucket>) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_starts(&mut out, tier, chunk_start, buckets.keys().copied());
    let single = buckets.values().all(Bucket::is_single);
    out.push(if single { SINGLE } else { 0 });
    put_floats(&mut out, buckets, |bucket| bucket.sum);
    if !single {
        let counts: Vec<u64> = buckets.values().map(|bucket| bucket.count).collect();
        put_column(&mut out, &counts, LEVEL);
        put_floats(&mut out, buckets, |bucket| bucket.min);
        put_floats(&mut out, buckets, |bucket| bucket.max);
    }
    out
}

fn put_floats(out: &mut Vec<u8>, buckets: &BTreeMap<i64, Bucket>, figure: fn(&Bucket) -> f64) {
    let numbers: Vec<f64> = buckets.values().map(figure).collect();
    put_column(out, &numbers, LEVEL);
}

/// Which columns a read needs; decoding one costs as much as all else of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything.
    All,
    /// Enough for one figure.
    Only(Aggregate),
}

impl Wanted {
    fn needs(self, figure: Aggregate) -> bool {
        match self {
            Self::All => true,
            Self::Only(Aggregate::Mean) => matches!(figure, Aggregate::Sum | Aggregate::Count),
            Self::Only(wanted) => wanted == figure,
        }
    }
}

/// A chunk that has been read; columns that were not wanted stand as the sums, or as counts of one.
#[derive(Debug)]
pub(crate) struct Figures {
    starts: Vec<i64>,
    sums: Vec<f64>,
    counts: Option<Vec<u64>>,
    mins: Option<Vec<f64>>,
    maxs: Option<Vec<f64>>,
}

impl Figures {
    /// Reads the wanted columns of a chunk.
    pub(crate) fn decode(
        tier: Tier,
        chunk_start: i64,
        bytes: &[u8],
        wanted: Wanted,
    ) -> Result<Self, Damaged> {
        let mut from = bytes;
        take_format(&mut from)?;
        let starts = take_starts(&mut from, tier, chunk_start)?;
        let (flags, rest) = from.split_first().ok_or(Damaged)?;
        from = rest;
        let length = starts.len();
        let sums = Column::take(&mut from)?;
        if *flags & SINGLE != 0 {
            return Ok(Self { starts, sums: sums.read(length)?, counts: None, mins: None, maxs: None });
        }
        let columns = [Column::take(&mut from)?, Column::take(&mut from)?, Column::take(&mut from)?];
        Ok(Self {
            sums: if wanted.needs(Aggregate::Sum) { sums.read(length)? } else { vec![0.0; length] },
            counts: wanted.needs(Aggregate::Count).then(|| columns[0].read(length)).transpose()?,
            mins: wanted.needs(Aggregate::Min).then(|| columns[1].read(length)).transpose()?,
            maxs: wanted.needs(Aggregate::Max).then(|| columns[2].read(length)).transpose()?,
            starts,
        })
    }

    /// Its buckets by rising start.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (i64, Bucket)> {
        self.starts.iter().enumerate().map(|(index, start)| {
            let sum = self.sums[index];
            let or_sum = |column: &Option<Vec<f64>>| column.as_ref().map_or(sum, |numbers| numbers[index]);
            let count = self.counts.as_ref().map_or(1, |counts| counts[index]);
            (*start, Bucket { count, sum, min: or_sum(&self.mins), max: or_sum(&self.maxs) })
        })
    }
}
