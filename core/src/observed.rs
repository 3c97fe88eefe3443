//! What was seen of a workload, each reading with its age: always possibly stale.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::replicas_ceil;

/// A reading with its age. Finite and not negative: what is not is no reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    value: f64,
    age: Duration,
}

impl Reading {
    /// A reading; `None` when `value` is negative or not finite.
    #[must_use]
    pub fn new(value: f64, age: Duration) -> Option<Self> {
        (value.is_finite() && value >= 0.0).then_some(Self { value, age })
    }

    /// The value.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.value
    }

    /// How old it is.
    #[must_use]
    pub const fn age(self) -> Duration {
        self.age
    }

    /// Itself while it is not older than `limit`.
    #[must_use]
    pub fn fresh(self, limit: Duration) -> Option<Self> {
        (self.age <= limit).then_some(self)
    }
}

/// Replicas by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReplicaCounts {
    /// The size last asked of the target.
    pub wanted: u32,
    /// Taking requests, or taking part in steps.
    pub ready: u32,
    /// Started, not yet ready.
    pub starting: u32,
    /// Finishing what they have; not part of `wanted`.
    pub draining: u32,
}

impl ReplicaCounts {
    /// What can carry load now or soon.
    #[must_use]
    pub const fn supply(self) -> u32 {
        self.ready.saturating_add(self.starting)
    }

    /// What occupies slots.
    #[must_use]
    pub const fn held(self) -> u32 {
        self.supply().saturating_add(self.draining)
    }
}

/// Requests that ended lately, and how many of them outside the objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Misses {
    /// Requests that ended, drops included.
    pub ended: f64,
    /// Of these, outside the objective.
    pub missed: f64,
}

impl Misses {
    /// The share missed; `None` when too few ended to say.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        // Below ten requests a single late one would read as a miss of 10 % or more.
        (self.ended >= 10.0 && self.missed >= 0.0).then(|| (self.missed / self.ended).min(1.0))
    }
}

/// One look at a serving workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Replicas by state.
    pub replicas: ReplicaCounts,
    /// Arriving requests per second.
    pub demand: Option<Reading>,
    /// How far apart readings of it come: between two, the last one holds.
    #[serde(default)]
    pub every: Duration,
    /// Requests being served.
    pub in_flight: Option<Reading>,
    /// Requests waiting.
    pub queued: Option<Reading>,
    /// Requests that ended within the last 15 s or so.
    pub misses: Option<Misses>,
    /// Requests are counted, but for a while nobody has told how many of them are in time.
    #[serde(default)]
    pub slo_unmeasurable: bool,
    /// Replicas that ended by themselves within the last minute.
    pub lost: u32,
    /// Replicas end again and again soon after their start.
    pub crash_loop: bool,
}

/// Demand that replicas carry within the objective, with its uncertainty; in requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// What each further replica carries almost surely; decisions use this.
    pub low: f64,
    /// Best estimate.
    pub mid: f64,
    /// What it might carry.
    pub high: f64,
    /// What all replicas together must be able to carry beyond the demand, so that waiting stays within the objective: the chance
    /// of arrivals costs a small pool as much as a large one. 0 where `low` has it in it already.
    pub spare: f64,
    /// Where the estimate comes from.
    pub source: CapacitySource,
}

impl Capacity {
    /// Replicas that carry `demand`.
    #[must_use]
    pub fn replicas_for(self, demand: f64) -> u32 {
        replicas_ceil((demand + self.spare) / self.low.max(f64::MIN_POSITIVE))
    }
}

/// Where a capacity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacitySource {
    /// The policy's hint.
    Hint,
    /// Learned from load and latency.
    Learned,
    /// Measured: the time that a request is served for, and how many are served at a time.
    Measured,
}

/// Time from a decision to a ready replica.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// Median.
    pub p50: Duration,
    /// 90th percentile; decisions use this.
    pub p90: Duration,
    /// Starts seen; 0: the policy's prior.
    pub starts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_demand_is_no_reading() {
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(Reading::new(wrong, Duration::ZERO), None);
        }
        let old = Reading::new(1.0, Duration::from_secs(20)).unwrap();
        assert_eq!(old.fresh(Duration::from_secs(15)), None);
    }

    #[test]
    fn a_few_requests_say_nothing_of_the_share_missed() {
        assert_eq!(Misses { ended: 3.0, missed: 1.0 }.share(), None);
        assert_eq!(Misses { ended: 100.0, missed: 2.0 }.share(), Some(0.02));
    }
}
