//! Chunks of histograms: one column each of sums, counts at or below zero, numbers of filled buckets, and those buckets end to end.

use std::collections::BTreeMap;

use tidegate_core::Histogram;

use super::{FORMAT, LEVEL, put_starts, take_format, take_starts};
use crate::columns::{Column, Damaged, put_column, put_number, take_count};
use crate::tier::Tier;

/// Most filled buckets of all histograms of a chunk or batch: the 52,000 histograms that memory takes between two flushes, all 321 buckets
/// filled, have as many.
const FILLED_MAX: usize = 1 << 24;

/// Writes a chunk.
pub(super) fn encode(tier: Tier, chunk_start: i64, histograms: &BTreeMap<i64, Histogram>) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_starts(&mut out, tier, chunk_start, histograms.keys().copied());
    put_histograms(&mut out, &histograms.values().collect::<Vec<_>>());
    out
}

/// Reads a chunk.
pub(super) fn decode(
    tier: Tier,
    chunk_start: i64,
    bytes: &[u8],
) -> Result<BTreeMap<i64, Histogram>, Damaged> {
    let mut from = bytes;
    take_format(&mut from)?;
    let starts = take_starts(&mut from, tier, chunk_start)?;
    let histograms = take_histograms(&mut from, starts.len())?;
    Ok(starts.into_iter().zip(histograms).collect())
}

/// Writes histograms, without their number.
pub(crate) fn put_histograms(out: &mut Vec<u8>, histograms: &[&Histogram]) {
    let sums: Vec<f64> = histograms.iter().map(|h| h.sum()).collect();
    let zeros: Vec<u64> = histograms.iter().map(|h| h.zero_count()).collect();
    let lengths: Vec<u32> = histograms
        .iter()
        .map(|h| u32::try_from(h.buckets().count()).expect("a histogram has some hundred buckets"))
        .collect();
    let filled: Vec<(i32, u64)> = histograms.iter().flat_map(|h| h.buckets()).collect();
    put_column(out, &sums, LEVEL);
    put_column(out, &zeros, LEVEL);
    put_column(out, &lengths, LEVEL);
    put_number(out, filled.len() as u64);
    put_column(out, &filled.iter().map(|bucket| bucket.0).collect::<Vec<_>>(), LEVEL);
    put_column(out, &filled.iter().map(|bucket| bucket.1).collect::<Vec<_>>(), LEVEL);
}

/// Reads `count` histograms.
pub(crate) fn take_histograms(from: &mut &[u8], count: usize) -> Result<Vec<Histogram>, Damaged> {
    let sums: Vec<f64> = Column::take(from)?.read(count)?;
    let zeros: Vec<u64> = Column::take(from)?.read(count)?;
    let lengths: Vec<u32> = Column::take(from)?.read(count)?;
    let filled = take_count(from, FILLED_MAX)?;
    let indices: Vec<i32> = Column::take(from)?.read(filled)?;
    let counts: Vec<u64> = Column::take(from)?.read(filled)?;
    let mut buckets = indices.into_iter().zip(counts);
    let mut histograms = Vec::with_capacity(count);
    for ((sum, zero), length) in sums.into_iter().zip(zeros).zip(lengths) {
        let own: Vec<(i32, u64)> = buckets.by_ref().take(length as usize).collect();
        if own.len() != length as usize {
            return Err(Damaged);
        }
        histograms.push(Histogram::from_buckets(own, zero, sum));
    }
    Ok(histograms)
}
