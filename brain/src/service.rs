//! How long a request is served for, by Little's law (Little, *Operations Research* 9, 1961): requests being served on average,
//! over requests served per second. It holds at any load and needs no latencies; with the number that one replica serves at a
//! time it says what replicas carry, before a single request had to be late to show it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Capacity, CapacitySource, Slo, Timestamp};

/// Requests from which on the mean says something.
const ENDED_MIN: f64 = 100.0;
/// Evidence fades with this half-life: software and traffic mixes change.
const HALF_LIFE: Duration = Duration::from_secs(1800);
/// Share of the budget that may be lost to chance alone, at a size that carries the load.
const CHANCE_SHARE: f64 = 0.2;
/// Squared coefficient of variation assumed of service times; arrivals are taken to be independent.
const SERVICE_VARIATION: f64 = 0.6;
/// Kept free of what is measured.
const MARGIN: f64 = 0.02;

/// Request-seconds served, and requests that ended; both fade.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ServiceTime {
    busy_s: f64,
    ended: f64,
    faded_at: Option<Timestamp>,
}

impl ServiceTime {
    /// Takes in a window in which `in_flight` requests were served on average and `completed` ended.
    pub(crate) fn ingest(&mut self, at: Timestamp, window: Duration, in_flight: f64, completed: f64) {
        let sound = in_flight.is_finite() && in_flight >= 0.0 && completed.is_finite() && completed >= 0.0;
        if !sound {
            return;
        }
        let elapsed = at.since(*self.faded_at.get_or_insert(at));
        if elapsed >= Duration::from_secs(60) {
            let keep = (-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
            self.busy_s *= keep;
            self.ended *= keep;
            self.faded_at = Some(at);
        }
        self.busy_s += in_flight * window.as_secs_f64();
        self.ended += completed;
    }

    /// Mean seconds that a request is served; `None` while too few ended.
    pub(crate) fn mean_s(&self) -> Option<f64> {
        (self.ended >= ENDED_MIN && self.busy_s > 0.0).then(|| self.busy_s / self.ended)
    }

    /// What replicas that serve `concurrency` requests at a time carry within the objective.
    ///
    /// A pool with room for `m` requests serves `m / S` per second. In heavy traffic the wait is exponential, with a mean of
    /// `(1 + c²) / 2` over the rate that is left free (Kingman, 1962; Allen, *Probability, Statistics, and Queueing Theory*, §5.3),
    /// so what must be left free does not grow with the pool.
    pub(crate) fn capacity(&self, concurrency: u32, slo: &Slo) -> Option<Capacity> {
        let mean_s = self.mean_s()?;
        let mid = f64::from(concurrency.max(1)) / mean_s;
        let slack_s = (slo.latency.get().as_secs_f64() - mean_s).max(mean_s / 4.0);
        let chance = (CHANCE_SHARE * slo.budget()).clamp(1e-6, 0.5);
        let spare = -chance.ln() / slack_s * (1.0 + SERVICE_VARIATION) / 2.0;
        Some(Capacity { low: mid * (1.0 - MARGIN), mid, high: mid, spare, source: CapacitySource::Measured })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo() -> Slo {
        serde_json::from_str(r#"{"latency":"2s","target":0.99}"#).unwrap()
    }

    #[test]
    fn what_replicas_carry_follows_from_what_is_being_served() {
        let mut service = ServiceTime::default();
        assert_eq!(service.capacity(4, &slo()), None);
        for second in 0..60 {
            service.ingest(Timestamp::from_secs(second), Duration::from_secs(1), 10.0, 20.0);
        }
        let capacity = service.capacity(4, &slo()).unwrap();
        assert!((capacity.mid - 8.0).abs() < 1e-9, "four at a time for half a second: {capacity:?}");
        // One such replica meets 99 % at some 5 req/s, sixteen at some 123: M/M/c says 5.1 and 124.
        assert_eq!([4.5, 5.4, 118.0, 122.5].map(|demand| capacity.replicas_for(demand)), [1, 2, 16, 17]);
    }

    #[test]
    fn absurd_looks_change_nothing() {
        let mut service = ServiceTime::default();
        service.ingest(Timestamp::EPOCH, Duration::from_secs(1), f64::NAN, 1e9);
        service.ingest(Timestamp::EPOCH, Duration::from_secs(1), 1.0, -5.0);
        assert_eq!(service, ServiceTime::default());
    }
}
