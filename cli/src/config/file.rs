//! The shape of `tidegate.yaml`. The doc comments here are the reference that users read; every default stands here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::policy::SignalRule;
use tidegate_core::{ServingPolicy, Span, TrainingPolicy};

/// Everything that `tidegate up` is told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Config {
    /// Address of the page and the API. Beyond loopback it needs `tls` and `tokens`. Default `127.0.0.1:9095`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) listen: Option<SocketAddr>,
    /// Directory for history, state and logs. Default `tidegate-data` in the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    /// Certificate and key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Tls>,
    /// File of bearer tokens: one per line, `TOKEN SCOPE`, with scope `read`, `act`, `alerts` or `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<PathBuf>,
    /// The pool that serving replicas and training workers share on this machine. Absent: no bound but the policies'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<Pool>,
    /// GPUs of this machine.
    pub(crate) gpu: Gpu,
    /// Metrics and log records that are pushed, by OpenTelemetry's protocol.
    pub(crate) otlp: Otlp,
    /// Where log lines go.
    pub(crate) logs: Logs,
    /// Workloads to watch, and to size where they have a `process`.
    pub(crate) workloads: Vec<Workload>,
    /// Further log files, of no workload.
    pub(crate) files: Vec<LogFiles>,
}

/// Certificate and key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// Certificate chain, PEM.
    pub(crate) cert: PathBuf,
    /// Private key, PEM.
    pub(crate) key: PathBuf,
}

/// Slots shared on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    /// Replicas and workers that it holds together.
    pub(crate) slots: u32,
}

/// Metrics and log records that are pushed, by OpenTelemetry's protocol (OTLP). Log records go where lines of files go (`logs`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Otlp {
    /// Address that they are pushed to by gRPC, such as `127.0.0.1:4317`. Beyond loopback it needs `tls` and `tokens`, with a token of scope `push`. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) grpc: Option<SocketAddr>,
    /// The same by HTTP, such as `127.0.0.1:4318`. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) http: Option<SocketAddr>,
    /// Collector that Tidegate's own metrics are pushed to. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) push: Option<Push>,
}

/// A collector that metrics are pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Push {
    /// `http://host:4318` or `https://…`; by HTTP, `/v1/metrics` is asked for where it has no path.
    pub(crate) url: String,
    /// How it is spoken to.
    #[serde(default)]
    pub(crate) protocol: PushProtocol,
    /// From one push to the next.
    #[serde(default = "Push::every_default")]
    pub(crate) every: Span,
    /// Certificate authorities to trust instead of the system's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File of headers to send, one a line, `NAME: VALUE`, such as a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) headers_file: Option<PathBuf>,
}

impl Push {
    const fn every_default() -> Span {
        Span::from_secs(15)
    }
}

/// Forms of OpenTelemetry's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PushProtocol {
    /// gRPC, usually at port 4317.
    Grpc,
    /// HTTP with protobuf, usually at port 4318.
    #[default]
    Http,
}

/// GPUs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Gpu {
    /// Whether GPUs are read.
    pub(crate) enabled: GpuEnabled,
    /// The driver's library: a path, or a name that the loader finds. Default `libnvidia-ml.so.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) library: Option<PathBuf>,
    /// The kernel log, a device or a file of lines, that GPU errors (Xid) are looked for in. Default `/dev/kmsg` where it may be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_log: Option<PathBuf>,
    /// Names under which `/metrics` shows GPUs besides its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) compat: Vec<GpuCompat>,
}

/// Whether GPUs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GpuEnabled {
    /// As soon as the driver's library is there; nothing is said while it is not.
    #[default]
    Auto,
    /// Always: a missing library is a failure that is shown.
    Always,
    /// Not at all, for machines where another exporter reads them.
    Never,
}

/// Names of another exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GpuCompat {
    /// Those of NVIDIA's `dcgm-exporter`, with its labels and units.
    Dcgm,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    /// The sink.
    pub(crate) sink: Sink,
    /// Needed by the sink `elasticsearch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elasticsearch: Option<Elasticsearch>,
}

/// A sink for log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sink {
    /// Rotated files in the data directory.
    #[default]
    Ndjson,
    /// An Elasticsearch data stream.
    Elasticsearch,
}

/// An Elasticsearch server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Elasticsearch {
    /// `https://host:9200`.
    pub(crate) url: String,
    /// Name of the data stream.
    #[serde(default = "Elasticsearch::data_stream_default")]
    pub(crate) data_stream: String,
    /// User name for basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    /// File that holds the user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// File that holds an API key, base64 as Kibana gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Certificate authorities to trust instead of the system's, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Lines older than this are deleted by the server's lifecycle.
    #[serde(default = "Elasticsearch::retention_default")]
    pub(crate) retention: Span,
}

impl Elasticsearch {
    fn data_stream_default() -> String {
        "logs-tidegate-default".into()
    }

    const fn retention_default() -> Span {
        Span::from_secs(14 * 86_400)
    }

    /// The server at `url`, with every default.
    pub(crate) fn at(url: String) -> Self {
        Self {
            url,
            data_stream: Self::data_stream_default(),
            username: None,
            password_file: None,
            api_key_file: None,
            ca_file: None,
            retention: Self::retention_default(),
        }
    }
}

/// One workload: what it is, how it is watched, and how it is sized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Workload {
    /// Its name; its id is `local/process/NAME`.
    pub(crate) name: String,
    /// How its replicas are started. Absent: it is watched, and its plans are shown, but nothing is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<Process>,
    /// The gateway in front of its replicas; only for serving. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<Gateway>,
    /// Its metrics page. Absent: not scraped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<Metrics>,
    /// How training is asked for a checkpoint before a resize. Absent: it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<CheckpointHook>,
    /// Log files besides the output of its replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<PathBuf>,
    /// Intent for a serving workload. Exactly one of `serving` and `training` is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serving: Option<ServingPolicy>,
    /// Intent for a training workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) training: Option<TrainingPolicy>,
}

/// How replicas are started and stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Process {
    /// Program and arguments. `{port}` becomes the replica's port (also in the variable `PORT`), `{replica}` its number.
    pub(crate) command: Vec<String>,
    /// Variables added to the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<PathBuf>,
    /// Path that answers 2xx when a replica is ready. Absent: it is ready when its port accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready_path: Option<String>,
    /// A replica that is not ready by then is stopped and started again.
    #[serde(default = "Process::start_deadline_default")]
    pub(crate) start_deadline: Span,
    /// Time between the request to stop and the kill.
    #[serde(default = "Process::stop_grace_default")]
    pub(crate) stop_grace: Span,
}

impl Process {
    const fn start_deadline_default() -> Span {
        Span::from_secs(60)
    }

    const fn stop_grace_default() -> Span {
        Span::from_secs(10)
    }
}

/// The gateway in front of a serving workload's replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Gateway {
    /// Loopback address that clients use.
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
    /// Requests that may wait for a free replica; more are answered 503.
    #[serde(default = "Gateway::queue_default")]
    pub(crate) queue: u32,
    /// A request that waits longer is answered 503.
    #[serde(default = "Gateway::wait_max_default")]
    pub(crate) wait_max: Span,
    /// A replica that has not answered by then is given up.
    #[serde(default = "Gateway::timeout_default")]
    pub(crate) timeout: Span,
}

impl Gateway {
    const fn queue_default() -> u32 {
        512
    }

    const fn wait_max_default() -> Span {
        Span::from_secs(30)
    }

    const fn timeout_default() -> Span {
        Span::from_secs(60)
    }

    /// At `listen`, with every default.
    pub(crate) fn at(listen: SocketAddr) -> Self {
        let (queue, wait_max, timeout) =
            (Self::queue_default(), Self::wait_max_default(), Self::timeout_default());
        Self { listen, queue, wait_max, timeout }
    }
}

/// A metrics page to scrape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Metrics {
    /// Path on every replica's port.
    #[serde(default = "Metrics::path_default")]
    pub(crate) path: String,
    /// Whole addresses, for a workload that Tidegate does not start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// Time between two scrapes; of several workloads, the shortest counts for all.
    #[serde(default = "Metrics::every_default")]
    pub(crate) every: Span,
    /// Where a page tells of several models or deployments: the labels that are this workload's, such as `{model_name: chat}`. A sample
    /// that bears one of them with another value does not count; one that bears none of them does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) select: BTreeMap<String, String>,
    /// Which families are which signals, beyond those that Tidegate knows; see `docs/runtimes.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<SignalRule>,
}

impl Metrics {
    fn path_default() -> String {
        "/metrics".into()
    }

    const fn every_default() -> Span {
        Span::from_secs(2)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            path: Self::path_default(),
            urls: Vec::new(),
            every: Self::every_default(),
            select: BTreeMap::new(),
            rules: Vec::new(),
        }
    }
}

/// How training is asked for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointHook {
    /// Path that a POST to any worker's port asks for a checkpoint; 2xx: it is written.
    pub(crate) path: String,
    /// After this the resize goes on or is given up, as its reason demands.
    #[serde(default = "CheckpointHook::timeout_default")]
    pub(crate) timeout: Span,
}

impl CheckpointHook {
    const fn timeout_default() -> Span {
        Span::from_secs(30)
    }
}

/// Log files of no workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFiles {
    /// Paths; `*` and `?` stand for any characters of a name.
    pub(crate) paths: Vec<PathBuf>,
}
