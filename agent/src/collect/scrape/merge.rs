//! The targets' parts put together into the workloads' signals. No I/O.

use std::collections::{BTreeMap, HashMap};

use tidegate_core::{Signal, Subject, Timestamp, WorkloadId};

use super::rate::{LATENCY, Part, Parts};
use crate::collect::reading::{Coverage, Reading, Samples};

/// The parts of one workload so far.
#[derive(Debug, Default)]
struct Merged {
    targets: u32,
    parts: BTreeMap<Signal, (Part, u32)>,
}

/// What all targets together say; a target that did not answer has no parts.
pub(super) fn reading<'a>(
    at: Timestamp,
    answers: impl Iterator<Item = (&'a WorkloadId, Option<Parts>)>,
) -> Reading {
    let mut workloads: BTreeMap<&WorkloadId, Merged> = BTreeMap::new();
    for (workload, parts) in answers {
        let merged = workloads.entry(workload).or_default();
        merged.targets += 1;
        for (signal, part) in parts.iter().flat_map(|parts| &parts.parts) {
            let together = match merged.parts.remove(signal) {
                None => (part.clone(), 1),
                Some((sum, count)) => (sum.merged(part), count + 1),
            };
            merged.parts.insert(*signal, together);
        }
    }
    let mut samples = Samples::at(at);
    let mut coverage = HashMap::new();
    for (workload, merged) in workloads {
        let subject = Subject::Workload(workload.clone());
        for (signal, (part, answered)) in &merged.parts {
            for (signal, value) in values(*signal, part) {
                samples.push(&subject, signal, value);
                let from = Coverage { answered: *answered, of: merged.targets };
                coverage.insert((workload.clone(), signal), from);
            }
        }
    }
    Reading { samples: samples.into_vec(), coverage, ..Reading::default() }
}

/// The signals that a merged part tells.
fn values(signal: Signal, part: &Part) -> Vec<(Signal, Option<f64>)> {
    match part {
        // Completions and a backlog that shrinks are not read at quite the same moment: a little below zero means none.
        Part::Sum(sum) if signal.is_demand() => vec![(signal, Some(sum.max(0.0)))],
        Part::Sum(sum) => vec![(signal, Some(*sum))],
        Part::Mean(sum, count) => vec![(signal, (*count > 0.0).then(|| sum / count))],
        Part::Spread(spread) if signal == LATENCY => vec![
            (Signal::LatencyP50, spread.quantile(0.5)),
            (Signal::LatencyP95, spread.quantile(0.95)),
            (Signal::LatencyP99, spread.quantile(0.99)),
        ],
        Part::Spread(spread) => vec![(signal, spread.mean())],
    }
}
