//! All workloads of one place together: each decides, and they share one pool of slots.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::{Decision, Grant, Plan, ReasonCode, Role, Room, Timestamp, WorkloadId, plan_pool};

use crate::brain::Brain;
use crate::lesson::Lesson;

/// How large a pool is, in slots, of which each replica or worker takes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Slots that are there.
    pub present: u32,
    /// Slots that it may grow to; at least those that are there.
    pub most: u32,
    /// Time until a node that it grows by can run a pod.
    pub node_wait: Duration,
}

impl PoolSize {
    /// Of a pool that does not grow.
    #[must_use]
    pub const fn fixed(slots: u32) -> Self {
        Self { present: slots, most: slots, node_wait: Duration::ZERO }
    }
}

/// Minds that share a pool; where there is none, nothing bounds them but their policies.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    brains: BTreeMap<WorkloadId, Brain>,
    pool: Option<PoolSize>,
    grants: BTreeMap<WorkloadId, Grant>,
    /// Whose lesson was taken last: the others come first next time.
    taught: Option<WorkloadId>,
}

/// A plan, and its record where it says something new.
pub type Planned = (Plan, Option<Decision>);

impl Fleet {
    /// Of these minds.
    #[must_use]
    pub fn new(brains: impl IntoIterator<Item = Brain>, pool: Option<PoolSize>) -> Self {
        let brains = brains.into_iter().map(|brain| (brain.id().clone(), brain)).collect();
        Self { brains, pool, grants: BTreeMap::new(), taught: None }
    }

    /// Takes in a mind; gives back the one that had its id.
    pub fn insert(&mut self, brain: Brain) -> Option<Brain> {
        self.brains.insert(brain.id().clone(), brain)
    }

    /// Lets a mind go, and what the pool had granted it.
    pub fn remove(&mut self, id: &WorkloadId) -> Option<Brain> {
        self.grants.remove(id);
        self.brains.remove(id)
    }

    /// The pool has become larger or smaller.
    pub const fn set_pool(&mut self, pool: Option<PoolSize>) {
        self.pool = pool;
    }

    /// All minds, by id.
    pub fn brains(&self) -> impl Iterator<Item = &Brain> {
        self.brains.values()
    }

    /// One mind.
    #[must_use]
    pub fn get(&self, id: &WorkloadId) -> Option<&Brain> {
        self.brains.get(id)
    }

    /// One mind, to tell it something.
    pub fn get_mut(&mut self, id: &WorkloadId) -> Option<&mut Brain> {
        self.brains.get_mut(id)
    }

    /// The next lesson that is due, the minds taking turns.
    pub fn lesson(&mut self) -> Option<(WorkloadId, Lesson)> {
        let taught = self.taught.take();
        let later = |id: &WorkloadId| taught.as_ref().is_none_or(|taught| id > taught);
        let (first, rest): (Vec<_>, Vec<_>) = self.brains.iter_mut().partition(|(id, _)| later(id));
        let found = first.into_iter().chain(rest).find_map(|(id, brain)| Some((id.clone(), brain.lesson()?)));
        self.taught = found.as_ref().map(|(id, _)| id.clone()).or(taught);
        found
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> Option<PoolSize> {
        self.pool
    }

    /// Decides for all: serving by demand within what the pool can hold, then training by what serving leaves.
    pub fn tick(&mut self, now: Timestamp) -> BTreeMap<WorkloadId, Planned> {
        let mut planned = BTreeMap::new();
        let held = self.pool.map(|pool| (pool, self.held()));
        for (id, brain) in &mut self.brains {
            if brain.role() == Role::Serving {
                let room = held.map(|(pool, all)| room_for(brain, self.grants.get(id), pool, all));
                planned.insert(id.clone(), brain.tick(now, room));
            }
        }
        self.share(now);
        for (id, brain) in &mut self.brains {
            if brain.role() == Role::Training {
                planned.insert(id.clone(), brain.take(now, self.grants.get(id)));
            }
        }
        planned
    }

    /// Slots that all together hold at this moment, or have been promised.
    fn held(&self) -> u64 {
        self.brains.values().map(|brain| u64::from(holds(brain))).sum()
    }

    /// Slots that each workload holds at this moment, or has been promised, and whether the last plan of the pool gives it less than it
    /// wants for want of slots.
    pub fn shares(&self) -> impl Iterator<Item = (&Brain, u32, bool)> {
        let is_short = |id: &WorkloadId| {
            let reasons = self.grants.get(id).map(|grant| grant.reasons.iter());
            reasons.into_iter().flatten().any(|reason| reason.code == ReasonCode::PoolShort)
        };
        self.brains.iter().map(move |(id, brain)| (brain, holds(brain), is_short(id)))
    }

    /// Plans who holds the slots, with the recall time of the slowest training workload.
    fn share(&mut self, now: Timestamp) {
        let Some(PoolSize { most: slots, .. }) = self.pool else { return };
        let training: Vec<_> =
            self.brains.values().filter_map(|b| b.training().map(|t| (b, t, t.speeds()))).collect();
        let recall = training.iter().map(|(_, t, _)| t.resize_time()).max().unwrap_or(Duration::ZERO);
        let lasting =
            training.iter().map(|(_, t, _)| t.policy.grow_hold.get()).max().unwrap_or(Duration::ZERO);
        let serving: Vec<_> =
            self.brains.values().filter_map(|b| b.serving_need(now, recall, lasting)).collect();
        let needs: Vec<_> =
            training.iter().map(|(b, t, speeds)| t.need(b.id(), b.slots_each(), speeds, now)).collect();
        let grants = plan_pool(slots, &serving, &needs);
        self.grants = grants.into_iter().map(|grant| (grant.id.clone(), grant)).collect();
    }
}

/// Slots that a workload holds; one that serves holds what it has been promised, ready or not.
fn holds(brain: &Brain) -> u32 {
    let counts = brain.counts();
    let promised = if brain.role() == Role::Serving { counts.wanted } else { 0 };
    counts.held().max(promised).saturating_mul(brain.slots_each())
}

/// Replicas for which there are slots that nobody else holds at this moment, and that the last plan of the pool does not give to
/// others. `all`: slots that all hold together.
fn room_for(brain: &Brain, grant: Option<&Grant>, pool: PoolSize, all: u64) -> Room {
    let others = u32::try_from(all - u64::from(holds(brain))).unwrap_or(u32::MAX);
    let granted = grant.filter(|grant| !grant.reasons.is_empty()).map_or(u32::MAX, |grant| grant.replicas);
    let free = |slots: u32| (slots.saturating_sub(others) / brain.slots_each()).min(granted);
    Room { present: free(pool.present), most: free(pool.most), node_wait: pool.node_wait }
}
