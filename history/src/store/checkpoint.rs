//! From memory to disk: the write-ahead table at each flush, chunks at each checkpoint, and what follows when either fails.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableTable, Table, WriteTransaction};

use super::load::{META_CHECKPOINT, META_CHUNK_BYTES, name_of};
use super::{Store, Writer};
use crate::chunk::Kept;
use crate::disk::{CHUNKS, META, SERIES, WAL};
use crate::error::StoreError;
use crate::memory::{Key, Run, Sealing, SeriesId};
use crate::tier::Tier;

/// Time between checkpoints: each rewrites the newest chunk of every live series and tier, and what lies between is kept in memory and replayed
/// after a crash.
pub(super) const EVERY: Duration = Duration::from_secs(300);

type Chunks<'a> = Table<'a, (u32, u8, i64), &'static [u8]>;
type Named = Vec<(SeriesId, Key)>;

impl Store {
    /// Writes what the write-ahead table does not have yet.
    pub(super) fn extend_wal(&self, writer: &mut Writer) -> Result<(), redb::Error> {
        self.settle(writer)?;
        let (pending, unnamed) = {
            let mut memory = self.memory();
            (mem::take(&mut memory.pending), mem::take(&mut memory.unnamed))
        };
        if pending.is_empty() && unnamed.is_empty() && !writer.undurable {
            return Ok(());
        }
        let number = writer.wal_next;
        let written = self.disk.change(true, |change| {
            put_names(change, &unnamed)?;
            if !pending.is_empty() {
                change.open_table(WAL)?.insert(number, pending.encode().as_slice())?;
            }
            Ok(())
        });
        if let Err(error) = written {
            // Should the change have landed after all, the next attempt writes the same number again, with the same samples and more.
            self.give_back(unnamed, pending);
            writer.broken = true;
            return Err(error);
        }
        writer.wal_next = number + 1;
        writer.undurable = false;
        Ok(())
    }

    /// Merges all buckets in memory into chunks.
    pub(super) fn checkpoint_as(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let failed = |source| StoreError::Checkpoint { source: Box::new(source) };
        self.settle(writer).map_err(failed)?;
        let (sealing, pending, unnamed) = {
            let mut memory = self.memory();
            let buckets = mem::take(&mut memory.open);
            let sealing = Arc::new(Sealing { checkpoint: writer.checkpoint + 1, buckets });
            memory.sealing = Some(Arc::clone(&sealing));
            (sealing, mem::take(&mut memory.pending), mem::take(&mut memory.unnamed))
        };
        let mut totals = Totals { bytes: writer.chunk_bytes, damaged: 0 };
        let written = self.disk.change(true, |change| {
            put_names(change, &unnamed)?;
            put_chunks(change, &sealing, &mut totals)
        });
        if let Err(error) = written {
            self.give_back(unnamed, Default::default());
            writer.limbo = Some(pending);
            writer.broken = true;
            return Err(failed(error));
        }
        self.memory().sealing = None;
        writer.checkpoint = sealing.checkpoint;
        writer.chunk_bytes = totals.bytes;
        writer.damaged += totals.damaged;
        writer.undurable = false;
        Ok(())
    }

    /// After a failed change: opens the database again and finds out whether a failed checkpoint landed.
    pub(super) fn settle(&self, writer: &mut Writer) -> Result<(), redb::Error> {
        if !writer.broken {
            return Ok(());
        }
        self.disk.reopen()?;
        let meta = self.disk.read()?.open_table(META)?;
        let on_disk = meta.get(META_CHECKPOINT)?.map_or(0, |number| number.value());
        for (bytes, name) in writer.chunk_bytes.iter_mut().zip(META_CHUNK_BYTES) {
            *bytes = meta.get(name)?.map_or(0, |number| number.value());
        }
        let mut memory = self.memory();
        let landed = on_disk > writer.checkpoint;
        if let (Some(sealing), false) = (memory.sealing.take(), landed) {
            let newer = mem::replace(&mut memory.open, sealing.buckets.clone());
            memory.open.absorb(&newer);
        }
        if let (Some(pending), false) = (writer.limbo.take(), landed) {
            memory.pending.prepend(pending);
        }
        writer.checkpoint = on_disk;
        writer.broken = false;
        Ok(())
    }

    fn give_back(&self, mut unnamed: Named, pending: crate::wal::Batch) {
        let mut memory = self.memory();
        unnamed.append(&mut memory.unnamed);
        memory.unnamed = unnamed;
        memory.pending.prepend(pending);
    }
}

fn put_names(change: &WriteTransaction, named: &[(SeriesId, Key)]) -> Result<(), redb::Error> {
    let mut table = change.open_table(SERIES)?;
    for (id, key) in named {
        table.insert(id, name_of(key).as_str())?;
    }
    Ok(())
}

/// What a checkpoint counts while it goes.
struct Totals {
    bytes: [u64; 4],
    damaged: u64,
}

fn put_chunks(change: &WriteTransaction, sealing: &Sealing, totals: &mut Totals) -> Result<(), redb::Error> {
    let mut table = change.open_table(CHUNKS)?;
    put_all(&mut table, &sealing.buckets.figures.0, totals)?;
    put_all(&mut table, &sealing.buckets.distributions.0, totals)?;
    change.open_table(WAL)?.retain(|_, _| false)?;
    let mut meta = change.open_table(META)?;
    meta.insert(META_CHECKPOINT, sealing.checkpoint)?;
    put_totals(&mut meta, totals.bytes)
}

/// Writes how many bytes of chunks each tier has.
pub(super) fn put_totals(
    meta: &mut Table<'_, &'static str, u64>,
    bytes: [u64; 4],
) -> Result<(), redb::Error> {
    for (name, bytes) in META_CHUNK_BYTES.into_iter().zip(bytes) {
        meta.insert(name, bytes)?;
    }
    Ok(())
}

fn put_all<B: Kept>(
    table: &mut Chunks<'_>,
    series: &HashMap<SeriesId, [Run<B>; 4]>,
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let mut ids: Vec<SeriesId> = series.keys().copied().collect();
    // In the order of the keys, so that neighbours on disk are written together.
    ids.sort_unstable();
    for id in ids {
        for tier in Tier::ALL {
            put_tier(table, id, tier, &series[&id][tier.index()], totals)?;
        }
    }
    Ok(())
}

fn put_tier<B: Kept>(
    table: &mut Chunks<'_>,
    id: SeriesId,
    tier: Tier,
    buckets: &Run<B>,
    totals: &mut Totals,
) -> Result<(), redb::Error> {
    let mut rest = buckets.iter();
    let mut next = rest.next();
    while let Some((first, _)) = next {
        let start = tier.chunk_start(first);
        let key = (id, tier.number(), start);
        let (mut merged, bytes_before) = read_chunk(table, key, tier, totals)?;
        while let Some((at, item)) = next.filter(|(at, _)| tier.chunk_start(*at) == start) {
            merged.entry(at).and_modify(|bucket: &mut B| bucket.absorb(item)).or_insert_with(|| item.clone());
            next = rest.next();
        }
        let bytes = B::encode(tier, start, &merged);
        table.insert(key, bytes.as_slice())?;
        let total = &mut totals.bytes[tier.index()];
        *total = total.saturating_sub(bytes_before) + bytes.len() as u64;
    }
    Ok(())
}

/// A chunk as it stands, with its size; empty when there is none, or none that can be read.
fn read_chunk<B: Kept>(
    table: &Chunks<'_>,
    key: (u32, u8, i64),
    tier: Tier,
    totals: &mut Totals,
) -> Result<(BTreeMap<i64, B>, u64), redb::Error> {
    let Some(bytes) = table.get(key)? else { return Ok((BTreeMap::new(), 0)) };
    let bytes = bytes.value();
    let buckets = B::decode(tier, key.2, bytes).unwrap_or_else(|_| {
        totals.damaged += 1;
        BTreeMap::new()
    });
    Ok((buckets, bytes.len() as u64))
}
