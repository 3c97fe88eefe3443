//! What the controller's parts share, and what the API shows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tidegate_actuator::cluster::entry::{PolicyKey, PolicyKind};
use tidegate_actuator::cluster::lease::Leader;
use tidegate_actuator::cluster::victims;
use tidegate_actuator::cluster::watch::Scope;
use tidegate_actuator::cluster::{Cluster, Recall};
use tidegate_agent::collect::LatestValues;
use tidegate_agent::export::{Exporter, Format, Registry};
use tidegate_brain::{Brain, History, Snapshot};
use tidegate_core::policy::SignalRule;
use tidegate_core::{Label, Metric, Policy, Signal, Subject, Timestamp, WorkloadId};
use tidegate_digest::{WORKLOADS_MAX, v1};
use tidegate_history::Store;
use tokio::sync::{broadcast, watch};

use super::demand::Demand;
use super::digests::SharedBoard;
use super::prometheus::Question;
use super::published::Sizes;
use super::rights::{self, Lacking};
use crate::api::views::{self, About, AlertBatch, AlertReport, Event, Exposition, ForecastView, Point};
use crate::api::{Backend, Denied, LogFilter, Refusal, SeriesQuery};
use crate::args::ControllerArgs;
use crate::board::Card;
use crate::{clock, keep, show, summary};

/// Events kept for a listener that is slow.
const EVENTS_KEPT: usize = 4096;
/// A signal's value is shown on `/metrics` for this long after it was read.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// All of it.
pub(super) struct Hub {
    pub(super) store: Arc<Store>,
    pub(super) latest: Arc<LatestValues>,
    pub(super) registry: Arc<Registry>,
    pub(super) demand: Arc<Demand>,
    pub(super) board: SharedBoard,
    pub(super) cluster: Mutex<Option<Cluster>>,
    pub(super) cards: Mutex<BTreeMap<WorkloadId, Card>>,
    pub(super) news: broadcast::Sender<Event>,
    pub(super) leading: watch::Receiver<Leader>,
    pub(super) lacking: Mutex<Lacking>,
    /// What autoscalers are answered with; told anew after each round.
    pub(super) sizes: watch::Sender<Arc<Sizes>>,
    exporter: Exporter,
    started_at: Timestamp,
    host: String,
    url: String,
    notes: Vec<String>,
    /// Kept: the data directory is free for another when it is gone.
    _locked: File,
}

/// A lock that a panic elsewhere does not break: every update leaves the value whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Recalls what the history knows.
struct Kept(Arc<Store>);

impl Recall for Kept {
    fn recall(&self, id: &WorkloadId, policy: &Policy) -> (History, Option<Snapshot>) {
        keep::recall(&self.0, id, policy, clock::now())
    }
}

impl Hub {
    /// Opens the history and begins to watch. Must be called within a Tokio runtime.
    pub(super) fn start(
        args: &ControllerArgs,
        client: Client,
        scope: Scope,
        url: &str,
        leading: watch::Receiver<Leader>,
    ) -> anyhow::Result<Self> {
        let started_at = clock::now();
        let data = std::fs::canonicalize(&args.data)
            .with_context(|| format!("failed to find {}", args.data.display()))?;
        let locked = keep::lock_directory(&data)?;
        let mut notes = Vec::new();
        let store = Arc::new(keep::open_history(&data, started_at, &mut notes)?);
        let (latest, registry) = (Arc::new(LatestValues::default()), Arc::new(Registry::new()));
        let demand = Arc::new(Demand::default());
        let recall = Arc::new(Kept(Arc::clone(&store)));
        let cluster = Cluster::start(client, scope, Arc::clone(&demand) as _, recall);
        Ok(Self {
            exporter: Exporter::new(Arc::clone(&registry), Arc::clone(&latest), SHOWN_FOR),
            store,
            latest,
            registry,
            demand,
            board: SharedBoard::default(),
            cluster: Mutex::new(Some(cluster)),
            cards: Mutex::default(),
            news: broadcast::channel(EVENTS_KEPT).0,
            leading,
            lacking: Mutex::default(),
            sizes: watch::Sender::default(),
            started_at,
            host: args.identity.clone().unwrap_or_else(keep::host_name),
            url: url.to_owned(),
            notes,
            _locked: locked,
        })
    }

    /// Whether this controller leads.
    pub(super) fn leads(&self) -> bool {
        self.leading.borrow().is_this()
    }

    /// What Prometheus is to be asked, by workload.
    pub(super) fn questions(&self) -> Vec<(WorkloadId, Question)> {
        let cluster = lock(&self.cluster);
        let Some(cluster) = cluster.as_ref() else { return Vec::new() };
        let serving = cluster.tables().serving.look();
        let question = |((namespace, _), facts): ((&str, &str), &_)| {
            let facts: &tidegate_actuator::cluster::tables::PolicyFacts<
                tidegate_actuator::crds::ServingPolicySpec,
            > = facts;
            let spec = facts.spec.as_ref().ok()?;
            let asked = spec.demand.as_ref()?.prometheus.as_ref()?;
            let id = spec.target.id(namespace).ok()?;
            let scale = asked.unit.per_second(1.0);
            Some((id, Question { url: asked.url.clone(), query: asked.query.clone(), scale }))
        };
        serving.all().filter_map(question).collect()
    }

    /// How these workloads are to be read, by their policies; those without one are left out.
    pub(super) fn settings<'a>(&self, ids: impl Iterator<Item = &'a str>) -> v1::Settings {
        let ids: Vec<WorkloadId> = ids.take(WORKLOADS_MAX).filter_map(|id| id.parse().ok()).collect();
        let of = |cluster: &Cluster| {
            let known = ids.iter().filter_map(|id| workload_settings(id, cluster)).collect();
            v1::Settings { workloads: known }
        };
        self.with(of).unwrap_or_default()
    }

    /// Keeps what was learned, and ends the watches after the writes that are under way.
    pub(super) async fn stop(&self) {
        let cluster = lock(&self.cluster).take();
        if let Some(cluster) = cluster {
            let learned = cluster.brains().map(|brain| (brain.id().clone(), brain.snapshot()));
            keep::brains(&self.store, learned);
            cluster.stop().await;
        }
        if let Err(error) = self.store.checkpoint() {
            tracing::error!(error = format!("{error:#}"), "the history could not be written at the end");
        }
    }

    /// Whether the cluster has a node of this name.
    pub(super) fn has_node(&self, name: &str) -> bool {
        self.with(|cluster| cluster.tables().nodes.look().get("", name).is_some()).unwrap_or(false)
    }

    fn with<T>(&self, look: impl FnOnce(&Cluster) -> T) -> Result<T, Refusal> {
        let cluster = lock(&self.cluster);
        cluster.as_ref().map(look).ok_or_else(|| Refusal::Unavailable("stopping".into()))
    }

    fn brain<T>(&self, id: &WorkloadId, look: impl FnOnce(&Brain) -> T) -> Result<T, Refusal> {
        let missing = || Refusal::NotFound(format!("no workload {id}"));
        self.with(|cluster| cluster.brain(id).map(look))?.ok_or_else(missing)
    }

    /// The policies that there are.
    pub(super) fn policies(cluster: &Cluster) -> BTreeSet<PolicyKey> {
        let key = |kind: PolicyKind, (namespace, name): (&str, &str)| PolicyKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let tables = cluster.tables();
        let mut all: BTreeSet<_> =
            tables.serving.look().all().map(|(policy, _)| key(PolicyKind::Serving, policy)).collect();
        all.extend(tables.training.look().all().map(|(policy, _)| key(PolicyKind::Training, policy)));
        all.extend(tables.pools.look().all().map(|(pool, _)| key(PolicyKind::Pool, pool)));
        all
    }
}

/// What a policy says of how its workload is read.
fn workload_settings(id: &WorkloadId, cluster: &Cluster) -> Option<v1::WorkloadSettings> {
    let intent = cluster.intent(id)?;
    let Policy::Serving(policy) = &intent.policy else {
        return Some(v1::WorkloadSettings { id: id.to_string(), ..v1::WorkloadSettings::default() });
    };
    let labels = |of: &BTreeMap<String, String>| of.clone().into_iter().collect();
    let rule = |rule: &SignalRule| v1::Rule {
        family: rule.family.clone(),
        labels: labels(&rule.labels),
        signal: rule.signal.name().to_owned(),
        how: rule.how.as_str().to_owned(),
        except: labels(&rule.except),
        per: rule.per.clone(),
        scale: Some(rule.scale),
        adds: rule.adds,
    };
    let serving = cluster.tables().serving.look();
    let facts = serving.get(&intent.key.namespace, &intent.key.name);
    let spec = facts.and_then(|facts| facts.spec.as_ref().ok());
    let rules = spec.and_then(|spec| spec.demand.as_ref()).map(|demand| demand.signals.as_slice());
    Some(v1::WorkloadSettings {
        id: id.to_string(),
        latency_limit_seconds: Some(policy.slo.latency.get().as_secs_f64()),
        per_output_token_seconds: policy.slo.per_output_token.map(|span| span.get().as_secs_f64()),
        rules: rules.unwrap_or_default().iter().map(rule).collect(),
        tells_pods: victims::are_chosen(&intent.target.kind),
    })
}

impl Backend for Hub {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn ready(&self) -> Result<(), String> {
        match self.with(Cluster::is_synced) {
            Ok(true) => Ok(()),
            Ok(false) => Err("the cluster's objects have not been read yet".into()),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    fn about(&self) -> About {
        let pools = |cluster: &Cluster| cluster.pools().next().and_then(|(_, fleet)| show::pool(fleet));
        let role = if self.leads() {
            "This controller leads."
        } else {
            "Another controller leads; this one watches and learns."
        };
        let mut notes = self.notes.clone();
        notes.push(role.to_owned());
        notes.extend(rights::sentences(&lock(&self.lacking)));
        About {
            version: env!("CARGO_PKG_VERSION").into(),
            host: Some(self.host.clone()),
            started_at: self.started_at,
            demo: false,
            speed: None,
            day_s: 86_400.0,
            history_preloaded: None,
            listen: vec![self.url.clone()],
            notes,
            sinks: Vec::new(),
            elasticsearch: None,
            pool: self.with(pools).ok().flatten(),
            rivals_since: None,
            rivals: Vec::new(),
        }
    }

    fn workloads(&self) -> Vec<views::Workload> {
        lock(&self.cards).values().map(|card| card.view.clone()).collect()
    }

    fn namespaces(&self) -> BTreeSet<String> {
        let namespace = |id: &WorkloadId| Some(id.as_str().split_once('/')?.0.to_owned());
        lock(&self.cards).keys().filter_map(namespace).collect()
    }

    fn workload(&self, id: &WorkloadId) -> Option<views::WorkloadDetail> {
        let workload = lock(&self.cards).get(id)?.view.clone();
        let signals = self.store.signals(&Subject::Workload(id.clone()));
        self.brain(id, |brain| show::detail(workload, brain, &signals, None)).ok()
    }

    fn forecast(&self, id: &WorkloadId, signal: Option<Signal>) -> Result<Option<ForecastView>, Refusal> {
        show::must_be_forecast(signal)?;
        self.brain(id, |brain| brain.forecast().map(ForecastView::from))
    }

    fn series(&self, query: &SeriesQuery) -> Result<Vec<Point>, Refusal> {
        if let Subject::Workload(id) = &query.subject
            && !lock(&self.cards).contains_key(id)
        {
            return Err(Refusal::NotFound(format!("no workload {id}")));
        }
        show::series(&self.store, query)
    }

    fn decisions(&self, id: &WorkloadId, limit: usize) -> Result<Vec<views::Decision>, Refusal> {
        self.brain(id, |_| ())?;
        show::decisions(&self.store, id, limit)
    }

    fn summary(&self, from: Timestamp, to: Timestamp) -> Result<views::Summary, Refusal> {
        self.with(|cluster| summary::summary(&self.store, cluster.brains(), from, to))?
    }

    fn logs(&self, _: &LogFilter) -> Result<Vec<views::LogLine>, Refusal> {
        // The agents ship them; the controller has none.
        Ok(Vec::new())
    }

    fn node(&self) -> Vec<views::NodeReading> {
        Vec::new()
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.news.subscribe()
    }

    fn alerts(&self, batch: AlertBatch) -> Result<AlertReport, Refusal> {
        let now = clock::now();
        let mut cluster = lock(&self.cluster);
        let cluster = cluster.as_mut().ok_or_else(|| Refusal::Unavailable("stopping".into()))?;
        Ok(show::alerts(&self.registry, batch, |alert| cluster.admit(alert, now)))
    }

    fn metrics(&self, accept: Option<&str>) -> Exposition {
        let format = Format::negotiate(accept);
        Exposition { content_type: format.content_type().into(), body: self.exporter.page(format) }
    }

    fn denied(&self, cause: Denied) {
        self.registry.counter(Metric::AuthDenied, &[(Label::Cause, cause.as_str())]).inc();
    }
}
