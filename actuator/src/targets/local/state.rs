//! What is written down about running replicas, so that a later Tidegate finds those that outlived this one.
//!
//! Not synced to the disk: a crash of the machine ends the replicas as well, and what a killed process wrote stays.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_core::WorkloadId;

use super::group::boot_id;

/// Why the state could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or a file in it.
    #[error("failed to write {}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is there but cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// One running replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) index: u32,
    pub(super) pid: i32,
    pub(super) started_ticks: u64,
    pub(super) port: u16,
    /// Digest of the specification that it was started with.
    pub(super) digest: String,
}

/// All running replicas of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) workload: WorkloadId,
    pub(super) boot: String,
    pub(super) replicas: Vec<Entry>,
}

/// The folder of one Tidegate's state. Its random token marks the processes that belong to it.
#[derive(Debug, Clone)]
pub(super) struct StateDir {
    path: PathBuf,
    token: String,
    boot: String,
}

impl StateDir {
    /// Opens or makes the folder; the token is made once.
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let replicas = path.join("replicas");
        fs::create_dir_all(&replicas).map_err(|source| StateError::Write { path: replicas, source })?;
        let boot = boot_id().map_err(|source| StateError::Read { path: "/proc".into(), source })?;
        let token = token(&path.join("instance"))?;
        Ok(Self { path: path.to_owned(), token, boot })
    }

    /// The beginning of the markers of all processes of this Tidegate.
    pub(super) fn marker_prefix(&self) -> String {
        format!("{}:", self.token)
    }

    /// The beginning of the markers of one workload's processes.
    pub(super) fn workload_prefix(&self, workload: &WorkloadId) -> String {
        format!("{}:{workload}:", self.token)
    }

    /// The workload that a marker names; `None` when it is not one of ours.
    pub(super) fn workload_of(&self, marker: &str) -> Option<WorkloadId> {
        let (workload, _) = marker.strip_prefix(&self.marker_prefix())?.rsplit_once(':')?;
        workload.parse().ok()
    }

    fn file(&self, workload: &WorkloadId) -> PathBuf {
        // No segment of an id holds an underscore, so no two ids share a file.
        self.path.join("replicas").join(format!("{}.json", workload.as_str().replace('/', "_")))
    }

    /// Writes down what runs, whole or not at all.
    pub(super) fn save(&self, workload: &WorkloadId, replicas: Vec<Entry>) -> Result<(), StateError> {
        let running = Running { workload: workload.clone(), boot: self.boot.clone(), replicas };
        let text = serde_json::to_vec(&running).expect("plain structs always serialise");
        write_atomically(&self.file(workload), &text)
    }

    /// Forgets a workload that has nothing running.
    pub(super) fn forget(&self, workload: &WorkloadId) -> Result<(), StateError> {
        let path = self.file(workload);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Write { path, source })
            }
            _ => Ok(()),
        }
    }

    /// What was written down of one workload; empty when nothing was, before this boot, or not readable as such: the
    /// markers find what is still running then.
    pub(super) fn load(&self, workload: &WorkloadId) -> Vec<Entry> {
        self.read(&self.file(workload)).map_or_else(Vec::new, |running| running.replicas)
    }

    /// What was written down of every workload.
    pub(super) fn load_all(&self) -> Result<Vec<Running>, StateError> {
        let path = self.path.join("replicas");
        let entries = fs::read_dir(&path).map_err(|source| StateError::Read { path, source })?;
        Ok(entries.filter_map(|entry| self.read(&entry.ok()?.path())).collect())
    }

    fn read(&self, path: &Path) -> Option<Running> {
        let running: Running = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (running.boot == self.boot).then_some(running)
    }
}

fn token(path: &Path) -> Result<String, StateError> {
    if let Some(token) = fs::read_to_string(path).ok().filter(|t| t.len() == 32) {
        return Ok(token);
    }
    let random = Path::new("/proc/sys/kernel/random/uuid");
    let uuid =
        fs::read_to_string(random).map_err(|source| StateError::Read { path: random.to_owned(), source })?;
    let token: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    write_atomically(path, token.as_bytes())?;
    Ok(token)
}

/// Writes beside `path`, then renames onto it: a reader sees the old text or the new.
pub(crate) fn write_atomically(path: &Path, text: &[u8]) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    let write = || {
        fs::File::create(&beside)?.write_all(text)?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| StateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u32) -> Entry {
        Entry { index, pid: 7, started_ticks: 9, port: 1024, digest: "d".into() }
    }

    #[test]
    fn a_later_tidegate_reads_the_same_token_and_replicas() {
        let folder = tempfile::tempdir().unwrap();
        let id = WorkloadId::local("x").unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        first.save(&id, vec![entry(0), entry(2)]).unwrap();
        let second = StateDir::open(folder.path()).unwrap();
        assert_eq!(second.marker_prefix(), first.marker_prefix());
        assert_eq!(second.load(&id), [entry(0), entry(2)]);
        assert_eq!(second.load_all().unwrap().len(), 1);
        second.forget(&id).unwrap();
        second.forget(&id).unwrap();
        assert_eq!(first.load(&id), []);
    }

    #[test]
    fn ids_of_another_boot_mean_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let id = WorkloadId::local("x").unwrap();
        let mut other = StateDir::open(folder.path()).unwrap();
        other.boot = "another".into();
        other.save(&id, vec![entry(0)]).unwrap();
        assert_eq!(StateDir::open(folder.path()).unwrap().load(&id), []);
    }

    #[test]
    fn a_marker_names_its_workload() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let id = WorkloadId::local("x").unwrap();
        let marker = format!("{}3", state.workload_prefix(&id));
        assert_eq!(state.workload_of(&marker), Some(id));
        assert_eq!(state.workload_of("other:local/process/x:3"), None);
    }

    #[test]
    fn a_torn_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let id = WorkloadId::local("x").unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        fs::write(state.file(&id), b"{\"workload\":").unwrap();
        assert_eq!(state.load(&id), []);
    }
}
