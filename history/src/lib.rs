//! Embedded, crash-safe store of signals: what was seen, in tiers of buckets, with small state and bounded logs beside it.
//!
//! One directory, one writing process, no thread of its own and no clock: the caller appends samples, and calls [`Store::flush`] at
//! least every 5 s and [`Store::maintain`] about once a minute. A process that is killed loses what was appended since its last flush.
//!
//! Not a long-term metrics database, and not a query language: Prometheus remains the user's.
//!
//! # How it is kept
//!
//! Every sample goes into one bucket (count, sum, min, max) of each of the four [tiers](Tier). Buckets that are not on disk yet live in
//! memory, and their samples in a write-ahead table that each flush extends; every five minutes a checkpoint merges the buckets into
//! chunks of about a thousand buckets each, column by column through `pco`, and empties the write-ahead table in the same transaction.
//!
//! `redb` carries it because it is a single file in pure Rust with atomic, checksummed commits, and readers that see a snapshot
//! without stopping the writer. `fjall` and `sled` spread over many files and run threads of their own, SQLite and LMDB need C and
//! give no columns either, and our own segment files would have to earn trust that `redb` has already.
//! `pco` is a codec for sequences of numbers: it finds the decimal grid in floats and the order of differences by itself, which an XOR
//! of neighbours (Gorilla) and a compressor of bytes (zstd) cannot.

mod blobs;
mod bucket;
mod chunk;
mod columns;
mod directory;
mod disk;
mod error;
mod memory;
mod records;
mod store;
mod tier;
mod wal;

pub use bucket::Aggregate;
pub use directory::MovedAside;
pub use error::{OpenError, StoreError};
pub use records::Record;
pub use store::{Appended, Maintained, Opened, Store, StoreOptions};
pub use tier::Tier;
