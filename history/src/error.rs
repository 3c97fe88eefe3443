//! What can go wrong with the store, one variant per operation.

use std::io;
use std::path::PathBuf;

/// Why a store could not be opened. The caller may go on with [`Store::in_memory`](crate::Store::in_memory), and must say so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not there and cannot be made.
    #[error("failed to make the history directory {}", dir.display())]
    CreateDirectory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lock file cannot be written: most often a read-only directory or a full disk.
    #[error("failed to lock the history directory {}", dir.display())]
    Lock {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the history directory {} is in use by {}", dir.display(), holder(*pid))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, if it wrote its id.
        pid: Option<u32>,
    },
    /// A damaged database cannot be moved out of the way.
    #[error("failed to move the damaged history {} aside", path.display())]
    MoveAside {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database cannot be opened, for another reason than damage.
    #[error("failed to open the history {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The database was written by a newer version, and is left as it is.
    #[error("the history {} has format {found}, newer than {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that this version reads.
        known: u64,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Why a store could not do what it was asked. After a failed write everything stays in memory, up to a bound, and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// New samples could not be made durable.
    #[error("failed to write new samples to the history")]
    Flush {
        /// Why.
        source: Box<redb::Error>,
    },
    /// Buckets could not be merged into chunks.
    #[error("failed to write chunks to the history")]
    Checkpoint {
        /// Why.
        source: Box<redb::Error>,
    },
    /// What is too old, or too much, could not be removed.
    #[error("failed to remove old chunks from the history")]
    Retain {
        /// Why.
        source: Box<redb::Error>,
    },
    /// Stored buckets could not be read.
    #[error("failed to read the history")]
    Read {
        /// Why.
        source: Box<redb::Error>,
    },
    /// A read has a step shorter than a millisecond, or more steps than an answer may have.
    #[error("a read of the history spans {steps} steps, expected 1 to {steps_max} of at least a millisecond")]
    Range {
        /// Steps asked for; 0 when the step is too short.
        steps: u64,
        /// Most steps of an answer.
        steps_max: u64,
    },
    /// A blob could not be read, written or removed.
    #[error("failed to access the blob {key:?} of the history")]
    Blob {
        /// Its key.
        key: String,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A stream of records could not be read or extended.
    #[error("failed to access the records {stream:?} of the history")]
    Records {
        /// Its name.
        stream: String,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A blob or record is larger than allowed.
    #[error("{what:?} has {bytes} bytes, more than the {bytes_max} that the history takes")]
    TooLarge {
        /// Key or stream.
        what: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// There are as many blobs or streams as allowed.
    #[error("{what:?} is one more than the {count_max} that the history takes")]
    TooMany {
        /// Key or stream.
        what: String,
        /// The bound.
        count_max: usize,
    },
}
