//! What can be said to `tidegate backtest`, and what is wrong with it. Reading the load is elsewhere.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args, ValueEnum};
use tidegate_core::{Span, Timestamp};

use crate::args::Output;
use crate::trace::Unit;

/// Most replicas of a pool: a thousand ready replicas with their queues are simulated in seconds, and no single workload has more.
const REPLICAS_MAX: u32 = 1000;

/// `tidegate backtest`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("source").required(true).args(["file", "prometheus", "data"]),
    after_help = "\
Examples:
  tidegate backtest load.csv --html report.html
  tidegate backtest load.csv.gz --unit req/min --service-time 800ms --concurrency 8 --slo 3s --price 2.5
  tidegate backtest --prometheus http://127.0.0.1:9090 --query 'sum(rate(http_requests_total[1m]))'
  tidegate backtest --data tidegate-data --workload local/process/chat --days 1 --output json
  tidegate backtest requests.csv --model llm --slo 2s --tpot 60ms
  tidegate backtest --data tidegate-data --workload ml/deployment/chat --model llm

The file has a header with a column `timestamp_s` (UTC seconds) and a column `value`. The last days are scored; what lies before
them is the history that policies may learn from. Requests, service times and start-ups are drawn from --seed."
)]
pub(crate) struct BacktestArgs {
    /// The load: CSV with `timestamp_s,value`, also gzipped; for a language model also `timestamp_s,prompt_tokens,output_tokens`.
    pub(crate) file: Option<PathBuf>,
    /// Unit of the values.
    #[arg(long, value_name = "UNIT", default_value = "req/s")]
    pub(crate) unit: Unit,
    #[command(flatten)]
    pub(crate) prometheus: PrometheusArgs,
    /// Data directory of a Tidegate that is not running: take the load from its history.
    #[arg(long, value_name = "DIR", requires = "workload", help_heading = "From the embedded history")]
    pub(crate) data: Option<PathBuf>,
    /// Id of the workload, or its name where that is enough.
    #[arg(long, value_name = "ID", requires = "data", help_heading = "From the embedded history")]
    pub(crate) workload: Option<String>,
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) contest: ContestArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// Write one self-contained page with charts.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Show no progress.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Where and what to ask Prometheus.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "From Prometheus")]
pub(crate) struct PrometheusArgs {
    /// Take the load from this Prometheus, or what speaks its HTTP API.
    #[arg(long, value_name = "URL", requires = "query")]
    pub(crate) prometheus: Option<String>,
    /// Expression that gives one series, as `sum(rate(http_requests_total[1m]))`.
    #[arg(long, value_name = "PROMQL", requires = "prometheus")]
    pub(crate) query: Option<String>,
    /// Expression that gives the prompt tokens that arrive, for --model llm: as `sum(rate(vllm:prompt_tokens_total[1m]))`.
    #[arg(long, value_name = "PROMQL", requires_all = ["prometheus", "output_query"])]
    pub(crate) prompt_query: Option<String>,
    /// Expression that gives the tokens of the answers, for --model llm: as `sum(rate(vllm:generation_tokens_total[1m]))`.
    #[arg(long, value_name = "PROMQL", requires_all = ["prometheus", "prompt_query"])]
    pub(crate) output_query: Option<String>,
    /// Start: RFC 3339, or how long before --to, as in 14d.
    #[arg(long, value_name = "TIME", default_value = "14d", requires = "prometheus")]
    pub(crate) from: Moment,
    /// End: RFC 3339, or how long ago [default: now].
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    pub(crate) to: Option<Moment>,
    /// Distance of the points; the window of `rate` should be as long.
    #[arg(long, value_name = "DURATION", default_value = "1m", requires = "prometheus")]
    pub(crate) step: Span,
    /// User, for basic authentication.
    #[arg(long, value_name = "NAME", requires_all = ["prometheus", "password_file"])]
    pub(crate) user: Option<String>,
    /// File with that user's password.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
    /// File with a bearer token.
    #[arg(long, value_name = "FILE", requires = "prometheus", conflicts_with = "user")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificates of the authorities to trust, instead of the system's.
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// What serves the load.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The service")]
pub(crate) struct ServiceArgs {
    /// What a replica is.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) model: Model,
    /// A request answered within this is in time; of a language model, one whose first token comes within this.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub(crate) slo: Span,
    /// Share of requests that should be in time.
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = target)]
    pub(crate) target: f64,
    /// How long a request is served for, on average.
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    pub(crate) service_time: Span,
    /// Requests that a replica serves at a time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) concurrency: u32,
    /// From the order of a replica until it is ready: the median.
    #[arg(long, value_name = "DURATION", default_value = "90s")]
    pub(crate) start_up: Span,
    /// Fewest and most replicas.
    #[arg(long, value_name = "MIN..MAX", default_value = "1..64", value_parser = replicas)]
    pub(crate) replicas: (u32, u32),
    /// Price of a replica for an hour, in any money.
    #[arg(long, value_name = "MONEY", value_parser = price)]
    pub(crate) price: Option<f64>,
}

/// What a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Model {
    /// Any service: so many requests at a time, each for a time of its own.
    #[default]
    Generic,
    /// A language model with continuous batching.
    Llm,
}

/// The engine of a language model. The defaults are a model of some ten billion parameters on one large GPU.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "With --model llm")]
pub(crate) struct EngineArgs {
    /// A request is in time only when its further tokens come within this, on average.
    #[arg(long, value_name = "DURATION", default_value = "60ms")]
    pub(crate) tpot: Span,
    /// Fixed time of an iteration, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20.0, value_parser = milliseconds)]
    pub(crate) iteration_ms: f64,
    /// Further time of an iteration for each request that is written.
    #[arg(long, value_name = "MS", default_value_t = 0.35, value_parser = milliseconds)]
    pub(crate) running_ms: f64,
    /// Further time of an iteration for each prompt token that is read.
    #[arg(long, value_name = "MS", default_value_t = 0.03, value_parser = milliseconds)]
    pub(crate) prompt_token_ms: f64,
    /// Most prompt tokens that an iteration reads.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) chunk: u32,
    /// Most requests in a replica.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: u32,
    /// Tokens, read and written, that a replica's memory holds.
    #[arg(long, value_name = "N", default_value_t = 160_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) kv_tokens: u32,
    /// Prompt tokens of a request on average, where the load does not tell.
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = tokens)]
    pub(crate) prompt_tokens: f64,
    /// Output tokens of a request on average, where the load does not tell.
    #[arg(long, value_name = "N", default_value_t = 250.0, value_parser = tokens)]
    pub(crate) output_tokens: f64,
}

/// What is compared, over which days.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The comparison")]
pub(crate) struct ContestArgs {
    /// Score this many days at the end [default: 2, but at most a third of what there is].
    #[arg(long, value_name = "N", value_parser = days)]
    pub(crate) days: Option<f64>,
    /// Multiply the load so that its peak (the 0.99 quantile of the scored minutes) keeps about N replicas busy.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(REPLICAS_MAX)))]
    pub(crate) scale: Option<u32>,
    /// Which policies; the oracle always runs, as the measure of the others.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_enum, default_values_t = Named::ALL)]
    pub(crate) policies: Vec<Named>,
    /// The HPA's target: busy share of a replica.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = share)]
    pub(crate) hpa_target: f64,
    /// KEDA's target: requests per second as a share of what a busy replica serves.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = share)]
    pub(crate) keda_target: f64,
    /// KPA's target: requests in a replica as a share of those it serves at a time.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = share)]
    pub(crate) kpa_target: f64,
    /// Run each policy with its usual setting only: no cost-against-miss fronts.
    #[arg(long)]
    pub(crate) no_fronts: bool,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Runs at the same time [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub(crate) jobs: Option<usize>,
}

/// A policy that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Named {
    /// The brain that `tidegate up` runs, with its defaults.
    Tidegate,
    /// Kubernetes' horizontal pod autoscaler on utilisation.
    Hpa,
    /// KEDA on the request rate from Prometheus.
    Keda,
    /// Knative's pod autoscaler on concurrency.
    Kpa,
    /// A size for each hour of the day, from the history.
    Schedule,
    /// One size, from the history.
    Static,
    /// Knows the future: what nobody can have, as a measure.
    Oracle,
}

impl Named {
    const ALL: [Self; 7] =
        [Self::Tidegate, Self::Hpa, Self::Keda, Self::Kpa, Self::Schedule, Self::Static, Self::Oracle];

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::Hpa => "HPA",
            Self::Keda => "KEDA",
            Self::Kpa => "KPA",
            Self::Schedule => "Schedule",
            Self::Static => "Static",
            Self::Oracle => "Oracle",
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value().expect("no policy is hidden");
        f.write_str(value.get_name())
    }
}

/// A point in time, as people say it: a date, or how long before another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    At(Timestamp),
    Before(Span),
}

impl Moment {
    /// The time, where `Before` counts back from `end`.
    pub(crate) fn from(self, end: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Before(span) => end.before(span.get()),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "expected a time such as 2026-01-31T08:00:00Z or a length of time such as 14d, got {text:?}"
            )
        };
        let span = || text.parse().map(Self::Before).map_err(|_| wrong());
        text.parse().map(Self::At).or_else(|_| span())
    }
}

fn number(text: &str, right: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| right(*number)).ok_or_else(|| format!("expected {expected}"))
}

fn target(text: &str) -> Result<f64, String> {
    number(text, |share| (0.5..=0.9999).contains(&share), "a share from 0.5 to 0.9999")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |share| (0.05..=1.0).contains(&share), "a share from 0.05 to 1")
}

fn price(text: &str) -> Result<f64, String> {
    number(text, |price| (0.0..=1e9).contains(&price), "a price that is not negative")
}

fn milliseconds(text: &str) -> Result<f64, String> {
    number(text, |ms| (1e-6..=60_000.0).contains(&ms), "milliseconds from 0.000001 to 60,000")
}

fn tokens(text: &str) -> Result<f64, String> {
    number(text, |tokens| (1.0..=1e6).contains(&tokens), "a number of tokens from 1 to 1,000,000")
}

fn days(text: &str) -> Result<f64, String> {
    // A hundredth of a day is a quarter of an hour: a few start-ups long. More than two months is a job for a coarser look.
    number(text, |days| (0.01..=62.0).contains(&days), "a number of days from 0.01 to 62")
}

fn replicas(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once("..").and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
    parsed
        .filter(|&(min, max)| 1 <= min && min <= max && max <= REPLICAS_MAX)
        .ok_or_else(|| format!("expected MIN..MAX, both from 1 to {REPLICAS_MAX}, as in 1..64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_a_distance() {
        let end = Timestamp::from_secs(86_400 * 20);
        let at = |text: &str| text.parse::<Moment>().map(|moment| moment.from(end));
        assert_eq!(at("14d"), Ok(Timestamp::from_secs(86_400 * 6)));
        assert_eq!(at("1970-01-02T00:00:00Z"), Ok(Timestamp::from_secs(86_400)));
        assert_eq!(at("1970-01-02T02:00:00+02:00"), Ok(Timestamp::from_secs(86_400)));
        assert!(at("yesterday").unwrap_err().contains("14d"));
    }

    #[test]
    fn bounds_are_whole_and_in_order() {
        assert_eq!(replicas("2..16"), Ok((2, 16)));
        assert_eq!(replicas("5..5"), Ok((5, 5)));
        for wrong in ["0..4", "8..2", "4", "1..", "..3", "1..5000", "1-4", "a..b"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
        assert!(target("1").is_err() && target("0.999").is_ok() && share("NaN").is_err());
    }
}
