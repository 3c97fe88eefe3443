//! Log files to the sink: discover → tail → parse → classify → ship → acknowledge → checkpoint.
//!
//! A thread follows files and parses; a task ships. Between them is a short channel: when the sink is away it fills, the
//! thread stops reading, and the files are the buffer. The checkpoint advances only over acknowledged lines, and ids are
//! made from the lines' places, so that lines are sent at least once and stored once.
//!
//! Records that are pushed here are put into files of the state's folder, and are read like any other.
//!
//! What container runtimes frame is taken apart and put together per container and stream. Not here: redaction, multi-line joining and a
//! buffer on disk.

mod book;
mod claim;
mod classify;
mod cri;
mod dead_letter;
mod discover;
pub mod elasticsearch;
mod identity;
mod ledger;
mod lines;
mod ndjson;
mod parse;
pub(crate) mod pushed;
mod recent;
mod record;
mod ship;
mod sink;
mod source;
mod spool;
mod tail;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread;
use std::time::Duration;

use tidegate_core::Sample;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

pub use book::CheckpointError;
pub use classify::LogClass;
pub use discover::check_pattern;
pub(crate) use identity::EventId;
pub use ledger::LogStats;
pub use ndjson::NdjsonConfig;
pub use parse::{LogFlag, LogLevel};
pub use recent::LogFilter;
pub use record::LogLine;
pub use ship::ShipLimits;
pub use source::{LogFormat, LogSource};
pub use spool::{Spool, SpoolError, SpoolLimits};
pub use tail::TailLimits;

use self::book::Book;
use self::claim::Claim;
use self::dead_letter::DeadLetters;
use self::elasticsearch::{ClientError, Elasticsearch, ElasticsearchConfig};
use self::identity::Print;
use self::ledger::Ledger;
use self::ndjson::Ndjson;
use self::recent::Recent;
use self::record::Entry;
use self::ship::Shipper;
use self::sink::Sink;
use self::tail::{Records, Tailer};
use crate::clock::{self, Moment};
use crate::collect::pods::PodTable;

/// Steps of the tailer that may wait for the shipper, of about a megabyte each.
const STEPS_WAITING: usize = 2;
/// How long the tailer rests when no file has more.
const REST: Duration = Duration::from_millis(200);
/// How often the checkpoint is written while lines are acknowledged: what a crash repeats.
const SAVE_EVERY: Duration = Duration::from_millis(250);

/// What is shipped where.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Name of this machine, part of every record and id. Must stay the same over restarts.
    pub host: String,
    /// What is tailed; may change at run time.
    pub sources: watch::Receiver<Vec<LogSource>>,
    /// The node's pods, by which the lines of containers are named; `None` where there are none.
    pub pods: Option<watch::Receiver<PodTable>>,
    /// Where lines go.
    pub sink: SinkConfig,
    /// Folder of the checkpoint and the dead letters; made when it is not there. One pipeline at a time may use it.
    pub state_dir: PathBuf,
    /// How files are followed.
    pub tail: TailLimits,
    /// How lines are shipped.
    pub ship: ShipLimits,
    /// How much of what is pushed here is kept until it is shipped; `None`: nothing may be pushed.
    pub spool: Option<SpoolLimits>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkConfig {
    /// Rotated files on this machine.
    Ndjson(NdjsonConfig),
    /// A data stream of an Elasticsearch server.
    Elasticsearch(ElasticsearchConfig),
}

impl SinkConfig {
    /// Value of the `sink` label.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ndjson(_) => "ndjson",
            Self::Elasticsearch(_) => "elasticsearch",
        }
    }
}

/// Why shipping cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder of the state cannot be made.
    #[error("failed to make the folder {path}")]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another pipeline uses the folder.
    #[error("{path} is in use by another Tidegate")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The checkpoint cannot be read.
    #[error("failed to open the log checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// The files of the embedded sink cannot be opened.
    #[error("failed to open the log files in {path}")]
    Ndjson {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The Elasticsearch sink is configured wrongly.
    #[error("failed to set up the Elasticsearch sink")]
    Elasticsearch(#[source] ClientError),
    /// The folder of what is pushed cannot be used.
    #[error("failed to open the folder of what is pushed")]
    Spool(#[source] SpoolError),
    /// The thread cannot be started.
    #[error("failed to start the thread that follows log files")]
    Thread(#[source] io::Error),
}

/// The log path of this machine.
#[derive(Debug)]
pub struct LogPipeline;

impl LogPipeline {
    /// Starts following and shipping. Must be called within a Tokio runtime. The sink need not be reachable.
    ///
    /// # Errors
    /// When the state cannot be opened or the sink is configured wrongly.
    pub fn start(config: LogConfig) -> Result<LogHandle, StartError> {
        let (state, name) = (config.state_dir.clone(), config.sink.name());
        std::fs::create_dir_all(&state)
            .map_err(|source| StartError::StateDir { path: state.clone(), source })?;
        let claim = Claim::take(&state).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StartError::InUse { path: state.clone() },
            _ => StartError::StateDir { path: state.clone(), source },
        })?;
        match config.sink.clone() {
            SinkConfig::Ndjson(files) => {
                let path = files.folder.clone();
                let sink = Ndjson::open(files).map_err(|source| match source.kind() {
                    io::ErrorKind::WouldBlock => StartError::InUse { path },
                    _ => StartError::Ndjson { path, source },
                })?;
                start(config, sink, name, claim)
            }
            SinkConfig::Elasticsearch(server) => {
                start(config, Elasticsearch::new(&server).map_err(StartError::Elasticsearch)?, name, claim)
            }
        }
    }
}

fn start<S: Sink>(
    config: LogConfig,
    sink: S,
    name: &'static str,
    claim: Claim,
) -> Result<LogHandle, StartError> {
    let book = Book::open(&config.state_dir.join("logs-checkpoint.json")).map_err(StartError::Checkpoint)?;
    let book = book.holding(claim);
    let dead = DeadLetters::new(config.state_dir.join("dead-letters.ndjson"), name);
    let records = Records {
        book: Arc::new(book),
        ledger: Arc::new(Ledger::new(name)),
        recent: Arc::new(Recent::new()),
    };
    let spool = config.spool.map(|limits| Spool::open(config.state_dir.join("pushed"), limits).map(Arc::new));
    let spool = spool.transpose().map_err(StartError::Spool)?;
    let (entries, shipped) = mpsc::channel(STEPS_WAITING);
    let (stop, stopped) = blocking::channel();
    let tailer = Tailer::new(&config.host, config.tail, config.sources, config.pods, records.clone())
        .with_spool(spool.as_deref().map(Spool::source));
    let thread = thread::Builder::new()
        .name("log-tail".to_owned())
        .spawn(move || follow(tailer, &entries, &stopped))
        .map_err(StartError::Thread)?;
    let shipper = Shipper {
        sink: Arc::new(sink),
        // Machines that share a configuration must not come back to a server at the same instant.
        limits: ShipLimits {
            seed: config.ship.seed ^ Print::of(config.host.as_bytes()).number(),
            ..config.ship
        },
        book: Arc::clone(&records.book),
        ledger: Arc::clone(&records.ledger),
        dead: Arc::new(dead),
    };
    let shipping = tokio::spawn(shipper.run(shipped));
    let saving = tokio::spawn(keep_saving(records.clone(), spool.clone()));
    Ok(LogHandle { records, spool, stop: Some(stop), thread: Some(thread), shipping, saving })
}

/// Follows files until told to stop, or until nobody takes the entries.
fn follow(mut tailer: Tailer, entries: &mpsc::Sender<Vec<Entry>>, stopped: &blocking::Receiver<()>) {
    loop {
        let step = tailer.step(clock::now());
        if !step.entries.is_empty() && entries.blocking_send(step.entries).is_err() {
            return;
        }
        let rest = if step.more { Duration::ZERO } else { REST };
        if stopped.recv_timeout(rest) != Err(blocking::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

async fn keep_saving(records: Records, spool: Option<Arc<Spool>>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let error = save(&records).await.err();
        if let (Some(error), false) = (&error, failing) {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "cannot write the log checkpoint; going on"
            );
        }
        failing = error.is_some();
        if let (Some(spool), false) = (&spool, failing) {
            spool.sweep(|| records.book.pages());
        }
    }
}

async fn save(records: &Records) -> Result<(), CheckpointError> {
    let book = Arc::clone(&records.book);
    let saved = tokio::task::spawn_blocking(move || book.save()).await.expect("saving does not panic");
    if saved.is_err() {
        records.ledger.failed("checkpoint");
    }
    saved
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Lines that were read and are not acknowledged; the next start reads them again.
    pub left: u64,
}

/// A running pipeline. Dropping it stops it at once, as a crash would; [`LogHandle::shutdown`] drains it first.
#[derive(Debug)]
pub struct LogHandle {
    records: Records,
    spool: Option<Arc<Spool>>,
    stop: Option<blocking::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    shipping: JoinHandle<()>,
    saving: JoinHandle<()>,
}

impl LogHandle {
    /// The counts since the start.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let now = clock::steady();
        let lag = self.records.book.oldest().map(|read_at| now.saturating_sub(read_at));
        let spooled = self.spool.as_ref().map(|spool| spool.bytes());
        LogStats { spooled, ..self.records.ledger.snapshot(lag) }
    }

    /// Where records that are pushed go.
    #[must_use]
    pub fn spool(&self) -> Option<Arc<Spool>> {
        self.spool.clone()
    }

    /// Recent lines that the filter takes, newest first.
    #[must_use]
    pub fn recent(&self, filter: &LogFilter) -> Vec<Arc<LogLine>> {
        self.records.recent.find(filter)
    }

    /// Error lines per second of each workload, over the last minute.
    #[must_use]
    pub fn error_rates(&self, now: Moment) -> Vec<Sample> {
        self.records.recent.error_rates(now)
    }

    /// New lines as they come. A subscriber that lags misses some.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.records.recent.subscribe()
    }

    /// Stops reading, ships what was read for at most `bound`, and writes the checkpoint.
    pub async fn shutdown(mut self, bound: Duration) -> Drained {
        drop(self.stop.take());
        if tokio::time::timeout(bound, &mut self.shipping).await.is_err() {
            self.shipping.abort();
        }
        self.saving.abort();
        if let Some(thread) = self.thread.take() {
            // It ends by itself: the other end of its channel is gone.
            tokio::task::spawn_blocking(|| thread.join().ok()).await.ok();
        }
        if let Err(error) = save(&self.records).await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot write the log checkpoint");
        }
        Drained { left: self.records.ledger.snapshot(None).buffered }
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.shipping.abort();
        self.saving.abort();
    }
}

#[cfg(test)]
mod tests;
