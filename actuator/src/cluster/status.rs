//! What a policy's status says: made from a round's part by a pure function, and written when it has something new to say.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;
use tidegate_brain::Brain;
use tidegate_core::policy::Problem;
use tidegate_core::{CapacitySource, Mode, Policy, ReasonCode, Signal, Timestamp};

use super::apply::RefusedCause;
use super::entry::{Intent, PolicyKind};
use super::way::{AutoscalerKind, Conflict, Way};
use super::{Idle, Missing, Part, Unreadable};
use crate::crds::{
    ConditionReason, DecisionStatus, DemandSource, DemandStatus, FloorStatus, ForecastStatus, GpuPoolStatus,
    ReplicaStatus, ServingPolicyStatus, SloStatus, TrainingPolicyStatus, Via, set_condition, status_time,
};

/// Quantile of the forecast that a status shows.
const SHOWN_QUANTILE: f64 = 0.95;
/// Starting for longer than so many times the usual is worth a word.
const SLOW_START: u32 = 3;
/// And never before this: where starts take a second, three are nothing.
const SLOW_START_MIN: Duration = Duration::from_secs(20);

/// A status of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// Of a ServingPolicy.
    Serving(ServingPolicyStatus),
    /// Of a TrainingPolicy.
    Training(TrainingPolicyStatus),
    /// Of a GpuPool.
    Pool(GpuPoolStatus),
}

impl Status {
    /// Its conditions.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::Serving(status) => &status.conditions,
            Self::Training(status) => &status.conditions,
            Self::Pool(status) => &status.conditions,
        }
    }

    /// The target's size before the policy set it.
    #[must_use]
    pub const fn size_before(&self) -> Option<u32> {
        match self {
            Self::Serving(status) => status.size_before,
            Self::Training(status) => status.size_before,
            Self::Pool(_) => None,
        }
    }

    /// Whether a size other than the one before is planned.
    pub(super) fn is_resize_planned(&self) -> bool {
        let planned = match self {
            Self::Serving(status) => status.replicas,
            Self::Training(status) => status.workers,
            Self::Pool(_) => None,
        };
        planned.is_some_and(|planned| Some(planned.wanted) != self.size_before())
    }

    /// As an object of the API server has it; `None` where that is none.
    #[must_use]
    pub fn read(kind: PolicyKind, status: Value) -> Option<Self> {
        match kind {
            PolicyKind::Serving => serde_json::from_value(status).ok().map(Self::Serving),
            PolicyKind::Training => serde_json::from_value(status).ok().map(Self::Training),
            PolicyKind::Pool => serde_json::from_value(status).ok().map(Self::Pool),
        }
    }

    /// Whether the size that it tells is published: the other controllers answer autoscalers by it.
    pub(super) fn is_published(&self) -> bool {
        let via = |status: &ServingPolicyStatus| status.via.as_deref() == Some(Via::ExternalMetric.as_str());
        matches!(self, Self::Serving(status) if via(status))
    }

    /// What must be told soon: all but numbers that move with the load.
    pub(super) fn news(&self) -> impl PartialEq + use<> {
        let told =
            |c: &Condition| (c.type_.clone(), c.status.clone(), c.reason.clone(), c.observed_generation);
        let conditions: Vec<_> = self.conditions().iter().map(told).collect();
        match self {
            Self::Serving(s) => {
                let decided = s.last_decision.as_ref().map(|d| (d.from, d.to, d.applied));
                let wanted = s.replicas.map(|r| r.wanted);
                (conditions, decided, wanted, s.floor.clone(), s.via.clone(), s.size_before, None)
            }
            Self::Training(s) => {
                let decided = s.last_decision.as_ref().map(|d| (d.from, d.to, d.applied));
                (
                    conditions,
                    decided,
                    s.workers.map(|w| w.wanted),
                    None,
                    None,
                    s.size_before,
                    s.resize.clone(),
                )
            }
            Self::Pool(s) => (conditions, None, s.slots.map(|slots| slots.present), None, None, None, None),
        }
    }
}

/// What is known of a workload beside its mind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Besides {
    /// Share of requests of the last hour that were in time.
    pub attained: Option<f64>,
    /// Who told its demand.
    pub source: Option<DemandSource>,
}

/// The status of a policy that has a workload.
#[must_use]
pub fn of_part(part: &Part, brain: &Brain, besides: Besides, before: &[Condition], now: Timestamp) -> Status {
    let mut conditions = before.to_vec();
    let mut set = |reason: ConditionReason, holds: Option<bool>, text: &str| {
        set_condition(&mut conditions, reason, holds, text, Some(part.intent.generation), now);
    };
    let (reason, holds, text) = target_found(part);
    set(reason, holds, &text);
    let (reason, holds, text) = conflict(part);
    set(reason, Some(holds), &text);
    let (reason, holds, text) = active(part, now);
    set(reason, Some(holds), &text);
    if matches!(part.intent.policy, Policy::Serving(_)) {
        let (reason, holds, text) = demand_known(part);
        set(reason, holds, &text);
        let (reason, holds, text) = calibrated(brain);
        set(reason, Some(holds), &text);
    }
    let (reason, holds, text) = ready(part, brain, now);
    set(reason, Some(holds), &text);
    let last_decision = brain.decisions().next().map(DecisionStatus::from);
    let mut replicas = ReplicaStatus::from(part.gathered.counts);
    replicas.wanted = part.told.plan.replicas;
    let generation = Some(part.intent.generation);
    match &part.intent.policy {
        Policy::Serving(policy) => Status::Serving(ServingPolicyStatus {
            observed_generation: generation,
            size_before: part.size_before,
            via: part.way.as_ref().and_then(|way| way.as_ref().ok()).map(|way| via(way).as_str().to_owned()),
            replicas: part.missing.is_none().then_some(replicas),
            demand: demand(brain, besides.source, now),
            capacity_per_replica: brain.capacity().map(|capacity| rounded(capacity.mid)),
            lead_time_seconds: brain.lead().map(|lead| rounded(lead.p90.as_secs_f64())),
            forecast: forecast(brain, now),
            slo: Some(SloStatus { attained: besides.attained.map(rounded), target: policy.slo.target.get() }),
            bottleneck: brain.bottleneck().map(|found| found.as_str().to_owned()),
            last_decision,
            floor: part.raise.as_ref().map(|(kind, name, raise)| FloorStatus {
                kind: kind.kind().to_owned(),
                name: name.clone(),
                original: raise.original.unwrap_or(kind.floor_default()),
                raised: raise.raised,
            }),
            conditions,
        }),
        Policy::Training(_) => Status::Training(TrainingPolicyStatus {
            observed_generation: generation,
            size_before: part.size_before,
            workers: part.missing.is_none().then_some(replicas),
            steps_per_second: part.told.progress.and_then(|p| p.steps_per_second).map(rounded),
            resize_seconds: brain.resize_time().map(|took| rounded(took.as_secs_f64())),
            resize: part.resize.clone(),
            last_decision,
            conditions,
        }),
    }
}

/// The status of a policy that has no workload of its own.
#[must_use]
pub fn of_idle(idle: &Idle, before: Option<&Status>, now: Timestamp) -> Status {
    let mut conditions = before.map(|before| before.conditions().to_vec()).unwrap_or_default();
    let generation = Some(idle.intent.generation);
    let mut set = |reason: ConditionReason, holds: bool, text: &str| {
        set_condition(&mut conditions, reason, Some(holds), text, generation, now);
    };
    if let Some(holder) = &idle.held_by {
        let text = Conflict::Policy(holder.clone()).to_string();
        set(ConditionReason::OtherPolicy, true, &text);
        set(ConditionReason::Conflicting, false, &text);
        set(ConditionReason::Blocked, false, &text);
    } else {
        let problems = listed(&idle.intent.problems);
        let text = if problems.is_empty() { "there are too many policies".to_owned() } else { problems };
        set(ConditionReason::Invalid, false, &text);
    }
    of_conditions(idle.intent.key.kind, generation, conditions, before)
}

/// What a spec breaks, in one line.
pub(super) fn listed(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.text))
        .collect::<Vec<_>>()
        .join("; ")
}

pub(super) fn unreadable(why: &str) -> String {
    format!("the spec cannot be read: {why}")
}

/// The status of a policy that cannot be read.
#[must_use]
pub fn of_unreadable(policy: &Unreadable, before: Option<&Status>, now: Timestamp) -> Status {
    let mut conditions = before.map(|before| before.conditions().to_vec()).unwrap_or_default();
    let generation = Some(policy.generation);
    let text = unreadable(&policy.text);
    set_condition(&mut conditions, ConditionReason::Invalid, Some(false), &text, generation, now);
    of_conditions(policy.key.kind, generation, conditions, before)
}

/// Of a policy that says nothing else; the way back stays as it is known.
fn of_conditions(
    kind: PolicyKind,
    generation: Option<i64>,
    conditions: Vec<Condition>,
    before: Option<&Status>,
) -> Status {
    let size_before = before.and_then(Status::size_before);
    match kind {
        PolicyKind::Serving => Status::Serving(ServingPolicyStatus {
            observed_generation: generation,
            size_before,
            conditions,
            ..ServingPolicyStatus::default()
        }),
        PolicyKind::Training => Status::Training(TrainingPolicyStatus {
            observed_generation: generation,
            size_before,
            conditions,
            ..TrainingPolicyStatus::default()
        }),
        PolicyKind::Pool => Status::Pool(GpuPoolStatus {
            observed_generation: generation,
            conditions,
            ..GpuPoolStatus::default()
        }),
    }
}

const fn via(way: &Way) -> Via {
    match way {
        Way::Scale => Via::Scale,
        Way::Floor(AutoscalerKind::Hpa, _) => Via::HpaFloor,
        Way::Floor(AutoscalerKind::ScaledObject, _) => Via::ScaledObjectFloor,
        Way::Publish => Via::ExternalMetric,
    }
}

type Said = (ConditionReason, bool, String);

fn target_found(part: &Part) -> (ConditionReason, Option<bool>, String) {
    use ConditionReason as Why;
    let target = &part.intent.target;
    let name = format!("{} {}", target.kind, target.name);
    match &part.missing {
        None if part.gathered.counts.wanted == 0 && part.told.plan.replicas > 0 => {
            (Why::Found, Some(true), format!("{name} asks for no replica"))
        }
        None => (Why::Found, Some(true), format!("{name} is there")),
        Some(Missing::Waiting) => (Why::NotFound, None, format!("{name} has not been read yet")),
        Some(Missing::Absent) => {
            (Why::NotFound, Some(false), format!("there is no {name} in this namespace"))
        }
        Some(Missing::NoKind) => {
            (Why::UnknownKind, Some(false), format!("the cluster has no kind {}", target.kind))
        }
        Some(Missing::Unreadable(text)) => (Why::Forbidden, Some(false), text.clone()),
    }
}

fn conflict(part: &Part) -> Said {
    use ConditionReason as Why;
    match &part.way {
        None | Some(Ok(_)) => (Why::NoConflict, false, "nobody else sets the size".to_owned()),
        Some(Err(conflict)) => {
            let reason = match conflict {
                Conflict::Policy(_) => Why::OtherPolicy,
                Conflict::Autoscaler { kind, .. } if *kind == AutoscalerKind::ScaledObject.kind() => {
                    Why::ScaledObject
                }
                Conflict::Autoscaler { .. } | Conflict::Autoscalers(_) | Conflict::NoAutoscaler(_) => {
                    Why::Autoscaler
                }
                Conflict::GitOps(_) | Conflict::Writer(_) => Why::OtherManager,
                Conflict::Kueue => Why::Queue,
            };
            (reason, true, conflict.to_string())
        }
    }
}

fn active(part: &Part, now: Timestamp) -> Said {
    use ConditionReason as Why;
    let intent: &Intent = &part.intent;
    if intent.policy.mode() == Mode::Shadow {
        return (
            Why::Shadow,
            false,
            "decides and shows, but changes nothing; `kubectl tidegate activate` ends that".into(),
        );
    }
    if let Some(until) = intent.paused_until.filter(|until| now < *until) {
        return (Why::Paused, false, format!("paused until {until}"));
    }
    if let Some(Err(conflict)) = &part.way {
        return (Why::Conflicting, false, conflict.to_string());
    }
    if let Some(reason) = part.told.plan.reasons.iter().find(|r| r.code == ReasonCode::ForeignWrite) {
        return (Why::ForeignWrite, false, reason.text.clone());
    }
    (Why::Acting, true, "plans are put into effect".into())
}

fn demand_known(part: &Part) -> (ConditionReason, Option<bool>, String) {
    use ConditionReason as Why;
    let told = |code| part.told.plan.reasons.iter().find(|r| r.code == code).map(|r| r.text.clone());
    if let Some(text) = told(ReasonCode::DemandUnknown) {
        return (Why::NoSource, Some(false), text);
    }
    if let Some(text) = told(ReasonCode::DemandStale) {
        return (Why::Stale, Some(false), text);
    }
    let text = told(ReasonCode::DemandFromConcurrency).or_else(|| told(ReasonCode::DemandSeen));
    (Why::Fresh, Some(true), text.unwrap_or_else(|| "demand is known".into()))
}

fn calibrated(brain: &Brain) -> Said {
    use ConditionReason as Why;
    let lead = brain.lead().map_or(0, |lead| lead.starts);
    let learned = brain.capacity().is_some_and(|c| c.source != CapacitySource::Hint);
    let forecast = brain.forecast().is_some();
    let word = |known: bool| if known { "known" } else { "not yet" };
    let text = format!("capacity: {}; start-up: {lead} seen; forecast: {}", word(learned), word(forecast));
    if learned && lead > 0 && forecast { (Why::Learned, true, text) } else { (Why::Learning, false, text) }
}

fn ready(part: &Part, brain: &Brain, now: Timestamp) -> Said {
    use ConditionReason as Why;
    if let Some(refused) = &part.refused {
        let quota = refused.cause == RefusedCause::Forbidden && refused.text.contains("quota");
        let reason = if quota { Why::QuotaExceeded } else { Why::Refused };
        return (reason, false, refused.text.clone());
    }
    if part.missing.is_some() || matches!(part.way, Some(Err(_))) {
        return (Why::Blocked, false, "see the other conditions".into());
    }
    let counts = part.gathered.counts;
    let have = format!("{} of {} replicas are ready", counts.ready, counts.wanted);
    if part.gathered.crash_loop {
        return (Why::NotStarting, false, format!("{have}; containers end again and again"));
    }
    if let Some(text) = &part.gathered.unschedulable {
        return (Why::NotStarting, false, format!("{have}; {text}"));
    }
    let lead = brain.lead().map_or(Duration::from_secs(60), |lead| lead.p90);
    let late = |since: Timestamp| now.since(since) > (lead * SLOW_START).max(SLOW_START_MIN);
    if counts.starting > 0 {
        let hangs = part.gathered.starting_since.is_some_and(late);
        let text = format!("{have}; one has been starting for far longer than others took");
        return if hangs { (Why::NotStarting, false, text) } else { (Why::Starting, false, have) };
    }
    if counts.ready < counts.wanted {
        // Pods that a quota or an admission webhook refuses are never made: the size is written, and nothing starts.
        let refused = brain.decisions().next().is_some_and(|decision| late(decision.at));
        let text = format!("{have}, and no other is starting: a quota or a webhook may refuse them");
        return if refused { (Why::NotStarting, false, text) } else { (Why::Starting, false, have) };
    }
    (Why::AsPlanned, true, have)
}

fn demand(brain: &Brain, source: Option<DemandSource>, now: Timestamp) -> Option<DemandStatus> {
    let reading = brain.observed(now)?.demand?;
    let signal = Signal::RequestsPerSecond;
    Some(DemandStatus {
        signal: signal.name().to_owned(),
        value: rounded(reading.value()),
        unit: signal.unit().symbol().to_owned(),
        age_seconds: rounded(reading.age().as_secs_f64()),
        source,
    })
}

fn forecast(brain: &Brain, now: Timestamp) -> Option<ForecastStatus> {
    let forecast = brain.forecast()?;
    let lead = brain.lead().map_or(Duration::from_secs(60), |lead| lead.p90);
    let next = forecast.steps.first()?;
    Some(ForecastStatus {
        at: status_time(forecast.issued_at),
        p50: Some(rounded(next.quantile(0.5))),
        p95: Some(rounded(next.quantile(SHOWN_QUANTILE))),
        window_max: forecast.max_quantile(now, lead, SHOWN_QUANTILE).map(rounded),
    })
}

/// Three significant digits: more say nothing, and would make every status a new one.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powf(2.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::entry::PolicyKey;

    #[test]
    fn a_policy_that_cannot_be_read_any_more_keeps_its_way_back() {
        let policy = Unreadable {
            key: PolicyKey { kind: PolicyKind::Serving, namespace: "ml".into(), name: "chat".into() },
            generation: 3,
            text: "no such field".into(),
        };
        let before = ServingPolicyStatus { size_before: Some(2), ..ServingPolicyStatus::default() };
        let status = of_unreadable(&policy, Some(&Status::Serving(before)), Timestamp::from_secs(9));
        assert_eq!((status.size_before(), status.conditions().len()), (Some(2), 1));
        assert_eq!(of_unreadable(&policy, None, Timestamp::from_secs(9)).size_before(), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(rounded(1234.5), 1230.0);
        assert_eq!(rounded(0.012_345), 0.0123);
        assert_eq!(rounded(0.0), 0.0);
    }
}
