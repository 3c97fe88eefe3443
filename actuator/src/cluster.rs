//! The controller of a cluster: observe → brain → apply → tell, over the objects that policies name. It has no `if` about scaling:
//! what is decided, and what is remembered of it, is the brains'.
//!
//! Every replica of the controller watches and learns; only the one that leads writes. So another can take over at once, with
//! what it has seen itself.

pub mod apply;
pub mod book;
mod checkpoint;
pub mod definitions;
pub mod devices;
pub mod entry;
pub mod facts;
pub mod floor;
pub mod gather;
pub mod kinds;
pub mod lease;
mod members;
mod policies;
mod pools;
pub mod publish;
pub mod rights;
mod size_before;
pub mod status;
pub mod tables;
pub mod targets;
pub mod training;
pub mod versions;
pub mod victims;
pub mod watch;
pub mod way;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tidegate_brain::{Brain, Event, Fleet, History, LeadTime, Snapshot};
use tidegate_core::{Alert, AlertOutcome, Mode, Plan, Policy, Timestamp, WorkloadId};
use tokio_util::sync::CancellationToken;

use crate::control::study::Study;
use crate::control::{Readings, Resized, Told};
use crate::crds::ResizeStatus;
use apply::{Hands, Order, Outcome, Refused};
use entry::{Entry, Intent, PolicyKey};
use facts::AutoscalerFacts;
use floor::Raise;
use gather::Gathered;
use members::Pods;
use policies::Policies;
pub use policies::{Idle, Unreadable};
use tables::Tables;
use targets::{Found, Place, Targets};
use victims::Marks;
use watch::Scope;
use way::{AutoscalerKind, Autoscalers, Conflict, Way};

/// Writes that are under way when the controller ends have this long.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// A floor that is as it was for so long after its policy went is given back: no write of before is still to be seen.
const RETURNED_AFTER: Duration = Duration::from_secs(20);

/// What is known of a workload from before it was watched.
pub trait Recall: Send + Sync {
    /// Its history and what an earlier controller learned of it.
    fn recall(&self, id: &WorkloadId, policy: &Policy) -> (History, Option<Snapshot>);
}

/// Why a target's facts are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Not known yet.
    Waiting,
    /// There is no such object, or group.
    Absent,
    /// The server has no such kind.
    NoKind,
    /// It may not be read, or the server does not answer.
    Unreadable(String),
}

/// One workload's part of a round.
#[derive(Debug)]
pub struct Part {
    /// What was seen, planned and decided.
    pub told: Told,
    /// The intent it was planned by.
    pub intent: Arc<Intent>,
    /// Its pods.
    pub gathered: Gathered,
    /// Why its target is not there, if it is not.
    pub missing: Option<Missing>,
    /// The way it acts by, or why it must not act; `None` while the target is not known.
    pub way: Option<Result<Way, Conflict>>,
    /// The floor that is raised for it.
    pub raise: Option<(AutoscalerKind, String, Raise)>,
    /// The target's size when the policy began to set it.
    pub size_before: Option<u32>,
    /// A training job's resize, under way or the last.
    pub resize: Option<ResizeStatus>,
    /// Why its last write failed, if it did.
    pub refused: Option<Refused>,
}

/// What one round saw, decided and did.
#[derive(Debug, Default)]
pub struct ClusterRound {
    /// When.
    pub at: Timestamp,
    /// Each workload's part.
    pub parts: BTreeMap<WorkloadId, Part>,
    /// Policies that have no workload of their own.
    pub idle: Vec<Idle>,
    /// Policies that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Workloads whose policy is gone.
    pub gone: Vec<WorkloadId>,
    /// Resizes of training jobs that ended.
    pub resizes: Vec<Resized>,
    /// Writes that ended.
    pub writes: Vec<(WorkloadId, Order, Outcome)>,
    /// Since when the API server cannot be watched, and what it said.
    pub failing: Option<watch::Failing>,
}

/// A floor that is to be given back, for its policy is gone.
struct Return {
    kind: AutoscalerKind,
    key: facts::Key,
    since: Timestamp,
}

/// The controller's state.
pub struct Cluster {
    fleets: BTreeMap<Option<String>, (Fleet, Study)>,
    entries: BTreeMap<WorkloadId, Entry>,
    policies: Policies,
    /// Time until a node that a pool grows by can run a pod.
    node_waits: BTreeMap<String, LeadTime>,
    tables: Tables,
    targets: Targets,
    hands: Hands,
    client: Client,
    returns: BTreeMap<WorkloadId, Return>,
    readings: Arc<dyn Readings>,
    recall: Arc<dyn Recall>,
    scope: Scope,
    stop: CancellationToken,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("entries", &self.entries.keys()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Begins to watch. Must be called within a Tokio runtime.
    #[must_use]
    pub fn start(client: Client, scope: Scope, readings: Arc<dyn Readings>, recall: Arc<dyn Recall>) -> Self {
        let stop = CancellationToken::new();
        Self {
            fleets: BTreeMap::new(),
            entries: BTreeMap::new(),
            policies: Policies::default(),
            node_waits: BTreeMap::new(),
            tables: Tables::start(&client, &scope, &stop),
            targets: Targets::new(client.clone(), scope.clone(), stop.clone()),
            hands: Hands::new(client.clone()),
            client,
            returns: BTreeMap::new(),
            readings,
            recall,
            scope,
            stop,
        }
    }

    /// Whether the first lists are in: before that, nothing is decided.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let parts = self.scope.parts().len();
        let tables = &self.tables;
        tables.serving.look().is_synced(parts)
            && tables.training.look().is_synced(parts)
            && tables.pods.look().is_synced(parts)
            && tables.hpas.look().is_synced(parts)
    }

    /// Where policies are.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What is watched.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// All minds.
    pub fn brains(&self) -> impl Iterator<Item = &Brain> {
        self.fleets.values().flat_map(|(fleet, _)| fleet.brains())
    }

    /// One mind.
    #[must_use]
    pub fn brain(&self, id: &WorkloadId) -> Option<&Brain> {
        let pool = &self.entries.get(id)?.intent.pool;
        self.fleets.get(pool)?.0.get(id)
    }

    /// The pools that are shared, with their fleets.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &Fleet)> {
        self.fleets.iter().filter_map(|(pool, (fleet, _))| Some((pool.as_deref()?, fleet)))
    }

    /// The intent by which a workload is sized.
    #[must_use]
    pub fn intent(&self, id: &WorkloadId) -> Option<&Intent> {
        self.entries.get(id).map(|entry| &*entry.intent)
    }

    /// Takes in an alert for every workload that has a rule for it.
    pub fn admit(&mut self, alert: &Alert, now: Timestamp) -> Vec<(WorkloadId, AlertOutcome)> {
        let mut admitted = Vec::new();
        for (fleet, _) in self.fleets.values_mut() {
            let ids: Vec<_> = fleet.brains().map(|brain| brain.id().clone()).collect();
            for id in ids {
                let outcome = fleet.get_mut(&id).map(|brain| brain.admit(alert, now));
                admitted.extend(outcome.filter(|o| *o != AlertOutcome::NoRule).map(|outcome| (id, outcome)));
            }
        }
        admitted
    }

    /// One round; writes only where this controller leads. Never waits. Must be called within a Tokio runtime.
    pub fn round(&mut self, now: Timestamp, leads: bool) -> ClusterRound {
        let mut round = ClusterRound { at: now, failing: self.tables.failing(), ..ClusterRound::default() };
        round.writes = self.hands.ended(now);
        if !self.is_synced() {
            return round;
        }
        self.follow_policies(now, leads, &mut round);
        if leads {
            self.give_floors_back(now);
        }
        self.follow_pools();
        let seen = self.observe(now, leads);
        self.learn_node_waits();
        let mut planned = BTreeMap::new();
        for (fleet, study) in self.fleets.values_mut() {
            study.go_on(fleet);
            planned.append(&mut fleet.tick(now));
        }
        let blind = round.failing.as_ref().is_some_and(|failing| failing.blinds(now));
        for (id, (plan, decision)) in planned {
            let Some(look) = seen.get(&id) else { continue };
            if leads {
                round.resizes.extend(self.apply(&id, &plan, look, blind, now));
            }
            let Some(entry) = self.entries.get(&id) else { continue };
            let told = Told {
                plan,
                decision,
                target: None,
                gateway: None,
                seen: look.seen,
                progress: look.progress,
                lost: entry.gathered().lost,
            };
            let part = Part {
                told,
                intent: Arc::clone(&entry.intent),
                gathered: entry.gathered().clone(),
                missing: look.missing.clone(),
                way: entry.way.clone(),
                raise: look.raise.clone(),
                size_before: entry.size_before.size(),
                resize: entry.course.status(),
                refused: self.hands.refused(&id).cloned(),
            };
            round.parts.insert(id, part);
        }
        round
    }

    /// Takes in policies that are new, changed or gone.
    fn follow_policies(&mut self, now: Timestamp, leads: bool, round: &mut ClusterRound) {
        if self.policies.follow(&self.tables) {
            let held = self.policies.held.clone();
            round.gone = self.entries.keys().filter(|id| !held.contains_key(*id)).cloned().collect();
            for (id, intent) in held {
                self.take(id, intent);
            }
        }
        self.policies.kinds.iter().for_each(|kind| self.targets.want(kind, now));
        for id in &round.gone {
            if leads {
                self.give_back(id, now);
            }
            self.entries.remove(id);
            self.hands.forget(id);
            for (fleet, _) in self.fleets.values_mut() {
                fleet.remove(id);
            }
        }
        round.idle.clone_from(&self.policies.idle);
        round.unreadable.clone_from(&self.policies.unreadable);
    }

    /// Makes or changes the mind of one workload.
    fn take(&mut self, id: WorkloadId, intent: Arc<Intent>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.intent == intent {
                return;
            }
            let before = std::mem::replace(&mut entry.intent, Arc::clone(&intent));
            if before.pool == intent.pool && before.policy == intent.policy {
                return;
            }
            let brain = self.fleets.get_mut(&before.pool).and_then(|(fleet, _)| fleet.remove(&id));
            if let Some(brain) = brain {
                let brain = brain.under(intent.policy.clone());
                self.fleets.entry(intent.pool.clone()).or_default().0.insert(brain);
                return;
            }
        }
        let (history, snapshot) = self.recall.recall(&id, &intent.policy);
        let brain = Brain::new(id.clone(), intent.policy.clone(), history);
        let brain = match snapshot {
            Some(snapshot) => brain.restored(snapshot),
            None => brain,
        };
        self.fleets.entry(intent.pool.clone()).or_default().0.insert(brain);
        self.entries.insert(id, Entry::new(intent));
    }

    /// Looks at every workload and tells its brain.
    fn observe(&mut self, now: Timestamp, leads: bool) -> BTreeMap<WorkloadId, Look> {
        let mut known = self.tables.pods.look();
        let changed = known.take_changed();
        let pods = Pods::new(&known, changed);
        let (nodes, pools) = (self.tables.nodes.look(), self.tables.pools.look());
        let (hpas, scaled) = (self.tables.hpas.look(), self.tables.scaled_objects.look());
        let autoscalers = Autoscalers::of(&hpas, &scaled);
        let mut looks = BTreeMap::new();
        for (id, entry) in &mut self.entries {
            let intent = Arc::clone(&entry.intent);
            let (target, namespace) = (&intent.target, intent.key.namespace.as_str());
            let found = self.targets.find(&intent.kind(), namespace, &target.name, target.group.as_deref());
            let rivals = autoscalers.on(namespace, &target.kind, &target.name);
            let (place, facts, missing) = match found {
                Found::Object(place, facts) => (Some(place), Some(facts), None),
                Found::Waiting => (None, None, Some(Missing::Waiting)),
                Found::Absent => (None, None, Some(Missing::Absent)),
                Found::NoKind => (None, None, Some(Missing::NoKind)),
                Found::Unreadable(text) => (None, None, Some(Missing::Unreadable(text))),
            };
            entry.look(facts, &pods, &nodes, now);
            entry.way = entry.target().map(|target| way::way(intent.via, target, rivals));
            let Some((fleet, _)) = self.fleets.get_mut(&intent.pool) else { continue };
            let Some(brain) = fleet.get_mut(id) else { continue };
            brain.set_slots_each(pools::slots_each(entry, &pools));
            // Whoever does not write, for whatever reason, finds sizes that others have set.
            let writes = leads && intent.acts(now) && matches!(entry.way, Some(Ok(_)));
            brain.set_mode(if writes { Mode::Active } else { Mode::Shadow });
            if !writes {
                entry.course.leave();
            }
            entry.remember_size(leads, now);
            let (seen, progress) = entry.tell(brain, &*self.readings, rivals, now);
            let raised = rivals.iter().find(|rival| rival.facts.raised.is_some());
            let raise = raised.and_then(|r| Some((r.kind, r.name.to_owned(), Raise::of(r.facts)?)));
            let autoscalers = rivals.iter().map(|r| (r.kind, r.name.to_owned(), r.facts.clone())).collect();
            looks.insert(id.clone(), Look { seen, progress, place, missing, raise, autoscalers });
        }
        looks
    }

    /// Puts a plan into effect, where its policy acts: gives an order when what is there is not as planned. How a training job's
    /// resize ended, if one did.
    fn apply(
        &mut self,
        id: &WorkloadId,
        plan: &Plan,
        look: &Look,
        blind: bool,
        now: Timestamp,
    ) -> Option<Resized> {
        let entry = self.entries.get_mut(id)?;
        let mut ended = None;
        let order = match entry.way.as_ref() {
            // Not known yet, or not for the moment: what is in force stays in force.
            None if look.missing != Some(Missing::Absent) => None,
            Some(Ok(Way::Scale)) if entry.intent.acts(now) => {
                let size;
                (size, ended) = match &entry.intent.manner {
                    Some(manner) => {
                        let job = training::Look {
                            manner,
                            workers: entry.gathered().counts,
                            crash_loop: entry.gathered().crash_loop,
                            worker: entry.first_ready(&self.tables.pods.look()),
                            stored: entry.intent.kept.resize.as_ref(),
                            now,
                        };
                        entry.course.go_on(&job, plan.replicas, &self.client)
                    }
                    None => (Some(plan.replicas), None),
                };
                let order = size.and_then(|size| size_order(entry, size, look, blind));
                order.filter(|_| !entry.size_before.holds_back(now))
            }
            Some(Ok(Way::Floor(kind, name))) => {
                let wanted = floor_wanted(&entry.intent, plan, look, now);
                floor_order(&entry.intent.key, (*kind, name), wanted, look, blind, now)
            }
            // What is raised is given back also where the policy has come to act by another way.
            _ => look.raise.as_ref().and_then(|(kind, name, _)| {
                floor_order(&entry.intent.key, (*kind, name), None, look, blind, now)
            }),
        };
        if let Some(order) = order {
            let marks = self.marks(id, &order);
            self.hands.give(id, order, marks, now);
        }
        let training::Ended { from, to, took, outcome, checkpoint_failure } = ended?;
        let pool = &self.entries.get(id)?.intent.pool;
        if let Some(brain) = self.fleets.get_mut(pool).and_then(|(fleet, _)| fleet.get_mut(id)) {
            brain.ingest(Event::Resized { at: now, took, outcome });
        }
        Some(Resized { workload: id.clone(), from, to, took, outcome, checkpoint_failure })
    }

    /// Which pods go first, where an order makes a size smaller.
    fn marks(&self, id: &WorkloadId, order: &Order) -> Marks {
        let Some(entry) = self.entries.get(id) else { return Marks::default() };
        let Order::Size { from: Some(from), to, .. } = order else { return Marks::default() };
        if to >= from || !victims::are_chosen(&entry.intent.target.kind) {
            return Marks::default();
        }
        let in_flight = self.readings.in_flight_by_pod(id);
        let pods = self.tables.pods.look();
        victims::choose(&entry.intent.key.namespace, entry.pods(&pods), &in_flight, from - to)
    }

    /// Remembers what a policy that is gone had in force. Sizes that were written stay: nobody is left who knows better.
    fn give_back(&mut self, id: &WorkloadId, now: Timestamp) {
        let Some(entry) = self.entries.get(id) else { return };
        let Some(Ok(Way::Floor(kind, name))) = &entry.way else { return };
        let key = (entry.intent.key.namespace.clone(), name.clone());
        self.returns.insert(id.clone(), Return { kind: *kind, key, since: now });
    }

    /// Gives back the floors of policies that are gone. A raise that was under way when its policy went is seen a moment later.
    fn give_floors_back(&mut self, now: Timestamp) {
        let entries = &self.entries;
        self.returns.retain(|id, _| !entries.contains_key(id));
        let mut over = Vec::new();
        for (id, Return { kind, key, since }) in &self.returns {
            let table = match kind {
                AutoscalerKind::Hpa => &self.tables.hpas,
                AutoscalerKind::ScaledObject => &self.tables.scaled_objects,
            };
            let known = table.look();
            let write = known.get(&key.0, &key.1).and_then(|facts| floor::step(facts, None, "", now));
            match write {
                Some(write) => {
                    let order = Order::Floor { kind: *kind, key: key.clone(), write };
                    self.hands.give(id, order, Marks::default(), now);
                }
                None if now.since(*since) >= RETURNED_AFTER && !self.hands.is_busy(id) => {
                    over.push(id.clone())
                }
                None => {}
            }
        }
        over.iter().for_each(|id| drop(self.returns.remove(id)));
    }

    /// Ends the watches, after the writes that are under way.
    pub async fn stop(mut self) {
        self.hands.settle(SETTLE_MAX).await;
        self.stop.cancel();
    }
}

/// What one look at a workload gave.
struct Look {
    seen: Option<tidegate_brain::Seen>,
    progress: Option<tidegate_brain::Progress>,
    place: Option<Place>,
    missing: Option<Missing>,
    raise: Option<(AutoscalerKind, String, Raise)>,
    autoscalers: Vec<(AutoscalerKind, String, AutoscalerFacts)>,
}

/// The floor that is to be in force: as planned; while paused, as it is; in shadow, as it was before.
fn floor_wanted(intent: &Intent, plan: &Plan, look: &Look, now: Timestamp) -> Option<u32> {
    if intent.acts(now) {
        return Some(plan.replicas);
    }
    let paused = intent.policy.mode() == Mode::Active && intent.is_paused(now);
    look.raise.as_ref().filter(|_| paused).map(|(.., raise)| raise.raised)
}

fn size_order(entry: &Entry, to: u32, look: &Look, blind: bool) -> Option<Order> {
    let (target, place) = entry.target().zip(look.place.as_ref())?;
    let smaller = target.size.is_none_or(|size| to < size);
    if target.size == Some(to) || target.deleting || (blind && smaller) {
        return None;
    }
    Some(Order::Size {
        resource: (*place.resource).clone(),
        layout: place.layout,
        key: (entry.intent.key.namespace.clone(), entry.intent.target.name.clone()),
        group_index: target.group_index,
        from: target.size,
        to,
    })
}

fn floor_order(
    policy: &PolicyKey,
    (kind, name): (AutoscalerKind, &String),
    wanted: Option<u32>,
    look: &Look,
    blind: bool,
    now: Timestamp,
) -> Option<Order> {
    let (.., facts) = look.autoscalers.iter().find(|(k, n, _)| *k == kind && n == name)?;
    let write = floor::step(facts, wanted, &policy.path(), now)?;
    let lower = write.min.unwrap_or(facts.min_default) < floor::in_force(facts);
    (!(blind && lower)).then(|| Order::Floor { kind, key: (policy.namespace.clone(), name.clone()), write })
}
