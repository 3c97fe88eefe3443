//! Records that were pushed here, on disk until they are shipped: files in the folder of the log path's state, that are read like any
//! other and deleted once all of their lines are acknowledged.
//!
//! A sender gets its answer when its records are on disk, so that whatever ends this process loses none. When there is no more room,
//! it is told to come again: nothing is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::book::Page;
use super::pushed::PushedLine;
use super::source::{LogFormat, LogSource};
use crate::clock;

const ENDING: &str = "ndjson";

/// Bounds of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// A file is finished, and can be deleted once it is shipped, when it is so large.
    pub file_bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { bytes_max: 1 << 30, file_bytes: 16 << 20 }
    }
}

/// Why records were not taken; all of them may come again.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// As much waits to be shipped as may.
    #[error("{bytes} bytes wait to be shipped already")]
    Full {
        /// Bytes on disk.
        bytes: u64,
    },
    /// They could not be written.
    #[error("failed to write to {path}")]
    Write {
        /// The file, or the folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The files, and the one that is written.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limits: SpoolLimits,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    active: Option<Active>,
    /// Sizes of those that are finished.
    finished: BTreeMap<PathBuf, u64>,
    last: i64,
}

#[derive(Debug)]
struct Active {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Spool {
    /// Opens the spool in a folder, which is made when it is not there. What an earlier process did not write to its end was never
    /// acknowledged to its sender, and is cut off.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read and written.
    pub(crate) fn open(folder: PathBuf, limits: SpoolLimits) -> Result<Self, SpoolError> {
        let files =
            Files::open(&folder).map_err(|source| SpoolError::Write { path: folder.clone(), source })?;
        Ok(Self { folder, limits, files: Mutex::new(files) })
    }

    /// Its files, to be followed.
    pub(crate) fn source(&self) -> LogSource {
        let folder = glob::Pattern::escape(&self.folder.to_string_lossy());
        let paths = vec![Path::new(&folder).join(format!("*.{ENDING}"))];
        LogSource { paths, format: LogFormat::Pushed, ..LogSource::default() }
    }

    /// Puts records on disk, all or none.
    ///
    /// # Errors
    /// When there is no room, or they cannot be written.
    pub(crate) fn append(&self, lines: impl IntoIterator<Item = PushedLine>) -> Result<(), SpoolError> {
        let text: Vec<u8> = lines.into_iter().flat_map(PushedLine::encode).collect();
        if text.is_empty() {
            return Ok(());
        }
        let mut files = self.lock();
        let bytes = files.bytes();
        if bytes + text.len() as u64 > self.limits.bytes_max {
            return Err(SpoolError::Full { bytes });
        }
        files.append(&self.folder, &text)?;
        if files.active.as_ref().is_some_and(|active| active.bytes >= self.limits.file_bytes) {
            files.finish();
        }
        Ok(())
    }

    /// Deletes the finished files whose lines are all acknowledged, as these pages of the checkpoint say.
    pub(crate) fn sweep(&self, pages: impl FnOnce() -> Vec<Page>) {
        let mut files = self.lock();
        if files.finished.is_empty() {
            return;
        }
        let shipped: BTreeMap<_, _> = pages().into_iter().map(|page| (page.path, page.offset)).collect();
        files.finished.retain(|path, bytes| {
            let is_done = shipped.get(path).is_some_and(|offset| offset >= bytes);
            !is_done || fs::remove_file(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut files = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let Some(number) = number.filter(|_| path.extension().is_some_and(|is| is == ENDING)) else {
                continue;
            };
            files.last = files.last.max(number);
            match mended(&path)? {
                0 => fs::remove_file(&path)?,
                bytes => drop(files.finished.insert(path, bytes)),
            }
        }
        Ok(files)
    }

    fn bytes(&self) -> u64 {
        self.finished.values().sum::<u64>() + self.active.as_ref().map_or(0, |active| active.bytes)
    }

    fn append(&mut self, folder: &Path, text: &[u8]) -> Result<(), SpoolError> {
        let mut active = match self.active.take() {
            Some(active) => active,
            None => {
                self.begin(folder).map_err(|source| SpoolError::Write { path: folder.to_owned(), source })?
            }
        };
        match active.file.write_all(text).and_then(|()| active.file.sync_data()) {
            Ok(()) => active.bytes += text.len() as u64,
            Err(source) => {
                let path = active.path.clone();
                // As if it had never come: half of it may be there.
                match active.file.set_len(active.bytes) {
                    Ok(()) => self.active = Some(active),
                    Err(_) => drop(self.finished.insert(active.path, active.bytes)),
                }
                return Err(SpoolError::Write { path, source });
            }
        }
        self.active = Some(active);
        Ok(())
    }

    /// A new file. Its name is a time, so that none comes twice.
    fn begin(&mut self, folder: &Path) -> io::Result<Active> {
        self.last = clock::wall().as_millis().max(self.last + 1);
        let path = folder.join(format!("{:015}.{ENDING}", self.last));
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        File::open(folder)?.sync_all()?;
        Ok(Active { path, file, bytes: 0 })
    }

    fn finish(&mut self) {
        if let Some(active) = self.active.take() {
            self.finished.insert(active.path, active.bytes);
        }
    }
}

/// Cuts off what comes after the last end of a line; the bytes that are left.
fn mended(path: &Path) -> io::Result<u64> {
    let mut text = Vec::new();
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.read_to_end(&mut text)?;
    let whole = memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    Ok(whole as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &str) -> PushedLine {
        PushedLine { body: body.into(), ..PushedLine::default() }
    }

    fn names(spool: &Spool) -> Vec<PathBuf> {
        let mut names: Vec<_> =
            fs::read_dir(&spool.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_does_not_fit_is_refused_whole_until_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let one = line("one").encode().len() as u64;
        let limits = SpoolLimits { bytes_max: 3 * one, file_bytes: 1 };
        let spool = Spool::open(dir.path().join("pushed"), limits).unwrap();
        spool.append([line("one")]).unwrap();
        spool.append([line("two")]).unwrap();
        assert!(
            matches!(spool.append([line("one"), line("two")]), Err(SpoolError::Full { bytes }) if bytes == 2 * one)
        );
        assert_eq!((names(&spool).len(), spool.bytes()), (2, 2 * one), "every file is full at once");

        let page = |path: &Path, offset| Page { offset, ..page_of(path) };
        let [first, second] = names(&spool).try_into().unwrap();
        spool.sweep(|| vec![page(&first, one - 1), page(&second, one)]);
        assert_eq!(names(&spool), std::slice::from_ref(&first), "not while a line of it waits");
        spool.sweep(|| vec![page(&first, one)]);
        assert!(names(&spool).is_empty());
        spool.append([line("one"), line("two"), line("six")]).unwrap();
    }

    fn page_of(path: &Path) -> Page {
        serde_json::from_value(serde_json::json!({
            "life": { "inode": { "device": 1, "number": 1 }, "born_ns": 1, "generation": 0 },
            "inode": { "device": 1, "number": 1 }, "born_ns": 1, "path": path, "head_bytes": 0, "head": 0,
            "offset": 0, "last": null,
        }))
        .unwrap()
    }

    #[test]
    fn what_was_torn_is_cut_off_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pushed");
        let limits = SpoolLimits::default();
        Spool::open(folder.clone(), limits).unwrap().append([line("one")]).unwrap();
        let torn = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&torn).unwrap();
        fs::write(&torn, [&whole[..], b"{\"body\": \"tw"].concat()).unwrap();
        fs::write(folder.join("000000000000001.ndjson"), "{").unwrap();
        fs::write(folder.join("notes.txt"), "not ours").unwrap();

        let spool = Spool::open(folder, limits).unwrap();
        assert_eq!(fs::read(&torn).unwrap(), whole);
        assert_eq!(spool.bytes(), whole.len() as u64);
        spool.append([line("two")]).unwrap();
        assert_eq!(names(&spool).len(), 3, "a new file, and what is not ours stays");
        assert_eq!(fs::read(&torn).unwrap(), whole);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().join("pushed"), SpoolLimits::default()).unwrap();
        fs::remove_dir(dir.path().join("pushed")).unwrap();
        assert!(matches!(spool.append([line("one")]), Err(SpoolError::Write { .. })));
        fs::create_dir(dir.path().join("pushed")).unwrap();
        spool.append([line("one")]).unwrap();
    }
}
