//! The model file, which is also the checkpoint: a checked header, the parameters, a checksum. Written whole or not at all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{Model, PARAMETERS};

/// First bytes of every model file.
const MAGIC: &[u8; 8] = b"DIGITSML";
/// Raised when the layout or the network's shape changes; an older file is refused, not guessed at.
const FORMAT: u32 = 1;
/// Magic, format, number of parameters, steps.
const HEADER: usize = 8 + 4 + 4 + 8;
const CHECKSUM: usize = 4;
/// Size of every file of this format.
const SIZE: usize = HEADER + PARAMETERS * 4 + CHECKSUM;

/// A model with its age in training steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The model.
    pub model: Model,
    /// Steps that it was trained for.
    pub steps: u64,
}

/// Why a model file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be opened or read.
    #[error("failed to read the model file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("failed to write the model file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else, of another version, or damaged.
    #[error("{path} is not a model file that can be used: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Saved {
    /// A short name for exactly these parameters: the steps and the checksum.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}-{:08x}", self.steps, crc32fast::hash(&self.body()))
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a whole model file of this version.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::with_capacity(SIZE + 1);
        // One byte more than a right file has: enough to see that it is wrong, however long it is.
        File::open(path)
            .and_then(|file| file.take(SIZE as u64 + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        decode(&bytes).map_err(|problem| FileError::Wrong { path: path.to_owned(), problem })
    }

    /// Writes the file beside `path`, syncs it and moves it into place.
    ///
    /// # Errors
    /// When any of this fails; an older file at `path` is then still whole.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_whole(path, &self.encode()).map_err(|source| FileError::Write { path: path.to_owned(), source })
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(PARAMETERS).expect("a small constant").to_le_bytes());
        bytes.extend_from_slice(&self.steps.to_le_bytes());
        for value in self.model.parameters() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.body();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }
}

/// Puts `bytes` at `path` so that a reader sees the old file or the new one, also after a crash.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = folder.join(format!(".{}.{}", name.display(), std::process::id()));
    let mut file = File::create(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written
        .and_then(|()| std::fs::rename(&beside, path))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    File::open(folder)?.sync_all()
}

fn decode(bytes: &[u8]) -> Result<Saved, String> {
    if bytes.get(..MAGIC.len()) != Some(MAGIC) {
        return Err("it does not start as one; make it with `digits-train --once --out FILE`".to_owned());
    }
    let format = word(bytes, 8).ok_or("it is cut off")?;
    if format != FORMAT {
        return Err(format!("it has format {format}, this program reads format {FORMAT}"));
    }
    if bytes.len() != SIZE {
        return Err(format!("it has {} bytes or more, expected {SIZE}", bytes.len()));
    }
    let (body, sum) = bytes.split_at(SIZE - CHECKSUM);
    if word(sum, 0) != Some(crc32fast::hash(body)) || word(body, 12) != u32::try_from(PARAMETERS).ok() {
        return Err("its checksum does not fit its content".to_owned());
    }
    let steps = u64::from_le_bytes(body[16..HEADER].try_into().expect("eight bytes"));
    let parameters = floats(&body[HEADER..]);
    let model = Model::from_parameters(parameters).ok_or("it holds values that are not finite")?;
    Ok(Saved { model, steps })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
}

/// Little-endian numbers; a rest of fewer than four bytes is left out.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved { model: Model::untrained(4), steps: 77 }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        saved().write(&path).unwrap();
        assert_eq!(Saved::read(&path).unwrap(), saved());
        assert!(saved().version().starts_with("77-"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_wrong_file_is_refused_with_what_is_wrong() {
        let right = saved().encode();
        let mut old = right.clone();
        old[8] = 9;
        let mut damaged = right.clone();
        damaged[500] ^= 1;
        let cases = [
            (b"#!/bin/sh\n".to_vec(), "does not start"),
            (Vec::new(), "does not start"),
            (old, "format 9"),
            (damaged, "checksum"),
            (right[..900].to_vec(), "900 bytes"),
            ([right.clone(), vec![0; 9]].concat(), "bytes or more"),
        ];
        for (bytes, problem) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("model.bin");
            std::fs::write(&path, bytes).unwrap();
            let error = Saved::read(&path).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        assert!(matches!(Saved::read(Path::new("/nowhere/model")), Err(FileError::Read { .. })));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(saved().write(&dir.path().join("missing/model.bin")).is_err());
        let folder = dir.path().join("model.bin");
        std::fs::create_dir(&folder).unwrap();
        assert!(saved().write(&folder).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file stayed");
    }
}
