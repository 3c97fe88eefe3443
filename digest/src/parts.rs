//! A digest as plain values, its words checked.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::{Signal, Spread, Timestamp, WorkloadId};

use crate::v1;

/// What one node says of one workload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Targets that answered.
    pub answered: u32,
    /// All that there are.
    pub targets: u32,
    /// Finite values, with the age that each had when the digest was made.
    pub readings: BTreeMap<Signal, (f64, Duration)>,
    /// The distributions behind its quantiles and means, with their ages.
    pub spreads: BTreeMap<Signal, (Spread, Duration)>,
    /// Requests in flight by name of the pod, where that was asked for.
    pub in_flight: BTreeMap<String, f64>,
}

/// What one node says at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Name of the node.
    pub node: String,
    /// Counts up for each start of the agent.
    pub sequence: u64,
    /// By the node's clock.
    pub at: Timestamp,
    /// By workload.
    pub workloads: BTreeMap<WorkloadId, Part>,
}

impl From<&Parts> for v1::Digest {
    fn from(parts: &Parts) -> Self {
        let millis = |age: &Duration| u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
        let reading = |(signal, (value, age)): (&Signal, &(f64, Duration))| v1::Reading {
            signal: signal.name().to_owned(),
            value: *value,
            age_ms: millis(age),
        };
        let sketch = |(key, (spread, age)): (&Signal, &(Spread, Duration))| v1::Sketch {
            signal: key.name().to_owned(),
            bounds: spread.bounds().iter().map(|(bound, _)| *bound).collect(),
            below: spread.bounds().iter().map(|(_, events)| *events).collect(),
            rate: spread.rate(),
            sum: spread.sum(),
            age_ms: millis(age),
        };
        let pod = |(name, in_flight): (&String, &f64)| v1::Pod { name: name.clone(), in_flight: *in_flight };
        let workload = |(id, part): (&WorkloadId, &Part)| v1::Workload {
            id: id.to_string(),
            answered: part.answered,
            targets: part.targets,
            readings: part.readings.iter().map(reading).collect(),
            pods: part.in_flight.iter().map(pod).collect(),
            sketches: part.spreads.iter().map(sketch).collect(),
        };
        Self {
            node: parts.node.clone(),
            sequence: parts.sequence,
            at_ms: parts.at.as_millis(),
            workloads: parts.workloads.iter().map(workload).collect(),
        }
    }
}
