//! The targets' parts put together into the workloads' signals. No I/O.

use std::collections::{BTreeMap, HashMap};

use tidegate_core::{Signal, Spread, Subject, Timestamp, Unit, WorkloadId};

use super::rate::{Part, Parts};
use crate::collect::reading::{Coverage, Reading, Samples};

/// The parts of one workload so far.
#[derive(Debug, Default)]
struct Merged {
    targets: u32,
    /// Targets that answered for the first time.
    first: u32,
    parts: BTreeMap<Signal, Gathered>,
}

/// A signal's parts so far.
#[derive(Debug)]
struct Gathered {
    part: Part,
    /// Targets that gave a part, and those of them that answered for the first time.
    answered: u32,
    first: u32,
}

/// What all targets together say, each with the time of its answer, by that of the newest; a target that did not answer has no parts. Where some are missing from a sum, each of them is
/// taken to be as those that answered on average; with less than half of them there is no sum.
pub(super) fn reading<'a>(
    now: Timestamp,
    answers: impl Iterator<Item = (&'a WorkloadId, Option<(Timestamp, Parts)>)>,
) -> Reading {
    let mut workloads: BTreeMap<&WorkloadId, (Option<Timestamp>, Merged)> = BTreeMap::new();
    for (workload, answer) in answers {
        let (at, merged) = workloads.entry(workload).or_default();
        let (answered, parts) = answer.unzip();
        *at = (*at).max(answered);
        merged.take(parts.unwrap_or_default());
    }
    let mut samples = Vec::new();
    let (mut coverage, mut spreads) = (HashMap::new(), HashMap::new());
    for (workload, (at, merged)) in workloads {
        let mut of_workload = Samples::at(at.unwrap_or(now));
        let told = merged.spreads();
        if !told.is_empty() {
            spreads.insert(workload.clone(), told);
        }
        let subject = Subject::Workload(workload.clone());
        for (signal, (value, from)) in merged.told() {
            of_workload.push(&subject, signal, Some(value));
            coverage.insert((workload.clone(), signal), from);
        }
        samples.extend(of_workload.into_vec());
    }
    Reading { samples, coverage, spreads, ..Reading::default() }
}

impl Merged {
    fn take(&mut self, target: Parts) {
        let first = u32::from(target.is_first);
        self.targets += 1;
        self.first += first;
        for (signal, part) in target.parts {
            let together = match self.parts.remove(&signal) {
                None => Gathered { part, answered: 1, first },
                Some(before) => Gathered {
                    part: before.part.merged(&part),
                    answered: before.answered + 1,
                    first: before.first + first,
                },
            };
            self.parts.insert(signal, together);
        }
    }

    /// The distributions, for whoever puts them together with those of other nodes.
    fn spreads(&self) -> BTreeMap<Signal, Spread> {
        let spread = |(signal, gathered): (&Signal, &Gathered)| match &gathered.part {
            Part::Spread(spread) => Some((*signal, spread.trimmed())),
            Part::Sum(_) | Part::Mean(..) => None,
        };
        self.parts.iter().filter_map(spread).collect()
    }

    /// Every signal that is known. Where two parts tell the same one, that of the earlier signal: a request's time per token
    /// before the time between tokens.
    fn told(&self) -> BTreeMap<Signal, (f64, Coverage)> {
        let mut told = BTreeMap::new();
        for (signal, gathered) in &self.parts {
            // A target that is new has no rates yet, and has served next to nothing since it is known: it is not missing.
            let new = self.first - gathered.first;
            let from = Coverage { answered: gathered.answered, of: self.targets - new };
            for (signal, value) in values(*signal, &gathered.part) {
                let whole =
                    |value: f64| if signal.is_sum_over_replicas() { from.whole(value) } else { Some(value) };
                if let Some(value) = value.and_then(whole).filter(|value| is_sound(signal, *value)) {
                    told.entry(signal).or_insert((value, from));
                }
            }
        }
        told
    }
}

/// Requests that one target serves, as its own page says.
pub(super) fn in_flight(target: &Parts) -> Option<f64> {
    let told = target.parts.get(&Signal::InFlight).map(|part| values(Signal::InFlight, part));
    let value = told?.into_iter().find_map(|(signal, value)| value.filter(|_| signal == Signal::InFlight));
    value.filter(|value| is_sound(Signal::InFlight, *value))
}

/// Whether a value can be true: exporters have told negative queues and shares above 1.
fn is_sound(signal: Signal, value: f64) -> bool {
    let most = if signal.unit() == Unit::Ratio { 1.0 + 1e-6 } else { f64::MAX };
    signal == Signal::Loss || (0.0..=most).contains(&value)
}

/// The signals that a merged part tells.
fn values(signal: Signal, part: &Part) -> Vec<(Signal, Option<f64>)> {
    match part {
        // Completions and a backlog that shrinks are not read at quite the same moment: a little below zero means none.
        Part::Sum(sum) if signal.is_demand() => vec![(signal, Some(sum.max(0.0)))],
        Part::Sum(sum) => vec![(signal, Some(*sum))],
        Part::Mean(sum, count) => vec![(signal, (*count > 0.0).then(|| sum / count))],
        Part::Spread(spread) => spread.told(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::policy::{INTER_TOKEN, LATENCY, PER_TOKEN};

    fn target(parts: &[(Signal, Part)], is_first: bool) -> Option<Parts> {
        let parts = parts.iter().cloned().collect();
        Some(Parts { parts, known: true, is_first, runtimes: Vec::new() })
    }

    fn told(targets: Vec<Option<Parts>>) -> BTreeMap<Signal, (f64, Coverage)> {
        let id = WorkloadId::local("a").unwrap();
        let answers = targets.into_iter().map(|parts| (&id, parts.map(|parts| (Timestamp::EPOCH, parts))));
        let reading = reading(Timestamp::EPOCH, answers);
        let of = |sample: &tidegate_core::Sample| reading.coverage[&(id.clone(), sample.signal)];
        reading.samples.iter().map(|sample| (sample.signal, (sample.value, of(sample)))).collect()
    }

    const RATE: Signal = Signal::RequestsPerSecond;

    fn rate(value: f64) -> Option<Parts> {
        target(&[(RATE, Part::Sum(value))], false)
    }

    #[test]
    fn a_missing_target_is_taken_to_be_like_the_others_as_long_as_they_are_half() {
        let coverage = |answered, of| Coverage { answered, of };
        assert_eq!(told(vec![rate(4.0), rate(6.0)])[&RATE], (10.0, coverage(2, 2)));
        assert_eq!(told(vec![rate(4.0), rate(6.0), None])[&RATE], (15.0, coverage(2, 3)));
        // One that answers and does not know, since its counters went back.
        assert_eq!(told(vec![rate(4.0), target(&[], false)])[&RATE], (8.0, coverage(1, 2)));
        assert_eq!(told(vec![rate(4.0), None, None]).get(&RATE), None, "one of three says too little");
        assert_eq!(told(vec![None, None]).get(&RATE), None);
    }

    #[test]
    fn a_new_target_has_no_rate_yet_and_is_not_missing() {
        let gauge = |value| (Signal::InFlight, Part::Sum(value));
        let new = || target(&[gauge(1.0)], true);
        let old = target(&[(RATE, Part::Sum(10.0)), gauge(3.0)], false);
        let told = told(vec![old, new(), new()]);
        assert_eq!(
            told[&RATE],
            (10.0, Coverage { answered: 1, of: 1 }),
            "30 would call for more at each scale-up"
        );
        assert_eq!(told[&Signal::InFlight], (5.0, Coverage { answered: 3, of: 3 }));
    }

    #[test]
    fn means_are_over_all_and_shares_stay_shares() {
        let kv = |value| target(&[(Signal::KvUtilisation, Part::Mean(value, 1.0))], false);
        let value = |targets| told(targets).get(&Signal::KvUtilisation).map(|(value, _)| *value);
        assert_eq!(value(vec![kv(0.2), kv(0.6)]), Some(0.4));
        assert_eq!(value(vec![kv(0.2), None]), Some(0.2));
        assert_eq!(value(vec![kv(1.4)]), None, "no share is above 1");
        let negative =
            target(&[(Signal::Queued, Part::Sum(-1.0)), (Signal::Loss, Part::Mean(-1.0, 1.0))], false);
        assert_eq!(told(vec![negative]).into_keys().collect::<Vec<_>>(), [Signal::Loss]);
    }

    #[test]
    fn of_two_that_know_a_mean_the_first_tells_it() {
        let spread = |mean: f64| Part::Spread(Spread::new(vec![(10.0, 1.0)], 1.0, Some(mean)));
        let mean = |parts: &[(Signal, Part)], signal| told(vec![target(parts, false)])[&signal].0;
        let both = [(PER_TOKEN.key(), spread(0.02)), (INTER_TOKEN.key(), spread(0.03))];
        assert_eq!(mean(&both, Signal::PerTokenMean), 0.02);
        assert_eq!(mean(&both[1..], Signal::PerTokenMean), 0.03);
        let latency = [(LATENCY.key(), spread(2.0)), (Signal::LatencyMean, Part::Mean(9.0, 1.0))];
        assert_eq!(mean(&latency, Signal::LatencyMean), 2.0);
        assert_eq!(mean(&latency[1..], Signal::LatencyMean), 9.0);
    }
}
