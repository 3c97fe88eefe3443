//! How a server ends in good order: the signals that it ends by, and the wait for its parts.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a part may take to end: many times a round's length.
const PART_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Waits for a part that was told to stop, but not for ever: a disk that hangs must not keep replicas from being ended.
pub(crate) async fn ended(part: tokio::task::JoinHandle<()>, name: &str) -> anyhow::Result<()> {
    match tokio::time::timeout(PART_ENDS_WITHIN, part).await {
        Ok(ended) => ended.with_context(|| format!("{name} panicked")),
        Err(_) => {
            tracing::error!(part = name, "did not stop in time; going on without it");
            Ok(())
        }
    }
}

/// The signals that end a server in good order.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// Ends after `duration`, or never.
pub(crate) async fn over(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
