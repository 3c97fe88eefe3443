//! A folder that one pipeline at a time may use, held by a lock that ends with its holder, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// A claimed folder.
#[derive(Debug)]
pub(crate) struct Claim {
    _locked: File,
}

impl Claim {
    /// Claims a folder that is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when somebody else has it; else when the lock file cannot be made.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(folder.join(".logs-lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _locked: file }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
