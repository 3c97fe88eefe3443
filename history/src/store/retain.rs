//! What is removed: chunks past their tier's retention, the oldest fine ones when there is too much, and series with nothing left.

use std::sync::PoisonError;

use redb::{ReadableTable, Table, WriteTransaction};
use tidegate_core::Timestamp;

use super::checkpoint::put_totals;
use super::{Store, Writer};
use crate::disk::{CHUNKS, META, SERIES};
use crate::error::StoreError;
use crate::memory::SeriesId;
use crate::tier::Tier;

/// Series looked at in one call; a full round over the most that a store has by default takes a hundred calls.
const SERIES_PER_CALL: usize = 512;
/// Most chunks removed in one call for their age: what 512 series grow in two days.
const CHUNKS_PER_CALL: usize = 8192;
/// Most steps of one call by which a tier is cut shorter for its size; each takes one chunk off every series.
const CUTS_PER_CALL: usize = 16;
/// Bytes of the file for one byte of chunks: B-tree pages are half to fully filled, a commit writes copies before it frees, and the file grows ahead.
const FILE_PER_CHUNK_BYTE: u64 = 4;

/// What one call of [`Store::maintain`] did and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Chunks removed for their age.
    pub chunks_expired: usize,
    /// Chunks removed because there was too much.
    pub chunks_cut: usize,
    /// Bytes that all chunks have now, without what the database adds.
    pub chunk_bytes: u64,
    /// Chunks since the start that could not be read when more was to be added, and were begun anew.
    pub chunks_damaged: u64,
}

impl Store {
    /// Enforces retention and size, a bounded piece at a time. To be called about once a minute.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn maintain(&self, now: Timestamp) -> Result<Maintained, StoreError> {
        let failed = |source| StoreError::Retain { source: Box::new(source) };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.settle(&mut writer).map_err(failed)?;
        let ids = self.next_ids(&writer);
        let mut sweep = Sweep { bytes: writer.chunk_bytes, expired: 0, cut: 0, emptied: Vec::new() };
        let bytes_max = self.options.bytes_max / FILE_PER_CHUNK_BYTE;
        let removed = self.disk.change(true, |change| {
            sweep.expire(change, &ids, now)?;
            sweep.cut_down(change, bytes_max, self)?;
            put_totals(&mut change.open_table(META)?, sweep.bytes)
        });
        if let Err(error) = removed {
            writer.broken = true;
            return Err(failed(error));
        }
        writer.retained_to = ids.last().copied().map_or(0, |id| id + 1);
        writer.chunk_bytes = sweep.bytes;
        writer.undurable = false;
        self.forget(&sweep.emptied).map_err(failed)?;
        Ok(Maintained {
            chunks_expired: sweep.expired,
            chunks_cut: sweep.cut,
            chunk_bytes: sweep.bytes.iter().sum(),
            chunks_damaged: writer.damaged,
        })
    }

    /// The series that this call looks at, in the order of their numbers, from where the last one ended.
    fn next_ids(&self, writer: &Writer) -> Vec<SeriesId> {
        let mut ids: Vec<SeriesId> = self.memory().ids.values().copied().collect();
        ids.sort_unstable();
        let from = ids.partition_point(|id| *id < writer.retained_to);
        let from = if from == ids.len() { 0 } else { from };
        ids.into_iter().skip(from).take(SERIES_PER_CALL).collect()
    }

    /// Removes the names of series that have nothing on disk, unless something came in meanwhile.
    fn forget(&self, emptied: &[SeriesId]) -> Result<(), redb::Error> {
        let gone: Vec<SeriesId> = {
            let mut memory = self.memory();
            let idle = |id: &&SeriesId| {
                memory.sealing.is_none()
                    && !memory.open.figures.0.contains_key(id)
                    && !memory.open.distributions.0.contains_key(id)
            };
            let gone: Vec<SeriesId> = emptied.iter().filter(idle).copied().collect();
            memory.ids.retain(|_, id| !gone.contains(id));
            memory.newest.retain(|id, _| !gone.contains(id));
            gone
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.disk.change(true, |change| {
            let mut names = change.open_table(SERIES)?;
            gone.iter().try_for_each(|id| names.remove(id).map(drop).map_err(redb::Error::from))
        })
    }
}

/// One call's removals.
struct Sweep {
    bytes: [u64; 4],
    expired: usize,
    cut: usize,
    /// Series that have no chunk any more.
    emptied: Vec<SeriesId>,
}

type Chunks<'a> = Table<'a, (u32, u8, i64), &'static [u8]>;

impl Sweep {
    fn expire(
        &mut self,
        change: &WriteTransaction,
        ids: &[SeriesId],
        now: Timestamp,
    ) -> Result<(), redb::Error> {
        let mut table = change.open_table(CHUNKS)?;
        for id in ids {
            for tier in Tier::ALL {
                let oldest = now.before(tier.retention()).as_millis().div_euclid(1000);
                let room = CHUNKS_PER_CALL.saturating_sub(self.expired);
                self.expired += self.remove_to(&mut table, *id, tier, oldest - tier.chunk_seconds(), room)?;
            }
            let left = table.range((*id, 0, i64::MIN)..=(*id, u8::MAX, i64::MAX))?.next().is_some();
            if !left {
                self.emptied.push(*id);
            }
        }
        Ok(())
    }

    /// Removes the chunks of one series and tier that start at or before `last`, oldest first, at most `room`.
    fn remove_to(
        &mut self,
        table: &mut Chunks<'_>,
        id: SeriesId,
        tier: Tier,
        last: i64,
        room: usize,
    ) -> Result<usize, redb::Error> {
        let range = (id, tier.number(), i64::MIN)..=(id, tier.number(), last);
        let mut starts = Vec::new();
        for entry in table.range(range)?.take(room) {
            let (key, bytes) = entry?;
            starts.push(key.value().2);
            let total = &mut self.bytes[tier.index()];
            *total = total.saturating_sub(bytes.value().len() as u64);
        }
        for start in &starts {
            table.remove((id, tier.number(), *start))?;
        }
        Ok(starts.len())
    }

    /// Cuts the finest tier that has anything shorter, a chunk at a time, until all chunks together are small enough.
    fn cut_down(
        &mut self,
        change: &WriteTransaction,
        bytes_max: u64,
        store: &Store,
    ) -> Result<(), redb::Error> {
        if self.bytes.iter().sum::<u64>() <= bytes_max {
            return Ok(());
        }
        let mut table = change.open_table(CHUNKS)?;
        let ids: Vec<SeriesId> = store.memory().ids.values().copied().collect();
        for _ in 0..CUTS_PER_CALL {
            let finest = Tier::ALL.into_iter().find(|tier| self.bytes[tier.index()] > 0);
            let Some(tier) = finest.filter(|_| self.bytes.iter().sum::<u64>() > bytes_max) else { break };
            let Some(oldest) = oldest_start(&table, &ids, tier)? else {
                // Only series that this version does not know have chunks here.
                break;
            };
            for id in &ids {
                self.cut += self.remove_to(&mut table, *id, tier, oldest, 1)?;
            }
        }
        Ok(())
    }
}

fn oldest_start(table: &Chunks<'_>, ids: &[SeriesId], tier: Tier) -> Result<Option<i64>, redb::Error> {
    let mut oldest = None;
    for id in ids {
        let range = (*id, tier.number(), i64::MIN)..=(*id, tier.number(), i64::MAX);
        if let Some((key, _)) = table.range(range)?.next().transpose()? {
            let start = key.value().2;
            oldest = Some(oldest.map_or(start, |oldest: i64| oldest.min(start)));
        }
    }
    Ok(oldest)
}
