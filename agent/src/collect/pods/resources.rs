//! The kubelet's pod-resources API: which devices it gave to which containers.
//!
//! The kubelet limits how often it answers, so its answer is kept: it is asked again when the pods have changed, and at most every
//! ten seconds; and every minute, since devices change hands without a pod that is told of when nobody tells of pods.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::FollowError;
use super::kubelet::{MESSAGE_BYTES_MAX, connect};
use super::messages::podresources::pod_resources_lister_client::PodResourcesListerClient;
use super::messages::podresources::{ListPodResourcesRequest, ListPodResourcesResponse};
use super::owners::{self, Owners};
use super::table::PodTable;
use crate::clock;
use crate::collect::reading::SourceName;
use crate::collect::status::StatusBoard;

/// Where the kubelet has the socket, below its directory.
pub(super) const RESOURCES_SOCKET: &str = "pod-resources/kubelet.sock";

/// How often the kubelet is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskPace {
    /// At most this often.
    pub(crate) min: Duration,
    /// And at least this often.
    pub(crate) max: Duration,
}

impl Default for AskPace {
    fn default() -> Self {
        Self { min: Duration::from_secs(10), max: Duration::from_secs(60) }
    }
}

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Keeps `owners` until `stop` says so or is dropped. While the kubelet does not answer, the last answer stays; one that takes a device
/// from a pod that lives is believed when it is given twice.
pub(crate) async fn follow_devices(
    kubelet: PathBuf,
    pace: AskPace,
    mut pods: watch::Receiver<PodTable>,
    owners: watch::Sender<Arc<Owners>>,
    board: Arc<StatusBoard>,
    mut stop: watch::Receiver<bool>,
) {
    let socket = kubelet.join(RESOURCES_SOCKET);
    board.started(SourceName::Devices);
    let following = async {
        let mut doubted = false;
        loop {
            let asked = Instant::now();
            let now = clock::now();
            let table = pods.borrow_and_update().clone();
            match list(&socket).await {
                Ok(list) => {
                    let took = clock::steady().saturating_sub(now.steady);
                    board.read(SourceName::Devices, now.at, took, None);
                    let joined = owners::join(&list, &table);
                    doubted = !doubted && owners.borrow().are_forgotten(&joined, &table);
                    if !doubted {
                        owners.send_if_modified(|known| {
                            let differs = **known != joined;
                            if differs {
                                *known = Arc::new(joined);
                            }
                            differs
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "devices are not told");
                    board.lost(SourceName::Devices, error.cause());
                    doubted = false;
                }
            }
            let wait = if doubted { pace.min } else { pace.max };
            tokio::select! {
                () = sleep_until(asked + wait) => {}
                // Without a sender nothing changes any more, and the longer wait goes on.
                () = changed(&mut pods) => sleep_until(asked + pace.min).await,
            }
        }
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = following => {}
    }
}

async fn changed(pods: &mut watch::Receiver<PodTable>) {
    if pods.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Asks once, on a connection of its own: the socket may be another one after the kubelet has been away.
pub(super) async fn list(socket: &Path) -> Result<ListPodResourcesResponse, FollowError> {
    let asking = async {
        let mut client = PodResourcesListerClient::new(connect(socket).await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answer = client.list(ListPodResourcesRequest {}).await.map_err(FollowError::kubelet)?;
        Ok(answer.into_inner())
    };
    timeout(ANSWER_MAX, asking).await.unwrap_or(Err(FollowError::Silent { for_at_least: ANSWER_MAX }))
}
