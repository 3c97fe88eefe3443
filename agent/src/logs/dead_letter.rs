//! The file of lines that the sink refused for good, each with the cause. Bounded: one older file is kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tidegate_core::Timestamp;

use super::record::Entry;

/// Size at which the file becomes the older one: tens of thousands of lines, enough to see what is wrong.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Serialize)]
struct Letter<'a> {
    at: Timestamp,
    sink: &'static str,
    cause: &'static str,
    reason: &'a str,
    document: Value,
}

/// The dead-letter file.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    path: PathBuf,
    sink: &'static str,
    alone: Mutex<()>,
}

impl DeadLetters {
    pub(crate) const fn new(path: PathBuf, sink: &'static str) -> Self {
        Self { path, sink, alone: Mutex::new(()) }
    }

    /// Writes lines through to the disk.
    ///
    /// # Errors
    /// When they cannot be written; they are then not to be acknowledged.
    pub(crate) fn write(&self, at: Timestamp, letters: &[(Entry, &'static str, String)]) -> io::Result<()> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        for (entry, cause, reason) in letters {
            let document = serde_json::from_str(&entry.document)?;
            let letter = Letter { at, sink: self.sink, cause, reason, document };
            serde_json::to_writer(&mut bytes, &letter)?;
            bytes.push(b'\n');
        }
        let mut file = self.open()?;
        file.write_all(&bytes)?;
        file.sync_data()
    }

    fn open(&self) -> io::Result<File> {
        let full = fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= FILE_BYTES_MAX);
        if full {
            fs::rename(&self.path, older(&self.path))?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1.ndjson")
}
