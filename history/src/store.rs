//! The store as its user sees it: open, append, flush. Reading, checkpoints and retention stand beside it.

mod checkpoint;
mod load;
mod read;
mod retain;

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::{Histogram, Sample, Signal, Subject, Timestamp};

use crate::directory::{DATABASE, MovedAside, lock};
use crate::disk::Disk;
use crate::error::{OpenError, StoreError};
use crate::memory::{Limits, Memory, Taken};

pub use retain::Maintained;

/// How much memory buckets and samples may take before they must reach the disk, in plain buckets of about 50 bytes: 25 MiB.
const WEIGHT_MAX: usize = 1 << 19;
/// Samples taken in before the bound is looked at again, so that one call cannot pass it by much.
const SLICE: usize = 4096;
/// How far ahead of the last flush's time a sample may be: a clock that jumped must not make all that follows late.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// What a store may take, and how late a sample may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// About how large the database file may become, in bytes. When the tiers' own retention leaves more, the oldest of the finest tier go first.
    pub bytes_max: u64,
    /// Most series (subject, signal); samples of one more are refused and counted.
    pub series_max: usize,
    /// How much older than the newest sample of its series a sample may be.
    pub late_max: Duration,
    /// Most records of one stream; the oldest go first. At least 1.
    pub records_max: u64,
}

impl Default for StoreOptions {
    /// 512 MiB and 100,000 series: 5,000 workloads of 20 signals. Five minutes late, 10,000 records.
    fn default() -> Self {
        Self {
            bytes_max: 512 << 20,
            series_max: 100_000,
            late_max: Duration::from_secs(300),
            records_max: 10_000,
        }
    }
}

/// What was found on opening; the caller logs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// A damaged database that a new one replaces.
    pub moved_aside: Option<MovedAside>,
    /// Series that were found.
    pub series: usize,
    /// Series whose signal this version does not know; they are kept and not shown.
    pub series_unknown: usize,
    /// Samples and histograms that were only in the write-ahead table: since the last checkpoint before the end.
    pub replayed: usize,
    /// Batches of that table that could not be read.
    pub damaged: usize,
}

/// What became of the samples of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "samples that were refused should be counted"]
pub struct Appended {
    /// Taken in.
    pub stored: usize,
    /// Refused: older than the newest of their series by more than `late_max`.
    pub late: usize,
    /// Refused: more than ten minutes ahead of the time of the last flush.
    pub ahead: usize,
    /// Refused: not a finite number.
    pub not_finite: usize,
    /// Refused: too many series, or memory is full because the disk takes nothing (the next flush says why).
    pub no_room: usize,
}

impl Appended {
    fn count(&mut self, taken: Taken) {
        *match taken {
            Taken::Stored => &mut self.stored,
            Taken::Late => &mut self.late,
            Taken::NoRoom => &mut self.no_room,
        } += 1;
    }
}

/// State of whoever changes the database; locked before [`Memory`], never after.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Number of the last checkpoint on disk.
    checkpoint: u64,
    checkpointed_at: Option<Timestamp>,
    /// Number of the next batch in the write-ahead table.
    wal_next: u64,
    /// Bytes of chunks on disk, by tier.
    chunk_bytes: [u64; 4],
    /// The last series that retention looked at.
    retained_to: u32,
    /// Chunks that could not be read when a checkpoint would have added to them, and were begun anew.
    damaged: u64,
    /// Samples of a checkpoint that failed; whether it landed is only known once the database is open again.
    limbo: Option<crate::wal::Batch>,
    /// Whether the last change failed.
    broken: bool,
    pub(crate) streams: HashSet<String>,
    /// Whether something was written that only the next durable change makes durable.
    pub(crate) undurable: bool,
}

/// The store. Shared by reference between threads: reads neither wait for writes to reach the disk nor stop them.
#[derive(Debug)]
pub struct Store {
    pub(crate) options: StoreOptions,
    pub(crate) disk: Disk,
    pub(crate) writer: Mutex<Writer>,
    memory: Mutex<Memory>,
    /// Time of the last flush.
    clock: Mutex<Option<Timestamp>>,
    /// Held for as long as the store lives.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store in `dir`, making it where it is missing. A damaged database is moved aside and a new one begun, which [`Opened`]
    /// says; `now` names it. Reads the whole file once to find damage.
    ///
    /// # Errors
    /// When the directory cannot be written, is in use by another process, or holds the database of a newer version.
    pub fn open(dir: &Path, options: StoreOptions, now: Timestamp) -> Result<(Self, Opened), OpenError> {
        let lock = lock(dir)?;
        let path = dir.join(DATABASE);
        let (disk, moved_aside) = Disk::open(&path, now)?;
        let (store, mut opened) = Self::load(disk, options, Some(lock)).map_err(|error| match error {
            load::LoadError::Newer(error) => error,
            load::LoadError::Database(source) => OpenError::Open { path, source: Box::new(source) },
        })?;
        opened.moved_aside = moved_aside;
        Ok((store, opened))
    }

    /// A store that keeps nothing beyond its own life: for a caller that cannot have a directory, and says so. It takes as much memory as
    /// [`StoreOptions::bytes_max`] allows.
    #[must_use]
    pub fn in_memory(options: StoreOptions) -> Self {
        match Self::load(Disk::in_memory(), options, None) {
            Ok((store, _)) => store,
            Err(_) => unreachable!("a database that was just made in memory holds nothing that could fail"),
        }
    }

    /// Where the database is; `None` in memory.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.disk.path().map(Path::to_owned)
    }

    /// Takes samples in. They are read at once, and survive a kill of the process from the next flush on.
    pub fn append(&self, samples: &[Sample]) -> Appended {
        let mut appended = Appended::default();
        for slice in samples.chunks(SLICE) {
            let room = self.has_room();
            let (limits, newest_max) = (self.limits(), self.newest_max());
            let mut memory = self.memory();
            for sample in slice {
                if !sample.value.is_finite() {
                    appended.not_finite += 1;
                } else if newest_max.is_some_and(|newest_max| sample.at > newest_max) {
                    appended.ahead += 1;
                } else if !room {
                    appended.no_room += 1;
                } else {
                    let series = (&sample.subject, sample.signal);
                    appended.count(memory.take_figure(series, sample.at, sample.value, limits));
                }
            }
        }
        appended
    }

    /// Takes a histogram of what was seen at about `at` in, beside the plain samples of the same signal. Merges with what its buckets have.
    pub fn append_histogram(
        &self,
        subject: &Subject,
        signal: Signal,
        at: Timestamp,
        histogram: &Histogram,
    ) -> Appended {
        let mut appended = Appended::default();
        if self.newest_max().is_some_and(|newest_max| at > newest_max) {
            appended.ahead += 1;
        } else if !histogram.sum().is_finite() {
            appended.not_finite += 1;
        } else if self.has_room() {
            let limits = self.limits();
            appended.count(self.memory().take_distribution((subject, signal), at, histogram, limits));
        } else {
            appended.no_room += 1;
        }
        appended
    }

    /// Makes all that was appended durable. To be called at least every 5 s; every five minutes it also merges buckets into chunks.
    /// After an error everything is still in memory, and the next call tries again.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        self.set_clock(now);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let due = match writer.checkpointed_at {
            Some(last) if last <= now => now.since(last) >= checkpoint::EVERY,
            _ => {
                writer.checkpointed_at = Some(now);
                false
            }
        };
        if due {
            self.checkpoint_as(&mut writer)?;
            writer.checkpointed_at = Some(now);
            return Ok(());
        }
        self.extend_wal(&mut writer).map_err(|source| StoreError::Flush { source: Box::new(source) })
    }

    /// Merges all buckets into chunks now, as every flush after five minutes does by itself: before an orderly end, or after a large import.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.checkpoint_as(&mut writer)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether memory takes more; writes it to disk first when it is full.
    fn has_room(&self) -> bool {
        let full = self.memory().weight() >= WEIGHT_MAX;
        // The cause is not lost: the caller's next flush meets it again and returns it.
        !full || self.checkpoint().is_ok()
    }

    fn limits(&self) -> Limits {
        let late_max_millis = i64::try_from(self.options.late_max.as_millis()).unwrap_or(i64::MAX);
        Limits { series_max: self.options.series_max, late_max_millis }
    }

    fn newest_max(&self) -> Option<Timestamp> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).map(|now| now + AHEAD_MAX)
    }

    /// Notes the time; when it was set back, samples of the new time are not late.
    fn set_clock(&self, now: Timestamp) {
        let before = self.clock.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before.is_some_and(|before| now < before) {
            for newest in self.memory().newest.values_mut() {
                newest.at = newest.at.map(|at| at.min(now.as_millis()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
