//! The directory of a store: its lock, and what is done with a database that is damaged. Not what the database holds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tidegate_core::Timestamp;

use crate::error::OpenError;

/// Name of the database within the directory.
pub(crate) const DATABASE: &str = "history.redb";
/// Name of the file that is locked; it holds the process id of whoever locked it last.
const LOCK: &str = "history.lock";
/// Most damaged databases that are kept for inspection: each may be as large as the history itself.
const ASIDE_MAX: usize = 3;

/// A damaged database that was moved out of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub cause: String,
}

/// Makes the directory where it is missing and locks it for this process, until the file is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(dir).map_err(|source| OpenError::CreateDirectory { dir: dir.to_owned(), source })?;
    let failed = |source| OpenError::Lock { dir: dir.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOCK))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => write_pid(&mut file).map_err(failed)?,
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse { dir: dir.to_owned(), pid: read_pid(&mut file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    Ok(file)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Moves a damaged database to `<name>.corrupt-<milliseconds>` beside it, and keeps the newest few of those only.
pub(crate) fn move_aside(database: &Path, cause: String, now: Timestamp) -> Result<MovedAside, OpenError> {
    let failed = |source| OpenError::MoveAside { path: database.to_owned(), source };
    let dir = database.parent().unwrap_or(Path::new("."));
    let path = (0..1000)
        .map(|extra| dir.join(format!("{DATABASE}.corrupt-{}", now.as_millis().saturating_add(extra))))
        .find(|path| !path.exists())
        .ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
    fs::rename(database, &path).map_err(failed)?;
    prune(dir).map_err(failed)?;
    Ok(MovedAside { path, cause })
}

fn prune(dir: &Path) -> io::Result<()> {
    let prefix = format!("{DATABASE}.corrupt-");
    let mut aside: Vec<(i64, PathBuf)> = fs::read_dir(dir)?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let stamp = entry.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((stamp, entry.path()))
        })
        .collect();
    aside.sort_unstable();
    let surplus = aside.len().saturating_sub(ASIDE_MAX);
    aside.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_damaged_databases_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join(DATABASE);
        for second in 0..5 {
            fs::write(&database, b"torn").unwrap();
            move_aside(&database, String::new(), Timestamp::from_secs(second)).unwrap();
        }
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["history.redb.corrupt-2000", "history.redb.corrupt-3000", "history.redb.corrupt-4000"]
        );
    }

    #[test]
    fn a_directory_is_locked_once_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        match lock(dir.path()).unwrap_err() {
            OpenError::InUse { pid, .. } => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other}"),
        }
        drop(held);
        lock(dir.path()).unwrap();
    }
}
