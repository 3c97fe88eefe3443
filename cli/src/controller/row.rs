//! What is kept of one workload between rounds, so that a round of thousands looks up, formats and stores little. Where there are
//! many workloads they take turns: what need not be told every second is told of some hundreds a round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_actuator::cluster::entry::Intent;
use tidegate_actuator::cluster::way::{Conflict, Way};
use tidegate_actuator::cluster::{Missing, Part};
use tidegate_actuator::crds::ResizeStatus;
use tidegate_agent::export::Registry;
use tidegate_brain::Brain;
use tidegate_core::{Sample, Signal, Subject, Timestamp};

use super::demand::Demand;
use crate::told::Shown;

/// Workloads whose turn it is in one round.
const TURNS_A_ROUND: usize = 500;
/// A reading is held for so long: the longest pause between two scrapes of a server that is set up with care.
const SAMPLE_FRESH: Duration = Duration::from_secs(60);

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns {
    /// Rounds until all have had theirs.
    every: u64,
    round: u64,
}

impl Turns {
    /// Of so many workloads in this round.
    pub(super) fn of(workloads: usize, round: u64) -> Self {
        Self { every: workloads.div_ceil(TURNS_A_ROUND).max(1) as u64, round }
    }

    /// Whether it is the turn of the workload at this place.
    pub(super) const fn has(self, place: usize) -> bool {
        (place as u64 + self.round).is_multiple_of(self.every)
    }

    /// The same, at most once in so many rounds.
    pub(super) fn at_least(self, rounds: u64) -> Self {
        Self { every: self.every.max(rounds), ..self }
    }
}

/// One workload's.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) shown: Shown,
    means: Means,
    /// What its status was made of last, but for numbers.
    stands: Option<Stands>,
}

#[derive(Debug, PartialEq)]
struct Stands {
    intent: Arc<Intent>,
    missing: Option<Missing>,
    way: Option<Result<Way, Conflict>>,
    refused: bool,
    /// A pause ends without a change of the policy.
    acts: bool,
    /// What another controller would go on from.
    resize: Option<ResizeStatus>,
    size_before: Option<u32>,
}

impl Row {
    pub(super) fn new(registry: &Registry, brain: &Brain) -> Self {
        Self { shown: Shown::new(registry, brain.id()), means: Means::default(), stands: None }
    }

    /// Whether its status has something to say that does not wait for its turn.
    pub(super) fn is_stirred(&mut self, part: &Part, now: Timestamp) -> bool {
        let acts = part.intent.acts(now);
        let same = self.stands.as_ref().is_some_and(|stands| {
            Arc::ptr_eq(&stands.intent, &part.intent)
                && stands.missing == part.missing
                && stands.way == part.way
                && stands.refused == part.refused.is_some()
                && stands.acts == acts
                && stands.resize == part.resize
                && stands.size_before == part.size_before
        });
        if !same {
            self.stands = Some(Stands {
                intent: Arc::clone(&part.intent),
                missing: part.missing.clone(),
                way: part.way.clone(),
                refused: part.refused.is_some(),
                acts,
                resize: part.resize.clone(),
                size_before: part.size_before,
            });
        }
        !same || part.told.decision.is_some()
    }

    /// Its status is to be told anew.
    pub(super) fn stir(&mut self) {
        self.stands = None;
    }

    /// Takes in what is known of its demand.
    pub(super) fn note(&mut self, demand: &Demand, brain: &Brain) {
        demand.each(brain.id(), |signal, value, told| self.means.note(signal, value, told));
    }

    /// What its history and its metrics are told: replicas as they are, readings as their mean since the last time.
    pub(super) fn samples(&mut self, brain: &Brain, part: &Part, at: Timestamp) -> Vec<Sample> {
        let mut found: Vec<(Signal, Option<f64>)> =
            vec![(Signal::ReplicasWanted, Some(f64::from(part.told.plan.replicas)))];
        if part.missing.is_none() {
            let counts = part.gathered.counts;
            found.push((Signal::ReplicasReady, Some(f64::from(counts.ready))));
            found.push((Signal::ReplicasStarting, Some(f64::from(counts.starting))));
            found.push((Signal::ReplicasDraining, Some(f64::from(counts.draining))));
        }
        found.push((Signal::CapacityPerReplica, brain.capacity().map(|capacity| capacity.mid)));
        found.push((Signal::LeadSeconds, brain.lead().map(|lead| lead.p90.as_secs_f64())));
        found.extend(self.means.take(at).map(|(signal, value)| (signal, Some(value))));
        let subject = Subject::Workload(brain.id().clone());
        let sample =
            |(signal, value): (Signal, Option<f64>)| Sample::new(subject.clone(), signal, at, value?);
        found.into_iter().filter_map(sample).collect()
    }
}

/// Means of readings since they were taken last.
#[derive(Debug, Default)]
struct Means(BTreeMap<Signal, Mean>);

#[derive(Debug, Clone, Copy)]
struct Mean {
    sum: f64,
    readings: f64,
    last: (f64, Timestamp),
}

impl Means {
    /// Takes in a reading; one that was taken in before changes nothing.
    fn note(&mut self, signal: Signal, value: f64, told: Timestamp) {
        let first = Mean { sum: value, readings: 1.0, last: (value, told) };
        let mean = self.0.entry(signal).or_insert(first);
        if mean.last.1 < told {
            mean.sum += value;
            mean.readings += 1.0;
            mean.last = (value, told);
        }
    }

    /// The means, from which new ones begin; where nothing is new, the last reading while it holds.
    fn take(&mut self, now: Timestamp) -> impl Iterator<Item = (Signal, f64)> {
        self.0.retain(|_, mean| now.since(mean.last.1) <= SAMPLE_FRESH);
        self.0.iter_mut().map(|(signal, mean)| {
            let value = if mean.readings > 0.0 { mean.sum / mean.readings } else { mean.last.0 };
            (mean.sum, mean.readings) = (0.0, 0.0);
            (*signal, value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    #[test]
    fn everybody_has_a_turn_within_the_rounds_and_a_few_have_one_every_round() {
        assert!((0..500).all(|place| Turns::of(500, 7).has(place)));
        let of_round = |round| (0..5000).filter(move |place| Turns::of(5000, round).has(*place));
        let mut all: Vec<_> = (1..=10).flat_map(of_round).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..5000));
        assert_eq!(of_round(3).count(), 500);
        assert_eq!((0..300).filter(|place| Turns::of(300, 5).at_least(30).has(*place)).count(), 10);
    }

    #[test]
    fn what_was_read_between_two_turns_is_told_as_its_mean() {
        let mut means = Means::default();
        let rate = Signal::RequestsPerSecond;
        for (value, told) in [(10.0, 0), (10.0, 0), (20.0, 2), (90.0, 4)] {
            means.note(rate, value, at(told));
        }
        assert!(means.take(at(5)).eq([(rate, 40.0)]));
        assert!(means.take(at(15)).eq([(rate, 90.0)]), "nothing is new; the last holds");
        means.note(rate, 30.0, at(16));
        assert!(means.take(at(17)).eq([(rate, 30.0)]));
        assert_eq!(means.take(at(77)).count(), 0, "long past");
    }
}
