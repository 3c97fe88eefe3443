//! What is known of the workloads' signals, whoever told it: one value per signal, with the time that it is of.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_actuator::control::Readings;
use tidegate_actuator::crds::DemandSource;
use tidegate_core::{Signal, Timestamp, WorkloadId};

/// Values of a workload that is gone are dropped after this.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// A value and the time that it is of.
type Value = (f64, Timestamp);

/// An answer to a policy's query holds for this long: the longest pause between two scrapes of a server set up with care, twice.
const ANSWER_HOLDS: Duration = Duration::from_secs(120);

/// Everything that was told.
#[derive(Debug, Default)]
pub(super) struct Demand {
    values: Mutex<BTreeMap<WorkloadId, Known>>,
    /// Requests in flight by pod, as the agents tell at present.
    in_flight: Mutex<InFlight>,
}

/// By workload, then by name of the pod.
type InFlight = BTreeMap<WorkloadId, BTreeMap<String, f64>>;

/// What is known of one workload.
#[derive(Debug, Default)]
struct Known {
    told: BTreeMap<Signal, Value>,
    /// Arrivals by the query of its policy: seen before any replica sees them, they go before what replicas tell.
    answered: Option<Value>,
}

impl Known {
    fn latest(&self, signal: Signal) -> Option<Value> {
        let answered = self.answered.filter(|_| signal == Signal::RequestsPerSecond);
        answered.filter(|answered| self.holds(*answered)).or(self.told.get(&signal).copied())
    }

    /// Whether an answer is not long past what the agents tell.
    fn holds(&self, (_, at): Value) -> bool {
        let newest = self.told.values().map(|(_, at)| *at).max();
        newest.is_none_or(|newest| newest.since(at) <= ANSWER_HOLDS)
    }

    fn source(&self) -> Option<DemandSource> {
        if self.answered.is_some_and(|answered| self.holds(answered)) {
            return Some(DemandSource::Prometheus);
        }
        (!self.told.is_empty()).then_some(DemandSource::Agents)
    }
}

impl Demand {
    fn values(&self) -> MutexGuard<'_, BTreeMap<WorkloadId, Known>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what agents tell; a value that is older than what is known is dropped.
    pub(super) fn put(&self, id: &WorkloadId, signal: Signal, value: f64, at: Timestamp) {
        if !value.is_finite() {
            return;
        }
        let mut values = self.values();
        let told = &mut values.entry(id.clone()).or_default().told;
        if told.get(&signal).is_none_or(|(_, before)| *before <= at) {
            told.insert(signal, (value, at));
        }
    }

    /// Who tells a workload's demand at present.
    pub(super) fn source(&self, id: &WorkloadId) -> Option<DemandSource> {
        self.values().get(id)?.source()
    }

    /// Takes in what the pods have in flight at present.
    pub(super) fn put_in_flight(&self, all: InFlight) {
        *self.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Takes in what a policy's query gave: arriving requests per second.
    pub(super) fn answer(&self, id: &WorkloadId, rate: f64, at: Timestamp) {
        self.values().entry(id.clone()).or_default().answered = Some((rate, at));
    }

    /// Drops what nobody has told anything of for long.
    pub(super) fn tidy(&self, now: Timestamp) {
        let fresh = |(_, at): &Value| now.since(*at) <= KEPT_FOR;
        self.values().retain(|_, known| {
            known.told.retain(|_, value| fresh(value));
            known.answered = known.answered.filter(fresh);
            !known.told.is_empty() || known.answered.is_some()
        });
    }

    /// Gives all that is known of one workload to `take`: signal, value, and the time that it is of.
    pub(super) fn each(&self, id: &WorkloadId, mut take: impl FnMut(Signal, f64, Timestamp)) {
        let values = self.values();
        let Some(known) = values.get(id) else { return };
        let arrivals = Signal::RequestsPerSecond;
        let only_answered = known.answered.is_some() && !known.told.contains_key(&arrivals);
        for signal in known.told.keys().copied().chain(only_answered.then_some(arrivals)) {
            if let Some((value, at)) = known.latest(signal) {
                take(signal, value, at);
            }
        }
    }
}

impl Readings for Demand {
    fn latest(&self, workload: &WorkloadId, signal: Signal) -> Option<(f64, Timestamp)> {
        self.values().get(workload)?.latest(signal)
    }

    fn answering(&self, _: &WorkloadId) -> Option<u32> {
        None
    }

    fn withheld(&self, _: &WorkloadId) -> bool {
        false
    }

    fn in_flight_by_pod(&self, workload: &WorkloadId) -> BTreeMap<String, f64> {
        let all = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(workload).cloned().unwrap_or_default()
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

    #[test]
    fn what_a_query_gave_goes_before_what_replicas_tell_while_it_is_not_long_past() {
        let id: WorkloadId = "ml/deployment/chat".parse().unwrap();
        let at = Timestamp::from_secs;
        let demand = Demand::default();
        demand.answer(&id, 30.0, at(100));
        demand.put(&id, Signal::RequestsPerSecond, 5.0, at(110));
        demand.put(&id, Signal::InFlight, 2.0, at(110));
        let known = vec![(Signal::RequestsPerSecond, (30.0, at(100))), (Signal::InFlight, (2.0, at(110)))];
        let sorted = |mut known: Vec<_>| {
            known.sort_by_key(|(signal, _)| *signal);
            known
        };
        let mut all = Vec::new();
        demand.each(&id, |signal, value, at| all.push((signal, (value, at))));
        assert_eq!(sorted(all), sorted(known));
        assert_eq!(demand.source(&id), Some(DemandSource::Prometheus));
        demand.put(&id, Signal::RequestsPerSecond, 6.0, at(300));
        assert_eq!(demand.source(&id), Some(DemandSource::Agents));
        assert_eq!(demand.latest(&id, Signal::RequestsPerSecond), Some((6.0, at(300))));
        demand.tidy(at(800));
        assert_eq!(demand.latest(&id, Signal::RequestsPerSecond), Some((6.0, at(300))));
    }
}
