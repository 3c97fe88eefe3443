//! The file that a replica's output goes to, and how it stays bounded.
//!
//! A replica writes to the file itself, in append mode, so that it can go on writing when Tidegate is killed. Two bounds:
//! at each start of a replica a file above [`ROTATE_BYTES`] is renamed to `*.log.1`, which loses nothing (a tailer follows
//! the renamed file); and while it runs a file above [`TRUNCATE_BYTES`] is copied to `*.log.1` and cut to zero, because a
//! running process cannot be told to open another file. What is written in the instant between the end of the copy and the
//! cut is lost: that is the price of a bound that holds for a process that is never restarted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Above this, a file is put aside when its replica starts: a few days of an ordinary access log.
const ROTATE_BYTES: u64 = 8 << 20;
/// Above this, the file of a running replica is cut: large enough that a tailer has long read what is in it.
const TRUNCATE_BYTES: u64 = 64 << 20;

/// Opens the file for a replica that is about to start.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if size(path) > ROTATE_BYTES {
        fs::rename(path, aside(path))?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Cuts the file of a running replica when it has outgrown its bound; whether it did.
pub(super) fn bound(path: &Path) -> io::Result<bool> {
    bound_at(path, TRUNCATE_BYTES)
}

fn bound_at(path: &Path, limit: u64) -> io::Result<bool> {
    if size(path) <= limit {
        return Ok(false);
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut from = &file;
    let mut to = File::create(aside(path))?;
    io::copy(&mut from, &mut to)?;
    file.set_len(0)?;
    Ok(true)
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_running_writer_goes_on_at_the_start_after_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/x-0.log");
        let mut writer = open(&path).unwrap();
        writer.write_all(b"one\ntwo\n").unwrap();
        assert!(!bound_at(&path, 8).unwrap());
        writer.write_all(b"three\n").unwrap();
        assert!(bound_at(&path, 8).unwrap());
        writer.write_all(b"four\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four\n");
        assert_eq!(fs::read(aside(&path)).unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn a_large_file_is_put_aside_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x-0.log");
        File::create(&path).unwrap().set_len(ROTATE_BYTES + 1).unwrap();
        open(&path).unwrap();
        assert_eq!(size(&path), 0);
        assert_eq!(size(&aside(&path)), ROTATE_BYTES + 1);
    }
}
