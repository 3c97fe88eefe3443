//! One open file: reads on from where it was, and notices when what is there is no longer what was read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_core::Timestamp;

use crate::logs::book::Page;
use crate::logs::identity::{HEAD_BYTES, Inode, Life, LifeKey, Namer, Print, born_ns};
use crate::logs::lines::{RawLine, Splitter};
use crate::logs::record::Origin;
use crate::logs::source::LogFormat;

/// Bytes before the position that are compared before each read: they tell a file that was truncated and has grown past the position since.
const RECENT_BYTES: usize = 256;
/// Bytes read from one file before the next one has its turn.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing new.
    Idle,
    /// New bytes; `full` when there are likely more.
    Grew { full: bool },
    /// The content that was being read is gone.
    Truncated,
}

/// An open file with its position.
#[derive(Debug)]
pub(super) struct Tailed {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) inode: Inode,
    pub(super) life: Life,
    pub(super) key: LifeKey,
    pub(super) namer: Namer,
    pub(super) origin: Arc<Origin>,
    pub(super) format: LogFormat,
    /// Whether a source names it now; otherwise it was renamed or deleted and is read to its end.
    pub(super) attached: bool,
    /// Since when nothing came, on the steady clock.
    pub(super) idle_since: Option<Duration>,
    /// Lines that start before this offset may have been sent by an earlier run.
    pub(super) resumed_until: u64,
    pub(super) offset: u64,
    pub(super) splitter: Splitter,
    /// Files of the same container that were written before this one, and are read before it.
    pub(super) after: Vec<Inode>,
    /// Whether the last look found nothing more in it.
    pub(super) drained: bool,
    /// When it was first seen, on the steady clock.
    pub(super) begun: Duration,
    /// What rotation had put behind the name of the newest file of its run before it.
    pub(super) newest: Option<String>,
    head: Vec<u8>,
    recent: Vec<u8>,
    checked: Option<SystemTime>,
}

/// What a file is read for.
#[derive(Debug, Clone)]
pub(super) struct Purpose {
    pub(super) origin: Arc<Origin>,
    pub(super) format: LogFormat,
}

impl Tailed {
    /// A file to be read from its start.
    pub(super) fn fresh(file: File, path: PathBuf, inode: Inode, life: Life, purpose: Purpose) -> Self {
        let key = life.key();
        Self {
            namer: Namer::new(&purpose.origin.host, key),
            origin: purpose.origin,
            format: purpose.format,
            key,
            attached: true,
            idle_since: None,
            resumed_until: 0,
            offset: 0,
            splitter: Splitter::at(0),
            after: Vec::new(),
            drained: false,
            begun: Duration::ZERO,
            newest: None,
            head: Vec::new(),
            recent: Vec::new(),
            checked: None,
            file,
            path,
            inode,
            life,
        }
    }

    /// A file to be read on from a checkpoint; `None` when it no longer holds what was read then.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn resume(
        file: File,
        path: PathBuf,
        page: &Page,
        purpose: Purpose,
    ) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        let mut tailed = Self::fresh(file, path, Inode::of(&meta), page.life.clone(), purpose);
        if meta.len() < page.offset || page.head_bytes > HEAD_BYTES {
            return Ok(None);
        }
        let Some(head) = tailed.at(0, page.head_bytes)? else { return Ok(None) };
        if Print::of(&head) != page.head {
            return Ok(None);
        }
        if let Some(last) = page.last {
            let line = tailed.at(last.start, last.bytes.min(crate::logs::lines::LINE_BYTES_MAX))?;
            if line.is_none_or(|line| tailed.namer.id(last.start, &line) != last.id) {
                return Ok(None);
            }
        }
        let recent = page.offset.min(RECENT_BYTES as u64);
        tailed.recent =
            tailed.at(page.offset - recent, usize::try_from(recent).unwrap_or(0))?.unwrap_or_default();
        tailed.head = head;
        tailed.offset = page.offset;
        tailed.splitter = Splitter::at(page.offset);
        tailed.resumed_until = meta.len();
        tailed.newest.clone_from(&page.newest);
        Ok(Some(tailed))
    }

    /// Goes on in a file that holds a copy of this one's content.
    pub(super) fn move_to(&mut self, file: File, path: PathBuf, inode: Inode) {
        self.file = file;
        self.path = path;
        self.inode = inode;
        self.checked = None;
        self.idle_since = None;
    }

    /// What the checkpoint keeps of it, as if nothing were acknowledged yet.
    pub(super) fn page(&self) -> io::Result<Page> {
        Ok(Page {
            life: self.life.clone(),
            inode: self.inode,
            born_ns: born_ns(&self.file.metadata()?),
            path: self.path.clone(),
            head_bytes: self.head.len(),
            head: Print::of(&self.head),
            offset: self.offset,
            last: None,
            newest: self.newest.clone(),
        })
    }

    /// How many bytes of the start are known, and their print.
    pub(super) fn head(&self) -> (usize, Print) {
        (self.head.len(), Print::of(&self.head))
    }

    /// Reads the next piece and cuts it into lines.
    ///
    /// # Errors
    /// When the file cannot be read; the position stays.
    pub(super) fn read(
        &mut self,
        at: Timestamp,
        buffer: &mut Vec<u8>,
        lines: &mut Vec<RawLine>,
    ) -> io::Result<Progress> {
        let meta = self.file.metadata()?;
        if meta.len() < self.offset {
            return Ok(Progress::Truncated);
        }
        let changed = meta.modified().ok();
        if meta.len() == self.offset && changed.is_some() && changed == self.checked {
            return Ok(Progress::Idle);
        }
        if !self.still_starts_alike()? {
            return Ok(Progress::Truncated);
        }
        let overlap = self.recent.len();
        buffer.resize(overlap + CHUNK_BYTES, 0);
        let got = read_at(&self.file, buffer, self.offset - overlap as u64)?;
        if got < overlap || buffer[..overlap] != self.recent {
            return Ok(Progress::Truncated);
        }
        self.checked = changed.filter(|changed| is_settled(*changed, at));
        let chunk = &buffer[overlap..got];
        if chunk.is_empty() {
            return Ok(Progress::Idle);
        }
        self.take(chunk, lines);
        Ok(Progress::Grew { full: chunk.len() == CHUNK_BYTES })
    }

    /// Whether `other` holds what was read of this file so far, up to the position, and whether it holds all of it.
    ///
    /// # Errors
    /// When the other file cannot be read.
    pub(super) fn is_copied_in(&self, other: &File) -> io::Result<bool> {
        let mut start = vec![0; self.head.len()];
        let mut end = vec![0; self.recent.len()];
        let got = read_at(other, &mut start, 0)?;
        if got < start.len() || start != self.head {
            return Ok(false);
        }
        let from = self.offset - end.len() as u64;
        let got = read_at(other, &mut end, from)?;
        Ok(got == end.len() && end == self.recent)
    }

    /// Whether `other` starts as this file did and ends before the position: a copy made while this file was still written.
    ///
    /// # Errors
    /// When the other file cannot be read.
    pub(super) fn is_ahead_of(&self, other: &File) -> io::Result<bool> {
        let mut start = vec![0; self.head.len()];
        let got = read_at(other, &mut start, 0)?;
        Ok(got > 0 && start[..got] == self.head[..got] && other.metadata()?.len() < self.offset)
    }

    /// Takes all that the file holds now as read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        let bytes = self.file.metadata()?.len();
        let recent = bytes.min(RECENT_BYTES as u64);
        let head = usize::try_from(bytes).unwrap_or(HEAD_BYTES).min(HEAD_BYTES);
        self.head = self.at(0, head)?.unwrap_or_default();
        self.recent = self.at(bytes - recent, usize::try_from(recent).unwrap_or(0))?.unwrap_or_default();
        self.offset = bytes;
        self.splitter = Splitter::at(bytes);
        Ok(())
    }

    /// Whether the file still holds what was read of it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn still_holds(&self) -> io::Result<bool> {
        self.is_copied_in(&self.file)
    }

    fn still_starts_alike(&self) -> io::Result<bool> {
        Ok(self.at(0, self.head.len())?.is_some_and(|start| start == self.head))
    }

    fn take(&mut self, chunk: &[u8], lines: &mut Vec<RawLine>) {
        let known = self.head.len() as u64;
        if self.head.len() < HEAD_BYTES && known >= self.offset {
            let from = usize::try_from(known - self.offset).unwrap_or(usize::MAX).min(chunk.len());
            let room = HEAD_BYTES - self.head.len();
            self.head.extend(chunk[from..].iter().take(room));
        }
        self.recent.extend_from_slice(&chunk[chunk.len().saturating_sub(RECENT_BYTES)..]);
        let surplus = self.recent.len().saturating_sub(RECENT_BYTES);
        self.recent.drain(..surplus);
        self.splitter.push(chunk, lines);
        self.offset += chunk.len() as u64;
    }

    /// Exactly these bytes; `None` when the file is shorter.
    fn at(&self, offset: u64, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; bytes];
        let got = read_at(&self.file, &mut buffer, offset)?;
        Ok((got == bytes).then_some(buffer))
    }
}

/// Whether a further change would get another time: clocks of filesystems tick some times a second at the worst.
fn is_settled(changed: SystemTime, at: Timestamp) -> bool {
    let since_epoch = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(at.as_millis().unsigned_abs()).saturating_sub(since_epoch) > Duration::from_secs(2)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(bytes) => got += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
