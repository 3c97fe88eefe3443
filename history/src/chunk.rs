//! A chunk: about a thousand buckets of one series and tier, as compressed columns. Not where chunks are kept.

pub(crate) mod distributions;
mod figures;

pub(crate) use figures::{Figures, Wanted};

use std::collections::BTreeMap;

use tidegate_core::Histogram;

use crate::bucket::{Absorb, Bucket};
use crate::columns::{Column, Damaged, put_column, put_number, take_count, take_number};
use crate::tier::Tier;

/// Format of a chunk, its first byte.
const FORMAT: u8 = 1;
/// Compression level of `pco`: its default.
pub(crate) const LEVEL: usize = 8;

/// What is kept in chunks: plain buckets or histograms.
pub(crate) trait Kept: Absorb {
    /// Writes buckets (start in seconds, contents) by rising start, none twice, all within the chunk that starts at `chunk_start`.
    fn encode(tier: Tier, chunk_start: i64, buckets: &BTreeMap<i64, Self>) -> Vec<u8>;
    /// Reads all that [`Kept::encode`] wrote.
    fn decode(tier: Tier, chunk_start: i64, bytes: &[u8]) -> Result<BTreeMap<i64, Self>, Damaged>;
}

impl Kept for Bucket {
    fn encode(tier: Tier, chunk_start: i64, buckets: &BTreeMap<i64, Self>) -> Vec<u8> {
        figures::encode(tier, chunk_start, buckets)
    }

    fn decode(tier: Tier, chunk_start: i64, bytes: &[u8]) -> Result<BTreeMap<i64, Self>, Damaged> {
        let figures = Figures::decode(tier, chunk_start, bytes, Wanted::All)?;
        Ok(figures.buckets().collect())
    }
}

impl Kept for Histogram {
    fn encode(tier: Tier, chunk_start: i64, buckets: &BTreeMap<i64, Self>) -> Vec<u8> {
        distributions::encode(tier, chunk_start, buckets)
    }

    fn decode(tier: Tier, chunk_start: i64, bytes: &[u8]) -> Result<BTreeMap<i64, Self>, Damaged> {
        distributions::decode(tier, chunk_start, bytes)
    }
}

/// Most buckets of a chunk of `tier`.
fn buckets_max(tier: Tier) -> usize {
    usize::try_from(tier.chunk_seconds() / tier.seconds()).unwrap_or(usize::MAX)
}

/// Writes the number of buckets and where they start. Without a gap that is the first one's place alone.
fn put_starts(out: &mut Vec<u8>, tier: Tier, chunk_start: i64, starts: impl Iterator<Item = i64>) {
    let places: Vec<u32> = starts
        .map(|start| {
            u32::try_from((start - chunk_start) / tier.seconds()).expect("a bucket lies within its chunk")
        })
        .collect();
    put_number(out, places.len() as u64);
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
    let gapless = (last - first) as usize + 1 == places.len();
    out.push(u8::from(gapless));
    if gapless {
        put_number(out, u64::from(*first));
    } else {
        put_column(out, &places, LEVEL);
    }
}

/// Reads what [`put_starts`] wrote.
fn take_starts(from: &mut &[u8], tier: Tier, chunk_start: i64) -> Result<Vec<i64>, Damaged> {
    let count = take_count(from, buckets_max(tier))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let (gapless, rest) = from.split_first().ok_or(Damaged)?;
    *from = rest;
    let places: Vec<u32> = if *gapless == 1 {
        let first = u32::try_from(take_number(from)?).map_err(|_| Damaged)?;
        (first..).take(count).collect()
    } else {
        Column::take(from)?.read(count)?
    };
    let inside = places.is_sorted() && places.last().is_some_and(|last| (*last as usize) < buckets_max(tier));
    if !inside {
        return Err(Damaged);
    }
    Ok(places.into_iter().map(|place| chunk_start + i64::from(place) * tier.seconds()).collect())
}

/// Takes the format byte.
fn take_format(from: &mut &[u8]) -> Result<(), Damaged> {
    let (format, rest) = from.split_first().ok_or(Damaged)?;
    *from = rest;
    if *format == FORMAT { Ok(()) } else { Err(Damaged) }
}

/// The start of the first bucket of any chunk, without reading the rest.
pub(crate) fn first_start(tier: Tier, chunk_start: i64, bytes: &[u8]) -> Result<Option<i64>, Damaged> {
    let mut from = bytes;
    take_format(&mut from)?;
    Ok(take_starts(&mut from, tier, chunk_start)?.first().copied())
}

/// The start of the last bucket of any chunk, without reading the rest.
pub(crate) fn last_start(tier: Tier, chunk_start: i64, bytes: &[u8]) -> Result<Option<i64>, Damaged> {
    let mut from = bytes;
    take_format(&mut from)?;
    Ok(take_starts(&mut from, tier, chunk_start)?.last().copied())
}

#[cfg(test)]
mod tests;
