//! The command line: what can be said, and its help.

mod check;
mod pod_logs;
mod published;
mod push;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use tidegate_core::Span;

mod steer;

pub(crate) use self::check::{CheckArgs, CheckClusterArgs, CheckNodeArgs, CheckWhat};
pub(crate) use steer::{AdoptArgs, RestoreArgs, SteerArgs, TopArgs, Which};

use crate::backtest::BacktestArgs;
use crate::load::LoadArgs;
pub(crate) use pod_logs::PodLogArgs;
pub(crate) use published::PublishedArgs;
pub(crate) use push::PushArgs;

/// Watches machines that run ML workloads, forecasts the load of each model, and resizes it before the load arrives.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to log to stderr: error, warn, info, debug or trace; per part as in `info,tidegate_agent=debug`.
    #[arg(long, global = true, default_value = "info", env = "TIDEGATE_LOG", value_name = "FILTER")]
    pub(crate) log: String,
    /// Log as JSON lines.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate up --demo                     two sample workloads under a daily load; prints the page's address
  tidegate up                            reads tidegate.yaml; without one, watches this machine
  tidegate check config                  says everything that is wrong with tidegate.yaml
  tidegate forecast load.csv             quantiles of the next two hours
  tidegate backtest load.csv             what it would have done with your traffic, and at what cost
  tidegate explain local/process/chat    why it has the size it has

Exit status: 0 done, 1 failed, 64 wrong command line or configuration, 130 interrupted.";

const STEER_EXAMPLES: &str = "\
Examples:
  tidegate activate deploy/chat -n ml
  tidegate activate --all -n ml --dry-run       only shows the evidence
  kubectl tidegate pause --for 2h deploy/chat   as a plugin: the same binary, called kubectl-tidegate
  kubectl tidegate release --all -A             everything as it was before";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch and size workloads on this machine; serve the page and the API.
    Up(Box<UpArgs>),
    /// Collect on one node: its pods, containers, GPUs and runtimes; tell the controller, and show it on `/metrics`.
    Agent(Box<AgentArgs>),
    /// Size the workloads of a Kubernetes cluster that policies name; serve the page and the API.
    Controller(Box<ControllerArgs>),
    /// Show what a policy has decided in shadow, then put it into effect.
    #[command(after_help = STEER_EXAMPLES)]
    Activate(SteerArgs),
    /// Let a policy decide and show, but change nothing; raised floors are given back.
    Shadow(SteerArgs),
    /// Let a policy change nothing for a while.
    Pause {
        #[command(flatten)]
        args: SteerArgs,
        /// For how long.
        #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
        lasting: Span,
    },
    /// End a pause.
    Resume(SteerArgs),
    /// Back into shadow, and every floor, size and autoscaler as it was before, at once; works also while no controller runs.
    Release(SteerArgs),
    /// Make a policy of a HorizontalPodAutoscaler or ScaledObject, and say what changes by it.
    Adopt(AdoptArgs),
    /// Give back raised floors by what the autoscalers themselves record: those whose raise is over, or all.
    Restore(RestoreArgs),
    /// Every policy of the cluster in a line.
    Top(TopArgs),
    /// Check a configuration, a server that it names, a cluster, or a node.
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Forecast a series from a CSV file.
    Forecast(ForecastArgs),
    /// Replay your traffic: what Tidegate and others would have done with it, and what it would have cost.
    Backtest(Box<BacktestArgs>),
    /// Let a simulator drive the brain through a recorded load: JSON lines on stdin and stdout.
    #[command(after_help = "\
Examples:
  tidegate replay < conversation.jsonl > plans.jsonl

The protocol: `init` with the workload and its history is answered by `ready`, each `tick` by one `plan`.")]
    Replay,
    /// Say why a workload has the size it has.
    Explain(ExplainArgs),
    /// Show log lines of a running Tidegate.
    Logs(LogsArgs),
    /// Send a bounded load to an HTTP service.
    Load(LoadArgs),
    /// Print the definitions of the custom resources, to be applied to a cluster.
    #[command(after_help = "\
Examples:
  tidegate crds | kubectl apply --server-side -f -
  tidegate crds --output json")]
    Crds {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        output: crate::crds::Manifest,
    },
    /// Print shell completions.
    #[command(after_help = "\
Examples:
  tidegate completions bash > /etc/bash_completion.d/tidegate
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish")]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print a page of the reference: metrics, signals, log fields, the configuration or serving runtimes.
    #[command(after_help = "Example:\n  tidegate reference config | less")]
    Reference {
        /// Which page.
        #[arg(value_enum)]
        page: crate::reference::Page,
    },
    /// Sample workloads, as started by the demo.
    #[command(subcommand, hide = true)]
    Sample(Sample),
}

/// Sample workloads.
#[derive(Debug, Subcommand)]
pub(crate) enum Sample {
    /// Serve the digit classifier.
    DigitsServe(tidegate_digits::serve::ServeArgs),
    /// Take part in its training.
    DigitsTrain(tidegate_digits::train::TrainArgs),
}

/// Where demand is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Signals {
    /// The gateway's exact arrivals.
    #[default]
    Gateway,
    /// The replicas' own metrics pages alone.
    Scrape,
}

/// `tidegate up`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate up --demo                            a day of load lasts ten minutes; policies are active
  tidegate up --demo --speed 288 --cold         five minutes a day, no history to start with
  tidegate up --demo --trace load.csv           your own load instead of the daily pattern
  tidegate up --config tidegate.yaml            your own workloads; policies start in shadow
  tidegate up --elasticsearch http://127.0.0.1:9200")]
pub(crate) struct UpArgs {
    /// Run two sample workloads under a generated load, with active policies.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Configuration; else tidegate.yaml in the working directory, the user's configuration or /etc/tidegate.
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for history, state and logs [default: tidegate-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the page and the API; port 0 takes a free one [default: 127.0.0.1:9095].
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Compress the demo's load: a day lasts 86,400/X seconds. Clocks, objectives and start-up times stay real.
    #[arg(long, value_name = "X", default_value_t = 144.0, value_parser = speed, requires = "demo")]
    pub(crate) speed: f64,
    /// Stop after this long, as in 10m.
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) duration: Option<Span>,
    /// Seed of everything random in the demo.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Load for the demo instead of its daily pattern: CSV with `timestamp_s,value`, also gzipped.
    #[arg(long, value_name = "FILE", requires = "demo")]
    pub(crate) trace: Option<PathBuf>,
    /// Unit of the trace's values.
    #[arg(long, value_name = "UNIT", default_value = "req/s", requires = "trace")]
    pub(crate) unit: crate::trace::Unit,
    /// Size by what is seen alone.
    #[arg(long)]
    pub(crate) no_forecast: bool,
    /// Start the demo without preloaded history.
    #[arg(long, requires = "demo")]
    pub(crate) cold: bool,
    /// Where demand is read from.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) signals: Signals,
    /// Ship logs to this Elasticsearch; user and password files come from the configuration.
    #[arg(long, value_name = "URL")]
    pub(crate) elasticsearch: Option<String>,
    /// User for Elasticsearch.
    #[arg(long, value_name = "NAME", requires = "elasticsearch")]
    pub(crate) elasticsearch_user: Option<String>,
    /// File with that user's password.
    #[arg(long, value_name = "FILE", requires = "elasticsearch_user")]
    pub(crate) elasticsearch_password_file: Option<PathBuf>,
}

/// `tidegate agent`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate agent --node node-a --controller https://tidegate.tidegate:9096 --controller-ca ca.crt --controller-token token
  tidegate agent --node edge-1 --target ml/deployment/chat=http://127.0.0.1:8000/metrics
In a DaemonSet, --node comes from the environment (NODE_NAME), and the machine is seen below --root.")]
pub(crate) struct AgentArgs {
    /// Name of this node, as the cluster has it [default: the host's name].
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub(crate) node: Option<String>,
    /// Where the machine's root is seen.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// The kubelet's directory, as the machine has it.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) kubelet: PathBuf,
    /// Kubeconfig to ask the API server with while the kubelet does not tell of its pods [default: a pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address at which the controller hears agents.
    #[arg(long, value_name = "URL", env = "TIDEGATE_CONTROLLER")]
    pub(crate) controller: Option<String>,
    /// Certificates that the controller is trusted by, PEM.
    #[arg(long, value_name = "FILE", requires = "controller")]
    pub(crate) controller_ca: Option<PathBuf>,
    /// File with the token to show to the controller.
    #[arg(long, value_name = "FILE", requires = "controller")]
    pub(crate) controller_token: Option<PathBuf>,
    /// A metrics page that no pod has, of a workload; may be given again.
    #[arg(long, value_name = "WORKLOAD=URL", value_parser = target)]
    pub(crate) target: Vec<(tidegate_core::WorkloadId, String)>,
    /// Sources to leave out; may be given again.
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub(crate) without: Vec<AgentSource>,
    /// Whether a missing library of the GPU driver is a failure that is shown; without this GPUs are read as soon as it is there.
    #[arg(long)]
    pub(crate) gpu_required: bool,
    /// The GPU driver's library: a path, or a name that the loader finds [default: libnvidia-ml.so.1].
    #[arg(long, value_name = "FILE")]
    pub(crate) gpu_library: Option<PathBuf>,
    /// Names under which GPUs are shown besides Tidegate's own; may be given again.
    #[arg(long, value_enum, value_name = "NAMES")]
    pub(crate) gpu_compat: Vec<crate::config::GpuCompat>,
    /// Kernel log that GPU errors are looked for in [default: /dev/kmsg below the root, where it may be read].
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel_log: Option<PathBuf>,
    /// Between two scrapes of a metrics page of a workload that has a policy; of others five times as long.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub(crate) scrape_every: Span,
    /// Address of `/metrics`; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9097")]
    pub(crate) listen: SocketAddr,
    /// Certificate chain for it, PEM; needed beyond loopback.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Address that metrics and, with --logs-to, log records are pushed to by gRPC (OTLP), usually port 4317; beyond loopback it needs a certificate and --tokens [default: off].
    #[arg(long, value_name = "ADDR")]
    pub(crate) otlp_grpc: Option<SocketAddr>,
    /// The same by HTTP, usually port 4318 [default: off].
    #[arg(long, value_name = "ADDR")]
    pub(crate) otlp_http: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) push: PushArgs,
    #[command(flatten)]
    pub(crate) logs: PodLogArgs,
    /// Directory for what is kept only as long as it runs.
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    pub(crate) scratch: PathBuf,
    /// Make a certificate for as long as it runs, instead of one that is given.
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) self_signed: bool,
    /// File of bearer tokens; `/metrics` itself needs none.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
}

/// A source of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AgentSource {
    /// The machine and its filesystems.
    Node,
    /// Containers of pods, their networks and volumes.
    Containers,
    /// The table of the node's pods, and who has which device. Without it nothing is discovered.
    Pods,
    /// Metrics pages.
    Scrape,
    /// GPUs.
    Gpu,
}

fn target(text: &str) -> Result<(tidegate_core::WorkloadId, String), String> {
    let (id, url) = text.split_once('=').ok_or("expected WORKLOAD=URL")?;
    let id = id.parse().map_err(|error| format!("{error}"))?;
    if url.starts_with("http://") { Ok((id, url.to_owned())) } else { Err("expected http://…".into()) }
}

/// `tidegate controller`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate controller                                       with your own kubeconfig, page on loopback
  tidegate controller --namespace ml --namespace batch      only policies and workloads of these namespaces
  tidegate controller --prometheus http://127.0.0.1:9090    answers the queries of policies that name no server
In a pod it uses the pod's ServiceAccount. Several may run: one leads and writes, the others watch and learn.")]
pub(crate) struct ControllerArgs {
    /// Kubeconfig [default: $KUBECONFIG, ~/.kube/config, else the pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Only this namespace; may be given again [default: all].
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Vec<String>,
    /// Directory for history and state [default: tidegate-data].
    #[arg(long, value_name = "DIR", default_value = "tidegate-data")]
    pub(crate) data: PathBuf,
    /// Address of the page and the API; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9095")]
    pub(crate) listen: SocketAddr,
    /// Certificate chain for it, PEM; needed beyond loopback.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Secret of the pod's namespace with certificate and key; made where it is not there, and renewed before it ends.
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert")]
    pub(crate) tls_secret: Option<String>,
    /// Name that the certificate in that Secret is for; may be given again.
    #[arg(long, value_name = "NAME", requires = "tls_secret")]
    pub(crate) tls_name: Vec<String>,
    /// File of bearer tokens for the API, beside those that the API server knows.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Address at which agents are heard; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9096")]
    pub(crate) digests: SocketAddr,
    /// ServiceAccount of the agents; needed beyond loopback.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) agent_account: Option<String>,
    /// Audience that the agents' tokens are made for.
    #[arg(long, value_name = "NAME", default_value = "tidegate")]
    pub(crate) agent_audience: String,
    /// Prometheus that answers the queries of policies that name no server.
    #[arg(long, value_name = "URL")]
    pub(crate) prometheus: Option<String>,
    /// File with a bearer token for it.
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub(crate) prometheus_token_file: Option<PathBuf>,
    /// File with the certificates that it is trusted by, PEM.
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub(crate) prometheus_ca_file: Option<PathBuf>,
    /// Namespace of the Lease by which one of several controllers leads [default: the pod's own, else `default`].
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,
    /// Name of that Lease.
    #[arg(long, value_name = "NAME", default_value = "tidegate-controller")]
    pub(crate) lease_name: String,
    /// Who this controller is in the election; unique [default: host name and process id].
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(crate) identity: Option<String>,
    #[command(flatten)]
    pub(crate) published: PublishedArgs,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    // A day below a minute is shorter than the lead time of anything; above real time makes no sense for a demo.
    if (1.0..=1440.0).contains(&speed) { Ok(speed) } else { Err("expected a number from 1 to 1440".into()) }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// `tidegate forecast`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate forecast load.csv
  tidegate forecast load.csv.gz --unit req/min --step 1m --season 1d --season 7d --output csv
  tidegate forecast load.csv --plot --html forecast.html
  tidegate forecast --origins origins.csv --series buckets > forecasts.csv

The file has a header with a column `timestamp_s` (seconds) and a column `value`.")]
pub(crate) struct ForecastArgs {
    /// The series: CSV with `timestamp_s,value`, also gzipped.
    #[arg(required_unless_present = "origins")]
    pub(crate) file: Option<PathBuf>,
    /// For scoring: forecast from each origin in this CSV file (`series,origin,bucket_s,steps`), knowing nothing later; prints CSV.
    #[arg(long, value_name = "FILE", requires = "series", conflicts_with_all = ["file", "plot", "html", "step"])]
    pub(crate) origins: Option<PathBuf>,
    /// The folder with `SERIES.csv` (`index,timestamp_s,value`) for each series in the file of origins.
    #[arg(long, value_name = "DIR", requires = "origins")]
    pub(crate) series: Option<PathBuf>,
    /// Unit of the values.
    #[arg(long, value_name = "UNIT", default_value = "req/s")]
    pub(crate) unit: crate::trace::Unit,
    /// Length of a step; values within one are averaged [default: the file's own].
    #[arg(long, value_name = "DURATION")]
    pub(crate) step: Option<Span>,
    /// Length of a season; may be given again [default: a day and a week].
    #[arg(long, value_name = "DURATION")]
    pub(crate) season: Vec<Span>,
    /// How far ahead.
    #[arg(long, value_name = "DURATION", default_value = "2h")]
    pub(crate) horizon: Span,
    /// Lead time that models are ranked at.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub(crate) lead: Span,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Draw the last values and the forecast in the terminal.
    #[arg(long)]
    pub(crate) plot: bool,
    /// Write one self-contained page with the chart.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Which Tidegate to ask.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Server {
    /// Address of the running Tidegate.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9095", env = "TIDEGATE_SERVER")]
    pub(crate) server: String,
    /// File with a bearer token.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// `tidegate explain`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate explain local/process/digits-serve --last 3
  kubectl tidegate explain deploy/chat -n ml             of a cluster, by the status of its policy")]
pub(crate) struct ExplainArgs {
    /// Id of the workload, or its name where that is enough; in a cluster KIND/NAME.
    pub(crate) workload: String,
    /// Namespace, for KIND/NAME [default: the context's].
    #[arg(long, short = 'n', value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Kubeconfig, for KIND/NAME [default: $KUBECONFIG, ~/.kube/config, else the pod's ServiceAccount].
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// How many decisions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) last: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `tidegate logs`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  tidegate logs --workload digits-train --class checkpoint_saved
  tidegate logs --level error --query timeout --limit 20 --output json")]
pub(crate) struct LogsArgs {
    /// Only of this workload: its id or name.
    #[arg(long)]
    pub(crate) workload: Option<String>,
    /// Only of this class.
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// Only of this level.
    #[arg(long)]
    pub(crate) level: Option<String>,
    /// Only with this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) query: Option<String>,
    /// How many, newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) server: Server,
}
