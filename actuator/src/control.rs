//! The loop: observe → brain → apply → tell. It has no `if` about scaling: what is decided, and what is remembered of it, is
//! the fleet's.

pub(crate) mod observe;
mod resize;
pub(crate) mod study;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate_brain::{Brain, Event, Fleet, Progress, Seen};
use tidegate_core::{Alert, AlertOutcome, Decision, Mode, Plan, Role, Signal, Timestamp, WorkloadId};

use crate::gateway::{Gateway, GatewayStats};
use crate::targets::local::{LocalTarget, Snapshot};
use crate::training::{CheckpointHook, Resizer};
use observe::Observer;
pub use resize::Resized;
use resize::Resizing;
use study::Study;

/// Where demand is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DemandSource {
    /// The gateway's exact counts; scraped figures where there is no gateway.
    #[default]
    Gateway,
    /// The replicas' own metrics alone.
    Scraped,
}

/// What collectors have read last; the loop reads it, and never waits for it.
pub trait Readings: Send + Sync {
    /// The latest reading of a workload's signal, and when it was taken.
    fn latest(&self, workload: &WorkloadId, signal: Signal) -> Option<(f64, Timestamp)>;

    /// Replicas that answered the last scrape, for a workload that is only watched.
    fn answering(&self, workload: &WorkloadId) -> Option<u32>;

    /// Whether the workload's metrics are switched off, as a fault that a user tries.
    fn withheld(&self, workload: &WorkloadId) -> bool;

    /// Requests in flight by name of the pod, as far as that is known; of a workload of a cluster.
    fn in_flight_by_pod(&self, _: &WorkloadId) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}

/// One workload's hands and eyes on this machine.
#[derive(Debug, Clone, Default)]
pub struct Managed {
    /// Its processes; absent: it is only watched.
    pub target: Option<Arc<LocalTarget>>,
    /// The gateway in front of them.
    pub gateway: Option<Arc<Gateway>>,
    /// How training is asked for a checkpoint, and how long it may take.
    pub checkpoint: Option<(CheckpointHook, Duration)>,
}

/// What one round saw, decided and did: everything that is to be told.
#[derive(Debug, Default)]
pub struct Round {
    /// When.
    pub at: Timestamp,
    /// Each workload's part.
    pub workloads: BTreeMap<WorkloadId, Told>,
    /// Training resizes that ended since the last round.
    pub resizes: Vec<Resized>,
}

/// One workload's part of a round.
#[derive(Debug)]
pub struct Told {
    /// The plan.
    pub plan: Plan,
    /// Its record, where it says something new.
    pub decision: Option<Decision>,
    /// Its processes.
    pub target: Option<Snapshot>,
    /// Its gateway's figures.
    pub gateway: Option<GatewayStats>,
    /// What the brain was told of a serving workload.
    pub seen: Option<Seen>,
    /// What the brain was told of a training workload.
    pub progress: Option<Progress>,
    /// Processes that ended unasked since the last round.
    pub lost: u32,
}

/// The loop's state.
pub struct Control {
    fleet: Fleet,
    managed: BTreeMap<WorkloadId, Managed>,
    observers: BTreeMap<WorkloadId, Observer>,
    resizers: BTreeMap<WorkloadId, Arc<Resizer>>,
    resizing: BTreeMap<WorkloadId, Resizing>,
    study: Study,
    readings: Arc<dyn Readings>,
    source: DemandSource,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("managed", &self.managed.keys()).finish_non_exhaustive()
    }
}

impl Control {
    /// A loop over these workloads. A workload without a brain is not managed. Resizes that an earlier Tidegate left in
    /// `state_dir` are gone on with. Must be called within a Tokio runtime.
    #[must_use]
    pub fn new(
        fleet: Fleet,
        managed: BTreeMap<WorkloadId, Managed>,
        readings: Arc<dyn Readings>,
        source: DemandSource,
        state_dir: &Path,
    ) -> Self {
        let observers = managed.iter().map(|(id, managed)| (id.clone(), Observer::new(managed))).collect();
        let mut resizers = BTreeMap::new();
        for (id, managed) in &managed {
            let trains = fleet.get(id).is_some_and(|brain| brain.role() == Role::Training);
            if let Some(target) = managed.target.as_ref().filter(|_| trains) {
                let resizer = resize::resizer(id, target, managed.checkpoint.clone(), &readings, state_dir);
                resizers.insert(id.clone(), resizer);
            }
        }
        let left = |(id, resizer): (&WorkloadId, &Arc<Resizer>)| {
            Some((id.clone(), Resizing::resume(id, Arc::clone(resizer))?))
        };
        let resizing = resizers.iter().filter_map(left).collect();
        Self { fleet, managed, observers, resizers, resizing, study: Study::default(), readings, source }
    }

    /// The minds.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// One workload's hands and eyes.
    #[must_use]
    pub fn managed(&self, id: &WorkloadId) -> Option<&Managed> {
        self.managed.get(id)
    }

    /// Takes in an alert for every workload that has a rule for it.
    pub fn admit(&mut self, alert: &Alert, now: Timestamp) -> Vec<(WorkloadId, AlertOutcome)> {
        let ids: Vec<_> = self.fleet.brains().map(|brain| brain.id().clone()).collect();
        let admitted = ids.into_iter().filter_map(|id| {
            let outcome = self.fleet.get_mut(&id)?.admit(alert, now);
            (outcome != AlertOutcome::NoRule).then_some((id, outcome))
        });
        admitted.collect()
    }

    /// One round. Never waits: a resize that takes its time, and the learning of models, go on beside it. Must be called within a Tokio runtime.
    pub fn round(&mut self, now: Timestamp) -> Round {
        let mut round = Round { at: now, resizes: self.finish_resizes(now), ..Round::default() };
        let observed = self.observe(now);
        self.study.go_on(&mut self.fleet);
        let planned = self.fleet.tick(now);
        for (id, (plan, decision)) in planned {
            self.apply(&id, &plan);
            let look = observed.get(&id);
            let told = Told {
                plan,
                decision,
                target: self
                    .managed
                    .get(&id)
                    .and_then(|m| m.target.as_ref())
                    .map(|t| t.watch().borrow().clone()),
                gateway: look.and_then(|look| look.gateway.clone()),
                seen: look.and_then(|look| look.seen),
                progress: look.and_then(|look| look.progress),
                lost: look.map_or(0, |look| look.lost),
            };
            round.workloads.insert(id, told);
        }
        round
    }

    fn observe(&mut self, now: Timestamp) -> BTreeMap<WorkloadId, observe::Look> {
        let mut looks = BTreeMap::new();
        for (id, managed) in &self.managed {
            let (Some(brain), Some(observer)) = (self.fleet.get_mut(id), self.observers.get_mut(id)) else {
                continue;
            };
            let resizing = self.resizing.contains_key(id);
            let eyes =
                observe::Eyes { id, managed, readings: &*self.readings, source: self.source, resizing };
            let look = match brain.role() {
                Role::Serving => observer.look_at_serving(&eyes, now),
                Role::Training => observer.look_at_training(&eyes, now),
            };
            tell_brain(brain, &look, now);
            looks.insert(id.clone(), look);
        }
        looks
    }

    /// Puts a plan into effect, in active mode: does nothing when it is in effect already.
    fn apply(&mut self, id: &WorkloadId, plan: &Plan) {
        let Some(brain) = self.fleet.get(id).filter(|brain| brain.mode() == Mode::Active) else { return };
        let role = brain.role();
        let Some(target) = self.managed.get(id).and_then(|managed| managed.target.as_ref()) else { return };
        match role {
            Role::Serving => target.set_replicas(plan.replicas),
            Role::Training => self.resize(id, target.counts().wanted, plan.replicas),
        }
    }

    /// Begins a resize; gives one that is under way up only for a recall below what it works towards.
    fn resize(&mut self, id: &WorkloadId, from: u32, to: u32) {
        let Some(resizer) = self.resizers.get(id) else { return };
        match self.resizing.get(id) {
            Some(under_way) if to < under_way.to && to < from => under_way.abort(),
            None if to != from => {
                let resizing = Resizing::start(id, Arc::clone(resizer), from, to);
                self.resizing.insert(id.clone(), resizing);
            }
            _ => {}
        }
    }

    /// Takes in resizes that have ended since the last round.
    fn finish_resizes(&mut self, now: Timestamp) -> Vec<Resized> {
        let ended = self.resizing.extract_if(.., |_, resizing| resizing.is_finished());
        let mut told = Vec::new();
        for (id, resizing) in ended {
            // It is finished, so this is there at once.
            let Some(resized) = futures::FutureExt::now_or_never(resizing.finish()).flatten() else {
                continue;
            };
            if let Some(brain) = self.fleet.get_mut(&id) {
                brain.ingest(Event::Resized { at: now, took: resized.took, outcome: resized.outcome });
            }
            told.push(resized);
        }
        told
    }

    /// Brains, to be kept for the next start.
    pub fn brains(&self) -> impl Iterator<Item = &Brain> {
        self.fleet.brains()
    }

    /// Ends resizes that are under way, then every workload; each within its own limits.
    pub async fn stop(self, gateway_limit: Duration) {
        for resizing in self.resizing.into_values() {
            resizing.abort();
            // Waited for: it holds its target.
            drop(resizing.finish().await);
        }
        drop(self.resizers);
        let ending = self.managed.into_values().map(|managed| async move {
            if let Some(gateway) = managed.gateway.and_then(Arc::into_inner) {
                gateway.stop(gateway_limit).await;
            }
            if let Some(target) = managed.target.and_then(Arc::into_inner) {
                target.stop().await;
            }
        });
        futures::future::join_all(ending).await;
    }
}

fn tell_brain(brain: &mut Brain, look: &observe::Look, now: Timestamp) {
    for start_up in &look.started {
        brain.ingest(Event::Started { at: now, start_up: *start_up });
    }
    if let Some(seen) = look.seen {
        brain.ingest(Event::Seen(seen));
    }
    if let Some(progress) = look.progress {
        brain.ingest(Event::Progress(progress));
    }
}
