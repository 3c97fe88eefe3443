//! What a server keeps on disk: its data directory, the history in it, and what brains have learned.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_brain::{History, Snapshot};
use tidegate_core::{Policy, ServingPolicy, Signal, Subject, Timestamp, WorkloadId};
use tidegate_history::{Aggregate, OpenError, Store, StoreOptions};

/// Demand that brains are given from the history: the five weeks of its tier of minutes.
const HISTORY_FOR: Duration = Duration::from_secs(35 * 86_400);
/// As many steps of it as a brain keeps: three weeks of minutes.
const HISTORY_STEPS_MAX: u32 = 30_240;

/// Takes the data directory for this process: two on one directory would fight over the same replicas and files, also where
/// neither can keep a history.
pub(crate) fn lock_directory(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let failed = || format!("failed to lock {}", path.display());
    let file = File::options().write(true).create(true).truncate(false).open(&path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another Tidegate uses the data directory {}; give this one its own with --data",
                data.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

/// Opens the history; goes on without keeping anything where the directory cannot be written, and says so.
pub(crate) fn open_history(data: &Path, now: Timestamp, notes: &mut Vec<String>) -> anyhow::Result<Store> {
    let folder = data.join("history");
    match Store::open(&folder, StoreOptions::default(), now) {
        Ok((store, opened)) => {
            if let Some(moved) = opened.moved_aside {
                tracing::error!(?moved, "the history was damaged; it was moved aside and a new one begun");
                notes.push(format!(
                    "The history was damaged and was moved aside: {moved:?}. A new one was begun."
                ));
            }
            Ok(store)
        }
        Err(error @ OpenError::InUse { .. }) => {
            Err(error).context("another Tidegate uses this data directory")
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!("the history cannot be kept, going on in memory: {error:#}");
            notes.push(format!("The history is kept in memory only: {error:#}."));
            Ok(Store::in_memory(StoreOptions::default()))
        }
    }
}

fn blob_key(id: &WorkloadId) -> String {
    format!("brain/{id}")
}

/// Keeps what brains have learned for the next start.
pub(crate) fn brains(store: &Store, learned: impl IntoIterator<Item = (WorkloadId, Snapshot)>) {
    let kept = |(id, snapshot): (WorkloadId, Snapshot)| {
        (blob_key(&id), serde_json::to_vec(&snapshot).expect("a snapshot is plain data"))
    };
    let kept: Vec<_> = learned.into_iter().map(kept).collect();
    if store.put_blobs(kept.iter().map(|(key, bytes)| (key.as_str(), bytes.as_slice()))).is_ok() {
        return;
    }
    // One that cannot be kept must not take the others with it.
    for (key, bytes) in kept {
        if let Err(error) = store.put_blob(&key, &bytes) {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!(key, error, "what was learned could not be kept");
        }
    }
}

/// What the history knows of a workload, and what its last brain had learned.
pub(crate) fn recall(
    store: &Store,
    id: &WorkloadId,
    policy: &Policy,
    now: Timestamp,
) -> (History, Option<Snapshot>) {
    let read = |policy: &ServingPolicy, signal| {
        let subject = Subject::Workload(id.clone());
        let step = policy.forecast.step.get();
        let from = now.before(HISTORY_FOR.min(step.saturating_mul(HISTORY_STEPS_MAX)));
        let read = store.read(&subject, signal, from, now, step, Aggregate::Mean);
        read.inspect_err(|error| tracing::warn!(workload = %id, %error, "the history cannot be read"))
            .ok()
            .and_then(trimmed)
    };
    let history = match policy {
        Policy::Serving(policy) => {
            let prompt = read(policy, Signal::PromptTokensPerSecond);
            let tokens = prompt.zip(read(policy, Signal::OutputTokensPerSecond));
            History {
                demand: read(policy, Signal::RequestsPerSecond),
                tokens: tokens.map(|(prompt, output)| [prompt, output]),
            }
        }
        Policy::Training(_) => History::default(),
    };
    let kept = store.get_blob(&blob_key(id)).ok().flatten();
    (history, kept.and_then(|bytes| serde_json::from_slice::<Snapshot>(&bytes).ok()))
}

/// A series from its first known step on.
fn trimmed(series: tidegate_core::Series) -> Option<tidegate_core::Series> {
    let first = series.values().iter().position(Option::is_some)?;
    let values = series.values()[first..].iter().copied();
    Some(tidegate_core::Series::from_values(series.time(first), series.step(), values))
}

/// Name of this machine.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}
