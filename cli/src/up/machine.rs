//! Everything that `up` runs on this machine, put together: started in order, stopped in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tidegate_actuator::control::{Control, Managed};
use tidegate_actuator::routing::Routing;
use tidegate_actuator::{Gateway, LocalTarget};
use tidegate_agent::collect::agent::Paces;
use tidegate_agent::collect::{Agent, AgentHandle, LatestValues, ProcessGroup, ScrapeTarget};
use tidegate_agent::export::{Exporter, Registry};
use tidegate_agent::logs::{LogHandle, LogSource, Spool};
use tidegate_agent::otlp::Inbox;
use tidegate_brain::{Brain, Fleet, PoolSize};
use tidegate_core::{Policy, Timestamp, WorkloadId};
use tidegate_history::Store;
use tokio::sync::{broadcast, watch};

use super::demo::Running;
use super::logging;
use super::readings::Collected;
use super::rivals::Rivals;
use super::settings::{Setting, Settings};
use crate::api::views::Event;
use crate::board::Card;
use crate::{clock, gpus, keep};

/// Events kept for a listener that is slow.
const EVENTS_KEPT: usize = 1024;
/// A signal's value is shown on `/metrics` for this long after it was read.
pub(super) const SHOWN_FOR: Duration = Duration::from_secs(30);
/// How often workloads are scraped and their processes looked at.
const WORKLOADS_EVERY: Duration = Duration::from_secs(2);
/// Time that requests under way have when the gateway stops, and that logs have to be shipped.
const DRAIN: Duration = Duration::from_secs(10);

/// All parts.
pub(super) struct Machine {
    pub(super) settings: Settings,
    pub(super) started_at: Timestamp,
    pub(super) host: String,
    pub(super) addresses: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) store: Arc<Store>,
    pub(super) latest: Arc<LatestValues>,
    pub(super) registry: Arc<Registry>,
    pub(super) exporter: Exporter,
    pub(super) collected: Arc<Collected>,
    pub(super) agent: Mutex<Option<AgentHandle>>,
    pub(super) logs: Mutex<Option<LogHandle>>,
    pub(super) control: Mutex<Option<Control>>,
    pub(super) cards: Mutex<BTreeMap<WorkloadId, Card>>,
    pub(super) rivals: Mutex<Vec<Rivals>>,
    pub(super) news: broadcast::Sender<Event>,
    pub(super) targets: watch::Sender<Vec<ScrapeTarget>>,
    pub(super) demo: Option<Running>,
    pub(super) preloaded: Option<f64>,
    /// Lines that Elasticsearch was asked for by their ids, and those that it found, the last time.
    pub(super) indexed: Mutex<Option<(u64, u64)>>,
    /// Kept: the data directory is free for another when it is gone.
    _locked: File,
    /// Kept: the log path ends when it is gone.
    _sources: watch::Sender<Vec<LogSource>>,
}

impl Machine {
    /// Starts every part. What was started before a failure is stopped by being dropped.
    pub(super) async fn start(
        mut settings: Settings,
        url: &str,
        registry: Arc<Registry>,
        inbox: Option<Arc<Inbox>>,
    ) -> anyhow::Result<Self> {
        let started_at = clock::now();
        let mut notes = std::mem::take(&mut settings.notes);
        let locked = keep::lock_directory(&settings.data)?;
        let store = Arc::new(keep::open_history(&settings.data, started_at, &mut notes)?);
        let preloaded = match &settings.demo {
            Some(demo) => demo.prepare(&store, started_at).await?,
            None => None,
        };
        let host = keep::host_name();
        let (logs, sources) = logging::start(&settings, &host)?;
        let mut managed = BTreeMap::new();
        let mut addresses = vec![url.to_owned()];
        for setting in &settings.workloads {
            let one = start_workload(setting, &settings.data).await?;
            addresses.extend(
                one.gateway
                    .as_ref()
                    .map(|gateway| format!("{}: http://{}", setting.id.name(), gateway.addr())),
            );
            managed.insert(setting.id.clone(), one);
        }
        let (targets, scraped) = watch::channel(Vec::new());
        let agent = start_agent(&managed, &registry, scraped, &settings, inbox.clone());
        let latest = agent.latest_values();
        let collected = Arc::new(Collected::new(Arc::clone(&latest)));
        let brains: Vec<_> =
            settings.workloads.iter().map(|setting| brain(setting, &store, started_at)).collect();
        let cards = brains.iter().map(|brain| (brain.id().clone(), Card::new(brain))).collect();
        let fleet = Fleet::new(brains, settings.slots.map(PoolSize::fixed));
        let state = settings.data.join("state");
        let demo = settings.demo.as_ref().map(|demo| demo.run(&managed)).transpose()?;
        let control = Control::new(fleet, managed, Arc::clone(&collected) as _, settings.source, &state);
        Ok(Self {
            rivals: Mutex::new(rivals(&settings)),
            exporter: Exporter::new(Arc::clone(&registry), Arc::clone(&latest), SHOWN_FOR)
                .with_gpus(gpus::page(&settings.gpu, &agent, &host))
                .with_pushed(inbox),
            settings,
            started_at,
            host,
            addresses,
            notes,
            store,
            latest,
            registry,
            collected,
            agent: Mutex::new(Some(agent)),
            logs: Mutex::new(Some(logs)),
            control: Mutex::new(Some(control)),
            cards: Mutex::new(cards),
            news: broadcast::channel(EVENTS_KEPT).0,
            targets,
            demo,
            preloaded,
            indexed: Mutex::new(None),
            _locked: locked,
            _sources: sources,
        })
    }

    /// Where log records that are pushed go.
    pub(super) fn spool(&self) -> Option<Arc<Spool>> {
        lock(&self.logs).as_ref().and_then(LogHandle::spool)
    }

    /// Stops everything in order: load, replicas, collectors, logs, history. Each within its own limits.
    pub(super) async fn stop(&self) {
        if let Some(demo) = &self.demo {
            demo.stop().await;
        }
        let control = lock(&self.control).take();
        if let Some(control) = control {
            self.keep(control.brains());
            control.stop(DRAIN).await;
        }
        let agent = lock(&self.agent).take();
        if let Some(agent) = agent {
            agent.shutdown().await;
        }
        let logs = lock(&self.logs).take();
        if let Some(logs) = logs {
            let drained = logs.shutdown(DRAIN).await;
            tracing::info!(left = drained.left, "log path stopped");
        }
        if let Err(error) = self.store.checkpoint() {
            tracing::error!(error = format!("{error:#}"), "the history could not be written at the end");
        }
    }

    /// Keeps what brains have learned for the next start.
    pub(super) fn keep<'a>(&self, brains: impl Iterator<Item = &'a Brain>) {
        keep::brains(&self.store, brains.map(|brain| (brain.id().clone(), brain.snapshot())));
    }

    /// Tells listeners; nobody need be there.
    pub(super) fn tell(&self, event: Event) {
        drop(self.news.send(event));
    }
}

/// A lock that a panic elsewhere does not break: every update leaves the value whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn start_workload(setting: &Setting, data: &Path) -> anyhow::Result<Managed> {
    let name = setting.id.name();
    let gateway = match &setting.gateway {
        Some(spec) => {
            Some(Arc::new(Gateway::start(spec.clone()).await.with_context(|| format!("gateway of {name}"))?))
        }
        None => None,
    };
    let target = match &setting.process {
        Some(spec) => {
            let routing = gateway.as_ref().map(|gateway| Arc::new(gateway.router()) as Arc<dyn Routing>);
            let state = data.join("state").join(name);
            let target = LocalTarget::start(spec.clone(), &state, routing).await;
            Some(Arc::new(target.with_context(|| format!("replicas of {name}"))?))
        }
        None => None,
    };
    Ok(Managed { target, gateway, checkpoint: setting.checkpoint.clone() })
}

fn start_agent(
    managed: &BTreeMap<WorkloadId, Managed>,
    registry: &Arc<Registry>,
    scraped: watch::Receiver<Vec<ScrapeTarget>>,
    settings: &Settings,
    inbox: Option<Arc<Inbox>>,
) -> AgentHandle {
    let watched: Vec<_> =
        managed.iter().filter_map(|(id, one)| Some((id.clone(), one.target.as_ref()?.watch()))).collect();
    let groups = move || {
        let group = |(id, seen): &(WorkloadId, watch::Receiver<_>)| {
            let snapshot: &tidegate_actuator::targets::local::Snapshot = &seen.borrow();
            let leaders = snapshot.replicas.iter().filter_map(|r| u32::try_from(r.pid?).ok()).collect();
            ProcessGroup { workload: id.clone(), leaders }
        };
        watched.iter().map(group).collect()
    };
    let paces = Paces { process: WORKLOADS_EVERY, scrape: scrape_every(settings), ..Paces::default() };
    let root = PathBuf::from("/");
    let builder = Agent::builder().node(root.clone()).process(root, groups).scrape(scraped);
    let builder = match gpus::options(&settings.gpu, PathBuf::from("/")) {
        Some(options) => builder.gpu(options),
        None => builder,
    };
    let builder = match inbox {
        Some(inbox) => builder.pushed(inbox, watch::channel(settings.discovery()).1),
        None => builder,
    };
    builder.paces(paces).registry(Arc::clone(registry)).start()
}

/// The shortest time between two scrapes that a workload asks for, but never less than a second.
fn scrape_every(settings: &Settings) -> Duration {
    let asked =
        settings.workloads.iter().filter_map(|setting| setting.metrics.as_ref()).map(|metrics| metrics.every);
    asked.min().unwrap_or(WORKLOADS_EVERY).max(Duration::from_secs(1))
}

/// A brain that knows what the history knows, and what its predecessor learned.
fn brain(setting: &Setting, store: &Store, now: Timestamp) -> Brain {
    let (history, snapshot) = keep::recall(store, &setting.id, &setting.policy, now);
    let brain = Brain::new(setting.id.clone(), setting.policy.clone(), history);
    match snapshot {
        Some(snapshot) => brain.restored(snapshot),
        None => brain,
    }
}

fn rivals(settings: &Settings) -> Vec<Rivals> {
    let of = |setting: &Setting| match &setting.policy {
        Policy::Serving(policy) if setting.gateway.is_some() => {
            Some(Rivals::new(setting.id.clone(), policy.clone()))
        }
        _ => None,
    };
    settings.workloads.iter().filter_map(of).collect()
}
