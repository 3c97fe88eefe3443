//! Checking a digest as it comes: what is sound in it is kept, what is not is counted by its cause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_core::{Scope, Signal, Spread, Timestamp, WorkloadId};

use crate::parts::{Part, Parts};
use crate::v1;

/// Workloads in one digest; a node has a few hundred pods at most.
pub const WORKLOADS_MAX: usize = 2_000;
/// Readings of one workload; as many as the catalogue has for one.
pub const READINGS_MAX: usize = 128;
/// Pods of one workload on one node; a kubelet runs a few hundred at most.
pub const PODS_MAX: usize = 512;
/// Distributions of one workload; the catalogue has nine that runtimes tell.
pub const SKETCHES_MAX: usize = 32;
/// Bounds of one distribution; histograms that people define have some tens.
pub const BOUNDS_MAX: usize = 512;
/// Longest accepted name of a node or a pod: that of a DNS subdomain.
const NAME_MAX: usize = 253;
/// A reading that was older than this when the digest was made says nothing of the present.
const AGE_MAX: Duration = Duration::from_secs(60);

/// What is wrong with a digest or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// The node has no name, or one that none can have. Nothing is kept.
    Node,
    /// More workloads than allowed; the rest was left.
    TooMany,
    /// A workload's id is none.
    Workload,
    /// A signal is unknown, or not of a workload. A newer agent may know more of them.
    Signal,
    /// A value is not finite, or negative where it cannot be.
    Value,
    /// A reading was too old already.
    Old,
}

impl Flaw {
    /// The value of the `cause` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "bad_node",
            Self::TooMany => "too_many",
            Self::Workload => "bad_workload",
            Self::Signal => "unknown_signal",
            Self::Value => "bad_value",
            Self::Old => "old",
        }
    }
}

/// The sound parts of a digest, and what is wrong with the others; `None` in place of the parts where nothing can be kept.
#[must_use]
pub fn checked(digest: &v1::Digest) -> (Option<Parts>, BTreeSet<Flaw>) {
    let mut flaws = BTreeSet::new();
    if digest.node.is_empty() || digest.node.len() > NAME_MAX {
        flaws.insert(Flaw::Node);
        return (None, flaws);
    }
    if digest.workloads.len() > WORKLOADS_MAX {
        flaws.insert(Flaw::TooMany);
    }
    let mut workloads = BTreeMap::new();
    for told in digest.workloads.iter().take(WORKLOADS_MAX) {
        let Ok(id) = told.id.parse::<WorkloadId>() else {
            flaws.insert(Flaw::Workload);
            continue;
        };
        let answered = told.answered.min(told.targets);
        let (readings, in_flight) = (readings(told, &mut flaws), pods(told, &mut flaws));
        let spreads = spreads(told, &mut flaws);
        workloads.insert(id, Part { answered, targets: told.targets, readings, spreads, in_flight });
    }
    let at = Timestamp::from_millis(digest.at_ms);
    (Some(Parts { node: digest.node.clone(), sequence: digest.sequence, at, workloads }), flaws)
}

fn readings(told: &v1::Workload, flaws: &mut BTreeSet<Flaw>) -> BTreeMap<Signal, (f64, Duration)> {
    let mut readings = BTreeMap::new();
    if told.readings.len() > READINGS_MAX {
        flaws.insert(Flaw::TooMany);
    }
    for reading in told.readings.iter().take(READINGS_MAX) {
        let signal = Signal::from_name(&reading.signal).filter(|signal| signal.scope() == Scope::Workload);
        let age = Duration::from_millis(u64::from(reading.age_ms));
        match signal {
            None => drop(flaws.insert(Flaw::Signal)),
            Some(_) if age > AGE_MAX => drop(flaws.insert(Flaw::Old)),
            // A loss may be negative; nothing else can.
            Some(signal) if !reading.value.is_finite() || (reading.value < 0.0 && signal != Signal::Loss) => {
                flaws.insert(Flaw::Value);
            }
            Some(signal) => drop(readings.insert(signal, (reading.value, age))),
        }
    }
    readings
}

fn spreads(told: &v1::Workload, flaws: &mut BTreeSet<Flaw>) -> BTreeMap<Signal, (Spread, Duration)> {
    if told.sketches.len() > SKETCHES_MAX {
        flaws.insert(Flaw::TooMany);
    }
    let mut spreads = BTreeMap::new();
    for sketch in told.sketches.iter().take(SKETCHES_MAX) {
        let signal = Signal::from_name(&sketch.signal).filter(|signal| signal.scope() == Scope::Workload);
        let age = Duration::from_millis(u64::from(sketch.age_ms));
        match (signal, spread(sketch)) {
            (None, _) => drop(flaws.insert(Flaw::Signal)),
            (Some(_), None) => drop(flaws.insert(Flaw::Value)),
            (Some(_), Some(_)) if age > AGE_MAX => drop(flaws.insert(Flaw::Old)),
            (Some(signal), Some(spread)) => drop(spreads.insert(signal, (spread, age))),
        }
    }
    spreads
}

/// The distribution; `None` where its numbers are no cumulative counts.
fn spread(sketch: &v1::Sketch) -> Option<Spread> {
    let count = |value: &f64| value.is_finite() && *value >= 0.0;
    let rising = |values: &[f64]| values.windows(2).all(|pair| pair[0] <= pair[1]);
    let (bounds, below) = (&sketch.bounds, &sketch.below);
    let sound = bounds.len() == below.len()
        && bounds.len() <= BOUNDS_MAX
        && bounds.iter().all(|bound| bound.is_finite())
        && rising(bounds)
        && below.iter().all(count)
        && rising(below)
        && count(&sketch.rate)
        && sketch.sum.as_ref().is_none_or(count);
    let pairs = || bounds.iter().copied().zip(below.iter().copied()).collect();
    sound.then(|| Spread::new(pairs(), sketch.rate, sketch.sum))
}

fn pods(told: &v1::Workload, flaws: &mut BTreeSet<Flaw>) -> BTreeMap<String, f64> {
    if told.pods.len() > PODS_MAX {
        flaws.insert(Flaw::TooMany);
    }
    let mut pods = BTreeMap::new();
    for pod in told.pods.iter().take(PODS_MAX) {
        let named = !pod.name.is_empty() && pod.name.len() <= NAME_MAX;
        if !named || !pod.in_flight.is_finite() || pod.in_flight < 0.0 {
            flaws.insert(Flaw::Value);
        } else {
            pods.insert(pod.name.clone(), pod.in_flight);
        }
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(signal: &str, value: f64) -> v1::Reading {
        v1::Reading { signal: signal.into(), value, age_ms: 500 }
    }

    fn sketch(bounds: &[f64], below: &[f64]) -> v1::Sketch {
        v1::Sketch {
            signal: "latency_p95_seconds".into(),
            bounds: bounds.to_vec(),
            below: below.to_vec(),
            rate: 5.0,
            sum: Some(2.0),
            age_ms: 500,
        }
    }

    fn digest(readings: Vec<v1::Reading>) -> v1::Digest {
        let pod = |name: &str, in_flight| v1::Pod { name: name.into(), in_flight };
        let pods = vec![pod("chat-a", 3.0), pod("chat-b", 0.0)];
        let id = "ml/deployment/chat".into();
        let workload = v1::Workload {
            id,
            answered: 2,
            targets: 2,
            readings,
            pods,
            sketches: vec![sketch(&[0.1, 1.0], &[3.0, 4.0])],
        };
        v1::Digest { node: "node-a".into(), sequence: 7, at_ms: 1_800_000_000_000, workloads: vec![workload] }
    }

    #[test]
    fn what_is_sound_is_kept_and_what_is_not_is_named() {
        let told = digest(vec![
            reading("requests_per_second", 12.5),
            reading("queued_requests", f64::NAN),
            reading("in_flight_requests", -1.0),
            reading("loss", -0.5),
            reading("load1", 1.0),
            reading("from_a_newer_agent", 1.0),
        ]);
        let (parts, flaws) = checked(&told);
        let parts = parts.unwrap();
        let part = &parts.workloads.values().next().unwrap();
        let kept: Vec<_> = part.readings.keys().map(|signal| signal.name()).collect();
        assert_eq!(kept, ["requests_per_second", "loss"]);
        assert_eq!(flaws, BTreeSet::from([Flaw::Signal, Flaw::Value]));
        assert_eq!(part.in_flight, BTreeMap::from([("chat-a".to_owned(), 3.0), ("chat-b".to_owned(), 0.0)]));
        let sent = v1::Digest::from(&parts);
        assert_eq!(checked(&sent), (Some(parts), BTreeSet::new()));
    }

    #[test]
    fn a_distribution_whose_numbers_are_no_counts_is_left_out() {
        let wrong = [
            sketch(&[0.1, 1.0], &[3.0]),
            sketch(&[1.0, 0.1], &[3.0, 4.0]),
            sketch(&[0.1, 1.0], &[4.0, 3.0]),
            sketch(&[0.1, f64::INFINITY], &[3.0, 4.0]),
            sketch(&[0.1], &[f64::NAN]),
            sketch(&[0.1], &[-1.0]),
            sketch(&vec![1.0; BOUNDS_MAX + 1], &vec![1.0; BOUNDS_MAX + 1]),
            v1::Sketch { rate: f64::INFINITY, ..sketch(&[0.1], &[1.0]) },
            v1::Sketch { sum: Some(f64::NAN), ..sketch(&[0.1], &[1.0]) },
        ];
        for one in wrong {
            let mut told = digest(Vec::new());
            told.workloads[0].sketches = vec![one.clone()];
            let (parts, flaws) = checked(&told);
            assert!(parts.unwrap().workloads.values().all(|part| part.spreads.is_empty()), "{one:?}");
            assert_eq!(flaws, BTreeSet::from([Flaw::Value]), "{one:?}");
        }
        let mut told = digest(Vec::new());
        told.workloads[0].sketches = vec![
            v1::Sketch { age_ms: 90_000, ..sketch(&[0.1], &[1.0]) },
            v1::Sketch { signal: "load1".into(), ..sketch(&[0.1], &[1.0]) },
        ];
        told.workloads[0].sketches.extend((0..SKETCHES_MAX).map(|_| sketch(&[0.1], &[1.0])));
        let (parts, flaws) = checked(&told);
        assert_eq!(parts.unwrap().workloads.values().next().unwrap().spreads.len(), 1);
        assert_eq!(flaws, BTreeSet::from([Flaw::Old, Flaw::Signal, Flaw::TooMany]));
    }

    #[test]
    fn a_pod_without_a_name_or_with_no_number_is_left_out() {
        let mut told = digest(Vec::new());
        told.workloads[0].pods.push(v1::Pod { name: String::new(), in_flight: 1.0 });
        told.workloads[0].pods.push(v1::Pod { name: "chat-c".into(), in_flight: f64::INFINITY });
        let (parts, flaws) = checked(&told);
        assert_eq!(parts.unwrap().workloads.values().next().unwrap().in_flight.len(), 2);
        assert_eq!(flaws, BTreeSet::from([Flaw::Value]));
    }

    #[test]
    fn a_digest_of_no_node_is_nothing() {
        let told = v1::Digest { node: String::new(), ..digest(Vec::new()) };
        assert_eq!(checked(&told), (None, BTreeSet::from([Flaw::Node])));
    }

    #[test]
    fn there_is_a_limit_to_what_is_kept() {
        let mut told = digest(Vec::new());
        told.workloads = (0..WORKLOADS_MAX + 5)
            .map(|i| v1::Workload { id: format!("ml/deployment/d{i}"), ..v1::Workload::default() })
            .collect();
        let (parts, flaws) = checked(&told);
        assert_eq!(parts.unwrap().workloads.len(), WORKLOADS_MAX);
        assert_eq!(flaws, BTreeSet::from([Flaw::TooMany]));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_finite_afterwards(
            ids in proptest::collection::vec(".{0,40}", 0..4),
            names in proptest::collection::vec("[a-z_]{0,24}", 0..6),
            value in proptest::num::f64::ANY,
            at_ms in proptest::num::i64::ANY,
        ) {
            let readings: Vec<_> = names.iter().map(|name| reading(name, value)).collect();
            let workloads = ids.iter().map(|id| v1::Workload {
                id: id.clone(), answered: 9, targets: 3, pods: Vec::new(),
                readings: readings.clone(),
                sketches: names.iter().map(|name| v1::Sketch {
                    signal: name.clone(), rate: value, ..sketch(&[value.abs()], &[value])
                }).collect(),
            });
            let told = v1::Digest { node: "n".into(), sequence: 0, at_ms, workloads: workloads.collect() };
            let (parts, _) = checked(&told);
            for part in parts.unwrap().workloads.values() {
                prop_assert!(part.answered <= part.targets);
                prop_assert!(part.readings.values().all(|(value, _)| value.is_finite()));
                prop_assert!(part.spreads.values().all(|(spread, _)| spread.quantile(0.5).is_none_or(f64::is_finite)));
            }
        }
    }
}
