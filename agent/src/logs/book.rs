//! What has been read and what has been acknowledged, per file, and the checkpoint file that keeps the latter.
//!
//! A file's offset advances only over lines that are acknowledged without a gap, so that a crash repeats lines and never skips one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::identity::{EventId, Inode, Life, LifeKey, Print};

/// Version of the checkpoint file. Another one is moved aside, not guessed at.
const VERSION: u32 = 1;

/// Where one line is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    pub(crate) life: LifeKey,
    sequence: u64,
}

/// What the checkpoint keeps of one life of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) life: Life,
    /// The inode that holds the content now; another than the life's own once the content lives on in a copy.
    pub(crate) inode: Inode,
    /// When that inode was made, where the filesystem says so.
    pub(crate) born_ns: Option<i64>,
    /// Where it was last seen.
    pub(crate) path: PathBuf,
    /// How many bytes of its start `head` was made of.
    pub(crate) head_bytes: usize,
    pub(crate) head: Print,
    /// Everything before is acknowledged.
    pub(crate) offset: u64,
    /// The last acknowledged line, to be found again at its place.
    pub(crate) last: Option<LastLine>,
    /// Of a container's file: what rotation had put behind the name of the newest one before it, when it was first seen.
    #[serde(default)]
    pub(crate) newest: Option<String>,
}

/// A line, by where it is and what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastLine {
    pub(crate) start: u64,
    pub(crate) bytes: usize,
    pub(crate) id: EventId,
}

/// A line read and not yet acknowledged.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) line: LastLine,
    /// Offset behind its line end.
    pub(crate) end: u64,
    /// When it was read, on the steady clock.
    pub(crate) read_at: Duration,
    /// The sink has it; then, the last line in this file of the record that it is part of.
    pub(crate) done: Option<u64>,
}

#[derive(Debug)]
struct Track {
    page: Page,
    pending: VecDeque<Pending>,
    /// Sequence number of the first pending line.
    first: u64,
    /// No more lines come; forgotten once all are acknowledged.
    closed: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: Vec<Page>,
}

/// Why the checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file is there and cannot be read.
    #[error("failed to read the checkpoint {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be replaced.
    #[error("failed to write the checkpoint {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The book of all files.
#[derive(Debug)]
pub(crate) struct Book {
    path: PathBuf,
    tracks: Mutex<Tracks>,
    /// Held while the file is written, so that an older state never replaces a newer one.
    writer: Mutex<()>,
    /// Keeps others away from the file for as long as anybody may write it.
    _claim: Option<Claim>,
}

#[derive(Debug, Default)]
struct Tracks {
    by_life: BTreeMap<LifeKey, Track>,
    dirty: bool,
}

impl Book {
    /// Opens the book at `path`, empty when there is none. A file that is no checkpoint is moved aside, and said so.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let pages = match fs::read(path) {
            Ok(bytes) => pages(path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(CheckpointError::Read { path: path.to_owned(), source }),
        };
        let by_life = pages.into_iter().map(|page| (page.life.key(), Track::new(page))).collect();
        let tracks = Mutex::new(Tracks { by_life, dirty: false });
        Ok(Self { path: path.to_owned(), tracks, writer: Mutex::new(()), _claim: None })
    }

    /// Holds the claim on its folder for as long as it lives.
    pub(crate) fn holding(self, claim: Claim) -> Self {
        Self { _claim: Some(claim), ..self }
    }

    /// The folder that it is kept in.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Every page, as acknowledged so far.
    pub(crate) fn pages(&self) -> Vec<Page> {
        self.lock().by_life.values().map(|track| track.page.clone()).collect()
    }

    /// Whether a life has a page.
    #[cfg(test)]
    pub(crate) fn knows(&self, key: LifeKey) -> bool {
        self.lock().by_life.contains_key(&key)
    }

    /// Starts a life, or takes it up again.
    pub(crate) fn begin(&self, page: Page) {
        let mut tracks = self.lock();
        tracks.by_life.insert(page.life.key(), Track::new(page));
        tracks.dirty = true;
    }

    /// Notes where a life's content now is and how its head looks.
    pub(crate) fn describe(&self, key: LifeKey, change: impl FnOnce(&mut Page)) {
        let mut tracks = self.lock();
        if let Some(track) = tracks.by_life.get_mut(&key) {
            change(&mut track.page);
            tracks.dirty = true;
        }
    }

    /// Notes a line that was read, in the order of the file.
    pub(crate) fn read(&self, key: LifeKey, pending: Pending) -> Mark {
        let mut tracks = self.lock();
        let track = tracks.by_life.get_mut(&key).expect("a line is read from a life that was begun");
        let sequence = track.first + track.pending.len() as u64;
        track.pending.push_back(pending);
        Mark { life: key, sequence }
    }

    /// Notes that the sink has these records for good, in whatever order they come; each with the marks of its pieces.
    pub(crate) fn acknowledge<M: AsRef<[Mark]>>(&self, records: impl IntoIterator<Item = M>) {
        let mut tracks = self.lock();
        let mut lives = BTreeSet::new();
        for record in records {
            for mark in record.as_ref() {
                let of_life = record.as_ref().iter().filter(|other| other.life == mark.life);
                let last = of_life.map(|other| other.sequence).max().unwrap_or(mark.sequence);
                let Some(track) = tracks.by_life.get_mut(&mark.life) else { continue };
                track.done(mark.sequence, last);
                lives.insert(mark.life);
            }
        }
        for life in lives {
            if tracks.by_life.get_mut(&life).is_some_and(Track::advance) {
                tracks.by_life.remove(&life);
            }
            tracks.dirty = true;
        }
    }

    /// Ends a life: nothing more is read from it. Its page goes once every line is acknowledged.
    pub(crate) fn close(&self, key: LifeKey) {
        let mut tracks = self.lock();
        let Some(track) = tracks.by_life.get_mut(&key) else { return };
        track.closed = true;
        if track.pending.is_empty() {
            tracks.by_life.remove(&key);
        }
        tracks.dirty = true;
    }

    /// When the oldest line not yet acknowledged was read.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.lock().by_life.values().filter_map(|track| Some(track.pending.front()?.read_at)).min()
    }

    /// Writes the checkpoint when anything changed since the last time.
    ///
    /// # Errors
    /// When it cannot be written; the state stays to be written.
    pub(crate) fn save(&self) -> Result<(), CheckpointError> {
        let _alone = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let files = {
            let mut tracks = self.lock();
            if !std::mem::take(&mut tracks.dirty) {
                return Ok(());
            }
            tracks.by_life.values().map(|track| track.page.clone()).collect()
        };
        let bytes = serde_json::to_vec(&Stored { version: VERSION, files }).expect("pages are JSON");
        replace(&self.path, &bytes).map_err(|source| {
            self.lock().dirty = true;
            CheckpointError::Write { path: self.path.clone(), source }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Track {
    const fn new(page: Page) -> Self {
        Self { page, pending: VecDeque::new(), first: 0, closed: false }
    }

    /// Marks one line done, which is part of a record that goes as far as line `last`.
    fn done(&mut self, sequence: u64, last: u64) {
        let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(pending) = index.and_then(|index| self.pending.get_mut(index)) {
            pending.done = Some(last);
        }
    }

    /// Moves the offset over all done lines at the front, but not into the middle of a record: read from there, the rest of it would
    /// be another one. Says whether the life is over.
    fn advance(&mut self) -> bool {
        let (mut whole, mut until) = (0, self.first);
        for (sequence, pending) in (self.first..).zip(&self.pending) {
            let Some(last) = pending.done else { break };
            until = until.max(last);
            if sequence >= until {
                whole = sequence + 1 - self.first;
            }
        }
        for _ in 0..whole {
            let Some(pending) = self.pending.pop_front() else { break };
            self.first += 1;
            self.page.offset = pending.end;
            self.page.last = Some(pending.line);
        }
        self.closed && self.pending.is_empty()
    }
}

fn pages(path: &Path, bytes: &[u8]) -> Vec<Page> {
    match serde_json::from_slice::<Stored>(bytes) {
        Ok(stored) if stored.version == VERSION => stored.files,
        _ => {
            let aside = path.with_extension("corrupt");
            let moved = fs::rename(path, &aside).is_ok();
            tracing::warn!(
                ?path,
                moved,
                ?aside,
                "the log checkpoint is not readable; reading all files from their start"
            );
            Vec::new()
        }
    }
}

/// Replaces a file so that after a crash it holds either all of the old content or all of the new.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("tmp");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
