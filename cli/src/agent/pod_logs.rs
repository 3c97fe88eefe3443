//! The log path of an agent: what the containers of its node write, to Elasticsearch.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_agent::collect::PodTable;
use tidegate_agent::export::Registry;
use tidegate_agent::logs::{
    LogConfig, LogFormat, LogHandle, LogPipeline, LogSource, ShipLimits, SinkConfig, Spool, SpoolLimits,
    TailLimits,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::PodLogArgs;
use crate::config::Elasticsearch;
use crate::up::server_config;

/// How often the folders are looked at: hundreds of them, and a pod's outlive it by seconds.
const RESCAN: Duration = Duration::from_secs(1);
/// How often `/metrics` is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Time to ship what has been read, at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// Starts, if there is somewhere to ship to. What is `received` beside is kept with its state.
///
/// # Errors
/// When the state cannot be kept, or the server is described wrongly.
pub(super) fn start(
    args: &PodLogArgs,
    root: &Path,
    node: &str,
    pods: watch::Receiver<PodTable>,
    received: bool,
) -> anyhow::Result<Option<PodLogs>> {
    let Some(url) = &args.logs_to else { return Ok(None) };
    let server = Elasticsearch {
        data_stream: args.logs_data_stream.clone(),
        username: args.logs_user.clone(),
        password_file: args.logs_password.clone(),
        api_key_file: args.logs_api_key.clone(),
        ca_file: args.logs_ca.clone(),
        ..Elasticsearch::at(url.clone())
    };
    let folder = root.join(args.logs_dir.strip_prefix("/").unwrap_or(&args.logs_dir));
    let source = LogSource {
        workload: None,
        replica: None,
        paths: vec![folder.join("*/*/*.log*")],
        format: LogFormat::Cri,
    };
    let (sources, followed) = watch::channel(vec![source]);
    let config = LogConfig {
        host: node.to_owned(),
        sources: followed,
        pods: Some(pods),
        sink: SinkConfig::Elasticsearch(server_config(&server)),
        state_dir: args.logs_state.clone(),
        tail: TailLimits { rescan: RESCAN, ..TailLimits::default() },
        ship: ShipLimits::default(),
        spool: received.then(SpoolLimits::default),
    };
    let handle = LogPipeline::start(config).context("the log path cannot start")?;
    Ok(Some(PodLogs { handle, _sources: sources }))
}

/// The log path at work.
pub(super) struct PodLogs {
    handle: LogHandle,
    /// Kept: the log path ends when it is gone.
    _sources: watch::Sender<Vec<LogSource>>,
}

/// The same, seen on `/metrics`.
pub(super) struct ToldLogs {
    telling: tokio::task::JoinHandle<PodLogs>,
    stop: CancellationToken,
}

impl PodLogs {
    /// Where records that are pushed go.
    pub(super) fn spool(&self) -> Option<Arc<Spool>> {
        self.handle.spool()
    }

    /// Tells `/metrics` of it, as long as it runs.
    pub(super) fn tell(self, registry: &Arc<Registry>) -> ToldLogs {
        let (registry, stop) = (Arc::clone(registry), CancellationToken::new());
        let stopped = stop.clone();
        let telling = tokio::spawn(async move {
            while stopped.run_until_cancelled(tokio::time::sleep(TELL_EVERY)).await.is_some() {
                self.handle.stats().tell(&registry);
            }
            self
        });
        ToldLogs { telling, stop }
    }
}

impl ToldLogs {
    /// Ships what has been read, and ends.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let logs = self.telling.await.context("the log path panicked")?;
        let drained = logs.handle.shutdown(DRAIN).await;
        tracing::info!(left = drained.left, "log path stopped");
        Ok(())
    }
}
