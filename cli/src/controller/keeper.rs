//! Writes to the history beside the loop: no round waits for a disk. What is to be written waits in a bounded queue; when it is
//! full, readings of that round are left out and counted, and decisions wait for the next.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;

use tidegate_agent::export::Registry;
use tidegate_brain::Snapshot;
use tidegate_core::{Decision, Label, Metric, Sample, Timestamp, WorkloadId};
use tidegate_history::Store;

use crate::{keep, told};

/// Rounds that wait; a checkpoint of thousands of series takes some.
const ROUNDS_MAX: usize = 60;
/// Decisions that wait for a queue that is full; the oldest go first.
const DECISIONS_MAX: usize = 50_000;
/// The history is flushed this often: what a kill can lose.
const FLUSH_EVERY: u64 = 5;
/// And tidied this often.
const TIDY_EVERY: u64 = 30;

/// What one round has to be kept.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) at: Timestamp,
    pub(super) samples: Vec<Sample>,
    pub(super) decisions: Vec<(WorkloadId, Decision)>,
    pub(super) learned: Vec<(WorkloadId, Snapshot)>,
}

/// The loop's end of the queue.
pub(super) struct Keeper {
    registry: Arc<Registry>,
    queue: Option<SyncSender<Batch>>,
    /// Decisions that found no room.
    left: Vec<(WorkloadId, Decision)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Begins to write.
    pub(super) fn start(store: Arc<Store>, registry: Arc<Registry>) -> Self {
        let (queue, batches) = mpsc::sync_channel(ROUNDS_MAX);
        let of_thread = Arc::clone(&registry);
        let write = move || Writing { store, registry: of_thread, rounds: 0 }.all(&batches);
        let thread = std::thread::Builder::new().name("history".into()).spawn(write);
        let thread = thread.inspect_err(|error| tracing::error!(%error, "the history is not written"));
        Self { registry, queue: Some(queue), left: Vec::new(), thread: thread.ok() }
    }

    /// Hands over what is to be kept. Never waits.
    pub(super) fn keep(&mut self, mut batch: Batch) {
        let Some(queue) = &self.queue else { return };
        let new = std::mem::replace(&mut batch.decisions, std::mem::take(&mut self.left));
        batch.decisions.extend(new);
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = queue.try_send(batch) {
            self.registry.counter(Metric::HistoryErrors, &[(Label::Cause, "behind")]).inc();
            self.left = batch.decisions;
            let surplus = self.left.len().saturating_sub(DECISIONS_MAX);
            self.left.drain(..surplus);
        }
    }

    /// Ends after all that waits is written. Waits for it.
    pub(super) fn stop(mut self) {
        let left = std::mem::take(&mut self.left);
        if let Some(queue) = self.queue.take().filter(|_| !left.is_empty()) {
            // There is no room only while it is being made.
            drop(queue.send(Batch { at: crate::clock::now(), decisions: left, ..Batch::default() }));
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the writing of the history panicked");
        }
    }
}

/// The thread's.
struct Writing {
    store: Arc<Store>,
    registry: Arc<Registry>,
    rounds: u64,
}

impl Writing {
    fn all(mut self, batches: &Receiver<Batch>) {
        while let Ok(batch) = batches.recv() {
            self.one(batch);
        }
    }

    fn one(&mut self, batch: Batch) {
        self.rounds += 1;
        let appended = self.store.append(&batch.samples);
        #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
        self.registry.counter(Metric::HistorySamples, &[]).add(appended.stored as f64);
        for (id, decision) in &batch.decisions {
            told::record(&self.store, id, decision);
        }
        keep::brains(&self.store, batch.learned);
        if !self.rounds.is_multiple_of(FLUSH_EVERY) {
            return;
        }
        let flushed = self.store.flush(batch.at);
        let tidied = if self.rounds.is_multiple_of(TIDY_EVERY) {
            self.store.maintain(batch.at).map(drop)
        } else {
            Ok(())
        };
        if let Err(error) = flushed.and(tidied) {
            self.registry.counter(Metric::HistoryErrors, &[(Label::Cause, "write")]).inc();
            tracing::error!(
                error = format!("{:#}", anyhow::Error::new(error)),
                "the history cannot be written"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{Signal, Subject};
    use tidegate_history::{Aggregate, StoreOptions};

    use super::*;

    fn id() -> WorkloadId {
        "ml/deployment/chat".parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + second)
    }

    fn batch(second: i64) -> Batch {
        let sample = Sample::new(Subject::Workload(id()), Signal::Queued, at(second), 1.0).unwrap();
        let decision = Decision {
            at: at(second),
            from: 1,
            to: 2,
            applied: true,
            reasons: Vec::new(),
            hpa: None,
            inputs: Default::default(),
        };
        Batch {
            at: at(second),
            samples: vec![sample],
            decisions: vec![(id(), decision)],
            learned: Vec::new(),
        }
    }

    #[test]
    fn what_is_handed_over_is_there_once_it_has_stopped() {
        let store = Arc::new(Store::in_memory(StoreOptions::default()));
        let mut keeper = Keeper::start(Arc::clone(&store), Arc::default());
        (0..20).for_each(|second| keeper.keep(batch(second)));
        keeper.stop();
        let step = std::time::Duration::from_secs(1);
        let subject = Subject::Workload(id());
        let read = store.read(&subject, Signal::Queued, at(0), at(20), step, Aggregate::Mean).unwrap();
        assert_eq!(read.known_len(), 20);
        assert_eq!(store.records(&format!("decisions/{}", id()), 99).unwrap().len(), 20);
    }

    #[test]
    fn of_a_full_queue_decisions_are_kept_and_readings_counted_as_lost() {
        let (queue, batches) = mpsc::sync_channel(1);
        let registry = Arc::new(Registry::new());
        let registered = Arc::clone(&registry);
        let mut keeper = Keeper { registry: registered, queue: Some(queue), left: Vec::new(), thread: None };
        (0..3).for_each(|second| keeper.keep(batch(second)));
        assert_eq!(registry.counter(Metric::HistoryErrors, &[(Label::Cause, "behind")]).get(), 2.0);
        assert_eq!(batches.recv().unwrap().decisions.len(), 1);
        keeper.keep(batch(3));
        let next = batches.recv().unwrap();
        assert_eq!((next.samples.len(), next.decisions.len()), (1, 3));
        assert!(next.decisions.is_sorted_by_key(|(_, decision)| decision.at));
    }
}
