//! `digits-train`: data-parallel training by workers that may join and leave between steps. All run the same command and share a
//! directory; whoever holds its lock leads. The gradients are real; the step time is a documented wait that stands for an accelerator.
//!
//! The overhead of more workers is what the exchange of parameters and gradients really costs; nothing is added for it.

mod announcement;
mod checkpoint;
mod follow;
mod front;
mod lead;
mod status;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::announcement::Lock;
use self::checkpoint::SaveRequest;
use self::follow::Followed;
use self::status::Status;
use crate::bounded::Bounded;
use crate::faults::{Faults, SLOWDOWN};
use crate::http::Serving;
use crate::log::{Log, rounded};
use crate::model::file::FileError;
use crate::names::field;
use crate::{learn, span, stop};

/// First wait before looking for a leader again; doubled up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A worker that finds no leader for this long, and cannot lead itself, gives up: whoever started it should know.
const LEADERLESS_MAX: Duration = Duration::from_secs(120);

/// Options of `digits-train`.
#[derive(Debug, Clone, clap::Args)]
pub struct TrainArgs {
    /// Port on 127.0.0.1 for probes, metrics and checkpoints; 0 takes a free one
    #[arg(long, required_unless_present = "once", conflicts_with = "once")]
    pub port: Option<u16>,
    /// Directory that the workers of a job share: lock, leader's address, checkpoint
    #[arg(long, value_name = "DIR", required_unless_present = "once", conflicts_with = "once")]
    pub dir: Option<PathBuf>,
    /// Samples that each worker works through in a step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub per_worker_batch: u16,
    /// Wait in each step that stands for the accelerator's work
    #[arg(long, default_value = "200ms", value_parser = span::parse)]
    pub step_time: Duration,
    /// Steps between two log lines of the leader
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub log_every: u16,
    /// Directory whose files switch faults on: crash, no-metrics, fail-checkpoint, slow
    #[arg(long, value_name = "DIR")]
    pub faults: Option<PathBuf>,
    /// Train in this process alone at full speed, write the model and end
    #[arg(long, requires = "out")]
    pub once: bool,
    /// Steps to train for
    #[arg(long, requires = "once", default_value_t = learn::STEPS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub steps: u64,
    /// Model file to write
    #[arg(long, value_name = "MODEL", requires = "once")]
    pub out: Option<PathBuf>,
}

/// Why `digits-train` ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The command line lacks something that it has to have.
    #[error("expected {0}")]
    Missing(&'static str),
    /// The model file or the checkpoint could not be used.
    #[error("failed to use a model file")]
    Model(#[source] FileError),
    /// A port could not be listened on.
    #[error("failed to listen on 127.0.0.1:{port}")]
    Listen {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The shared directory could not be used.
    #[error("failed to use the training directory {dir}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The handlers for SIGTERM and SIGINT could not be installed.
    #[error("failed to install the signal handlers")]
    Signals(#[source] io::Error),
    /// Another process holds the lock and does not lead.
    #[error("found no leader for {} s: another process holds the lock and answers nobody", LEADERLESS_MAX.as_secs())]
    NoLeader,
    /// The crash fault was switched on.
    #[error("crashed on request (fault crash)")]
    Crashed,
}

/// What every part of a worker works with.
#[derive(Debug)]
struct Job {
    dir: PathBuf,
    batch: usize,
    step_time: Duration,
    log_every: u64,
    status: Status,
    faults: Faults,
    log: Log,
    stop: CancellationToken,
}

impl Job {
    /// Time in which a worker has to be done with a step: a slow one is waited for, a stalled one is not.
    fn deadline(&self) -> Duration {
        self.step_time * 2 * SLOWDOWN + Duration::from_secs(1)
    }

    fn failed(&self) -> impl Fn(io::Error) -> TrainError + '_ {
        |source| TrainError::Directory { dir: self.dir.clone(), source }
    }
}

/// Trains: with `--once` until the model is written, else until SIGTERM or Ctrl-C. Logs to standard output.
///
/// # Errors
/// When a file, the directory or the port cannot be used, no leader is found, or the crash fault is switched on.
pub async fn run(args: TrainArgs) -> Result<(), TrainError> {
    let log = Log::stdout();
    if args.once {
        return once(&args, &log).await;
    }
    let stop = stop::on_signals().map_err(TrainError::Signals)?;
    Worker::bind(args, log).await?.run(stop).await
}

async fn once(args: &TrainArgs, log: &Log) -> Result<(), TrainError> {
    let out = args.out.clone().ok_or(TrainError::Missing("--out MODEL with --once"))?;
    let (file, steps) = (out.display().to_string(), args.steps);
    let (saved, accuracy) = tokio::task::spawn_blocking(move || {
        learn::train_to(&out, steps).map(|saved| {
            let accuracy = saved.model.accuracy(&learn::held_out());
            (saved, accuracy)
        })
    })
    .await
    .expect("training does not panic")
    .map_err(TrainError::Model)?;
    log.info("model saved")
        .with(field::FILE, file)
        .with(field::STEP, saved.steps)
        .with(field::MODEL_VERSION, saved.version())
        .with(field::ACCURACY, accuracy.map(rounded))
        .write();
    Ok(())
}

/// A worker that listens and does not train yet.
#[derive(Debug)]
pub struct Worker {
    args: TrainArgs,
    dir: PathBuf,
    listener: Bounded,
    addr: SocketAddr,
    log: Log,
    started: Instant,
}

impl Worker {
    /// Takes the port and makes the shared directory.
    ///
    /// # Errors
    /// When either fails.
    pub async fn bind(args: TrainArgs, log: Log) -> Result<Self, TrainError> {
        let started = Instant::now();
        let port = args.port.ok_or(TrainError::Missing("--port PORT without --once"))?;
        let dir = args.dir.clone().ok_or(TrainError::Missing("--dir DIR without --once"))?;
        std::fs::create_dir_all(&dir).map_err(|source| TrainError::Directory { dir: dir.clone(), source })?;
        let failed = |source| TrainError::Listen { port, source };
        let listener = Bounded::bind(Ipv4Addr::LOCALHOST.into(), port).await.map_err(failed)?;
        let addr = listener.addr().map_err(failed)?;
        log.info("started").with(field::ADDRESS, addr.to_string()).write();
        Ok(Self { args, dir, listener, addr, log, started })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Trains until `stop`, then leaves after the step under way.
    ///
    /// # Errors
    /// When the directory or a checkpoint cannot be used, no leader is found, or the crash fault is switched on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TrainError> {
        let job = Arc::new(Job {
            dir: self.dir,
            batch: self.args.per_worker_batch.into(),
            step_time: self.args.step_time,
            log_every: self.args.log_every.into(),
            status: Status::new(),
            faults: Faults::new(self.args.faults.as_deref()),
            log: self.log,
            stop,
        });
        let (requests, taken) = mpsc::channel(checkpoint::REQUESTS_MAX);
        let serving = Serving::start(self.listener, front::router(&job, requests));
        let ended = tokio::select! {
            ended = train(&job, taken) => ended,
            () = job.faults.crash(self.started) => Err(TrainError::Crashed),
        };
        match &ended {
            Ok(()) => {
                serving.drain().await;
                job.log.info("stopped").write();
            }
            Err(error) => job.log.error("failed").with(field::ERROR, chain(error)).write(),
        }
        ended
    }
}

/// Leads whenever the lock is free, else follows whoever holds it, until it is asked to stop.
async fn train(job: &Job, mut requests: mpsc::Receiver<SaveRequest>) -> Result<(), TrainError> {
    let (mut wait, mut leaderless) = (BACKOFF_MIN, Instant::now());
    while !job.stop.is_cancelled() {
        if let Some(lock) = Lock::try_take(&job.dir).map_err(job.failed())? {
            return lead::lead(job, &mut requests, lock).await;
        }
        match follow::follow(job, &mut requests).await {
            Followed::Stopped => return Ok(()),
            Followed::Lost { joined: true } => (wait, leaderless) = (BACKOFF_MIN, Instant::now()),
            Followed::Lost { joined: false } => wait = (wait * 2).min(BACKOFF_MAX),
        }
        if leaderless.elapsed() > LEADERLESS_MAX {
            return Err(TrainError::NoLeader);
        }
        // A stop ends the wait; the loop sees it.
        job.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
    Ok(())
}

/// An error with its causes, for a log line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
