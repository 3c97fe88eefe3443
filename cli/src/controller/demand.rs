//! What is known of the workloads' signals, whoever told it: one value per signal, with the time that it is of.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_actuator::control::Readings;
use tidegate_core::{Signal, Timestamp, WorkloadId};

/// Values of a workload that is gone are dropped after this.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// A value and the time that it is of.
type Value = (f64, Timestamp);

/// Everything that was told.
#[derive(Debug, Default)]
pub(super) struct Demand {
    values: Mutex<BTreeMap<WorkloadId, BTreeMap<Signal, Value>>>,
}

impl Demand {
    fn values(&self) -> MutexGuard<'_, BTreeMap<WorkloadId, BTreeMap<Signal, Value>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a value in; one that is older than what is known is dropped.
    pub(super) fn put(&self, id: &WorkloadId, signal: Signal, value: f64, at: Timestamp) {
        if !value.is_finite() {
            return;
        }
        let mut values = self.values();
        let known = values.entry(id.clone()).or_default();
        if known.get(&signal).is_none_or(|(_, before)| *before <= at) {
            known.insert(signal, (value, at));
        }
    }

    /// Drops what nobody has told anything of for long.
    pub(super) fn tidy(&self, now: Timestamp) {
        self.values().retain(|_, signals| {
            signals.retain(|_, (_, at)| now.since(*at) <= KEPT_FOR);
            !signals.is_empty()
        });
    }

    /// What is known of one workload.
    pub(super) fn of(&self, id: &WorkloadId) -> Vec<(Signal, Value)> {
        self.values().get(id).into_iter().flatten().map(|(signal, value)| (*signal, *value)).collect()
    }
}

impl Readings for Demand {
    fn latest(&self, workload: &WorkloadId, signal: Signal) -> Option<(f64, Timestamp)> {
        self.values().get(workload)?.get(&signal).copied()
    }

    fn answering(&self, _: &WorkloadId) -> Option<u32> {
        None
    }

    fn withheld(&self, _: &WorkloadId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_holds_and_what_is_no_number_is_none() {
        let id: WorkloadId = "ml/deployment/chat".parse().unwrap();
        let at = Timestamp::from_secs;
        let demand = Demand::default();
        demand.put(&id, Signal::RequestsPerSecond, 5.0, at(100));
        demand.put(&id, Signal::RequestsPerSecond, 4.0, at(90));
        demand.put(&id, Signal::RequestsPerSecond, f64::NAN, at(110));
        assert_eq!(demand.latest(&id, Signal::RequestsPerSecond), Some((5.0, at(100))));
        demand.tidy(at(701));
        assert_eq!(demand.latest(&id, Signal::RequestsPerSecond), None);
    }
}
