//! `digits-serve`: answers `POST /predict` with a trained model. The arithmetic is real and takes microseconds; the service time is a
//! documented wait that stands for an accelerator, so that replicas add capacity on a machine with few cores.

mod access;
mod figures;
mod gate;
mod service;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::service::Service;
use crate::bounded::Bounded;
use crate::faults::Faults;
use crate::http::Serving;
use crate::log::{Log, rounded};
use crate::model::file::{FileError, Saved};
use crate::names::field;
use crate::{span, stop};

pub use self::service::PREDICT;

/// Options of `digits-serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; in a pod, the pod's: 0.0.0.0
    #[arg(long, default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// Port; 0 takes a free one
    #[arg(long)]
    pub port: u16,
    /// Model file, made by `digits-train --once --out FILE`
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Mean of the wait that stands for the accelerator's work on a request (spread: lognormal, a fifth of the mean)
    #[arg(long, default_value = "150ms", value_parser = span::parse)]
    pub service_time: Duration,
    /// Requests served at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// Requests that may wait for a place; one more is answered 503
    #[arg(long, default_value_t = 64)]
    pub queue: u16,
    /// Wait before being ready, which stands for loading weights into an accelerator
    #[arg(long, default_value = "5s", value_parser = span::parse)]
    pub load_time: Duration,
    /// Directory whose files switch faults on: crash, no-metrics, slow
    #[arg(long, value_name = "DIR")]
    pub faults: Option<PathBuf>,
}

/// Why `digits-serve` ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The model could not be loaded.
    #[error("failed to load the model")]
    Model(#[source] FileError),
    /// The port could not be listened on.
    #[error("failed to listen on {addr}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The handlers for SIGTERM and SIGINT could not be installed.
    #[error("failed to install the signal handlers")]
    Signals(#[source] io::Error),
    /// The crash fault was switched on.
    #[error("crashed on request (fault crash)")]
    Crashed,
}

/// Serves until SIGTERM or Ctrl-C, and answers what was taken before it returns. Logs to standard output.
///
/// # Errors
/// When the model cannot be used, the port is taken, or the crash fault is switched on.
pub async fn run(args: ServeArgs) -> Result<(), ServeError> {
    let stop = stop::on_signals().map_err(ServeError::Signals)?;
    Server::bind(args, Log::stdout()).await?.run(stop).await
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: Bounded,
    addr: SocketAddr,
    service: Arc<Service>,
    load_time: Duration,
    faults: Faults,
    log: Log,
    started: Instant,
}

impl Server {
    /// Reads the model and takes the port.
    ///
    /// # Errors
    /// When the model cannot be used or the port is taken.
    pub async fn bind(args: ServeArgs, log: Log) -> Result<Self, ServeError> {
        let started = Instant::now();
        let saved = Saved::read(&args.model).map_err(ServeError::Model)?;
        let wanted = SocketAddr::new(args.address, args.port);
        let failed = |source| ServeError::Listen { addr: wanted, source };
        let listener = Bounded::bind(args.address, args.port).await.map_err(failed)?;
        let addr = listener.addr().map_err(failed)?;
        let faults = Faults::new(args.faults.as_deref());
        let service = Arc::new(Service::new(&args, saved, addr.port(), faults.clone(), log.clone()));
        log.info("started").with(field::ADDRESS, addr.to_string()).write();
        Ok(Self { listener, addr, service, load_time: args.load_time, faults, log, started })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `stop`, then finishes what was taken.
    ///
    /// # Errors
    /// When the crash fault is switched on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let (faults, log, started) = (self.faults.clone(), self.log.clone(), self.started);
        tokio::select! {
            () = self.serve(&stop) => Ok(()),
            () = faults.crash(started) => {
                log.error("crashed").with(field::ERROR, ServeError::Crashed.to_string()).write();
                Err(ServeError::Crashed)
            }
        }
    }

    async fn serve(self, stop: &CancellationToken) {
        let serving = Serving::start(self.listener, service::router(&self.service));
        let loaded = tokio::time::sleep_until(self.started + self.load_time);
        if stop.run_until_cancelled(loaded).await.is_some() {
            self.service.load();
            let seconds = rounded(self.started.elapsed().as_secs_f64());
            let version = self.service.model_version();
            self.log
                .info("ready")
                .with(field::LOAD_SECONDS, seconds)
                .with(field::MODEL_VERSION, version)
                .write();
            stop.cancelled().await;
        }
        self.service.stop();
        self.log.info("stopping").write();
        serving.drain().await;
        self.log.info("stopped").with(field::UNFINISHED, self.service.unfinished()).write();
    }
}

#[cfg(test)]
mod tests;
