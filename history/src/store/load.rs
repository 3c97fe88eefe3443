//! What a store reads when it is opened. Not the chunks themselves: those are read when they are asked for.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Mutex;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use tidegate_core::Signal;

use super::{Opened, Store, StoreOptions, Writer};
use crate::chunk::last_start;
use crate::disk::{BLOBS, CHUNKS, Disk, META, RECORDS, SERIES, WAL};
use crate::error::OpenError;
use crate::memory::{Key, Kind, Memory, Newest};
use crate::tier::Tier;
use crate::wal::Batch;

/// Format of the tables.
const FORMAT: u64 = 1;
/// Names of the numbers in the meta table.
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_CHECKPOINT: &str = "checkpoint";
pub(super) const META_CHUNK_BYTES: [&str; 4] =
    ["chunk_bytes_1s", "chunk_bytes_10s", "chunk_bytes_1m", "chunk_bytes_5m"];

/// Why a database could not be loaded.
pub(super) enum LoadError {
    Newer(OpenError),
    Database(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl Store {
    /// A store over an open database.
    pub(super) fn load(
        disk: Disk,
        options: StoreOptions,
        lock: Option<File>,
    ) -> Result<(Self, Opened), LoadError> {
        let found = disk.change(true, make_tables)?;
        if found > FORMAT {
            let path = disk.path().map_or_else(Default::default, ToOwned::to_owned);
            return Err(LoadError::Newer(OpenError::Newer { path, found, known: FORMAT }));
        }
        let snapshot = disk.read()?;
        let mut opened = Opened::default();
        let mut memory = load_series(&snapshot, &mut opened)?;
        let mut writer = load_writer(&snapshot)?;
        replay(&snapshot, &mut memory, &mut writer, &mut opened)?;
        drop(snapshot);
        let store = Self {
            options,
            disk,
            writer: Mutex::new(writer),
            memory: Mutex::new(memory),
            clock: Mutex::new(None),
            _lock: lock,
        };
        Ok((store, opened))
    }
}

/// Makes every table, so that reads find them; gives the format that was found.
fn make_tables(change: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut meta = change.open_table(META)?;
    let found = meta.get(META_FORMAT)?.map(|format| format.value());
    if found.is_none() {
        meta.insert(META_FORMAT, FORMAT)?;
    }
    if found.is_none_or(|found| found <= FORMAT) {
        change.open_table(SERIES)?;
        change.open_table(CHUNKS)?;
        change.open_table(WAL)?;
        change.open_table(BLOBS)?;
        change.open_table(RECORDS)?;
    }
    Ok(found.unwrap_or(FORMAT))
}

fn load_series(snapshot: &ReadTransaction, opened: &mut Opened) -> Result<Memory, redb::Error> {
    let mut memory = Memory::default();
    let chunks = snapshot.open_table(CHUNKS)?;
    for entry in snapshot.open_table(SERIES)?.iter()? {
        let (id, name) = entry?;
        let id = id.value();
        memory.next_id = id.saturating_add(1);
        let Some(key) = key_of(name.value()) else {
            opened.series_unknown += 1;
            continue;
        };
        memory.ids.insert(key, id);
        memory
            .newest
            .insert(id, Newest { at: newest_start(&chunks, id)?.map(|secs| secs * 1000), value: None });
    }
    opened.series = memory.ids.len();
    Ok(memory)
}

/// Start of the newest bucket of a series on disk, in seconds.
fn newest_start(
    chunks: &impl ReadableTable<(u32, u8, i64), &'static [u8]>,
    id: u32,
) -> Result<Option<i64>, redb::Error> {
    for tier in Tier::ALL {
        let number = tier.number();
        let last = chunks.range((id, number, i64::MIN)..=(id, number, i64::MAX))?.next_back().transpose()?;
        if let Some((key, bytes)) = last {
            return Ok(last_start(tier, key.value().2, bytes.value()).unwrap_or(None));
        }
    }
    Ok(None)
}

fn load_writer(snapshot: &ReadTransaction) -> Result<Writer, redb::Error> {
    let meta = snapshot.open_table(META)?;
    let number =
        |name| -> Result<u64, redb::Error> { Ok(meta.get(name)?.map_or(0, |number| number.value())) };
    let mut writer = Writer { checkpoint: number(META_CHECKPOINT)?, ..Writer::default() };
    for (bytes, name) in writer.chunk_bytes.iter_mut().zip(META_CHUNK_BYTES) {
        *bytes = number(name)?;
    }
    writer.streams = load_streams(snapshot)?;
    Ok(writer)
}

/// The names of all streams, one look-up each.
fn load_streams(snapshot: &ReadTransaction) -> Result<HashSet<String>, redb::Error> {
    let records = snapshot.open_table(RECORDS)?;
    let mut streams = HashSet::new();
    let mut next = records.first()?.map(|(key, _)| key.value().0.to_owned());
    while let Some(stream) = next {
        let after = records.range((stream.as_str(), u64::MAX)..)?.next().transpose()?;
        next = after.map(|(key, _)| key.value().0.to_owned());
        streams.insert(stream);
    }
    Ok(streams)
}

/// Puts the samples since the last checkpoint back into memory.
fn replay(
    snapshot: &ReadTransaction,
    memory: &mut Memory,
    writer: &mut Writer,
    opened: &mut Opened,
) -> Result<(), redb::Error> {
    for entry in snapshot.open_table(WAL)?.iter()? {
        let (number, bytes) = entry?;
        writer.wal_next = number.value() + 1;
        let Ok(batch) = Batch::decode(bytes.value()) else {
            opened.damaged += 1;
            continue;
        };
        opened.replayed += batch.figures.len() + batch.distributions.len();
        memory.open.add(&batch);
        for (id, at, value) in &batch.figures {
            note(memory, *id, *at, Some(*value));
        }
        for (id, at, _) in &batch.distributions {
            note(memory, *id, *at, None);
        }
    }
    Ok(())
}

fn note(memory: &mut Memory, id: u32, at: i64, value: Option<f64>) {
    let newest = memory.newest.entry(id).or_default();
    if newest.at.is_none_or(|last| at >= last) {
        *newest = Newest { at: Some(at), value };
    }
}

/// The name of a series in the database: its kind, subject and signal, with tabs between.
pub(super) fn name_of(key: &Key) -> String {
    let kind = match key.kind {
        Kind::Figures => "f",
        Kind::Distributions => "d",
    };
    format!("{kind}\t{}\t{}", key.signal.name(), key.subject)
}

/// Reads what [`name_of`] wrote; `None` for what this version does not know.
fn key_of(name: &str) -> Option<Key> {
    let (kind, rest) = name.split_once('\t')?;
    let (signal, subject) = rest.split_once('\t')?;
    let kind = match kind {
        "f" => Kind::Figures,
        "d" => Kind::Distributions,
        _ => return None,
    };
    Some(Key { subject: subject.parse().ok()?, signal: Signal::from_name(signal)?, kind })
}
