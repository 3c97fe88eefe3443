//! What `up` runs: the command line laid over the configuration, with every default filled in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tidegate_actuator::control::DemandSource;
use tidegate_actuator::training::CheckpointHook;
use tidegate_actuator::{GatewaySpec, ProcessSpec, Readiness};
use tidegate_agent::collect::{Discovery, Objective, SignalRule, WorkloadScrape};
use tidegate_core::{Policy, WorkloadId};

use crate::api::{Listen, TlsFiles};
use crate::args::{Signals, UpArgs};
use crate::config::{self, Config, Elasticsearch, Gpu, Metrics, Otlp, Process, Sink, Workload};
use crate::{Usage, check};

use super::demo::Demo;

/// Where the page and the API listen unless told otherwise.
const PORT_DEFAULT: u16 = 9095;
/// Requests that one replica is given at a time where the policy does not say.
const CONCURRENCY_DEFAULT: u32 = 16;

/// What one run of `up` needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) listen: Listen,
    pub(super) data: PathBuf,
    pub(super) slots: Option<u32>,
    pub(super) gpu: Gpu,
    pub(super) otlp: Otlp,
    pub(super) workloads: Vec<Setting>,
    pub(super) logs: LogSetting,
    pub(super) files: Vec<PathBuf>,
    pub(super) source: DemandSource,
    pub(super) duration: Option<Duration>,
    pub(super) demo: Option<Demo>,
    /// Things that a user should know, shown on the page.
    pub(super) notes: Vec<String>,
}

/// Where log lines go.
#[derive(Debug, Clone)]
pub(super) enum LogSetting {
    Ndjson,
    Elasticsearch(Elasticsearch),
}

/// One workload.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) id: WorkloadId,
    pub(super) policy: Policy,
    pub(super) process: Option<ProcessSpec>,
    pub(super) gateway: Option<GatewaySpec>,
    pub(super) metrics: Option<Scraped>,
    /// Which of its requests are in time; only for serving.
    pub(super) objective: Option<Objective>,
    pub(super) checkpoint: Option<(CheckpointHook, Duration)>,
    pub(super) files: Vec<PathBuf>,
}

/// How a workload's metrics page is read.
#[derive(Debug, Clone)]
pub(super) struct Scraped {
    pub(super) path: String,
    pub(super) urls: Vec<String>,
    pub(super) rules: Vec<SignalRule>,
    pub(super) select: BTreeMap<String, String>,
    pub(super) every: Duration,
}

impl Settings {
    /// Reads the configuration, or makes the demo's, and lays the command line over it.
    pub(super) fn new(args: &UpArgs) -> anyhow::Result<Self> {
        let mut notes = Vec::new();
        let mut config = match &args.config {
            _ if args.demo => Config::default(),
            Some(file) => config::load(file)?.config,
            None => match config::find(&check::usual_places()) {
                Some(file) => config::load(file)?.config,
                None => {
                    notes.push(
                        "No tidegate.yaml was found: only this machine is watched. Describe a workload in tidegate.yaml \
                         (see examples/) and start again, or try `tidegate up --demo`."
                            .into(),
                    );
                    Config::default()
                }
            },
        };
        let data = args.data.clone().or(config.data.take()).unwrap_or_else(|| PathBuf::from("tidegate-data"));
        std::fs::create_dir_all(&data)
            .with_context(|| format!("failed to make the data directory {}", data.display()))?;
        let data =
            std::fs::canonicalize(&data).with_context(|| format!("failed to find {}", data.display()))?;
        let demo = args.demo.then(|| Demo::new(args, &data)).transpose()?;
        if let Some(demo) = &demo {
            config.workloads = demo.workloads();
            config.pool = Some(demo.pool());
        }
        let mut workloads = Vec::new();
        for workload in &config.workloads {
            workloads.push(setting(workload, &data, args.no_forecast)?);
        }
        Ok(Self {
            listen: listen(args, &config, &data)?,
            slots: config.pool.map(|pool| pool.slots),
            gpu: config.gpu.clone(),
            otlp: config.otlp.clone(),
            workloads,
            logs: log_setting(args, &config)?,
            files: config.files.iter().flat_map(|files| files.paths.clone()).collect(),
            source: match args.signals {
                Signals::Gateway => DemandSource::Gateway,
                Signals::Scrape => DemandSource::Scraped,
            },
            duration: args.duration.map(|span| span.get()),
            data,
            demo,
            notes,
        })
    }
}

impl Settings {
    /// How what the workloads push is read.
    pub(super) fn discovery(&self) -> Discovery {
        let of = |setting: &Setting| {
            let (rules, select) = setting
                .metrics
                .as_ref()
                .map(|metrics| (metrics.rules.clone(), metrics.select.clone()))
                .unwrap_or_default();
            let scrape =
                WorkloadScrape { rules, select, objective: setting.objective, ..WorkloadScrape::default() };
            (setting.id.clone(), scrape)
        };
        Discovery { workloads: self.workloads.iter().map(of).collect(), ..Discovery::default() }
    }
}

/// What the file itself cannot know: commands that are not on this machine, by workload. `up` refuses to start with them.
pub(crate) fn missing_commands(config: &Config) -> Vec<String> {
    let missing = |workload: &Workload| {
        let id = WorkloadId::local(&workload.name).ok()?;
        let error = process_spec(&id, workload.process.as_ref()?, Path::new("")).check().err()?;
        Some(format!("{}: {:#}", workload.name, anyhow::Error::new(error)))
    };
    config.workloads.iter().filter_map(missing).collect()
}

fn listen(args: &UpArgs, config: &Config, data: &Path) -> anyhow::Result<Listen> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT));
    let addr = args.listen.or(config.listen).unwrap_or(usual);
    let tokens = config.tokens.clone();
    if !addr.ip().is_loopback() && (config.tls.is_none() || config.tokens.is_none()) {
        let text = format!("{addr} is beyond loopback: that needs `tls` and `tokens` in the configuration");
        return Err(Usage(text).into());
    }
    // On loopback a file of tokens is made where there is none: alerts always need one.
    let tokens = if addr.ip().is_loopback() { tokens.or_else(|| Some(data.join("tokens"))) } else { tokens };
    let tls = config.tls.as_ref().map(|tls| TlsFiles { cert: tls.cert.clone(), key: tls.key.clone() });
    Ok(Listen { tls, tokens, ..Listen::loopback(addr, data.join("tokens")) })
}

fn log_setting(args: &UpArgs, config: &Config) -> anyhow::Result<LogSetting> {
    let named = config.logs.elasticsearch.clone();
    if let Some(url) = &args.elasticsearch {
        let mut server = named.unwrap_or_else(|| Elasticsearch::at(url.clone()));
        server.url.clone_from(url);
        server.username = args.elasticsearch_user.clone().or(server.username);
        server.password_file = args.elasticsearch_password_file.clone().or(server.password_file);
        return Ok(LogSetting::Elasticsearch(server));
    }
    match (config.logs.sink, named) {
        (Sink::Elasticsearch, Some(server)) => Ok(LogSetting::Elasticsearch(server)),
        (Sink::Elasticsearch, None) => {
            Err(Usage("the sink `elasticsearch` needs `logs.elasticsearch`".into()).into())
        }
        (Sink::Ndjson, _) => Ok(LogSetting::Ndjson),
    }
}

fn setting(workload: &Workload, data: &Path, no_forecast: bool) -> anyhow::Result<Setting> {
    let id = WorkloadId::local(&workload.name).map_err(|error| Usage(error.to_string()))?;
    let policy = policy(workload, no_forecast)?;
    let serving = workload.serving.as_ref();
    let process = workload.process.as_ref().map(|process| process_spec(&id, process, data));
    if let Some(spec) = &process {
        spec.check().map_err(|error| Usage(format!("{}: {:#}", workload.name, anyhow::Error::new(error))))?;
    }
    let concurrency = serving.and_then(|policy| policy.capacity.concurrency).unwrap_or(CONCURRENCY_DEFAULT);
    let gateway = workload.gateway.as_ref().map(|gateway| GatewaySpec {
        concurrency,
        queue_max: usize::try_from(gateway.queue).unwrap_or(usize::MAX),
        queue_wait: gateway.wait_max.get(),
        answer_timeout: gateway.timeout.get(),
        objective: serving.map(|policy| policy.slo.latency.get()),
        ..GatewaySpec::new(id.clone(), gateway.listen)
    });
    let objective = serving.map(|policy| Objective {
        latency_seconds: policy.slo.latency.get().as_secs_f64(),
        per_output_token_seconds: policy.slo.per_output_token.map(|limit| limit.get().as_secs_f64()),
    });
    let metrics = workload.metrics.as_ref().map(scraped).transpose()?;
    let hook =
        |hook: &config::CheckpointHook| (CheckpointHook { path: hook.path.clone() }, hook.timeout.get());
    let checkpoint = workload.checkpoint.as_ref().map(hook);
    Ok(Setting {
        id,
        policy,
        process,
        gateway,
        metrics,
        objective,
        checkpoint,
        files: workload.files.clone(),
    })
}

fn policy(workload: &Workload, no_forecast: bool) -> anyhow::Result<Policy> {
    match (&workload.serving, &workload.training) {
        (Some(policy), _) => {
            let mut policy = policy.clone();
            policy.forecast.enabled &= !no_forecast;
            Ok(Policy::Serving(policy))
        }
        (None, Some(policy)) => Ok(Policy::Training(policy.clone())),
        (None, None) => Err(Usage(format!("{} needs either `serving` or `training`", workload.name)).into()),
    }
}

fn process_spec(id: &WorkloadId, process: &Process, data: &Path) -> ProcessSpec {
    let check = match &process.ready_path {
        Some(path) => tidegate_actuator::targets::local::Check::Http(path.clone()),
        None => tidegate_actuator::targets::local::Check::Tcp,
    };
    ProcessSpec {
        env: process.env.clone(),
        cwd: process.directory.clone(),
        ready: Readiness { check, ..Readiness::default() },
        start_deadline: process.start_deadline.get(),
        stop_grace: process.stop_grace.get(),
        // What has run for as long as a start may take has started well.
        healthy_run: process.start_deadline.get(),
        ..ProcessSpec::new(id.clone(), process.command.clone(), data.join("logs").join("replicas"))
    }
}

fn scraped(metrics: &Metrics) -> anyhow::Result<Scraped> {
    for rule in &metrics.rules {
        rule.check().map_err(|error| Usage(format!("rule for {}: {error}", rule.family)))?;
    }
    Ok(Scraped {
        path: metrics.path.clone(),
        urls: metrics.urls.clone(),
        rules: metrics.rules.clone(),
        select: metrics.select.clone(),
        every: metrics.every.get(),
    })
}
