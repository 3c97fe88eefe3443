//! What each workload did over a range of time, read from the history.

use std::time::Duration;

use tidegate_brain::Brain;
use tidegate_core::{Role, Signal, Subject, Timestamp};
use tidegate_history::{Aggregate, Store, StoreError};

use crate::api::Refusal;
use crate::api::views::{Summary, WorkloadSummary};

/// Steps that a range is read in: fine enough for minutes, few enough for months.
const STEPS_WANTED: u64 = 5000;
/// Decisions read for counting.
const RECORDS_MAX: usize = 10_000;

/// The range's figures. Rates are held once a second, so their sums are amounts.
pub(crate) fn summary<'a>(
    store: &Store,
    brains: impl Iterator<Item = &'a Brain>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Summary, Refusal> {
    let unreadable = |error: StoreError| Refusal::Unavailable(format!("the history cannot be read: {error}"));
    let workloads = brains.map(|brain| of_workload(store, brain, from, to));
    let workloads = workloads.collect::<Result<_, _>>().map_err(unreadable)?;
    Ok(Summary { from, to, workloads })
}

fn of_workload(
    store: &Store,
    brain: &Brain,
    from: Timestamp,
    to: Timestamp,
) -> Result<WorkloadSummary, StoreError> {
    let range = Range { store, subject: Subject::Workload(brain.id().clone()), from, to };
    let serving = brain.role() == Role::Serving;
    // What was preloaded was never asked of anybody.
    let requests = range.amount_while(Signal::RequestsPerSecond, Signal::ReplicasWanted)?;
    let missed = range.amount(Signal::SloMissesPerSecond)?;
    let held = range.held_seconds()?;
    let lost = range.amount(Signal::WorkersLost)?;
    Ok(WorkloadSummary {
        workload: brain.id().to_string(),
        role: brain.role().as_str().into(),
        requests: requests.filter(|_| serving).map(whole),
        slo_miss_fraction: requests
            .zip(missed)
            .filter(|(all, _)| serving && *all > 0.0)
            .map(|(all, missed)| (missed / all).min(1.0)),
        replica_hours: held.map(|seconds| seconds / 3600.0),
        decisions: Some(decisions(store, brain, from, to)?),
        forecast_score: brain.forecast().and_then(|forecast| forecast.score).map(|score| score.pinball_ratio),
        steps: range.amount(Signal::StepsPerSecond)?.filter(|_| !serving).map(whole),
        goodput_lost_s: lost.filter(|_| !serving),
        goodput_lost_fraction: lost
            .zip(held)
            .filter(|(_, held)| !serving && *held > 0.0)
            .map(|(lost, held)| lost / held),
    })
}

/// Decisions in the range that changed the size.
fn decisions(store: &Store, brain: &Brain, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
    let records = store.records(&format!("decisions/{}", brain.id()), RECORDS_MAX)?;
    let within = records.iter().filter(|record| from <= record.at && record.at < to);
    let changed = within.filter(|record| {
        serde_json::from_slice::<tidegate_core::Decision>(&record.bytes)
            .is_ok_and(|decision| decision.from != decision.to)
    });
    Ok(u64::try_from(changed.count()).unwrap_or(u64::MAX))
}

struct Range<'a> {
    store: &'a Store,
    subject: Subject,
    from: Timestamp,
    to: Timestamp,
}

impl Range<'_> {
    /// Mean rate times the time for which it is known; `None` when it never was.
    fn amount(&self, signal: Signal) -> Result<Option<f64>, StoreError> {
        self.amount_while(signal, signal)
    }

    /// The same over the time for which another signal is known too.
    fn amount_while(&self, signal: Signal, other: Signal) -> Result<Option<f64>, StoreError> {
        let seconds = self.to.since(self.from).as_secs().max(1);
        let step = Duration::from_secs(seconds.div_ceil(STEPS_WANTED).max(1));
        let read = |signal| self.store.read(&self.subject, signal, self.from, self.to, step, Aggregate::Mean);
        let (rates, marks) = (read(signal)?, read(other)?);
        let both = rates.values().iter().zip(marks.values()).filter(|(_, mark)| mark.is_some());
        let known: Vec<f64> = both.filter_map(|(rate, _)| *rate).collect();
        Ok((!known.is_empty()).then(|| known.iter().sum::<f64>() * step.as_secs_f64()))
    }

    fn held_seconds(&self) -> Result<Option<f64>, StoreError> {
        let parts = [Signal::ReplicasReady, Signal::ReplicasStarting, Signal::ReplicasDraining];
        let mut sum = None;
        for part in parts {
            if let Some(amount) = self.amount(part)? {
                sum = Some(sum.unwrap_or(0.0) + amount);
            }
        }
        Ok(sum)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; amounts are never negative"
)]
fn whole(amount: f64) -> u64 {
    amount.round() as u64
}
