//! What is shown of each workload between rounds: made once a round, read by every request without waiting for the loop.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_actuator::control::Told;
use tidegate_brain::Brain;
use tidegate_core::{ReasonCode, Signal, Timestamp};

use crate::api::views::{Condition, ConditionChange, Demand, Replicas, Severity, Slo, Workload};

/// The share attained is over this long.
const ATTAINED_OVER: Duration = Duration::from_secs(3600);
/// Minutes kept for it, and one under way.
const MINUTES_MAX: usize = 62;
const MINUTE: Duration = Duration::from_secs(60);

/// One workload's card, and what is remembered to make the next one.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) view: Workload,
    since: BTreeMap<String, Timestamp>,
    minutes: VecDeque<(Timestamp, f64, f64)>,
}

impl Card {
    pub(crate) fn new(brain: &Brain) -> Self {
        let view = Workload {
            id: brain.id().to_string(),
            role: brain.role().as_str().into(),
            mode: mode(brain),
            replicas: Replicas::default(),
            demand: Vec::new(),
            slo: Slo::default(),
            bottleneck: None,
            conditions: Vec::new(),
        };
        Self { view, since: BTreeMap::new(), minutes: VecDeque::new() }
    }

    /// Takes a round in; gives the conditions that begin or end with it.
    pub(crate) fn update(
        &mut self,
        brain: &Brain,
        told: &Told,
        faults: &[String],
        now: Timestamp,
    ) -> Vec<ConditionChange> {
        let counts = brain.counts();
        let managed = told.target.is_some() || counts.wanted > 0;
        self.view.mode = mode(brain);
        self.view.replicas = Replicas {
            wanted: Some(told.plan.replicas),
            ready: managed.then_some(counts.ready),
            starting: managed.then_some(counts.starting),
        };
        if let Some(observed) = brain.observed(now) {
            let signal = Signal::RequestsPerSecond;
            self.view.demand = vec![Demand {
                signal: signal.name().into(),
                value: observed.demand.map(|reading| reading.value()),
                unit: signal.unit().symbol().into(),
                age_s: observed.demand.map(|reading| reading.age().as_secs_f64()),
            }];
        }
        if let tidegate_core::Policy::Serving(policy) = brain.policy() {
            self.count(told, now);
            self.view.slo = Slo { attained: self.attained(), target: Some(policy.slo.target.get()) };
        }
        self.view.bottleneck = brain.bottleneck().map(|found| found.as_str().to_owned());
        self.change_conditions(conditions(told, faults), now)
    }

    fn count(&mut self, told: &Told, now: Timestamp) {
        let Some((ended, missed)) =
            told.seen.and_then(|seen| seen.flow).and_then(|f| Some((f.ended?, f.missed?)))
        else {
            return;
        };
        let minute = now.floor_to(MINUTE);
        match self.minutes.back_mut().filter(|(at, ..)| *at == minute) {
            Some((_, all, late)) => {
                *all += ended;
                *late += missed;
            }
            None => self.minutes.push_back((minute, ended, missed)),
        }
        while self.minutes.len() > MINUTES_MAX
            || self.minutes.front().is_some_and(|m| now.since(m.0) > ATTAINED_OVER)
        {
            self.minutes.pop_front();
        }
    }

    /// Share of the requests of the last hour that were in time; `None` without requests.
    pub(crate) fn attained(&self) -> Option<f64> {
        let (ended, missed) = self.minutes.iter().fold((0.0, 0.0), |sum, m| (sum.0 + m.1, sum.1 + m.2));
        (ended > 0.0).then(|| 1.0 - missed / ended)
    }

    fn change_conditions(&mut self, mut next: Vec<Condition>, now: Timestamp) -> Vec<ConditionChange> {
        let change = |condition: Condition, holds| ConditionChange {
            workload: self.view.id.clone(),
            holds,
            condition,
        };
        let mut changes = Vec::new();
        for gone in self.view.conditions.iter().filter(|old| !next.iter().any(|new| new.name == old.name)) {
            changes.push(change(gone.clone(), false));
        }
        self.since.retain(|name, _| next.iter().any(|new| new.name == *name));
        for condition in &mut next {
            let begins = !self.since.contains_key(&condition.name);
            condition.since = Some(*self.since.entry(condition.name.clone()).or_insert(now));
            if begins {
                changes.push(change(condition.clone(), true));
            }
        }
        self.view.conditions = next;
        changes
    }
}

fn mode(brain: &Brain) -> String {
    match brain.mode() {
        tidegate_core::Mode::Active => "active".into(),
        tidegate_core::Mode::Shadow => "shadow".into(),
    }
}

/// Reasons that are conditions as long as they take part in every plan.
const TELLING: [(ReasonCode, Severity); 15] = [
    (ReasonCode::DemandStale, Severity::Warning),
    (ReasonCode::DemandUnknown, Severity::Error),
    (ReasonCode::DemandFromConcurrency, Severity::Info),
    (ReasonCode::SloUnmeasurable, Severity::Warning),
    (ReasonCode::ForeignWrite, Severity::Warning),
    (ReasonCode::CapacityUnknown, Severity::Warning),
    (ReasonCode::ReplicaLost, Severity::Warning),
    (ReasonCode::NoForecast, Severity::Info),
    (ReasonCode::ForecastNotTrusted, Severity::Info),
    (ReasonCode::RolledBack, Severity::Warning),
    (ReasonCode::CrashLoop, Severity::Error),
    (ReasonCode::PoolLimit, Severity::Warning),
    (ReasonCode::PoolShort, Severity::Warning),
    (ReasonCode::StepsStalled, Severity::Error),
    (ReasonCode::CheckpointFailed, Severity::Warning),
];

fn conditions(told: &Told, faults: &[String]) -> Vec<Condition> {
    let name = |code: ReasonCode| serde_json::to_value(code).ok().and_then(|v| v.as_str().map(str::to_owned));
    let mut found: Vec<Condition> = Vec::new();
    for (code, severity) in TELLING {
        let reason = told.plan.reasons.iter().find(|reason| reason.code == code);
        if let (Some(reason), Some(name)) = (reason, name(code)) {
            found.push(Condition { name, severity, text: reason.text.clone(), since: None });
        }
    }
    for condition in told.target.iter().flat_map(|target| &target.conditions) {
        let text = condition_text(condition);
        let name = condition.as_str().to_owned();
        found.retain(|other| other.name != name);
        found.push(Condition { name, severity: Severity::Error, text, since: None });
    }
    for fault in faults {
        let text = format!("a fault is being tried: {fault}");
        found.push(Condition { name: format!("fault_{fault}"), severity: Severity::Info, text, since: None });
    }
    found
}

fn condition_text(condition: &tidegate_actuator::targets::local::Condition) -> String {
    use tidegate_actuator::targets::local::Condition as Target;
    match condition {
        Target::CrashLoop { failures } => {
            format!("{failures} starts in a row failed; one replica at a time is tried")
        }
        Target::CannotStart { text } | Target::StateNotSaved { text } => text.clone(),
        Target::NeverReady => "the last replica was not ready within its deadline".into(),
    }
}
