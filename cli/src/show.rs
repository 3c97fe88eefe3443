//! What brains, the history and the collectors know, in the shapes of the API: the same for every server.

use std::time::Duration;

use tidegate_agent::collect::LatestValues;
use tidegate_agent::export::Registry;
use tidegate_brain::{Bottleneck, Brain, Fleet};
use tidegate_core::{
    Alert, AlertOutcome, CapacitySource, Label, Metric, Policy, Rehearsed, Signal, Subject, Timestamp,
    WorkloadId,
};
use tidegate_history::{Aggregate, Record, Store};

use crate::api::views::{self, AlertBatch, AlertReport, AlertStatus};
use crate::api::{Refusal, SeriesQuery};
use crate::clock;

/// A decision in the API's shape.
pub(crate) fn decision(decision: &tidegate_core::Decision) -> views::Decision {
    let reason = |reason: &tidegate_core::Reason| views::Reason {
        code: serde_json::to_value(reason.code)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default(),
        text: reason.text.clone(),
        values: reason.values.iter().map(|(name, value)| (name.to_owned(), *value)).collect(),
    };
    views::Decision {
        at: decision.at,
        from: decision.from,
        to: decision.to,
        reasons: decision.reasons.iter().map(reason).collect(),
        baseline: views::Baseline { hpa: decision.hpa },
        inputs: decision.inputs.iter().map(|(name, value)| (name.to_owned(), (*value).into())).collect(),
    }
}

/// The last decisions on a workload, newest first, from the history: a brain keeps but a few.
pub(crate) fn decisions(
    store: &Store,
    id: &WorkloadId,
    limit: usize,
) -> Result<Vec<views::Decision>, Refusal> {
    let records = store.records(&format!("decisions/{id}"), limit);
    let records =
        records.map_err(|error| Refusal::Unavailable(format!("the history cannot be read: {error}")))?;
    let read = |record: &Record| serde_json::from_slice(&record.bytes).ok();
    Ok(records.iter().filter_map(read).map(|one| decision(&one)).collect())
}

/// Means per step of one signal over a range, from the history.
pub(crate) fn series(store: &Store, query: &SeriesQuery) -> Result<Vec<views::Point>, Refusal> {
    let read = store.read(&query.subject, query.signal, query.from, query.to, query.step, Aggregate::Mean);
    let series =
        read.map_err(|error| Refusal::Unavailable(format!("the history cannot be read: {error}")))?;
    Ok(series.values().iter().enumerate().map(|(i, value)| views::Point(series.time(i), *value)).collect())
}

/// Refuses a signal that is not forecast.
pub(crate) fn must_be_forecast(signal: Option<Signal>) -> Result<(), Refusal> {
    match signal {
        None | Some(Signal::RequestsPerSecond) => Ok(()),
        Some(other) => Err(Refusal::Invalid(format!("{} is not forecast", other.name()))),
    }
}

/// The last reading of each signal of this machine and of its parts, none older than `age_max`.
pub(crate) fn node(latest: &LatestValues, now: Timestamp, age_max: Duration) -> Vec<views::NodeReading> {
    let readings = latest.fresh(now, age_max, |fresh| {
        let part = match fresh.subject {
            Subject::Node => None,
            Subject::NodePart(part) => Some(part.clone()),
            _ => return None,
        };
        let age_s = Some(now.since(fresh.latest.at).as_secs_f64());
        let (signal, unit) = (fresh.signal.name().to_owned(), fresh.signal.unit().symbol().to_owned());
        Some(views::NodeReading { signal, unit, part, value: Some(fresh.latest.value), age_s })
    });
    let mut readings: Vec<_> = readings.into_iter().flatten().collect();
    readings.sort_by(|a, b| (&a.signal, &a.part).cmp(&(&b.signal, &b.part)));
    readings
}

/// Takes a batch of alerts in; counts and tells what became of each.
pub(crate) fn alerts(
    registry: &Registry,
    batch: AlertBatch,
    mut admit: impl FnMut(&Alert) -> Vec<(WorkloadId, AlertOutcome)>,
) -> AlertReport {
    let mut results = Vec::new();
    for alert in batch.alerts {
        let firing = alert.status == AlertStatus::Firing;
        let alert = Alert { fingerprint: alert.fingerprint, firing, labels: alert.labels };
        results.extend(alert_outcomes(&alert, &admit(&alert)));
    }
    for result in &results {
        registry.counter(Metric::AlertsReceived, &[(Label::Outcome, &result.outcome)]).inc();
    }
    AlertReport { results }
}

/// The pool in the API's shape; `None` where there is none.
pub(crate) fn pool(fleet: &Fleet) -> Option<views::Pool> {
    let slots = fleet.pool()?.present;
    let holder = |brain: &Brain| views::PoolHolder {
        workload: brain.id().to_string(),
        role: brain.role().as_str().into(),
        slots: brain.counts().held().saturating_mul(brain.slots_each()),
    };
    let held: Vec<_> = fleet.brains().map(holder).collect();
    let taken = held.iter().map(|holder| holder.slots).fold(0, u32::saturating_add);
    let telling = [
        tidegate_core::ReasonCode::PoolShort,
        tidegate_core::ReasonCode::PoolLimit,
        tidegate_core::ReasonCode::PoolRecall,
    ];
    let notes = fleet.brains().flat_map(|brain| {
        let reasons = brain.plan().map(|plan| plan.reasons.clone()).unwrap_or_default();
        let name = brain.id().name().to_owned();
        reasons
            .into_iter()
            .filter(|r| telling.contains(&r.code))
            .map(move |reason| format!("{name}: {}", reason.text))
    });
    Some(views::Pool { slots, free: slots.saturating_sub(taken), notes: notes.collect(), held })
}

/// All that is known of a workload. `signals`: those that have a history; `address`: where requests are sent to.
pub(crate) fn detail(
    workload: views::Workload,
    brain: &Brain,
    signals: &[Signal],
    address: Option<String>,
) -> views::WorkloadDetail {
    let policy = match brain.policy() {
        Policy::Serving(policy) => serde_json::to_value(policy),
        Policy::Training(policy) => serde_json::to_value(policy),
    };
    let slo = match brain.policy() {
        Policy::Serving(policy) => Some(policy.slo.latency.get().as_secs_f64()),
        Policy::Training(_) => None,
    };
    views::WorkloadDetail {
        policy: policy.expect("a policy is plain data"),
        capacity: brain.capacity().map(|capacity| views::Capacity {
            low: Some(capacity.low),
            mid: Some(capacity.mid),
            high: Some(capacity.high),
            unit: Signal::RequestsPerSecond.unit().symbol().into(),
            source: match capacity.source {
                CapacitySource::Hint => "hint".into(),
                CapacitySource::Learned => "learned".into(),
                CapacitySource::Measured => "measured".into(),
            },
            variant: brain.variant().map(str::to_owned),
        }),
        lead_time: brain.lead().map(|lead| views::LeadTime {
            p50_s: Some(lead.p50.as_secs_f64()),
            p90_s: Some(lead.p90.as_secs_f64()),
            starts: lead.starts,
        }),
        provision: brain.stance(clock::now()).map(|chosen| provision(chosen, brain)),
        league: brain.league().iter().map(standing).collect(),
        evidence: evidence(brain),
        signals: signals
            .iter()
            .map(|s| views::SignalName { signal: s.name().into(), unit: s.unit().symbol().into() })
            .collect(),
        slo_latency_s: slo,
        address,
        workload,
    }
}

/// The stance in use, in words and numbers.
fn provision(chosen: &Rehearsed, brain: &Brain) -> views::Provision {
    let stance = chosen.stance;
    let mut text = format!("{} × the present demand", stance.level);
    if stance.usual > 0.0 {
        text += &format!(" + {} × the usual", stance.usual);
    }
    if let Some(p) = stance.peak {
        text += &format!(", or the {p} quantile of the peak");
    }
    let point = |one: &Rehearsed| views::FrontPoint { replicas: one.replicas, miss_fraction: one.missed };
    views::Provision {
        text,
        level: stance.level,
        usual: stance.usual,
        peak_quantile: stance.peak,
        hold_s: stance.hold.as_secs_f64(),
        rehearsed_replicas: chosen.replicas,
        rehearsed_miss_fraction: chosen.missed,
        front: brain.front().iter().map(point).collect(),
    }
}

fn standing(standing: &tidegate_core::Standing) -> views::Standing {
    views::Standing {
        signal: Signal::RequestsPerSecond.name().into(),
        model: standing.model.clone(),
        pinball: standing.score.map(|score| score.pinball),
        pinball_ratio: standing.score.map(|score| score.pinball_ratio),
        coverage95: standing.score.map(|score| score.coverage95),
        origins: standing.score.map(|score| score.origins),
        in_use: standing.in_use,
    }
}

/// Why the bottleneck is what it is said to be, in numbers.
fn evidence(brain: &Brain) -> Option<views::Bottleneck> {
    let seen = brain.seen()?;
    let queued = seen.queued.unwrap_or(0.0);
    let (text, replicas_help) = match brain.bottleneck()? {
        Bottleneck::Queue => (
            format!("{queued:.0} requests wait for {} ready replicas", seen.replicas.ready),
            Some(!seen.crash_loop),
        ),
        Bottleneck::GpuMemory => {
            let full = 100.0 * seen.kv_utilisation.unwrap_or(1.0);
            let text = format!(
                "memory for attention keys and values is {full:.0} % full, and {queued:.0} requests wait for it"
            );
            (text, Some(true))
        }
        Bottleneck::Stalled => ("replicas end soon after their start".to_owned(), Some(false)),
        Bottleneck::None => return None,
    };
    Some(views::Bottleneck { text, replicas_help })
}

/// What became of an alert, for each workload that has a rule for it.
fn alert_outcomes(alert: &Alert, admitted: &[(WorkloadId, AlertOutcome)]) -> Vec<views::AlertOutcome> {
    if admitted.is_empty() {
        return vec![alert_outcome(alert, None, AlertOutcome::NoRule)];
    }
    admitted.iter().map(|(id, outcome)| alert_outcome(alert, Some(id), *outcome)).collect()
}

fn alert_outcome(alert: &Alert, id: Option<&WorkloadId>, outcome: AlertOutcome) -> views::AlertOutcome {
    let text = match outcome {
        AlertOutcome::Raised => "the floor was raised",
        AlertOutcome::Repeated => "it had its effect already",
        AlertOutcome::Resolved => "its effect, if any, has ended",
        AlertOutcome::NoRule => "no policy has a rule for it",
        AlertOutcome::CoolingDown => "the rule's last effect is too recent",
        AlertOutcome::OverBudget => "the rule has had its effects of this hour",
    };
    views::AlertOutcome {
        fingerprint: alert.fingerprint.clone(),
        outcome: outcome.as_str().into(),
        workload: id.map(ToString::to_string),
        text: text.into(),
    }
}
