//! The kubelet's Pods API: the pods of this node over a Unix socket, with no API server in between.

use std::path::Path;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};

use super::FollowError;
use super::book::Change;
use super::messages::core;
use super::messages::pods::pods_client::PodsClient;
use super::messages::pods::{EventType, WatchPodsEvent, WatchPodsRequest};
use super::object;

/// Largest message taken: the kubelet's own clients take no larger one.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A kubelet that hangs keeps its connections: it is asked for a sign of life after this long, and given up after as long again.
const ALIVE_EVERY: Duration = Duration::from_secs(20);

/// Connects to a socket of the kubelet.
pub(super) async fn connect(socket: &Path) -> Result<Channel, FollowError> {
    let address = format!("unix://{}", socket.display());
    let connecting = async {
        let endpoint = Endpoint::from_shared(address)?;
        let endpoint = endpoint.connect_timeout(CONNECT_MAX).http2_keep_alive_interval(ALIVE_EVERY);
        endpoint.keep_alive_timeout(ALIVE_EVERY).keep_alive_while_idle(true).connect().await
    };
    connecting.await.map_err(|source| FollowError::Connect { socket: socket.to_owned(), source })
}

/// Every change of the node's pods, as the kubelet tells it, beginning with all of them.
pub(super) async fn changes(
    socket: &Path,
) -> Result<BoxStream<'static, Result<Change, FollowError>>, FollowError> {
    let channel = connect(socket).await?;
    let mut client = PodsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let events = client.watch_pods(WatchPodsRequest {}).await.map_err(FollowError::kubelet)?.into_inner();
    let changes = events.filter_map(|event| async {
        match event {
            Ok(event) => change(&event).map(Ok),
            Err(status) => Some(Err(FollowError::kubelet(status))),
        }
    });
    Ok(futures::stream::once(async { Ok(Change::Began) }).chain(changes).boxed())
}

/// What an event says; `None` when it says nothing that can be read, or comes of a later version.
fn change(event: &WatchPodsEvent) -> Option<Change> {
    let pod = || {
        let core::Pod { metadata, spec, status } = core::Pod::decode(event.pod.as_slice()).ok()?;
        object::pod(metadata?, &spec.unwrap_or_default(), status.as_ref())
    };
    match event.r#type() {
        EventType::Added | EventType::Modified => Some(Change::Is(Box::new(pod()?))),
        EventType::Deleted => Some(Change::Gone(pod()?.uid)),
        EventType::InitialSyncComplete => Some(Change::InStep),
        EventType::Unspecified => None,
    }
}
