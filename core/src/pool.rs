//! Shares one pool of slots between serving and training: serving first, training with what is left for long enough.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::WorkloadId;
use crate::plan::{Reason, ReasonCode};
use crate::policy::TrainingPolicy;

/// Replicas that a serving workload needs, soonest first; each at least the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServingNeed {
    /// The workload.
    pub id: WorkloadId,
    /// Slots that one replica takes; 0 counts as 1.
    pub each: u32,
    /// Its lower bound: never cut below this.
    pub min: u32,
    /// By its plan.
    pub now: u32,
    /// Within the time that a recall takes: checkpoint, release, and serving's lead time.
    pub soon: u32,
    /// Within the time that a grown training size must last to pay for its resize.
    pub later: u32,
    /// Who is cut last: the higher.
    pub priority: i32,
}

/// A training workload that can use slots.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingNeed<'a> {
    /// The workload.
    pub id: WorkloadId,
    /// Slots that one worker takes; 0 counts as 1.
    pub each: u32,
    /// The user's intent.
    pub policy: &'a TrainingPolicy,
    /// Its present size.
    pub current: u32,
    /// Samples per second by number of workers, as learned from the sizes it has run at; empty: more is assumed to be better.
    pub throughput: &'a [(u32, f64)],
    /// Time that a resize costs: checkpoint and restart.
    pub resize: Duration,
    /// Voluntary resizes in the last hour.
    pub resizes: u32,
}

/// What the pool gives one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The workload.
    pub id: WorkloadId,
    /// Replicas or workers it may hold.
    pub replicas: u32,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Plans who holds the pool's slots. Every workload's lower bound is reserved; then serving's need within the recall time is met first, by priority when the pool is too
/// small; training gets what is left, and grows only into slots that stay free long enough. Input order does not matter.
#[must_use]
pub fn plan_pool(slots: u32, serving: &[ServingNeed], training: &[TrainingNeed<'_>]) -> Vec<Grant> {
    let reserved = total(training.iter().map(|need| slots_of(need.policy.workers.min, need.each)));
    let (mut grants, soon) = grant_serving(slots.saturating_sub(reserved), serving);
    let later = total(serving.iter().map(|need| slots_of(need.later.max(need.soon), need.each)));
    grants.extend(grant_training(
        slots.saturating_sub(soon),
        slots.saturating_sub(later.max(soon)),
        training,
    ));
    grants.sort_by(|a, b| a.id.cmp(&b.id));
    grants
}

fn slots_of(replicas: u32, each: u32) -> u32 {
    replicas.saturating_mul(each.max(1))
}

fn total(slots: impl Iterator<Item = u32>) -> u32 {
    slots.fold(0, u32::saturating_add)
}

/// The grants, and the slots that they take together.
fn grant_serving(slots: u32, serving: &[ServingNeed]) -> (Vec<Grant>, u32) {
    let mut by_priority: Vec<_> = serving.iter().collect();
    by_priority.sort_by(|a, b| b.priority.cmp(&a.priority).then(a.id.cmp(&b.id)));
    // Slots that the lower bounds of those to come need.
    let mut reserved: u64 = by_priority.iter().map(|need| u64::from(slots_of(need.min, need.each))).sum();
    let mut left = slots;
    let mut grants = Vec::new();
    for need in by_priority {
        let each = need.each.max(1);
        reserved -= u64::from(slots_of(need.min, each));
        let wanted = need.soon.max(need.now).max(need.min);
        let unreserved = left.saturating_sub(u32::try_from(reserved).unwrap_or(u32::MAX));
        let replicas = wanted.min(unreserved / each).max(need.min.min(left / each));
        let reasons = if replicas < wanted { vec![short(replicas, wanted, slots, each)] } else { Vec::new() };
        left -= slots_of(replicas, each);
        grants.push(Grant { id: need.id.clone(), replicas, reasons });
    }
    (grants, slots - left)
}

/// `free_now`: slots left once serving has what it needs within the recall time; `free_later`: those that stay free.
fn grant_training(free_now: u32, free_later: u32, training: &[TrainingNeed<'_>]) -> Vec<Grant> {
    let mut by_priority: Vec<_> = training.iter().collect();
    by_priority.sort_by(|a, b| b.policy.priority.cmp(&a.policy.priority).then(a.id.cmp(&b.id)));
    let (mut left_now, mut left_later) = (free_now, free_later);
    let mut grants = Vec::new();
    for need in by_priority {
        let grant = grant_one(need, left_now, left_later);
        let taken = slots_of(grant.replicas, need.each);
        left_now = left_now.saturating_sub(taken);
        left_later = left_later.saturating_sub(taken);
        grants.push(grant);
    }
    grants
}

/// Of slots that are free.
fn grant_one(need: &TrainingNeed<'_>, free_now: u32, free_later: u32) -> Grant {
    let (bounds, each) = (need.policy.workers, need.each.max(1));
    let (slots, free_now, free_later) = (free_now, free_now / each, free_later / each);
    let mut reasons = Vec::new();
    let most = whole_gangs(useful(need).min(free_now), need.policy.gang);
    let replicas = if need.current > most.max(bounds.min) {
        let to = most.max(bounds.min);
        let text =
            format!("serving will need the slots within the recall time; {} of {} kept", to, need.current);
        reasons.push(Reason::new(ReasonCode::PoolRecall, text, &[("free", f64::from(free_now))]));
        to
    } else {
        grow(need, whole_gangs(useful(need).min(free_later), need.policy.gang), &mut reasons)
    };
    if bounds.min > free_now {
        reasons.push(short(free_now, bounds.min, slots, each));
    }
    Grant { id: need.id.clone(), replicas: replicas.min(bounds.max), reasons }
}

/// Grows into slots that stay free, where that pays; never shrinks.
fn grow(need: &TrainingNeed<'_>, to: u32, reasons: &mut Vec<Reason>) -> u32 {
    let to = to.max(need.policy.workers.min);
    if to <= need.current {
        let text = format!("{} workers; no more slots stay free for long enough", need.current);
        reasons.push(Reason::new(ReasonCode::PoolGrant, text, &[("workers", f64::from(need.current))]));
        return need.current;
    }
    if need.current >= need.policy.workers.min && need.resizes >= need.policy.resizes_per_hour_max {
        let text = format!("{} resizes in the last hour already", need.resizes);
        reasons.push(Reason::new(ReasonCode::ResizeLimit, text, &[("resizes", f64::from(need.resizes))]));
        return need.current;
    }
    if !pays(need, to) {
        let text = format!("{to} workers would not earn back a resize of {:.0} s", need.resize.as_secs_f64());
        reasons.push(Reason::new(
            ReasonCode::GrowNotWorthIt,
            text,
            &[("resize_s", need.resize.as_secs_f64())],
        ));
        return need.current;
    }
    let text = format!("{to} workers in slots that serving will not need");
    reasons.push(Reason::new(ReasonCode::PoolGrant, text, &[("workers", f64::from(to))]));
    to
}

/// Whether growing earns more samples over the hold than the resize loses.
fn pays(need: &TrainingNeed<'_>, to: u32) -> bool {
    if need.current == 0 {
        return true;
    }
    let (now, then) = (throughput(need, need.current), throughput(need, to));
    let hold = need.policy.grow_hold.get().as_secs_f64();
    let resize = need.resize.as_secs_f64();
    then * (hold - resize).max(0.0) > now * hold
}

/// Workers beyond which more bring less: the policy's bound, or the best size seen when a larger one was slower.
fn useful(need: &TrainingNeed<'_>) -> u32 {
    let best = need.throughput.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let larger_was_slower = best.filter(|best| need.throughput.iter().any(|(n, _)| *n > best.0));
    larger_was_slower.map_or(need.policy.workers.max, |best| best.0.max(need.policy.workers.min))
}

/// Samples per second at `n` workers: as seen, else in proportion to the nearest size seen, else `n`.
fn throughput(need: &TrainingNeed<'_>, n: u32) -> f64 {
    let nearest =
        need.throughput.iter().filter(|(size, _)| *size > 0).min_by_key(|(size, _)| size.abs_diff(n));
    nearest.map_or(f64::from(n), |(size, rate)| rate * f64::from(n) / f64::from(*size))
}

fn whole_gangs(n: u32, gang: u32) -> u32 {
    n - n % gang.max(1)
}

fn short(replicas: u32, wanted: u32, slots: u32, each: u32) -> Reason {
    let sized = if each > 1 { format!(", and each takes {each}") } else { String::new() };
    let text = format!("{wanted} wanted, {replicas} given: the pool has {slots} slots{sized}");
    Reason::new(ReasonCode::PoolShort, text, &[("wanted", f64::from(wanted)), ("given", f64::from(replicas))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(name: &str) -> WorkloadId {
        WorkloadId::local(name).unwrap()
    }

    fn serving(name: &str, now: u32, soon: u32, later: u32, priority: i32) -> ServingNeed {
        ServingNeed { id: id(name), each: 1, min: 1, now, soon, later, priority }
    }

    fn policy() -> TrainingPolicy {
        serde_json::from_str(r#"{"workers":{"min":1,"max":8}}"#).unwrap()
    }

    fn training(policy: &TrainingPolicy, current: u32) -> TrainingNeed<'_> {
        let resize = Duration::from_secs(5);
        TrainingNeed { id: id("train"), each: 1, policy, current, throughput: &[], resize, resizes: 0 }
    }

    fn workers(grants: &[Grant]) -> u32 {
        grants.iter().find(|grant| grant.id == id("train")).unwrap().replicas
    }

    #[test]
    fn training_yields_before_serving_needs_the_slots_and_grows_only_into_lasting_ones() {
        let policy = policy();
        assert_eq!(
            workers(&plan_pool(10, &[serving("s", 2, 6, 6, 0)], &[training(&policy, 8)])),
            4,
            "recalled"
        );
        assert_eq!(
            workers(&plan_pool(10, &[serving("s", 2, 2, 6, 0)], &[training(&policy, 4)])),
            4,
            "not worth it"
        );
        assert_eq!(workers(&plan_pool(10, &[serving("s", 2, 2, 2, 0)], &[training(&policy, 4)])), 8, "grown");
    }

    #[test]
    fn a_pool_that_is_too_small_cuts_the_lower_priority_and_says_so() {
        let grants = plan_pool(5, &[serving("a", 4, 4, 4, 0), serving("b", 4, 4, 4, 9)], &[]);
        assert_eq!(grants.iter().map(|g| g.replicas).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(grants[0].reasons[0].code, ReasonCode::PoolShort);
    }

    #[test]
    fn a_replica_takes_as_many_slots_as_it_has_gpus() {
        let policy = policy();
        let large = ServingNeed { each: 4, ..serving("large", 1, 3, 3, 9) };
        let pair = TrainingNeed { each: 2, ..training(&policy, 4) };
        // Two are kept for the worker that training must have; three large replicas take twelve, and two are left for the small ones.
        let grants =
            plan_pool(16, &[large.clone(), serving("small", 3, 3, 3, 0)], std::slice::from_ref(&pair));
        let given: Vec<_> = grants.iter().map(|grant| (grant.id.name(), grant.replicas)).collect();
        assert_eq!(given, [("large", 3), ("small", 2), ("train", 1)]);
        let short = grants[1].reasons[0].text.as_str();
        assert_eq!(short, "3 wanted, 2 given: the pool has 14 slots");
        let grants = plan_pool(7, &[large], &[pair]);
        assert_eq!((grants[0].replicas, workers(&grants)), (1, 1));
        assert_eq!(grants[0].reasons[0].text, "3 wanted, 1 given: the pool has 5 slots, and each takes 4");
    }

    #[test]
    fn does_not_grow_past_the_size_that_was_fastest() {
        let policy = policy();
        let curve = [(2, 100.0), (4, 180.0), (6, 150.0)];
        let need = TrainingNeed { throughput: &curve, ..training(&policy, 2) };
        assert_eq!(workers(&plan_pool(20, &[], &[need])), 4);
    }

    #[test]
    fn a_limit_on_resizes_never_stops_a_recall() {
        let policy = policy();
        let need = |current| TrainingNeed { resizes: 99, ..training(&policy, current) };
        assert_eq!(workers(&plan_pool(10, &[], &[need(2)])), 2);
        assert_eq!(workers(&plan_pool(10, &[serving("s", 9, 9, 9, 0)], &[need(6)])), 1);
    }

    proptest! {
        #[test]
        fn serving_and_training_fit_the_pool_in_any_order(
            slots in 2u32..40, needs in prop::collection::vec((0u32..20, 0u32..20, 0i32..3, 1u32..5), 1..3),
            current in 0u32..10, each in 1u32..5,
        ) {
            let policy = policy();
            let mut serve: Vec<_> = needs.iter().enumerate()
                .map(|(i, (a, b, p, each))| ServingNeed { each: *each, ..serving(&format!("s{i}"), *a, a + b, a + b, *p) })
                .collect();
            let train = TrainingNeed { each, ..training(&policy, current) };
            let grants = plan_pool(slots, &serve, std::slice::from_ref(&train));
            let of = |id: &WorkloadId| serve.iter().find(|need| need.id == *id).map_or(each, |need| need.each);
            let held: u32 = grants.iter().map(|grant| grant.replicas * of(&grant.id)).sum();
            let floor = serve.iter().map(|need| need.each).sum::<u32>() + each;
            prop_assert!(held <= slots.max(floor), "{held} of {slots}");
            serve.reverse();
            prop_assert_eq!(grants, plan_pool(slots, &serve, &[train]));
        }
    }
}
