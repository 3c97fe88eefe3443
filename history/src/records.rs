//! Bounded logs by stream name, such as the decisions of a workload. Durable with the next flush.

use std::sync::PoisonError;

use redb::{ReadableTable, WriteTransaction};
use tidegate_core::Timestamp;

use crate::disk::RECORDS;
use crate::error::StoreError;
use crate::store::Store;

/// Largest record: a decision with all its inputs has a few KiB.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// Most streams: one for each of as many workloads as one store serves, and some more.
const STREAMS_MAX: usize = 32_768;

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When, as the writer said.
    pub at: Timestamp,
    /// What, as the writer gave it.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Appends to a stream; the oldest records beyond `StoreOptions::records_max` go. Seen at once, durable with the next flush.
    ///
    /// # Errors
    /// When it has more than 64 KiB, when the stream is one too many (32,768), or when the database cannot be written.
    pub fn append_record(&self, stream: &str, at: Timestamp, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > RECORD_BYTES_MAX {
            let (what, bytes) = (stream.to_owned(), bytes.len());
            return Err(StoreError::TooLarge { what, bytes, bytes_max: RECORD_BYTES_MAX });
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if !writer.streams.contains(stream) && writer.streams.len() >= STREAMS_MAX {
            return Err(StoreError::TooMany { what: stream.to_owned(), count_max: STREAMS_MAX });
        }
        let records_max = self.options.records_max.max(1);
        let appended = self.disk.change(false, |change| append(change, stream, at, bytes, records_max));
        appended.map_err(|source| failed(stream, source))?;
        writer.streams.insert(stream.to_owned());
        writer.undurable = true;
        Ok(())
    }

    /// The records of a stream, newest first, at most `limit`; empty for a stream that does not exist.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn records(&self, stream: &str, limit: usize) -> Result<Vec<Record>, StoreError> {
        let read = || -> Result<Vec<Record>, redb::Error> {
            let table = self.disk.read()?.open_table(RECORDS)?;
            let newest_first = table.range((stream, 0)..=(stream, u64::MAX))?.rev().take(limit);
            newest_first
                .map(|entry| {
                    let (_, value) = entry?;
                    let (at, bytes) = value.value();
                    Ok(Record { at: Timestamp::from_millis(at), bytes: bytes.to_vec() })
                })
                .collect()
        };
        read().map_err(|source| failed(stream, source))
    }
}

fn append(
    change: &WriteTransaction,
    stream: &str,
    at: Timestamp,
    bytes: &[u8],
    records_max: u64,
) -> Result<(), redb::Error> {
    let mut table = change.open_table(RECORDS)?;
    let last = table.range((stream, 0)..=(stream, u64::MAX))?.next_back().transpose()?;
    let number = last.map_or(0, |(key, _)| key.value().1 + 1);
    table.insert((stream, number), (at.as_millis(), bytes))?;
    if number >= records_max {
        table.retain_in((stream, 0)..=(stream, number - records_max), |_, _| false)?;
    }
    Ok(())
}

fn failed(stream: &str, source: redb::Error) -> StoreError {
    StoreError::Records { stream: stream.to_owned(), source: Box::new(source) }
}
