//! `tidegate agent`: the collectors of one node, what they say on `/metrics`, and the stream to the controller.

mod pod_logs;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use tidegate_agent::collect::agent::Paces;
use tidegate_agent::collect::container::ContainerPaths;
use tidegate_agent::collect::pods::targets::Discovery;
use tidegate_agent::collect::pods::{ApiServer, PodSources};
use tidegate_agent::collect::{Agent, AgentHandle, LatestValues, ScrapeTarget};
use tidegate_agent::export::digest::{self, DigestOptions, Seen};
use tidegate_agent::export::{Exporter, Format, Registry};
use tidegate_agent::otlp::Inbox;
use tidegate_core::{Label, Metric, Signal, Timestamp, WorkloadId};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::pod_logs::PodLogs;
use crate::api::views::{self, About, AlertBatch, AlertReport, Event, Exposition, ForecastView, Point};
use crate::api::{
    Asked, Backend, Denied, Listen, LogFilter, Refusal, Reviewer, SeriesQuery, TlsFiles, Verdict,
};
use crate::args::{AgentArgs, AgentSource};
use crate::certificate::Own;
use crate::certificate::renewal::{self, Source};
use crate::config::{Gpu, GpuEnabled};
use crate::ending::{Signals, ended};
use crate::otlp::{self, Ports, push};
use crate::{Usage, clock, controller, gpus, keep, output, show};

/// A signal's value is shown for this long after it was read.
const SHOWN_FOR: Duration = Duration::from_secs(30);

/// Runs until SIGINT or SIGTERM.
pub(crate) async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let node = args.node.clone().unwrap_or_else(keep::host_name);
    let (certificate, tls) = certificate(&args, &node).await?;
    let listen = listen(&args, tls)?;
    let ports =
        otlp::bind(args.otlp_grpc, args.otlp_http, &listen).context("the OTLP receiver cannot listen")?;
    let bound = listen.bind().context("the metrics page cannot listen")?;
    let url = bound.url();
    let registry = Arc::new(Registry::new());
    let (settings, discovery) = watch::channel(Discovery::default());
    let inbox = ports.as_ref().map(Ports::inbox);
    let handle = start(&args, &node, &registry, discovery.clone(), inbox.clone()).await;
    let latest = handle.latest_values();
    let seen =
        Seen { latest: Arc::clone(&latest), board: handle.status_board(), batches: handle.subscribe() };
    let gpus = gpus::page(&gpu(&args), &handle, &node);
    let logs = pod_logs::start(&args.logs, &args.root, &node, handle.pods(), ports.is_some())?;
    let spool = logs.as_ref().and_then(PodLogs::spool);
    let page = Arc::new(Page {
        exporter: Exporter::new(Arc::clone(&registry), Arc::clone(&latest), SHOWN_FOR)
            .with_gpus(gpus)
            .with_pushed(inbox),
        registry: Arc::clone(&registry),
        started_at: clock::now(),
        node: node.clone(),
        url: url.clone(),
        latest,
        agent: Mutex::new(Some(handle)),
        news: broadcast::channel(1).0,
    });
    let pusher = push::prepare(push::of_args(&args.push).as_ref(), &registry)?;
    let (told, resource) = (Arc::clone(&page), push::resource("agent", &node, true));
    let pushing = push::start(pusher, move || told.exporter.requests(&resource));
    let stop = CancellationToken::new();
    if let Some(source) = certificate {
        let served = bound.tls().into_iter().chain(ports.iter().flat_map(Ports::tls));
        renew(source, served, &stop);
    }
    let serving = tokio::spawn(bound.serve(Arc::clone(&page) as _, stop.clone().cancelled_owned()));
    for url in ports.iter().flat_map(Ports::urls) {
        output::say(&otlp::said(&url, spool.is_some()))?;
    }
    let receiving = ports.map(|ports| ports.serve(spool, &registry, &stop));
    let logs = logs.map(|logs| logs.tell(&registry));
    let (stopping, stopped) = watch::channel(false);
    let telling = digest_options(&args, node)
        .map(|options| tokio::spawn(digest::push(options, seen, registry, settings, stopped)));
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

/// Where digests go, if anywhere.
fn digest_options(args: &AgentArgs, node: String) -> Option<DigestOptions> {
    let url = args.controller.clone()?;
    let (ca_file, token_file) = (args.controller_ca.clone(), args.controller_token.clone());
    Some(DigestOptions { url, node, ca_file, token_file, every: digest::EVERY })
}

/// Where the certificate comes from, and its files now; `None`: there is none.
async fn certificate(args: &AgentArgs, node: &str) -> anyhow::Result<(Option<Source>, Option<TlsFiles>)> {
    let given = args.tls_cert.clone().zip(args.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key });
    let source = if args.self_signed {
        let names = vec![node.to_owned(), "localhost".to_owned()];
        Some(Source::Own(Own::new(names, &args.scratch)?))
    } else {
        given.map(Source::Given)
    };
    let files = match &source {
        Some(source) => Some(source.shared().await?.files),
        None => None,
    };
    Ok((source, files))
}

/// Serves a new certificate before the one in use ends, or when its files have changed.
fn renew(source: Source, served: impl Iterator<Item = RustlsConfig>, stop: &CancellationToken) {
    let (authority, _) = watch::channel(None);
    let served = served.map(renewal::plain).collect();
    drop(tokio::spawn(renewal::keep(source, served, authority, stop.clone())));
}

/// Where the metrics page is. Beyond loopback nobody gets more than that page, unless a file of tokens says so.
fn listen(args: &AgentArgs, tls: Option<TlsFiles>) -> anyhow::Result<Listen> {
    let addr = args.listen;
    if !addr.ip().is_loopback() && tls.is_none() {
        let text =
            format!("{addr} is beyond loopback: that needs --tls-cert and --tls-key, or --self-signed");
        return Err(Usage(text).into());
    }
    let tokens = args.tokens.clone();
    Ok(Listen { tls, tokens, reviewer: Some(Arc::new(Nobody)), ..Listen::loopback(addr, PathBuf::new()) })
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
                rarely: false,
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
