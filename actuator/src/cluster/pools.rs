//! Pools of GPUs: how large each is, what a replica takes of it, and what its status says.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tidegate_brain::{Fleet, LeadTime, PoolSize};
use tidegate_core::{Role, Timestamp};

use super::Cluster;
use super::entry::{Entry, PolicyKey, PolicyKind};
use super::facts::NodeFacts;
use super::status::{Status, listed, rounded, unreadable};
use super::tables::PolicyFacts;
use super::watch::Known;
use crate::crds::{ConditionReason, GpuPoolSpec, GpuPoolStatus, PoolShare, PoolSlots, set_condition};

/// What is there of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Present {
    slots: u32,
    /// Nodes on which they were counted.
    nodes: Option<u32>,
}

impl Present {
    /// As the spec says, else on its open nodes.
    fn of<'a>(spec: &GpuPoolSpec, nodes: impl Iterator<Item = &'a NodeFacts>) -> Self {
        if let Some(slots) = spec.slots {
            return Self { slots, nodes: None };
        }
        let own = |node: &&NodeFacts| {
            node.open && spec.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        };
        let of = nodes.filter(own).filter_map(|node| node.extended.get(&spec.gpu_resource).copied());
        let count = |(slots, nodes): (u32, u32), of: u32| (slots.saturating_add(of), nodes.saturating_add(1));
        let (slots, nodes) = of.filter(|slots| *slots > 0).fold((0, 0), count);
        Self { slots, nodes: Some(nodes) }
    }
}

/// Slots of its pool that one replica or worker takes: as its policy says, else the GPUs that its pod template asks for.
pub(super) fn slots_each(entry: &Entry, pools: &Known<PolicyFacts<GpuPoolSpec>>) -> u32 {
    let asked = || {
        let spec = pools.get("", entry.intent.pool.as_ref()?)?.spec.as_ref().ok()?;
        entry.target()?.devices.get(&spec.gpu_resource).copied()
    };
    entry.intent.slots_each.or_else(asked).unwrap_or(1)
}

impl Cluster {
    /// Sizes the pools, and lets go of those that nobody shares any more.
    pub(super) fn follow_pools(&mut self) {
        let used: BTreeSet<_> = self.entries.values().map(|entry| entry.intent.pool.clone()).collect();
        self.fleets.retain(|pool, _| used.contains(pool));
        let pools = self.tables.pools.look();
        let nodes = self.tables.nodes.look();
        self.node_waits.retain(|name, _| pools.get("", name).is_some());
        for (name, (fleet, _)) in &mut self.fleets {
            let facts = name.as_ref().and_then(|name| Some((name, pools.get("", name)?)));
            let spec = facts.and_then(|(name, facts)| Some((name, facts, facts.spec.as_ref().ok()?)));
            // Up to what it may grow to replicas are asked for: those that wait for a node are what its autoscaler goes by.
            fleet.set_pool(spec.map(|(name, facts, spec)| {
                let present = Present::of(spec, nodes.all().map(|(_, node)| node)).slots;
                let prior = facts.kept.node_wait.unwrap_or(spec.lead_time.get());
                let wait = self.node_waits.entry(name.clone()).or_insert_with(|| LeadTime::new(prior));
                wait.set_prior(prior);
                PoolSize {
                    present,
                    most: spec.max_slots.map_or(present, |most| most.max(present)),
                    node_wait: wait.estimate().p90,
                }
            }));
        }
    }

    /// Takes in how long pods waited for nodes that were made for them.
    pub(super) fn learn_node_waits(&mut self) {
        for entry in self.entries.values() {
            let waits = entry.gathered().node_waits.iter();
            let Some(learned) = entry.intent.pool.as_ref().and_then(|pool| self.node_waits.get_mut(pool))
            else {
                continue;
            };
            waits.for_each(|wait| learned.ingest(*wait));
        }
    }

    /// The status of every pool; `before`: the conditions as last written.
    pub fn pool_statuses(
        &self,
        before: impl Fn(&PolicyKey) -> Vec<Condition>,
        now: Timestamp,
    ) -> Vec<(PolicyKey, Status)> {
        let pools = self.tables.pools.look();
        let nodes = self.tables.nodes.look();
        let status = |((_, name), facts): ((&str, &str), &PolicyFacts<GpuPoolSpec>)| {
            let key = PolicyKey { kind: PolicyKind::Pool, namespace: String::new(), name: name.to_owned() };
            let fleet = self.fleets.get(&Some(name.to_owned())).map(|(fleet, _)| fleet);
            let present = |spec: &GpuPoolSpec| Present::of(spec, nodes.all().map(|(_, node)| node));
            let read = match &facts.spec {
                Ok(spec) => match spec.problems().as_slice() {
                    [] => Ok(present(spec)),
                    problems => Err(listed(problems)),
                },
                Err(text) => Err(unreadable(text)),
            };
            let mut status = status(read, fleet, facts.generation, before(&key), now);
            let measured = self.node_waits.get(name).map(LeadTime::estimate).filter(|wait| wait.starts > 0);
            let wait = measured.map(|wait| wait.p90).or(facts.kept.node_wait);
            status.lead_time_seconds = wait.map(|wait| rounded(wait.as_secs_f64()));
            (key, Status::Pool(status))
        };
        pools.all().map(status).collect()
    }
}

fn status(
    present: Result<Present, String>,
    fleet: Option<&Fleet>,
    generation: i64,
    before: Vec<Condition>,
    now: Timestamp,
) -> GpuPoolStatus {
    let mut status = GpuPoolStatus {
        observed_generation: Some(generation),
        conditions: before,
        ..GpuPoolStatus::default()
    };
    let mut set = |reason, holds, text: &str| {
        set_condition(&mut status.conditions, reason, Some(holds), text, Some(generation), now);
    };
    let present = match present {
        Ok(present) => present,
        Err(text) => {
            set(ConditionReason::Invalid, false, &text);
            return status;
        }
    };
    let mut slots = PoolSlots { present: present.slots, ..PoolSlots::default() };
    let (mut shares, mut short) = (Vec::new(), Vec::new());
    for (brain, held, is_short) in fleet.into_iter().flat_map(Fleet::shares) {
        let sum = match brain.role() {
            Role::Serving => &mut slots.serving,
            Role::Training => &mut slots.training,
        };
        *sum = sum.saturating_add(held);
        shares.push(PoolShare { workload: brain.id().to_string(), slots: held });
        if is_short {
            short.push(brain.id().to_string());
        }
    }
    slots.free = slots.present.saturating_sub(slots.serving).saturating_sub(slots.training);
    match short.as_slice() {
        [] => set(ConditionReason::AsPlanned, true, "every workload has the GPUs that it wants"),
        [one] => set(ConditionReason::PoolShort, false, &format!("{one} wants more than there is")),
        [first, others @ ..] => {
            let text = format!("{first} and {} others want more than there is", others.len());
            set(ConditionReason::PoolShort, false, &text);
        }
    }
    (status.slots, status.nodes) = (Some(slots), present.nodes);
    status.set_shares(shares);
    status
}
