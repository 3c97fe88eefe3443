//! The latest value of every signal, by the source that gave it. A source's new reading replaces its old one whole,
//! so that what it no longer tells is gone; what a stuck source told is taken away.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tidegate_core::{Label, Sample, Signal, Spread, Subject, Timestamp, WorkloadId};

use super::reading::{Coverage, Names, SourceName, Spreads};

/// Most values kept per source; more are dropped. A node with 200 workloads stays far below this, and a cluster with 5,000 below.
pub const VALUES_MAX: usize = 100_000;

/// A value and when it was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latest {
    /// In the signal's unit.
    pub value: f64,
    /// When it was read.
    pub at: Timestamp,
    /// For a value put together from several targets: from how many.
    pub coverage: Option<Coverage>,
}

/// Who put a value here: one of the collectors, or another part of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Giver {
    /// A part of the program that knows better than any collector, such as the gateway; named by whoever starts it.
    Part(&'static str),
    /// A source of this crate.
    Source(SourceName),
}

/// One value that is not too old.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// What it is about.
    pub subject: &'a Subject,
    /// Which quantity of it.
    pub signal: Signal,
    /// The value.
    pub latest: Latest,
    /// Labels of the subject's metrics that do not stand in the subject, as far as its giver knows them.
    pub names: &'a [(Label, Box<str>)],
}

type Values = HashMap<Subject, HashMap<Signal, Latest>>;

/// Everything that one giver told at once.
#[derive(Debug, Default)]
struct Told {
    values: Values,
    names: Names,
    /// Distributions, and when they were read.
    spreads: Option<(Timestamp, Spreads)>,
}

/// The latest value of every signal. Shared; short locks only.
#[derive(Debug, Default)]
pub struct LatestValues {
    /// In the order that a value is looked for: parts of the program before collectors.
    givers: RwLock<std::collections::BTreeMap<Giver, Told>>,
}

impl LatestValues {
    /// Replaces everything that `giver` had told.
    pub fn replace<'a>(
        &self,
        giver: Giver,
        samples: impl IntoIterator<Item = &'a Sample>,
        coverage: impl Fn(&Sample) -> Option<Coverage>,
    ) {
        self.replace_named(giver, samples, coverage, Names::new());
    }

    /// Like [`LatestValues::replace`], with names of the subjects.
    pub fn replace_named<'a>(
        &self,
        giver: Giver,
        samples: impl IntoIterator<Item = &'a Sample>,
        coverage: impl Fn(&Sample) -> Option<Coverage>,
        names: Names,
    ) {
        let values = values_of(samples, coverage);
        let mut givers = self.givers.write().unwrap_or_else(PoisonError::into_inner);
        givers.insert(giver, Told { values, names, spreads: None });
    }

    /// The distributions behind what `giver` told last.
    pub fn put_spreads(&self, giver: Giver, at: Timestamp, spreads: Spreads) {
        let mut givers = self.givers.write().unwrap_or_else(PoisonError::into_inner);
        givers.entry(giver).or_default().spreads =
            Some((at, spreads)).filter(|(_, spreads)| !spreads.is_empty());
    }

    /// The distributions that are not older than `age_max` at `now`, each with the time that it is of, those of the
    /// first giver first.
    #[must_use]
    pub fn spreads(&self, now: Timestamp, age_max: Duration) -> Vec<(WorkloadId, Signal, Timestamp, Spread)> {
        let givers = self.givers.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<(WorkloadId, Signal, Timestamp, Spread)> = Vec::new();
        for (at, spreads) in givers.values().filter_map(|told| told.spreads.as_ref()) {
            if now.since(*at) <= age_max {
                for (id, of_workload) in spreads {
                    found.extend(
                        of_workload.iter().map(|(key, spread)| (id.clone(), *key, *at, spread.clone())),
                    );
                }
            }
        }
        found
    }

    /// Replaces what `giver` had told of the subjects of these samples; what it had told of others stays.
    pub fn replace_subjects<'a>(&self, giver: Giver, samples: impl IntoIterator<Item = &'a Sample>) {
        let values = values_of(samples, |_| None);
        let mut givers = self.givers.write().unwrap_or_else(PoisonError::into_inner);
        let told = &mut givers.entry(giver).or_default().values;
        let mut kept: usize = told.values().map(HashMap::len).sum();
        for (subject, of_subject) in values {
            kept = kept + of_subject.len() - told.remove(&subject).map_or(0, |before| before.len());
            if kept <= VALUES_MAX {
                told.insert(subject, of_subject);
            } else {
                kept -= of_subject.len();
            }
        }
    }

    /// Takes away what `giver` had told of a subject.
    pub fn forget(&self, giver: Giver, subject: &Subject) {
        let mut givers = self.givers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = givers.get_mut(&giver) {
            told.values.remove(subject);
            told.names.remove(subject);
        }
    }

    /// Takes away everything that `giver` had told.
    pub fn clear(&self, giver: Giver) {
        let mut givers = self.givers.write().unwrap_or_else(PoisonError::into_inner);
        givers.remove(&giver);
    }

    /// The latest value, whatever its age; `None` when no source tells it now.
    #[must_use]
    pub fn get(&self, subject: &Subject, signal: Signal) -> Option<Latest> {
        let givers = self.givers.read().unwrap_or_else(PoisonError::into_inner);
        givers.values().find_map(|told| told.values.get(subject)?.get(&signal).copied())
    }

    /// The latest value that this giver told, whatever others tell.
    #[must_use]
    pub fn get_from(&self, giver: Giver, subject: &Subject, signal: Signal) -> Option<Latest> {
        let givers = self.givers.read().unwrap_or_else(PoisonError::into_inner);
        givers.get(&giver)?.values.get(subject)?.get(&signal).copied()
    }

    /// Every value not older than `age_max` at `now`, once per subject and signal, in no order. Gives what `take` makes of each;
    /// `take` must not ask for further values, since they are locked meanwhile.
    pub fn fresh<T>(
        &self,
        now: Timestamp,
        age_max: Duration,
        mut take: impl FnMut(Fresh<'_>) -> T,
    ) -> Vec<T> {
        let givers = self.givers.read().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        let mut earlier: Vec<&Values> = Vec::new();
        for Told { values, names, .. } in givers.values() {
            for (subject, of_subject) in values {
                let names = names.get(subject).map_or(&[][..], Vec::as_slice);
                for (signal, latest) in of_subject {
                    let told =
                        |values: &&Values| values.get(subject).is_some_and(|of| of.contains_key(signal));
                    if now.since(latest.at) <= age_max && !earlier.iter().any(told) {
                        out.push(take(Fresh { subject, signal: *signal, latest: *latest, names }));
                    }
                }
            }
            earlier.push(values);
        }
        out
    }
}

fn values_of<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    coverage: impl Fn(&Sample) -> Option<Coverage>,
) -> Values {
    let mut values = Values::new();
    for sample in samples.into_iter().take(VALUES_MAX) {
        let latest = Latest { value: sample.value, at: sample.at, coverage: coverage(sample) };
        match values.get_mut(&sample.subject) {
            Some(of_subject) => {
                of_subject.insert(sample.signal, latest);
            }
            None => {
                values.insert(sample.subject.clone(), HashMap::from([(sample.signal, latest)]));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Giver = Giver::Source(SourceName::Node);

    fn sample(signal: Signal, at: i64, value: f64) -> Sample {
        Sample::new(Subject::Node, signal, Timestamp::from_secs(at), value).unwrap()
    }

    #[test]
    fn a_value_that_is_not_told_again_is_gone() {
        let latest = LatestValues::default();
        latest
            .replace(NODE, &[sample(Signal::Load1, 1, 0.5), sample(Signal::CpuBusyRatio, 1, 0.1)], |_| None);
        latest.replace(NODE, &[sample(Signal::Load1, 2, 0.7)], |_| None);
        assert_eq!(latest.get(&Subject::Node, Signal::Load1).unwrap().value, 0.7);
        assert_eq!(latest.get(&Subject::Node, Signal::CpuBusyRatio), None);
        latest.clear(NODE);
        assert_eq!(latest.get(&Subject::Node, Signal::Load1), None);
    }

    #[test]
    fn one_subject_is_replaced_whole_and_the_others_stay() {
        let latest = LatestValues::default();
        let chat = Subject::Workload("ml/deployment/chat".parse().unwrap());
        let of_chat =
            |signal, at, value| Sample::new(chat.clone(), signal, Timestamp::from_secs(at), value).unwrap();
        latest.replace_subjects(NODE, &[sample(Signal::Load1, 1, 0.5), of_chat(Signal::Queued, 1, 3.0)]);
        latest.replace_subjects(NODE, &[of_chat(Signal::InFlight, 2, 4.0)]);
        assert_eq!(latest.get(&Subject::Node, Signal::Load1).unwrap().value, 0.5);
        assert_eq!(latest.get(&chat, Signal::InFlight).unwrap().value, 4.0);
        assert_eq!(latest.get(&chat, Signal::Queued), None);
        latest.forget(NODE, &chat);
        assert_eq!(latest.get(&chat, Signal::InFlight), None);
    }

    #[test]
    fn a_part_of_the_program_comes_before_a_collector() {
        let latest = LatestValues::default();
        latest.replace(NODE, &[sample(Signal::Load1, 1, 0.5)], |_| None);
        latest.replace(Giver::Part("gateway"), &[sample(Signal::Load1, 1, 9.0)], |_| None);
        assert_eq!(latest.get(&Subject::Node, Signal::Load1).unwrap().value, 9.0);
        let all = latest.fresh(Timestamp::from_secs(1), Duration::from_secs(5), |fresh| fresh.latest.value);
        assert_eq!(all, [9.0], "no value stands twice");
    }

    #[test]
    fn what_is_stale_is_not_fresh() {
        let latest = LatestValues::default();
        latest.replace(NODE, &[sample(Signal::Load1, 1, 0.5)], |_| None);
        let at = |now| {
            latest.fresh(Timestamp::from_secs(now), Duration::from_secs(30), |fresh| fresh.latest.value)
        };
        assert_eq!(at(31).len(), 1);
        assert_eq!(at(32).len(), 0);
    }
}
