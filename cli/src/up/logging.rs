//! The log path of `up`: which files are followed, and where their lines go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_agent::logs::elasticsearch::{Auth, ElasticsearchConfig, Finder, IDS_MAX};
use tidegate_agent::logs::{
    LogConfig, LogFilter, LogFormat, LogHandle, LogPipeline, LogSource, NdjsonConfig, ShipLimits, SinkConfig,
    SpoolLimits, TailLimits,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, lock};
use super::settings::{LogSetting, Settings};
use crate::clock;
use crate::config::Elasticsearch;

const SECONDS_PER_DAY: u64 = 86_400;
/// How often Elasticsearch is asked for the last lines by their ids.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// A line that was acknowledged can be found this long after.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// Starts following the output of replicas and the files that the configuration names.
pub(super) fn start(
    settings: &Settings,
    host: &str,
) -> anyhow::Result<(LogHandle, watch::Sender<Vec<LogSource>>)> {
    let (sources, followed) = watch::channel(sources(settings));
    let sink = match &settings.logs {
        LogSetting::Ndjson => {
            SinkConfig::Ndjson(NdjsonConfig::new(settings.data.join("logs").join("shipped")))
        }
        LogSetting::Elasticsearch(server) => SinkConfig::Elasticsearch(server_config(server)),
    };
    let config = LogConfig {
        host: host.to_owned(),
        sources: followed,
        pods: None,
        sink,
        state_dir: settings.data.join("state").join("logs"),
        tail: TailLimits::default(),
        ship: ShipLimits::default(),
        spool: (settings.otlp.grpc.is_some() || settings.otlp.http.is_some()).then(SpoolLimits::default),
    };
    Ok((LogPipeline::start(config).context("the log path cannot start")?, sources))
}

fn sources(settings: &Settings) -> Vec<LogSource> {
    let of = |workload| LogSource { workload, replica: None, paths: Vec::new(), format: LogFormat::Auto };
    let mut sources = Vec::new();
    for setting in &settings.workloads {
        let mut paths = setting.files.clone();
        paths.extend(setting.process.as_ref().map(|spec| replica_logs(&spec.log_dir, setting.id.name())));
        sources.push(LogSource { paths, ..of(Some(setting.id.clone())) });
    }
    sources.push(LogSource { paths: settings.files.clone(), ..of(None) });
    // One without files still says whose records may be pushed.
    sources.retain(|source| !source.paths.is_empty() || source.workload.is_some());
    sources
}

/// Output of a workload's replicas: `NAME-INDEX.log`.
fn replica_logs(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}-[0-9]*.log"))
}

/// The configuration's words in the agent's.
pub(crate) fn server_config(server: &Elasticsearch) -> ElasticsearchConfig {
    let auth = match (&server.api_key_file, &server.username, &server.password_file) {
        (Some(key_file), ..) => Auth::ApiKey { key_file: key_file.clone() },
        (None, Some(user), Some(password_file)) => {
            Auth::Basic { user: user.clone(), password_file: password_file.clone() }
        }
        _ => Auth::None,
    };
    let days = server.retention.get().as_secs().div_ceil(SECONDS_PER_DAY);
    ElasticsearchConfig {
        stream: server.data_stream.clone(),
        auth,
        ca_file: server.ca_file.clone(),
        retention_days: u32::try_from(days).ok(),
        ..ElasticsearchConfig::new(server.url.clone())
    }
}

/// Asks Elasticsearch for the last acknowledged lines by their ids, until told to stop: written must be what is found.
pub(super) async fn look_up(machine: Arc<Machine>, stop: CancellationToken) {
    let LogSetting::Elasticsearch(server) = &machine.settings.logs else { return };
    let finder = match Finder::new(&server_config(server)) {
        Ok(finder) => finder,
        Err(error) => return tracing::warn!(%error, "lines cannot be looked up"),
    };
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_UP_EVERY)).await.is_some() {
        let ids = acknowledged(&machine);
        let written = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let found = if ids.is_empty() { Some(0) } else { finder.count(&ids).await };
        *lock(&machine.indexed) = found.map(|found| (written, found));
    }
}

/// Ids of the last lines that are older than anything that waits to be acknowledged.
fn acknowledged(machine: &Machine) -> Vec<String> {
    let logs = lock(&machine.logs);
    let Some(logs) = logs.as_ref() else { return Vec::new() };
    let waiting = logs.stats().lag.unwrap_or_default();
    let until = clock::now().before(waiting + FOUND_WITHIN);
    let recent = logs.recent(&LogFilter { limit: usize::MAX, ..LogFilter::default() });
    recent.iter().filter(|line| line.at <= until).take(IDS_MAX).map(|line| line.id.clone()).collect()
}
