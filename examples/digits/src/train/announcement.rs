//! Who leads: an exclusive lock on a file of the shared directory, and beside it the leader's address.
//!
//! The lock decides; the address only tells where to ask. It may be stale, so a follower names the term that it read and a leader refuses any other.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::file::write_whole;

const LOCK: &str = "leader.lock";
const ADDRESS: &str = "leader.json";
/// An address is far shorter; a longer file is something else.
const ADDRESS_BYTES_MAX: u64 = 4096;

/// Leadership; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Where the leader listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Announcement {
    /// Counts the leaders of the job.
    pub(super) term: u64,
    /// Port on 127.0.0.1.
    pub(super) port: u16,
    /// The leader's process, for people.
    pub(super) pid: u32,
}

impl Lock {
    /// Takes the lock of `dir`; `None` while another holds it.
    pub(super) fn try_take(dir: &Path) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Announcement {
    /// The latest announcement; `None` when there is none that can be read.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = File::open(dir.join(ADDRESS)).ok()?;
        io::Read::read_to_string(&mut io::Read::take(file, ADDRESS_BYTES_MAX), &mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Announces the holder of the lock under the next term.
    pub(super) fn write(dir: &Path, port: u16) -> io::Result<Self> {
        let term = Self::read(dir).map_or(1, |last| last.term.wrapping_add(1));
        let announcement = Self { term, port, pid: std::process::id() };
        let text = serde_json::to_vec(&announcement).map_err(io::Error::other)?;
        write_whole(&dir.join(ADDRESS), &text).map(|()| announcement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leads_at_a_time_and_each_has_its_own_term() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::try_take(dir.path()).unwrap().unwrap();
        assert!(Lock::try_take(dir.path()).unwrap().is_none());
        assert_eq!(Announcement::read(dir.path()), None);
        assert_eq!(Announcement::write(dir.path(), 5).unwrap().term, 1);
        drop(lock);
        assert!(Lock::try_take(dir.path()).unwrap().is_some());
        assert_eq!(Announcement::write(dir.path(), 6).unwrap().term, 2);
        assert_eq!(Announcement::read(dir.path()).unwrap().port, 6);
    }
}
