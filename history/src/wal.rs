//! One batch of the write-ahead table: the samples of one flush, as they came in. Not the table itself.

use tidegate_core::Histogram;

use crate::chunk::distributions::{put_histograms, take_histograms};
use crate::columns::{Column, Damaged, put_column, put_number, take_count};
use crate::memory::SeriesId;

/// Format of a batch, its first byte.
const FORMAT: u8 = 1;
/// Compression level: a batch lives for minutes, so that speed counts.
const LEVEL: usize = 2;
/// Most samples of a batch that is read back; memory takes fewer than that between two checkpoints.
const SAMPLES_MAX: usize = 1 << 24;

/// Samples and histograms in the order in which they came: series, milliseconds since the epoch, value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Batch {
    pub(crate) figures: Vec<(SeriesId, i64, f64)>,
    pub(crate) distributions: Vec<(SeriesId, i64, Histogram)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.figures.is_empty() && self.distributions.is_empty()
    }

    /// Memory in use, about, in plain buckets.
    pub(crate) fn weight(&self) -> usize {
        // A histogram here weighs some ten filled buckets; its own weight is counted where it is merged.
        self.figures.len() + 10 * self.distributions.len()
    }

    /// Puts what came before in front.
    pub(crate) fn prepend(&mut self, mut earlier: Self) {
        earlier.figures.append(&mut self.figures);
        earlier.distributions.append(&mut self.distributions);
        *self = earlier;
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_number(&mut out, self.figures.len() as u64);
        put_column(&mut out, &self.figures.iter().map(|sample| sample.0).collect::<Vec<_>>(), LEVEL);
        put_column(&mut out, &self.figures.iter().map(|sample| sample.1).collect::<Vec<_>>(), LEVEL);
        put_column(&mut out, &self.figures.iter().map(|sample| sample.2).collect::<Vec<_>>(), LEVEL);
        put_number(&mut out, self.distributions.len() as u64);
        put_column(&mut out, &self.distributions.iter().map(|sample| sample.0).collect::<Vec<_>>(), LEVEL);
        put_column(&mut out, &self.distributions.iter().map(|sample| sample.1).collect::<Vec<_>>(), LEVEL);
        put_histograms(&mut out, &self.distributions.iter().map(|sample| &sample.2).collect::<Vec<_>>());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let (format, mut from) = bytes.split_first().ok_or(Damaged)?;
        if *format != FORMAT {
            return Err(Damaged);
        }
        let (ids, times, count) = take_heads(&mut from)?;
        let values: Vec<f64> = Column::take(&mut from)?.read(count)?;
        let figures = zip(ids, times, values);
        let (ids, times, count) = take_heads(&mut from)?;
        let histograms = take_histograms(&mut from, count)?;
        Ok(Self { figures, distributions: zip(ids, times, histograms) })
    }
}

fn take_heads(from: &mut &[u8]) -> Result<(Vec<SeriesId>, Vec<i64>, usize), Damaged> {
    let count = take_count(from, SAMPLES_MAX)?;
    let ids = Column::take(from)?.read(count)?;
    let times = Column::take(from)?.read(count)?;
    Ok((ids, times, count))
}

fn zip<T>(ids: Vec<SeriesId>, times: Vec<i64>, items: Vec<T>) -> Vec<(SeriesId, i64, T)> {
    ids.into_iter().zip(times).zip(items).map(|((id, at), item)| (id, at, item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_reads_what_was_written(
            figures in prop::collection::vec((0u32..9, any::<i64>(), -1e9f64..1e9), 0..100),
            seen in prop::collection::vec((0u32..9, any::<i64>(), prop::collection::vec(0.0f64..10.0, 0..20)), 0..10),
        ) {
            let distributions = seen.into_iter().map(|(id, at, values)| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|value| histogram.observe(*value));
                (id, at, histogram)
            }).collect();
            let batch = Batch { figures, distributions };
            let bytes = batch.encode();
            prop_assert_eq!(Batch::decode(&bytes).unwrap(), batch);
            prop_assert!(Batch::decode(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
