//! Everything that `up` runs on this machine, put together: started in order, stopped in order.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_actuator::control::{Control, Managed};
use tidegate_actuator::routing::Routing;
use tidegate_actuator::{Gateway, LocalTarget};
use tidegate_agent::collect::agent::Paces;
use tidegate_agent::collect::{Agent, AgentHandle, LatestValues, ProcessGroup, ScrapeTarget};
use tidegate_agent::export::{Exporter, Registry};
use tidegate_agent::logs::{LogHandle, LogSource};
use tidegate_brain::{Brain, Fleet, History, Snapshot};
use tidegate_core::{Policy, ServingPolicy, Signal, Subject, Timestamp, WorkloadId};
use tidegate_history::{Aggregate, OpenError, Store, StoreOptions};
use tokio::sync::{broadcast, watch};

use super::board::Card;
use super::demo::Running;
use super::logging;
use super::readings::Collected;
use super::rivals::Rivals;
use super::settings::{Setting, Settings};
use crate::api::views::Event;
use crate::clock;

/// Events kept for a listener that is slow.
const EVENTS_KEPT: usize = 1024;
/// A signal's value is shown on `/metrics` for this long after it was read.
pub(super) const SHOWN_FOR: Duration = Duration::from_secs(30);
/// How often workloads are scraped and their processes looked at.
const WORKLOADS_EVERY: Duration = Duration::from_secs(2);
/// Demand that brains are given from the history: the five weeks of its tier of minutes.
const HISTORY_FOR: Duration = Duration::from_secs(35 * 86_400);
/// As many steps of it as a brain keeps: three weeks of minutes.
const HISTORY_STEPS_MAX: u32 = 30_240;
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
    pub(super) async fn start(mut settings: Settings, url: &str) -> anyhow::Result<Self> {
        let started_at = clock::now();
        let mut notes = std::mem::take(&mut settings.notes);
        let locked = lock_directory(&settings.data)?;
        let store = Arc::new(open_history(&settings.data, started_at, &mut notes)?);
        let preloaded = match &settings.demo {
            Some(demo) => demo.prepare(&store, started_at).await?,
            None => None,
        };
        let host = host_name();
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
        let registry = Arc::new(Registry::new());
        let (targets, scraped) = watch::channel(Vec::new());
        let agent = start_agent(&managed, &registry, scraped, scrape_every(&settings));
        let latest = agent.latest_values();
        let collected = Arc::new(Collected::new(Arc::clone(&latest)));
        let brains: Vec<_> =
            settings.workloads.iter().map(|setting| brain(setting, &store, started_at)).collect();
        let cards = brains.iter().map(|brain| (brain.id().clone(), Card::new(brain))).collect();
        let fleet = Fleet::new(brains, settings.slots);
        let state = settings.data.join("state");
        let demo = settings.demo.as_ref().map(|demo| demo.run(&managed)).transpose()?;
        let control = Control::new(fleet, managed, Arc::clone(&collected) as _, settings.source, &state);
        Ok(Self {
            rivals: Mutex::new(rivals(&settings)),
            exporter: Exporter::new(Arc::clone(&registry), Arc::clone(&latest), SHOWN_FOR),
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

    /// Stops everything in order: load, replicas, collectors, logs, history. Each within its own limits.
    pub(super) async fn stop(&self) {
        if let Some(demo) = &self.demo {
            demo.stop().await;
        }
        let control = lock(&self.control).take();
        if let Some(control) = control {
            for brain in control.brains() {
                self.keep(brain);
            }
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

    /// Keeps what a brain has learned for the next start.
    pub(super) fn keep(&self, brain: &Brain) {
        let kept = serde_json::to_vec(&brain.snapshot()).expect("a snapshot is plain data");
        if let Err(error) = self.store.put_blob(&blob_key(brain.id()), &kept) {
            tracing::warn!(workload = %brain.id(), error = %error, "what was learned could not be kept");
        }
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

fn blob_key(id: &WorkloadId) -> String {
    format!("brain/{id}")
}

/// Takes the data directory for this process: two on one directory would fight over the same replicas and files, also where
/// neither can keep a history.
fn lock_directory(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let failed = || format!("failed to lock {}", path.display());
    let file = File::options().write(true).create(true).truncate(false).open(&path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another Tidegate uses the data directory {}; give this one its own with --data",
                data.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

/// Opens the history; goes on without keeping anything where the directory cannot be written, and says so.
fn open_history(data: &Path, now: Timestamp, notes: &mut Vec<String>) -> anyhow::Result<Store> {
    let folder = data.join("history");
    match Store::open(&folder, StoreOptions::default(), now) {
        Ok((store, opened)) => {
            if let Some(moved) = opened.moved_aside {
                tracing::error!(?moved, "the history was damaged; it was moved aside and a new one begun");
                notes.push(format!(
                    "The history was damaged and was moved aside: {moved:?}. A new one was begun."
                ));
            }
            Ok(store)
        }
        Err(error @ OpenError::InUse { .. }) => {
            Err(error).context("another Tidegate uses this data directory")
        }
        Err(error) => {
            let error = anyhow::Error::new(error);
            tracing::error!("the history cannot be kept, going on in memory: {error:#}");
            notes.push(format!("The history is kept in memory only: {error:#}."));
            Ok(Store::in_memory(StoreOptions::default()))
        }
    }
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
    scrape_every: Duration,
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
    let paces = Paces { process: WORKLOADS_EVERY, scrape: scrape_every, ..Paces::default() };
    let root = PathBuf::from("/");
    let builder = Agent::builder().node(root.clone()).process(root, groups).scrape(scraped);
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
    let read = |policy: &ServingPolicy, signal| {
        let subject = Subject::Workload(setting.id.clone());
        let step = policy.forecast.step.get();
        let from = now.before(HISTORY_FOR.min(step.saturating_mul(HISTORY_STEPS_MAX)));
        let read = store.read(&subject, signal, from, now, step, Aggregate::Mean);
        read.inspect_err(|error| tracing::warn!(workload = %setting.id, %error, "the history cannot be read"))
            .ok()
            .and_then(trimmed)
    };
    let history = match &setting.policy {
        Policy::Serving(policy) => {
            let prompt = read(policy, Signal::PromptTokensPerSecond);
            let tokens = prompt.zip(read(policy, Signal::OutputTokensPerSecond));
            History {
                demand: read(policy, Signal::RequestsPerSecond),
                tokens: tokens.map(|(prompt, output)| [prompt, output]),
            }
        }
        Policy::Training(_) => History::default(),
    };
    let brain = Brain::new(setting.id.clone(), setting.policy.clone(), history);
    let kept = store.get_blob(&blob_key(&setting.id)).ok().flatten();
    match kept.and_then(|bytes| serde_json::from_slice::<Snapshot>(&bytes).ok()) {
        Some(snapshot) => brain.restored(snapshot),
        None => brain,
    }
}

/// A series from its first known step on.
fn trimmed(series: tidegate_core::Series) -> Option<tidegate_core::Series> {
    let first = series.values().iter().position(Option::is_some)?;
    let values = series.values()[first..].iter().copied();
    Some(tidegate_core::Series::from_values(series.time(first), series.step(), values))
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

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.into() }
}
