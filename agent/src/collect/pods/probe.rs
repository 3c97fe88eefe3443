//! Asking the kubelet once, for a check of a node: whether its sockets answer, and what.

use std::path::Path;
use std::time::Duration;

use futures::stream::StreamExt as _;
use tokio::time::timeout;

use super::book::Change;
use super::resources::{self, RESOURCES_SOCKET};
use super::{FollowError, PODS_SOCKET, kubelet};

/// A check that takes longer has found a kubelet that hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What one socket of the kubelet said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is no such socket.
    NoSocket,
    /// So many pods, or pods with devices.
    Counted(usize),
    /// It does not answer, or not as it should; in words.
    Failed(String),
}

/// Pods that the kubelet's Pods API tells; `kubelet`: its directory, as this process sees it.
pub async fn pods(kubelet: &Path) -> Answer {
    let socket = kubelet.join(PODS_SOCKET);
    let counting = async {
        let mut changes = kubelet::changes(&socket).await?;
        let mut count = 0;
        while let Some(change) = changes.next().await {
            match change? {
                Change::Is(_) => count += 1,
                Change::InStep => return Ok(count),
                Change::Began | Change::Gone(_) => {}
            }
        }
        Err(FollowError::Ended)
    };
    asked(&socket, counting).await
}

/// Pods that the kubelet's pod-resources API knows the devices of.
pub async fn devices(kubelet: &Path) -> Answer {
    let socket = kubelet.join(RESOURCES_SOCKET);
    asked(&socket, async { Ok(resources::list(&socket).await?.pod_resources.len()) }).await
}

async fn asked(socket: &Path, asking: impl Future<Output = Result<usize, FollowError>>) -> Answer {
    if !socket.exists() {
        return Answer::NoSocket;
    }
    match timeout(ANSWER_MAX, asking).await {
        Ok(Ok(count)) => Answer::Counted(count),
        Ok(Err(error)) => Answer::Failed(chain(&error)),
        Err(_) => Answer::Failed(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_there_and_one_that_nobody_serves_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(pods(folder.path()).await, Answer::NoSocket);
        assert_eq!(devices(folder.path()).await, Answer::NoSocket);
        let socket = folder.path().join(RESOURCES_SOCKET);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        // Bound, and closed again: what a dead kubelet leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let answer = devices(folder.path()).await;
        assert!(matches!(&answer, Answer::Failed(text) if text.contains("connect")), "{answer:?}");
    }
}
