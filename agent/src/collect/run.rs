//! Drives one source: reads it every period, gives it a deadline, publishes what it gave. A reading that is overdue is waited for,
//! never piled up: at most one is under way per source.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{Sample, Subject};
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::gpu::Gpus;
use super::latest::{Giver, LatestValues};
use super::reading::{Batch, BlockingSource, Cause, Reading, SourceName};
use super::status::StatusBoard;
use crate::clock::{self, Moment};

/// How often a source is read, and how long one reading may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From one reading to the next.
    pub every: Duration,
    /// After this, a reading is overdue: its source is stuck and its values vanish.
    pub deadline: Duration,
}

/// Where readings go.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// To whoever subscribed.
    pub batches: broadcast::Sender<Arc<Batch>>,
    /// For whoever asks.
    pub latest: Arc<LatestValues>,
    /// How the source fares.
    pub board: Arc<StatusBoard>,
    /// The GPUs; nothing while they cannot be read.
    pub gpus: watch::Sender<Option<Arc<Gpus>>>,
}

impl Outlet {
    fn publish(&self, source: SourceName, now: Moment, reading: Reading) {
        if source == SourceName::Gpu {
            self.gpus.send_replace(reading.gpus);
        }
        if reading.absent {
            self.latest.clear(Giver::Source(source));
            self.board.absent(source);
            return;
        }
        let took = clock::steady().saturating_sub(now.steady);
        self.board.read(source, now.at, took, reading.failure);
        self.board.read_in_part(source, &reading.causes);
        let batch =
            Arc::new(Batch { source, at: now.at, samples: reading.samples, coverage: reading.coverage });
        let coverage = |sample: &Sample| match &sample.subject {
            Subject::Workload(id) => batch.coverage.get(&(id.clone(), sample.signal)).copied(),
            _ => None,
        };
        let giver = Giver::Source(source);
        self.latest.replace_named(giver, &batch.samples, coverage, reading.names);
        self.latest.put_spreads(giver, now.at, reading.spreads);
        // Nobody has to listen: the latest values are kept all the same.
        drop(self.batches.send(batch));
    }

    fn lose(&self, source: SourceName, cause: Cause) {
        tracing::warn!(source = source.as_str(), cause = cause.as_str(), "source lost");
        if source == SourceName::Gpu {
            self.gpus.send_replace(None);
        }
        self.latest.clear(Giver::Source(source));
        self.board.lost(source, cause);
    }
}

/// A reading under way; gives the source back, with what it read. Its sender is gone when it panicked.
type Pending<S> = oneshot::Receiver<(S, Reading)>;

/// Runs a source whose reading blocks, each reading on a thread of its own, until `stop` says so or is dropped.
pub async fn run_blocking<S: BlockingSource>(
    name: SourceName,
    pace: Pace,
    make: impl Fn() -> S,
    outlet: Outlet,
    stop: watch::Receiver<bool>,
) {
    run(name, pace, make, |source, now| begin_on_thread(name, source, now), outlet, stop).await;
}

/// Reads on a thread of its own and not of the runtime's, which would wait at its end for one that hangs in the kernel.
fn begin_on_thread<S: BlockingSource>(name: SourceName, mut source: S, now: Moment) -> Pending<S> {
    let (done, pending) = oneshot::channel();
    let read = move || {
        let reading = source.read(now);
        // Nobody waits any more when the program is ending.
        drop(done.send((source, reading)));
    };
    // Without a thread the sender is gone, as after a panic: the source is lost for this once.
    drop(std::thread::Builder::new().name(name.as_str().to_owned()).spawn(read));
    pending
}

/// Runs a source, whose readings `begin` starts, until `stop` says so or is dropped. `make` makes it anew after a panic.
pub async fn run<S>(
    name: SourceName,
    pace: Pace,
    make: impl Fn() -> S,
    begin: impl Fn(S, Moment) -> Pending<S>,
    outlet: Outlet,
    mut stop: watch::Receiver<bool>,
) {
    outlet.board.started(name);
    let mut ticks = interval(pace.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut source = make();
    while unless_stopped(&mut stop, ticks.tick()).await.is_some() {
        let now = clock::now();
        let mut pending = begin(source, now);
        let Some(ended) = unless_stopped(&mut stop, within(name, pace, &outlet, now, &mut pending)).await
        else {
            return;
        };
        source = ended.unwrap_or_else(&make);
    }
}

/// Waits for one reading and publishes it; gives the source back, unless it panicked.
async fn within<S>(
    name: SourceName,
    pace: Pace,
    outlet: &Outlet,
    now: Moment,
    pending: &mut Pending<S>,
) -> Option<S> {
    match timeout(pace.deadline, &mut *pending).await {
        Ok(Ok((source, reading))) => {
            outlet.publish(name, now, reading);
            Some(source)
        }
        Ok(Err(_)) => {
            outlet.lose(name, Cause::Panicked);
            None
        }
        Err(_) => {
            outlet.lose(name, Cause::Timeout);
            // However late it ends, what it read is too old to be told; only then is the source free again.
            pending.await.ok().map(|(source, _)| source)
        }
    }
}

/// The outcome of `work`, or nothing once `stop` holds true or its sender is gone.
async fn unless_stopped<T>(stop: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => None,
        done = work => Some(done),
    }
}
