//! A small reverse proxy in front of the replicas of one serving workload. It gives exact figures: what arrived, what
//! waits, what is in flight, how long it took and what was refused.
//!
//! HTTP/1.1 on loopback only; no TLS, no upgrades (WebSocket), no HTTP/2 and so no gRPC. It does not decide how many
//! replicas there are, and it does not check their health: it is told who takes requests.

mod answers;
mod arrivals;
mod body;
mod dispatch;
mod headers;
mod proxy;
mod serve;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{Timestamp, WorkloadId};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::routing::{Backend, Routing};
pub use arrivals::Arrivals;
use dispatch::Dispatch;
use proxy::Proxy;
use stats::Recorder;
pub use stats::{BackendLoad, DropCause, FailCause, GatewayStats, StatusClass};

/// How a gateway listens and what it bears.
#[derive(Debug, Clone)]
pub struct GatewaySpec {
    /// Whose replicas it stands before.
    pub workload: WorkloadId,
    /// Where it listens; a loopback address. Port 0: any that is free.
    pub listen: SocketAddr,
    /// Requests that one replica is given at a time; at least 1.
    pub concurrency: u32,
    /// Requests that may wait for a replica; one more is refused.
    pub queue_max: usize,
    /// Longest wait for a replica.
    pub queue_wait: Duration,
    /// Longest wait for the head of a replica's answer, and for each further part of its body.
    pub answer_timeout: Duration,
    /// A request is in time when it is answered within this, waiting included; absent: nothing is judged.
    pub objective: Option<Duration>,
    /// Connections of clients at a time; one more waits to be accepted.
    pub connections_max: usize,
}

impl GatewaySpec {
    /// A gateway with the default bounds: 16 requests at a time per replica, 1024 waiting for at most 30 s.
    #[must_use]
    pub const fn new(workload: WorkloadId, listen: SocketAddr) -> Self {
        Self {
            workload,
            listen,
            concurrency: 16,
            queue_max: 1024,
            queue_wait: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(60),
            objective: None,
            connections_max: 1024,
        }
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It has neither TLS nor authentication, so it stays on this machine.
    #[error("the gateway listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address is taken or does not exist.
    #[error("failed to listen on {addr}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// A running gateway. Dropped, it stops at once; see [`Gateway::stop`].
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    dispatch: Arc<Dispatch>,
    recorder: Arc<Recorder>,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// The part of a gateway that targets hold: where requests go.
#[derive(Debug, Clone)]
pub struct Router(Arc<Dispatch>);

impl Routing for Router {
    fn route(&self, backends: &[Backend]) {
        self.0.set_backends(backends);
    }

    fn in_flight(&self, backend: &Backend) -> Option<u32> {
        self.0.in_flight(backend)
    }
}

impl Gateway {
    /// Listens from the return of this call on. Until it is given backends, requests wait.
    ///
    /// # Errors
    /// When the address is not a loopback address or cannot be listened on.
    pub async fn start(spec: GatewaySpec) -> Result<Self, GatewayError> {
        if !spec.listen.ip().is_loopback() {
            return Err(GatewayError::NotLoopback(spec.listen));
        }
        let failed = |source| GatewayError::Listen { addr: spec.listen, source };
        let listener = TcpListener::bind(spec.listen).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let dispatch = Arc::new(Dispatch::new(spec.concurrency, spec.queue_max));
        let recorder = Arc::new(Recorder::new(spec.objective));
        let (stopping, stop) = watch::channel(false);
        let connections_max = spec.connections_max;
        let proxy = Proxy::new(spec, Arc::clone(&dispatch), Arc::clone(&recorder));
        let server = tokio::spawn(serve::serve(listener, Arc::new(proxy), connections_max, stop));
        Ok(Self { addr, dispatch, recorder, stopping, server })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a target is given to route its replicas with.
    #[must_use]
    pub fn router(&self) -> Router {
        Router(Arc::clone(&self.dispatch))
    }

    /// Replaces the backends; those left out finish what they have.
    pub fn set_backends(&self, backends: &[Backend]) {
        self.dispatch.set_backends(backends);
    }

    /// All figures at this moment. Cheap: counters, and a copy of at most a few hundred histogram buckets.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        self.recorder.snapshot(&self.dispatch)
    }

    /// Arrivals in each whole second from `from` on, as far as they are kept; the running second is left out.
    #[must_use]
    pub fn arrivals_since(&self, from: Timestamp) -> Arrivals {
        self.recorder.arrivals_since(from)
    }

    /// Accepts nothing more, lets what is in flight finish for at most `limit`, then cuts what is left.
    pub async fn stop(&self, limit: Duration) {
        self.stopping.send_replace(true);
        self.dispatch.close();
        // The server holds the other end until it has ended.
        if tokio::time::timeout(limit, self.stopping.closed()).await.is_err() {
            self.server.abort();
            tracing::warn!(addr = %self.addr, "requests were cut when the gateway stopped");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[cfg(test)]
mod tests;
