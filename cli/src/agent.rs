//! `tidegate agent`: the collectors of one node, what they say on `/metrics`, and the stream to the controller.

mod pod_logs;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tidegate_agent::collect::agent::Paces;
use tidegate_agent::collect::container::ContainerPaths;
use tidegate_agent::collect::pods::targets::Discovery;
use tidegate_agent::collect::pods::{ApiServer, PodSources};
use tidegate_agent::collect::{Agent, AgentHandle, LatestValues, ScrapeTarget};
use tidegate_agent::export::digest::{self, DigestOptions};
use tidegate_agent::export::{Exporter, Format, Registry};
use tidegate_agent::otlp::Inbox;
use tidegate_core::{Label, Metric, Signal, Timestamp, WorkloadId};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::api::views::{self, About, AlertBatch, AlertReport, Event, Exposition, ForecastView, Point};
use crate::api::{
    Asked, Backend, Denied, Listen, LogFilter, Refusal, Reviewer, SeriesQuery, TlsFiles, Verdict,
};
use crate::args::{AgentArgs, AgentSource};
use crate::config::{Gpu, GpuEnabled};
use crate::ending::{Signals, ended};
use crate::otlp::{self, Ports, push};
use crate::{Usage, certificate, clock, controller, gpus, keep, output, show};

/// A signal's value is shown for this long after it was read.
const SHOWN_FOR: Duration = Duration::from_secs(30);

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let node = args.node.clone().unwrap_or_else(keep::host_name);
    // The directory of a certificate of its own is kept until the end.
    let (listen, _dir) = listen(&args, &node)?;
    let ports =
        otlp::bind(args.otlp_grpc, args.otlp_http, &listen).context("the OTLP receiver cannot listen")?;
    let bound = listen.bind().context("the metrics page cannot listen")?;
    let url = bound.url();
    let registry = Arc::new(Registry::new());
    let (settings, discovery) = watch::channel(Discovery::default());
    let inbox = ports.as_ref().map(Ports::inbox);
    let handle = start(&args, &node, &registry, discovery.clone(), inbox.clone()).await;
    let (latest, board) = (handle.latest_values(), handle.status_board());
    let gpus = gpus::page(&gpu(&args), &handle, &node);
    let logs = pod_logs::start(&args.logs, &args.root, &node, handle.pods())?;
    let page = Arc::new(Page {
        exporter: Exporter::new(Arc::clone(&registry), Arc::clone(&latest), SHOWN_FOR)
            .with_gpus(gpus)
            .with_pushed(inbox),
        registry: Arc::clone(&registry),
        started_at: clock::now(),
        node: node.clone(),
        url: url.clone(),
        latest: Arc::clone(&latest),
        agent: Mutex::new(Some(handle)),
        news: broadcast::channel(1).0,
    });
    let pusher = push::prepare(push::of_args(&args.push).as_ref(), &registry)?;
    let (told, resource) = (Arc::clone(&page), push::resource("agent", &node, true));
    let pushing = push::start(pusher, move || told.exporter.requests(&resource));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(Arc::clone(&page) as _, stop.clone().cancelled_owned()));
    for url in ports.iter().flat_map(Ports::urls) {
        output::say(&format!("metrics may be pushed to {url}"))?;
    }
    let receiving = ports.map(|ports| ports.serve(&registry, &stop));
    let logs = logs.map(|logs| logs.tell(&registry));
    let (stopping, stopped) = watch::channel(false);
    let telling = args.controller.clone().map(|url| {
        let options = DigestOptions {
            url,
            node,
            ca_file: args.controller_ca.clone(),
            token_file: args.controller_token.clone(),
            every: digest::EVERY,
        };
        tokio::spawn(digest::push(options, latest, board, registry, settings, stopped))
    });
    output::say(&format!("listening on {url}"))?;
    let why = signals.next().await;
    tracing::info!(why, "stopping");
    stop.cancel();
    stopping.send_replace(true);
    if let Some(telling) = telling {
        ended(telling, "the stream to the controller").await?;
    }
    if let Some(receiving) = receiving {
        receiving.await.context("the OTLP receiver panicked")??;
    }
    push::end(pushing).await?;
    if let Some(logs) = logs {
        logs.end().await?;
    }
    let agent = page.agent.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(agent) = agent {
        agent.shutdown().await;
    }
    serving.await.context("the metrics page panicked")?.context("the metrics page failed")?;
    Ok(())
}

/// Where the metrics page is. Beyond loopback nobody gets more than that page, unless a file of tokens says so.
fn listen(args: &AgentArgs, node: &str) -> anyhow::Result<(Listen, Option<TempDir>)> {
    let addr = args.listen;
    let mut dir = None;
    let mut tls = args.tls_cert.clone().zip(args.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key });
    if args.self_signed {
        let made = tempfile::tempdir_in(&args.scratch)
            .with_context(|| format!("failed to make a directory in {}", args.scratch.display()))?;
        tls = Some(certificate::own(&[node.to_owned(), "localhost".to_owned()], made.path())?);
        dir = Some(made);
    }
    if !addr.ip().is_loopback() && tls.is_none() {
        let text =
            format!("{addr} is beyond loopback: that needs --tls-cert and --tls-key, or --self-signed");
        return Err(Usage(text).into());
    }
    let tokens = args.tokens.clone();
    let listen =
        Listen { tls, tokens, reviewer: Some(Arc::new(Nobody)), ..Listen::loopback(addr, PathBuf::new()) };
    Ok((listen, dir))
}

/// Knows no token.
struct Nobody;

impl Reviewer for Nobody {
    fn review<'a>(&'a self, _: &'a str, _: Asked) -> futures::future::BoxFuture<'a, Verdict> {
        Box::pin(std::future::ready(Verdict::Unknown))
    }
}

async fn start(
    args: &AgentArgs,
    node: &str,
    registry: &Arc<Registry>,
    discovery: watch::Receiver<Discovery>,
    inbox: Option<Arc<Inbox>>,
) -> AgentHandle {
    let with = |source| !args.without.contains(&source);
    let seen = |path: &PathBuf| args.root.join(path.strip_prefix("/").unwrap_or(path));
    let paces = Paces { scrape: args.scrape_every.get().max(Duration::from_millis(200)), ..Paces::default() };
    let mut builder = Agent::builder().paces(paces).registry(Arc::clone(registry));
    if with(AgentSource::Node) {
        builder = builder.node(args.root.clone());
    }
    if with(AgentSource::Containers) {
        let paths = ContainerPaths { kubelet: args.kubelet.clone(), ..ContainerPaths::below(&args.root) };
        builder = builder.containers(paths);
    }
    if with(AgentSource::Pods) {
        let client = controller::client(args.kubeconfig.as_deref()).await;
        if let Err(error) = &client {
            tracing::info!(
                error = format!("{error:#}"),
                "no API server is asked for pods; the kubelet alone"
            );
        }
        let api_server = client.ok().map(|client| ApiServer { client, node: node.to_owned() });
        builder = builder.pods(PodSources { kubelet: seen(&args.kubelet), api_server });
    }
    if let Some(options) = gpus::options(&gpu(args), args.root.clone()) {
        builder = builder.gpu(options);
    }
    if let Some(inbox) = inbox {
        builder = builder.pushed(inbox, discovery.clone());
    }
    if with(AgentSource::Scrape) {
        builder = builder.scrape(given_targets(args, discovery.clone())).discover(discovery);
    }
    builder.start()
}

/// What the command line says of GPUs.
fn gpu(args: &AgentArgs) -> Gpu {
    let enabled = match args.gpu_required {
        _ if args.without.contains(&AgentSource::Gpu) => GpuEnabled::Never,
        true => GpuEnabled::Always,
        false => GpuEnabled::Auto,
    };
    let (library, kernel_log) = (args.gpu_library.clone(), args.kernel_log.clone());
    Gpu { enabled, library, kernel_log, compat: args.gpu_compat.clone() }
}

/// The targets of the command line, read as their policies say.
fn given_targets(
    args: &AgentArgs,
    mut discovery: watch::Receiver<Discovery>,
) -> watch::Receiver<Vec<ScrapeTarget>> {
    let given = args.target.clone();
    let targets = move |discovery: &Discovery| -> Vec<ScrapeTarget> {
        let target = |(i, (workload, url)): (usize, &(WorkloadId, String))| {
            let settings = discovery.workloads.get(workload).cloned().unwrap_or_default();
            ScrapeTarget {
                workload: workload.clone(),
                name: format!("{}-{i}", workload.name()),
                url: url.clone(),
                rules: settings.rules,
                select: settings.select,
                objective: settings.objective,
                deadline: discovery.deadline,
            }
        };
        given.iter().enumerate().map(target).collect()
    };
    let (out, all) = watch::channel(targets(&discovery.borrow_and_update()));
    tokio::spawn(async move {
        while discovery.changed().await.is_ok() {
            let now = targets(&discovery.borrow_and_update());
            out.send_if_modified(|known| {
                let differs = *known != now;
                *known = now;
                differs
            });
        }
        // Who reads them goes on with the last ones.
        out.closed().await;
    });
    all
}

/// What the agent shows: its metrics page, and how it fares. It has no workloads of its own.
struct Page {
    exporter: Exporter,
    registry: Arc<Registry>,
    started_at: Timestamp,
    node: String,
    url: String,
    latest: Arc<LatestValues>,
    agent: Mutex<Option<AgentHandle>>,
    news: broadcast::Sender<Event>,
}

fn none<T>(id: &WorkloadId) -> Result<T, Refusal> {
    Err(Refusal::NotFound(format!("an agent sizes no workload; ask the controller for {id}")))
}

impl Backend for Page {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn ready(&self) -> Result<(), String> {
        match self.agent.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            true => Ok(()),
            false => Err("stopping".into()),
        }
    }

    fn about(&self) -> About {
        About {
            version: env!("CARGO_PKG_VERSION").into(),
            host: Some(self.node.clone()),
            started_at: self.started_at,
            demo: false,
            speed: None,
            day_s: 86_400.0,
            history_preloaded: None,
            listen: vec![self.url.clone()],
            notes: vec!["This is the agent of one node; workloads are shown by the controller.".into()],
            sinks: Vec::new(),
            elasticsearch: None,
            pool: None,
            rivals_since: None,
            rivals: Vec::new(),
        }
    }

    fn workloads(&self) -> Vec<views::Workload> {
        Vec::new()
    }

    fn workload(&self, _: &WorkloadId) -> Option<views::WorkloadDetail> {
        None
    }

    fn forecast(&self, id: &WorkloadId, _: Option<Signal>) -> Result<Option<ForecastView>, Refusal> {
        none(id)
    }

    fn series(&self, _: &SeriesQuery) -> Result<Vec<Point>, Refusal> {
        Err(Refusal::NotFound("an agent keeps no history".into()))
    }

    fn decisions(&self, id: &WorkloadId, _: usize) -> Result<Vec<views::Decision>, Refusal> {
        none(id)
    }

    fn summary(&self, from: Timestamp, to: Timestamp) -> Result<views::Summary, Refusal> {
        Ok(views::Summary { from, to, workloads: Vec::new() })
    }

    fn logs(&self, _: &LogFilter) -> Result<Vec<views::LogLine>, Refusal> {
        Ok(Vec::new())
    }

    fn node(&self) -> Vec<views::NodeReading> {
        show::node(&self.latest, clock::now(), SHOWN_FOR)
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.news.subscribe()
    }

    fn alerts(&self, _: AlertBatch) -> Result<AlertReport, Refusal> {
        Err(Refusal::NotFound("alerts are taken by the controller".into()))
    }

    fn metrics(&self, accept: Option<&str>) -> Exposition {
        let format = Format::negotiate(accept);
        Exposition { content_type: format.content_type().into(), body: self.exporter.page(format) }
    }

    fn denied(&self, cause: Denied) {
        self.registry.counter(Metric::AuthDenied, &[(Label::Cause, cause.as_str())]).inc();
    }
}
