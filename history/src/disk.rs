//! The database: how it is opened, opened again after an error, and what its tables are. Not what their values mean.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, StorageError,
    TableDefinition, WriteTransaction,
};
use tidegate_core::Timestamp;

use crate::directory::{MovedAside, move_aside};
use crate::error::OpenError;

/// Numbers about the store itself, by name.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Series number → its name.
pub(crate) const SERIES: TableDefinition<'_, u32, &str> = TableDefinition::new("series");
/// Series number, tier, start in seconds → chunk.
pub(crate) const CHUNKS: TableDefinition<'_, (u32, u8, i64), &[u8]> = TableDefinition::new("chunks");
/// Number of the flush → batch of samples.
pub(crate) const WAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("wal");
/// Key → bytes.
pub(crate) const BLOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("blobs");
/// Stream, number of the record → its time in milliseconds and its bytes.
pub(crate) const RECORDS: TableDefinition<'_, (&str, u64), (i64, &[u8])> = TableDefinition::new("records");

/// Memory that the database may use for its pages.
const CACHE_BYTES: usize = 8 << 20;

/// Files below this size are not worth shrinking.
const SHRINK_BYTES_MIN: u64 = 8 << 20;

/// A database that may be away for a while: after a failed write it must be opened again.
#[derive(Debug)]
pub(crate) struct Disk {
    /// `None`: in memory.
    path: Option<PathBuf>,
    database: RwLock<Option<Database>>,
}

impl Disk {
    /// Opens or makes the database at `path`; one that is damaged is moved aside first.
    pub(crate) fn open(path: &Path, now: Timestamp) -> Result<(Self, Option<MovedAside>), OpenError> {
        let (database, aside) = match open_checked(path) {
            Ok(database) => (database, None),
            Err(error) => {
                let cause = damage(&error).ok_or_else(|| failed(path, error))?;
                let aside = move_aside(path, cause, now)?;
                (open_checked(path).map_err(|error| failed(path, error))?, Some(aside))
            }
        };
        let mut database = database;
        shrink(&mut database, path)
            .map_err(|source| OpenError::Open { path: path.to_owned(), source: Box::new(source) })?;
        Ok((Self { path: Some(path.to_owned()), database: RwLock::new(Some(database)) }, aside))
    }

    /// A database in memory.
    pub(crate) fn in_memory() -> Self {
        let database = builder().create_with_backend(InMemoryBackend::new());
        let database = database.expect("memory neither fails nor holds an old database");
        Self { path: None, database: RwLock::new(Some(database)) }
    }

    /// Where the database is; `None` in memory.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A snapshot to read.
    pub(crate) fn read(&self) -> Result<ReadTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_read()?)
    }

    /// A change, durable once committed when `durable`; otherwise with the next durable one.
    pub(crate) fn write(&self, durable: bool) -> Result<WriteTransaction, redb::Error> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut change = database.as_ref().ok_or(redb::Error::DatabaseClosed)?.begin_write()?;
        if !durable {
            change.set_durability(Durability::None)?;
        }
        Ok(change)
    }

    /// Runs a change; when an earlier failure has closed the database, opens it again first.
    pub(crate) fn change<T>(
        &self,
        durable: bool,
        run: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let change = match self.write(durable) {
            Err(redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::Corrupted(_)) => {
                self.reopen()?;
                self.write(durable)?
            }
            change => change?,
        };
        let made = run(&change)?;
        change.commit()?;
        Ok(made)
    }

    pub(crate) fn reopen(&self) -> Result<(), redb::Error> {
        let Some(path) = &self.path else { return Err(redb::Error::DatabaseClosed) };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        *database = Some(open_checked(path)?);
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Without the check a file that was altered may make the database panic later, far from here.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Opens the database; a panic over a damaged file is damage.
fn open_checked(path: &Path) -> Result<Database, DatabaseError> {
    catch_unwind(AssertUnwindSafe(|| builder().create(path))).unwrap_or_else(|_| {
        Err(DatabaseError::Storage(StorageError::Corrupted("the file is not consistent".to_owned())))
    })
}

/// Gives free pages back to the file system where they are most of a large file. It needs the database alone, hence only on opening.
fn shrink(database: &mut Database, path: &Path) -> Result<(), redb::Error> {
    let length = std::fs::metadata(path)?.len();
    if length < SHRINK_BYTES_MIN {
        return Ok(());
    }
    let change = database.begin_write()?;
    let stats = change.stats()?;
    change.abort()?;
    let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
    if used < length / 2 {
        database.compact()?;
    }
    Ok(())
}

/// What is wrong with the file; `None` when the failure is not the file's.
fn damage(error: &DatabaseError) -> Option<String> {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(cause)) => Some(cause.clone()),
        DatabaseError::Storage(StorageError::Io(cause))
            if matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Some(cause.to_string())
        }
        DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => Some(error.to_string()),
        _ => None,
    }
}

fn failed(path: &Path, error: DatabaseError) -> OpenError {
    OpenError::Open { path: path.to_owned(), source: Box::new(error.into()) }
}
