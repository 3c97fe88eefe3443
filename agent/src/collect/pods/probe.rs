//! Asking the kubelet once, for a check of a node: whether its sockets answer, and what.

use std::path::Path;
use std::time::Duration;

use futures::stream::StreamExt as _;
use tokio::time::timeout;

use super::book::Change;
use super::resources::{self, RESOURCES_SOCKET};
use super::{FollowError, PODS_SOCKET, kubelet, owners};

/// A check that takes longer has found a kubelet that hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What one socket of the kubelet said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is no such socket.
    NoSocket,
    /// So many pods, or pods that have GPUs.
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

/// Pods that have a GPU or an instance of one, by the kubelet's pod-resources API.
pub async fn devices(kubelet: &Path) -> Answer {
    let socket = kubelet.join(RESOURCES_SOCKET);
    asked(&socket, async { Ok(owners::holders(&resources::list(&socket).await?)) }).await
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

/// What went wrong and why, in one line. A cause that says the same as what it caused is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.ends_with(&why) {
            text = format!("{text}: {why}");
        }
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
        let once = |text: &str| text.matches("Connection refused").count() == 1;
        assert!(
            matches!(&answer, Answer::Failed(text) if text.contains("connect") && once(text)),
            "{answer:?}"
        );
    }
}
