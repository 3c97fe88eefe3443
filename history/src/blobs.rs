//! Small state by key, such as the snapshot of a workload's mind. Durable when `put_blob` returns.

use redb::{ReadableTable, ReadableTableMetadata};

use crate::disk::BLOBS;
use crate::error::StoreError;
use crate::store::Store;

/// Largest blob: some forty times a workload's mind.
const BLOB_BYTES_MAX: usize = 4 << 20;
/// Most blobs: one for each of as many workloads as one store serves, and some more.
const BLOBS_MAX: usize = 32_768;

impl Store {
    /// Stores `bytes` under `key`, in place of what was there. Durable on return.
    ///
    /// # Errors
    /// When there are more than 4 MiB of it, when it is one key too many (32,768), or when the database cannot be written.
    pub fn put_blob(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_blobs([(key, bytes)])
    }

    /// Stores several at once: all of them, or after an error none.
    ///
    /// # Errors
    /// As of [`Store::put_blob`], for any of them.
    pub fn put_blobs<'a>(
        &self,
        blobs: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), StoreError> {
        let blobs: Vec<_> = blobs.into_iter().collect();
        let Some((first, _)) = blobs.first() else { return Ok(()) };
        if let Some((key, bytes)) = blobs.iter().find(|(_, bytes)| bytes.len() > BLOB_BYTES_MAX) {
            let (what, bytes) = ((*key).to_owned(), bytes.len());
            return Err(StoreError::TooLarge { what, bytes, bytes_max: BLOB_BYTES_MAX });
        }
        let stored = self.disk.change(true, |change| {
            let mut table = change.open_table(BLOBS)?;
            let mut room = (BLOBS_MAX as u64).saturating_sub(table.len()?);
            for (key, _) in &blobs {
                let known = table.get(*key)?.is_some();
                if !known && room == 0 {
                    return Ok(Some((*key).to_owned()));
                }
                room -= u64::from(!known);
            }
            for (key, bytes) in &blobs {
                table.insert(*key, *bytes)?;
            }
            Ok(None)
        });
        match stored.map_err(|source| failed(first, source))? {
            None => Ok(()),
            Some(what) => Err(StoreError::TooMany { what, count_max: BLOBS_MAX }),
        }
    }

    /// What was stored last under `key`; `None` when nothing was.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn get_blob(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.disk.read()?.open_table(BLOBS)?;
            Ok(table.get(key)?.map(|bytes| bytes.value().to_vec()))
        };
        read().map_err(|source| failed(key, source))
    }

    /// Removes what is stored under `key`, if anything.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove_blob(&self, key: &str) -> Result<(), StoreError> {
        let removed = self.disk.change(true, |change| {
            change.open_table(BLOBS)?.remove(key)?;
            Ok(())
        });
        removed.map_err(|source| failed(key, source))
    }
}

fn failed(key: &str, source: redb::Error) -> StoreError {
    StoreError::Blob { key: key.to_owned(), source: Box::new(source) }
}
