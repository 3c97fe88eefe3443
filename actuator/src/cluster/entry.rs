//! One workload as a policy names it, and what is remembered of it from round to round.

use std::sync::Arc;
use std::time::Duration;

use tidegate_brain::{Brain, Event, Progress, Seen};
use tidegate_core::policy::Problem;
use tidegate_core::{Mode, Policy, ReplicaCounts, Role, Signal, Timestamp, WorkloadId};

use super::checkpoint::Worker;
use super::facts::{NodeFacts, PodFacts, TargetFacts};
use super::floor;
use super::gather::{Gathered, Memory};
use super::members::{Members, Pods};
use super::size_before::{self, SizeBefore};
use super::tables::{Kept, PolicyFacts};
use super::targets::KindKey;
use super::training::{Course, Manner};
use super::watch::Known;
use super::way::{Conflict, Rival, Way};
use crate::control::Readings;
use crate::control::observe::Scraped;
use crate::crds::{ServingPolicySpec, Target, TrainingPolicySpec, Via};

/// Kinds of Tidegate's own objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// A ServingPolicy.
    Serving,
    /// A TrainingPolicy.
    Training,
    /// A GpuPool.
    Pool,
}

/// Which object a policy is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// Which kind it is.
    pub kind: PolicyKind,
    /// Namespace; empty for a pool.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl PolicyKey {
    /// `namespace/name`, or the name alone of a pool.
    #[must_use]
    pub fn path(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// Its kind, as in the object.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.kind {
            PolicyKind::Serving => "ServingPolicy",
            PolicyKind::Training => "TrainingPolicy",
            PolicyKind::Pool => "GpuPool",
        }
    }
}

/// What a policy asks for, whatever its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The object.
    pub key: PolicyKey,
    /// Unique for all time.
    pub uid: String,
    /// Changes with the spec.
    pub generation: i64,
    /// Of two on one target, the elder holds.
    pub created: Timestamp,
    /// Until when it is paused.
    pub paused_until: Option<Timestamp>,
    /// What its status keeps of what another controller has begun.
    pub kept: Kept,
    /// How a training job is resized.
    pub manner: Option<Manner>,
    /// What it targets.
    pub target: Target,
    /// How it acts.
    pub via: Via,
    /// Which pool it shares.
    pub pool: Option<String>,
    /// GPUs of the pool that one replica or worker takes; `None`: what its pod template asks for.
    pub slots_each: Option<u32>,
    /// The policy itself.
    pub policy: Policy,
    /// What the types could not rule out.
    pub problems: Vec<Problem>,
}

impl Intent {
    /// Of a ServingPolicy.
    #[must_use]
    pub fn serving(
        namespace: &str,
        name: &str,
        facts: &PolicyFacts<ServingPolicySpec>,
        spec: &ServingPolicySpec,
    ) -> Self {
        let policy = Policy::Serving(spec.policy.clone());
        Self {
            via: spec.act.via,
            pool: spec.pool.clone(),
            slots_each: spec.gpus_per_replica,
            target: spec.target.clone(),
            problems: spec.problems(),
            ..Self::of(
                PolicyKey { kind: PolicyKind::Serving, namespace: namespace.into(), name: name.into() },
                facts,
                policy,
            )
        }
    }

    /// Of a TrainingPolicy.
    #[must_use]
    pub fn training(
        namespace: &str,
        name: &str,
        facts: &PolicyFacts<TrainingPolicySpec>,
        spec: &TrainingPolicySpec,
    ) -> Self {
        let policy = Policy::Training(spec.policy.clone());
        Self {
            via: Via::Scale,
            manner: Some(Manner::of(spec)),
            pool: spec.pool.clone(),
            slots_each: spec.gpus_per_worker,
            target: spec.target.clone(),
            problems: spec.problems(),
            ..Self::of(
                PolicyKey { kind: PolicyKind::Training, namespace: namespace.into(), name: name.into() },
                facts,
                policy,
            )
        }
    }

    fn of<S>(key: PolicyKey, facts: &PolicyFacts<S>, policy: Policy) -> Self {
        Self {
            key,
            uid: facts.uid.clone(),
            generation: facts.generation,
            created: facts.created,
            paused_until: facts.paused_until,
            kept: facts.kept.clone(),
            manner: None,
            target: Target { api_version: None, kind: String::new(), name: String::new(), group: None },
            via: Via::Auto,
            pool: None,
            slots_each: None,
            policy,
            problems: Vec::new(),
        }
    }

    /// The workload; `None` for one whose name is none, which the API server does not admit.
    #[must_use]
    pub fn id(&self) -> Option<WorkloadId> {
        self.target.id(&self.key.namespace).ok()
    }

    /// The kind to be followed for it.
    #[must_use]
    pub fn kind(&self) -> KindKey {
        (self.target.api_version().unwrap_or_default(), self.target.kind.clone())
    }

    /// Whether it is paused at `now`.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether plans are to be put into effect at `now`.
    #[must_use]
    pub fn acts(&self, now: Timestamp) -> bool {
        self.policy.mode() == Mode::Active && !self.is_paused(now) && self.problems.is_empty()
    }
}

/// One workload that is watched and sized.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) intent: Arc<Intent>,
    memory: Memory,
    gathered: Gathered,
    members: Members,
    target: Option<Arc<TargetFacts>>,
    /// Whether the target was known at the look before the last one, and so to the last plan.
    was_known: bool,
    scraped: Scraped,
    /// The variant that the brain was told of last.
    told_variant: Option<String>,
    /// A training job's resize.
    pub(super) course: Course,
    /// The way it acts by, or why it does not; `None` while the target is not known.
    pub(super) way: Option<Result<Way, Conflict>>,
    /// The target's size when the policy began to set it.
    pub(super) size_before: SizeBefore,
}

impl Entry {
    pub(super) fn new(intent: Arc<Intent>) -> Self {
        Self {
            intent,
            memory: Memory::default(),
            gathered: Gathered::default(),
            members: Members::default(),
            target: None,
            was_known: false,
            scraped: Scraped::default(),
            told_variant: None,
            course: Course::default(),
            way: None,
            size_before: SizeBefore::default(),
        }
    }

    pub(super) const fn gathered(&self) -> &Gathered {
        &self.gathered
    }

    pub(super) fn target(&self) -> Option<&TargetFacts> {
        self.target.as_deref()
    }

    /// Its pods, by name.
    pub(super) fn pods<'a>(
        &'a self,
        known: &'a Known<PodFacts>,
    ) -> impl Iterator<Item = (&'a str, &'a PodFacts)> {
        self.members.of(&self.intent.key.namespace, known)
    }

    /// Looks at the target's pods, if they or the target have changed; else nothing has happened to them since the last look.
    pub(super) fn look(
        &mut self,
        target: Option<Arc<TargetFacts>>,
        pods: &Pods<'_>,
        nodes: &Known<NodeFacts>,
        now: Timestamp,
    ) {
        self.was_known = self.target.is_some();
        let namespace = &self.intent.key.namespace;
        let selector = target.as_ref().and_then(|target| target.selector.as_ref());
        let changed = self.members.follow(namespace, selector, pods);
        if !changed && self.target == target {
            self.gathered.started.clear();
            self.gathered.node_waits.clear();
            self.gathered.lost = 0;
            return;
        }
        self.gathered = match &target {
            Some(target) => {
                let own = self.members.of(namespace, pods.known).map(|(_, pod)| pod);
                self.memory.gather(target, own, nodes, now)
            }
            None => Gathered::default(),
        };
        self.target = target;
    }

    /// The first of its pods that are ready, by name.
    pub(super) fn first_ready(&self, pods: &Known<PodFacts>) -> Option<Worker> {
        let ready = |pod: &PodFacts| !pod.deleting && !pod.ended && pod.ready_since.is_some();
        let (name, pod) = self.pods(pods).find(|(_, pod)| ready(pod))?;
        Some(Worker { namespace: self.intent.key.namespace.clone(), pod: name.to_owned(), ip: pod.ip })
    }

    /// Remembers the size as it is before the first write.
    pub(super) fn remember_size(&mut self, leads: bool, now: Timestamp) {
        let sets = self.intent.acts(now) && self.way == Some(Ok(Way::Scale));
        let size = self.target.as_ref().and_then(|target| target.size);
        self.size_before = self.size_before.seen(&size_before::Look {
            mode: self.intent.policy.mode(),
            stored: self.intent.kept.size_before,
            set: size.filter(|_| sets),
            leads,
        });
    }

    /// Replicas by state, where `wanted` is the size that this policy's own way has in force: what the brain holds its orders against.
    fn counts(&self, rivals: &[Rival<'_>], planned: Option<u32>) -> ReplicaCounts {
        let mut counts = self.gathered.counts;
        match &self.way {
            Some(Ok(Way::Floor(_, name))) => {
                let rival = rivals.iter().find(|rival| rival.name == name);
                counts.wanted = rival.map_or(counts.wanted, |rival| floor::in_force(rival.facts));
            }
            // A plan that was made of nothing is no size to hold: the target's own is.
            Some(Ok(Way::Publish)) => {
                counts.wanted = planned.filter(|_| self.was_known).unwrap_or(counts.wanted);
            }
            _ => {}
        }
        counts
    }

    /// Tells the brain what there is to see. Gives what it was told.
    pub(super) fn tell(
        &mut self,
        brain: &mut Brain,
        readings: &dyn Readings,
        rivals: &[Rival<'_>],
        now: Timestamp,
    ) -> (Option<Seen>, Option<Progress>) {
        let counts = self.counts(rivals, brain.plan().map(|plan| plan.replicas));
        for start_up in &self.gathered.started {
            brain.ingest(Event::Started { at: now, start_up: *start_up });
        }
        let id = brain.id().clone();
        match brain.role() {
            Role::Serving => {
                if let Some(variant) =
                    self.gathered.variant.as_ref().filter(|v| self.told_variant.as_ref() != Some(*v))
                {
                    brain.ingest(Event::Runs { variant: variant.clone() });
                    self.told_variant = Some(variant.clone());
                }
                let mut seen = Seen {
                    at: now,
                    replicas: counts,
                    flow: None,
                    in_flight: None,
                    queued: None,
                    kv_utilisation: None,
                    lost: self.gathered.lost,
                    crash_loop: self.gathered.crash_loop,
                };
                self.scraped.fill(readings, &id, now, &mut seen);
                brain.ingest(Event::Seen(seen));
                (Some(seen), None)
            }
            Role::Training => {
                self.course.see(readings, &id);
                let read = |signal| {
                    let (value, at) = readings.latest(&id, signal)?;
                    (now.since(at) <= PROGRESS_FRESH).then_some(value)
                };
                let progress = Progress {
                    at: now,
                    workers: counts,
                    samples_per_second: read(Signal::SamplesPerSecond),
                    steps_per_second: read(Signal::StepsPerSecond),
                    resizing: self.course.is_under_way(),
                };
                brain.ingest(Event::Progress(progress));
                (None, Some(progress))
            }
        }
    }
}

/// A reading of training older than this says nothing of the present.
const PROGRESS_FRESH: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::watch::Table;
    use super::*;

    fn entry() -> Entry {
        let spec = json!({
            "target": {"kind": "Deployment", "name": "chat"}, "act": {"via": "external_metric"}, "mode": "active",
            "replicas": {"min": 1, "max": 9}, "slo": {"latency": "2s", "target": 0.99},
        });
        let spec: Arc<ServingPolicySpec> = Arc::new(serde_json::from_value(spec).unwrap());
        let facts = PolicyFacts {
            uid: "u".into(),
            generation: 3,
            created: Timestamp::from_secs(1000),
            paused_until: None,
            kept: Kept::default(),
            spec: Ok(Arc::clone(&spec)),
        };
        Entry::new(Arc::new(Intent::serving("ml", "chat", &facts, &spec)))
    }

    fn target(size: u32) -> Arc<TargetFacts> {
        Arc::new(TargetFacts {
            uid: "t".into(),
            size: Some(size),
            group_index: None,
            selector: None,
            owners: Vec::new(),
            devices: BTreeMap::new(),
            queued: false,
            deleting: false,
        })
    }

    #[test]
    fn what_was_planned_before_the_target_was_known_is_not_published_as_its_size() {
        let (pods, nodes) = (Table::default(), Table::default());
        let mut entry = entry();
        let mut sized = |target: Option<Arc<TargetFacts>>, planned: Option<u32>| {
            let (mut pods, nodes) = (pods.look(), nodes.look());
            let changed = pods.take_changed();
            entry.look(target, &Pods::new(&pods, changed), &nodes, Timestamp::from_secs(1000));
            entry.way = entry.target().map(|_| Ok(Way::Publish));
            entry.counts(&[], planned).wanted
        };
        sized(None, None);
        assert_eq!(sized(Some(target(6)), Some(1)), 6, "held, until demand is known");
        assert_eq!(sized(Some(target(6)), Some(8)), 8, "in force, whether or not it is followed yet");
        sized(None, Some(8));
        assert_eq!(sized(Some(target(8)), Some(1)), 8, "it was away for a moment");
    }
}
