//! Sizes that are published rather than written: what a policy with `act.via: external_metric` has in force, for an autoscaler that
//! asks. A size that is not known, or not in force, is none; never zero.

use std::collections::BTreeMap;
use std::fmt;

use tidegate_core::{Mode, Timestamp};

use super::Cluster;
use super::entry::PolicyKind;
use super::facts::Key;
use super::lease::Leader;
use super::tables::PolicyFacts;
use super::way::Way;
use crate::crds::{ConditionReason, ServingPolicySpec, ServingPolicyStatus, Target, Via};

/// What one policy publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it sizes.
    pub target: Target,
    /// The size that is in force, or why there is none.
    pub size: Result<u32, Withheld>,
}

/// Why a policy publishes no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// It is in shadow.
    Shadow,
    /// It is paused.
    Paused,
    /// The API server cannot be watched: what is known may be long past.
    Blind,
    /// No controller leads at present.
    NoLeader,
    /// The leader has no plan for it, or not for its spec as it stands.
    NotPlanned,
}

impl Withheld {
    /// Value of the `outcome` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Paused => "paused",
            Self::Blind => "blind",
            Self::NoLeader => "no_leader",
            Self::NotPlanned => "not_planned",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shadow => "the policy is in shadow: it publishes no size before it is activated",
            Self::Paused => "the policy is paused",
            Self::Blind => "the API server cannot be watched",
            Self::NoLeader => "no controller leads at present",
            Self::NotPlanned => "there is no plan in force; see the policy's conditions",
        })
    }
}

/// A size that the leader has told in a policy's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldSize {
    /// Generation of the spec that it was planned for.
    pub generation: i64,
    /// The size.
    pub replicas: u32,
}

impl ToldSize {
    /// From the status; `None` where it does not say that a size is published and in force.
    #[must_use]
    pub fn of(status: &ServingPolicyStatus) -> Option<Self> {
        let acting = ConditionReason::Acting;
        let acts = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            c.type_ == acting.of().as_str() && c.status == "True"
        };
        let published = status.via.as_deref() == Some(Via::ExternalMetric.as_str());
        let told = Self { generation: status.observed_generation?, replicas: status.replicas?.wanted };
        (published && status.conditions.iter().any(acts)).then_some(told)
    }
}

/// The size that a policy has in force. `planned`: by this controller's own plan, asked for where it leads. The others go by what the
/// leader has told, for their plans, made from what they have seen, may differ from it.
///
/// # Errors
/// Why there is none.
pub fn size(
    policy: &PolicyFacts<ServingPolicySpec>,
    leader: Leader,
    blind: bool,
    planned: impl FnOnce() -> Option<u32>,
    now: Timestamp,
) -> Result<u32, Withheld> {
    // A spec that cannot be read says nothing of how it acts, either.
    let spec = policy.spec.as_ref().map_err(|_| Withheld::NotPlanned)?;
    if spec.policy.mode == Mode::Shadow {
        return Err(Withheld::Shadow);
    }
    if policy.paused_until.is_some_and(|until| now < until) {
        return Err(Withheld::Paused);
    }
    if blind {
        return Err(Withheld::Blind);
    }
    let size = match leader {
        Leader::This => planned(),
        Leader::Another => policy.kept.told.filter(|t| t.generation == policy.generation).map(|t| t.replicas),
        Leader::Nobody => return Err(Withheld::NoLeader),
    };
    size.ok_or(Withheld::NotPlanned)
}

impl Cluster {
    /// What the policies with `act.via: external_metric` publish after the last round, by namespace and name.
    #[must_use]
    pub fn published(&self, leader: Leader, now: Timestamp) -> BTreeMap<Key, Published> {
        let blind = self.tables.failing().is_some_and(|failing| failing.blinds(now));
        let serving = self.tables.serving.look();
        let published = |(key, facts): ((&str, &str), &PolicyFacts<ServingPolicySpec>)| {
            let spec = facts.spec.as_ref().ok().filter(|spec| spec.act.via == Via::ExternalMetric)?;
            let planned = || self.planned(key, facts.generation, &spec.target);
            let size = size(facts, leader, blind, planned, now);
            Some(((key.0.to_owned(), key.1.to_owned()), Published { target: spec.target.clone(), size }))
        };
        serving.all().filter_map(published).collect()
    }

    /// The size by this controller's last plan, where the policy holds its target and may act on it.
    fn planned(&self, (namespace, name): (&str, &str), generation: i64, target: &Target) -> Option<u32> {
        let id = target.id(namespace).ok()?;
        let entry = self.entries.get(&id)?;
        let key = &entry.intent.key;
        let holds = key.kind == PolicyKind::Serving && key.namespace == namespace && key.name == name;
        let acts = matches!(entry.way, Some(Ok(Way::Publish))) && entry.intent.generation == generation;
        let brain = self.brain(&id).filter(|_| holds && acts)?;
        brain.plan().map(|plan| plan.replicas)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::cluster::tables::Kept;

    const NOW: Timestamp = Timestamp::from_secs(1000);

    fn policy(mode: &str, told: Option<ToldSize>) -> PolicyFacts<ServingPolicySpec> {
        let spec = json!({
            "target": {"kind": "Deployment", "name": "chat"}, "act": {"via": "external_metric"}, "mode": mode,
            "replicas": {"min": 1, "max": 9}, "slo": {"latency": "2s", "target": 0.99},
        });
        PolicyFacts {
            uid: "u".into(),
            generation: 3,
            created: NOW,
            paused_until: None,
            kept: Kept { told, ..Kept::default() },
            spec: Ok(Arc::new(serde_json::from_value(spec).unwrap())),
        }
    }

    fn told(generation: i64) -> Option<ToldSize> {
        Some(ToldSize { generation, replicas: 5 })
    }

    #[test]
    fn the_leader_publishes_its_plan_and_the_others_what_it_told() {
        let of = |policy: &PolicyFacts<_>, leader| size(policy, leader, false, || Some(7), NOW);
        let active = policy("active", told(3));
        assert_eq!(of(&active, Leader::This), Ok(7));
        assert_eq!(of(&active, Leader::Another), Ok(5));
        assert_eq!(of(&active, Leader::Nobody), Err(Withheld::NoLeader));
        assert_eq!(of(&policy("active", told(2)), Leader::Another), Err(Withheld::NotPlanned));
        assert_eq!(of(&policy("active", None), Leader::Another), Err(Withheld::NotPlanned));
    }

    #[test]
    fn what_is_not_in_force_or_not_known_is_none() {
        for leader in [Leader::This, Leader::Another] {
            let shadow = policy("shadow", told(3));
            assert_eq!(size(&shadow, leader, false, || Some(7), NOW), Err(Withheld::Shadow));
            let mut paused = policy("active", told(3));
            paused.paused_until = Some(Timestamp::from_secs(1001));
            assert_eq!(size(&paused, leader, false, || Some(7), NOW), Err(Withheld::Paused));
            let later = Timestamp::from_secs(1001);
            assert!(size(&paused, leader, false, || Some(7), later).is_ok(), "a pause ends by itself");
            let active = policy("active", told(3));
            assert_eq!(size(&active, leader, true, || Some(7), NOW), Err(Withheld::Blind));
        }
        assert_eq!(
            size(&policy("active", None), Leader::This, false, || None, NOW),
            Err(Withheld::NotPlanned)
        );
    }

    #[test]
    fn a_status_tells_a_size_only_while_it_is_published_and_in_force() {
        let status = |via: &str, active: &str| -> ServingPolicyStatus {
            let condition = json!({
                "type": "Active", "status": active, "reason": "Acting", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let status = json!({
                "observedGeneration": 3, "via": via, "conditions": [condition],
                "replicas": {"wanted": 5, "ready": 1, "starting": 0},
            });
            serde_json::from_value(status).unwrap()
        };
        assert_eq!(ToldSize::of(&status("external_metric", "True")), told(3));
        assert_eq!(ToldSize::of(&status("external_metric", "False")), None);
        assert_eq!(ToldSize::of(&status("scale", "True")), None);
        assert_eq!(ToldSize::of(&ServingPolicyStatus::default()), None);
    }
}
