//! The pods of this node: who they are, which workload they are part of, which containers and devices they have.
//!
//! Told by the kubelet's Pods API where its socket is, else by a watch of the API server that is filtered to this node, else by
//! nobody. The table is published on a watch; when whoever tells falls silent, the last one stays, with its age, and is tried for
//! again. Devices come from the kubelet's pod-resources API (`resources`), joined with the table on the pod.

mod api_server;
mod book;
pub mod device;
mod kubelet;
mod messages;
mod object;
pub mod owners;
pub mod probe;
mod resources;
pub mod table;
pub mod targets;
pub mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use api_server::ApiServer;
pub use owners::{Owner, Owners};
pub(crate) use resources::{AskPace, follow_devices};
pub use table::{Pod, PodContainer, PodTable};

use super::reading::{Cause, SourceName};
use super::status::StatusBoard;
use crate::backoff::Backoff;
use crate::clock;
use book::{Book, Change};

/// Where the kubelet has the socket of its Pods API, below its directory.
const PODS_SOCKET: &str = "pods-api/pods-api.sock";
/// How long it may take until all pods have been told.
const ALL_TOLD_MAX: Duration = Duration::from_secs(30);
/// Waits between tries, from the first on. With the jitter, a thousand nodes come back over half a minute.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// While the API server tells, the kubelet is looked for this often.
const LOOK_FOR_KUBELET_EVERY: Duration = Duration::from_secs(30);
/// A kubelet that has a socket and tells no pods is left alone this long, where there is an API server.
const LEAVE_KUBELET_FOR: Duration = Duration::from_secs(300);

/// Who may be asked for the pods of this node.
#[derive(Debug, Clone)]
pub struct PodSources {
    /// The kubelet's directory, as this process sees it.
    pub kubelet: PathBuf,
    /// Asked while the kubelet does not tell.
    pub api_server: Option<ApiServer>,
}

/// Why nobody tells of the pods any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("failed to connect to the kubelet at {}", socket.display())]
    Connect { socket: PathBuf, source: tonic::transport::Error },
    #[error("the kubelet refused or broke off")]
    Kubelet { source: Box<tonic::Status> },
    #[error("the watch of the API server failed")]
    ApiServer { source: Box<kube::runtime::watcher::Error> },
    #[error("silent for {} s", for_at_least.as_secs())]
    Silent { for_at_least: Duration },
    #[error("the stream of changes ended")]
    Ended,
    #[error("neither the kubelet nor an API server can be asked")]
    Nobody,
}

const SILENT: FollowError = FollowError::Silent { for_at_least: ALL_TOLD_MAX };

impl FollowError {
    fn kubelet(source: tonic::Status) -> Self {
        Self::Kubelet { source: Box::new(source) }
    }

    const fn cause(&self) -> Cause {
        match self {
            Self::Connect { .. } | Self::Nobody => Cause::Unreachable,
            Self::Kubelet { .. } | Self::ApiServer { .. } | Self::Ended => Cause::BrokenOff,
            Self::Silent { .. } => Cause::Timeout,
        }
    }
}

/// Keeps `table` until `stop` says so or is dropped.
pub(crate) async fn follow_pods(
    sources: PodSources,
    table: watch::Sender<PodTable>,
    board: Arc<StatusBoard>,
    mut stop: watch::Receiver<bool>,
) {
    board.started(SourceName::Pods);
    let mut follower = Follower { sources, table, board, leave_kubelet_until: Duration::ZERO };
    let (first, most) = RETRY;
    let mut backoff = Backoff::new(first, most, u64::from(std::process::id()));
    let following = async {
        loop {
            let was_in_step = follower.follow().await;
            if was_in_step {
                backoff.reset();
            }
            sleep(backoff.next()).await;
        }
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = following => {}
    }
}

#[derive(Debug)]
struct Follower {
    sources: PodSources,
    table: watch::Sender<PodTable>,
    board: Arc<StatusBoard>,
    leave_kubelet_until: Duration,
}

impl Follower {
    /// Asks the best that is there until it falls silent; tells whether it had told all pods.
    async fn follow(&mut self) -> bool {
        let socket = self.sources.kubelet.join(PODS_SOCKET);
        let left_alone = self.sources.api_server.is_some() && clock::steady() < self.leave_kubelet_until;
        if !left_alone && socket.exists() {
            let ended = match timeout(ALL_TOLD_MAX, kubelet::changes(&socket)).await {
                Ok(Ok(changes)) => self.keep(changes).await,
                Ok(Err(error)) => (error, false),
                Err(_) => (SILENT, false),
            };
            self.leave_kubelet_until =
                if ended.1 { Duration::ZERO } else { clock::steady() + LEAVE_KUBELET_FOR };
            return self.lose(&ended.0, ended.1);
        }
        let Some(server) = self.sources.api_server.clone() else {
            return self.lose(&FollowError::Nobody, false);
        };
        let left_alone_for = self.leave_kubelet_until.saturating_sub(clock::steady());
        let (error, in_step) = tokio::select! {
            ended = self.keep(api_server::changes(&server)) => ended,
            // The kubelet is nearer; what the API server told stays until the kubelet has told all.
            () = kubelet_back(&socket, left_alone_for) => return true,
        };
        self.lose(&error, in_step)
    }

    /// Publishes what `changes` make of the table until they end; tells why, and whether all pods had been told.
    async fn keep(
        &self,
        mut changes: BoxStream<'static, Result<Change, FollowError>>,
    ) -> (FollowError, bool) {
        let (mut book, mut in_step) = (Book::default(), false);
        let began = clock::now();
        loop {
            let left = ALL_TOLD_MAX.saturating_sub(clock::steady().saturating_sub(began.steady));
            let next = changes.next();
            let change = if in_step { Ok(next.await) } else { timeout(left, next).await };
            let change = match change {
                Ok(Some(Ok(change))) => change,
                Ok(Some(Err(error))) => return (error, in_step),
                Ok(None) => return (FollowError::Ended, in_step),
                Err(_) => return (SILENT, false),
            };
            if let Some(table) = book.take(change) {
                self.table.send_replace(table);
                if !in_step {
                    in_step = true;
                    let took = clock::steady().saturating_sub(began.steady);
                    self.board.read(SourceName::Pods, began.at, took, None);
                }
            }
        }
    }

    fn lose(&self, error: &FollowError, in_step: bool) -> bool {
        let now = clock::now();
        self.table.send_if_modified(|table| {
            let was_in_step = table.is_in_step();
            *table = table.clone().lost(now);
            was_in_step
        });
        if in_step || self.board.get().sources.get(&SourceName::Pods).is_none_or(|pods| pods.cause.is_none())
        {
            tracing::warn!(error = error as &dyn std::error::Error, "pods are no longer told");
        }
        self.board.lost(SourceName::Pods, error.cause());
        in_step
    }
}

/// Returns when somebody listens at `socket` again. A socket that a dead kubelet left behind does not count.
async fn kubelet_back(socket: &Path, not_before: Duration) {
    sleep(not_before).await;
    loop {
        sleep(LOOK_FOR_KUBELET_EVERY).await;
        if tokio::net::UnixStream::connect(socket).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
