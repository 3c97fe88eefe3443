//! How long a request is served for, by Little's law (Little, *Operations Research* 9, 1961): requests being served on average,
//! over requests served per second. It holds at any load and needs no latencies; with the number that one replica serves at a
//! time it says what replicas carry, before a single request had to be late to show it.
//!
//! Where requests are served together, as in the continuous batching of language models, each takes longer the more there are
//! beside it: an iteration costs a fixed time and a little for each. So the time is learned as a line over the requests that a
//! replica has, and read where the replica is full. For a service that takes its time whatever else goes on, the line is flat.
//!
//! Requests being served are often known by a gauge that is read now and then. Its noise stands on both sides of the line, which by
//! least squares would rise for it; so what differs is told by what ended (instrumental variables: Wooldridge, *Introductory
//! Econometrics*, §15.1), and only where that differs by more than chance.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Capacity, CapacitySource, Slo, Timestamp};

/// Looks are joined to windows of this length: requests that end in a short one did not begin in it.
const WINDOW: Duration = Duration::from_secs(30);
/// Requests from which on the mean says something.
const ENDED_MIN: f64 = 100.0;
/// Evidence fades with this half-life: software and traffic mixes change.
const HALF_LIFE: Duration = Duration::from_secs(3600);
/// Share of the budget that may be lost to chance alone, at a size that carries the load.
const CHANCE_SHARE: f64 = 0.2;
/// Squared coefficient of variation assumed of service times; arrivals are taken to be independent.
const SERVICE_VARIATION: f64 = 0.6;
/// Kept free of what is measured.
pub(crate) const MARGIN: f64 = 0.02;
/// Below this determinant, relative to the product of its diagonal, loads were too alike to tell a slope from a level.
const SPREAD_MIN: f64 = 0.002;
/// The same in multiples of what chance makes of it: the variance of counts over the square of their mean. Twice the deviation.
const SPREAD_CHANCES: f64 = 4.0;

/// Share of requests that chance alone may make late.
pub(crate) fn chance(slo: &Slo) -> f64 {
    (CHANCE_SHARE * slo.budget()).clamp(1e-6, 0.5)
}

/// What was seen of requests being served, fading: sums for the mean, and for the line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct ServiceTime {
    open: Window,
    busy_s: f64,
    ended: f64,
    /// Of `x` = ended per second, `z` = `x` × requests in a replica, `f` = requests being served, and `w` = `x` × ended per second and
    /// replica, which goes with `z` and has no part in its noise: `xx`, `xz`, `xf`, `wx`, `wz`, `wf`.
    sums: [f64; 6],
    windows: f64,
    faded_at: Option<Timestamp>,
}

/// Sums over the window that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Window {
    seconds: f64,
    busy_s: f64,
    ended: f64,
    replica_s: f64,
}

impl ServiceTime {
    /// Takes in a window in which `in_flight` requests were served on average by `ready` replicas, and `completed` ended.
    pub(crate) fn ingest(
        &mut self,
        at: Timestamp,
        window: Duration,
        in_flight: f64,
        completed: f64,
        ready: u32,
    ) {
        let sound = in_flight.is_finite() && in_flight >= 0.0 && completed.is_finite() && completed >= 0.0;
        if !sound || ready == 0 {
            return;
        }
        let seconds = window.as_secs_f64();
        self.open.seconds += seconds;
        self.open.busy_s += in_flight * seconds;
        self.open.ended += completed;
        self.open.replica_s += f64::from(ready) * seconds;
        if self.open.seconds >= WINDOW.as_secs_f64() || self.ended < ENDED_MIN {
            self.close(at);
        }
    }

    fn close(&mut self, at: Timestamp) {
        let window = std::mem::take(&mut self.open);
        let elapsed = at.since(*self.faded_at.get_or_insert(at));
        let keep = (-elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        self.faded_at = Some(at);
        self.busy_s = self.busy_s * keep + window.busy_s;
        self.ended = self.ended * keep + window.ended;
        let (x, f) = (window.ended / window.seconds, window.busy_s / window.seconds);
        let (z, w) = (x * window.busy_s / window.replica_s, x * window.ended / window.replica_s);
        for (sum, term) in self.sums.iter_mut().zip([x * x, x * z, x * f, w * x, w * z, w * f]) {
            *sum = *sum * keep + term;
        }
        self.windows = self.windows * keep + 1.0;
    }

    /// What was seen is of another variant of the workload: it counts as little as still says something.
    pub(crate) fn doubt(&mut self) {
        self.open = Window::default();
        let keep = (2.0 * ENDED_MIN / self.ended.max(1.0)).min(1.0);
        self.busy_s *= keep;
        self.ended *= keep;
        self.sums.iter_mut().for_each(|sum| *sum *= keep);
        self.windows *= keep;
    }

    /// Mean seconds that a request is served; `None` while too few ended.
    pub(crate) fn mean_s(&self) -> Option<f64> {
        (self.ended >= ENDED_MIN && self.busy_s > 0.0).then(|| self.busy_s / self.ended)
    }

    /// Seconds that a request is served in a replica that has `requests` of them: the line, where loads differed enough for one.
    fn seconds_at(&self, requests: f64) -> Option<f64> {
        let mean_s = self.mean_s()?;
        let [xx, xz, xf, wx, wz, wf] = self.sums;
        let determinant = xx * wz - xz * wx;
        let spread = SPREAD_MIN.max(SPREAD_CHANCES * self.windows / self.ended);
        if determinant < spread * xx * wz {
            return Some(mean_s);
        }
        let slope = ((xx * wf - wx * xf) / determinant).max(0.0);
        let level = ((xf - slope * xz) / xx).max(0.0);
        // Never less than what was seen on average: more requests side by side do not make each faster.
        Some((level + slope * requests).max(mean_s))
    }

    /// Longest wait within the objective. One that is shorter than a request takes speaks of its beginning.
    pub(crate) fn slack_s(&self, slo: &Slo) -> f64 {
        let latency_s = slo.latency.get().as_secs_f64();
        match self.mean_s() {
            Some(mean_s) if mean_s < latency_s => latency_s - mean_s,
            _ => latency_s,
        }
    }

    /// What replicas that serve `concurrency` requests at a time carry within the objective.
    ///
    /// A pool with room for `m` requests serves `m / S` per second. In heavy traffic the wait is exponential, with a mean of
    /// `(1 + c²) / 2` over the rate that is left free (Kingman, 1962; Allen, *Probability, Statistics, and Queueing Theory*, §5.3),
    /// so what must be left free does not grow with the pool.
    pub(crate) fn capacity(&self, concurrency: u32, slo: &Slo) -> Option<Capacity> {
        let full = f64::from(concurrency.max(1));
        let mid = full / self.seconds_at(full)?;
        let chance = chance(slo);
        let spare = -chance.ln() / self.slack_s(slo).max(1e-3) * (1.0 + SERVICE_VARIATION) / 2.0;
        // What is left free for chance is at most the half of one replica.
        let spare = spare.min(mid / 2.0);
        Some(Capacity { low: mid * (1.0 - MARGIN), mid, high: mid, spare, source: CapacitySource::Measured })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo() -> Slo {
        serde_json::from_str(r#"{"latency":"2s","target":0.99}"#).unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_replicas_carry_follows_from_what_is_being_served() {
        let mut service = ServiceTime::default();
        assert_eq!(service.capacity(4, &slo()), None);
        for second in 0..60 {
            service.ingest(Timestamp::from_secs(second), SECOND, 10.0, 20.0, 5);
        }
        let capacity = service.capacity(4, &slo()).unwrap();
        assert!((capacity.mid - 8.0).abs() < 1e-9, "four at a time for half a second: {capacity:?}");
        // By the Erlang C formula (M/M/c), waits over 1.5 s are 0.2 % at 4.7 req/s for one such replica and at 124 for sixteen.
        assert_eq!([4.5, 5.4, 118.0, 122.5].map(|demand| capacity.replicas_for(demand)), [1, 2, 16, 17]);
    }

    #[test]
    fn where_requests_slow_each_other_down_a_full_replica_is_foreseen_from_half_full_ones() {
        let mut service = ServiceTime::default();
        // A request takes 5 s alone, and 0.1 s more for each beside it.
        for minute in 0..120u32 {
            let in_one = f64::from(4 + minute * 7 % 29);
            let ended = 3.0 * in_one / (5.0 + 0.1 * in_one);
            service.ingest(
                Timestamp::from_secs(i64::from(minute) * 60),
                Duration::from_secs(60),
                3.0 * in_one,
                ended * 60.0,
                3,
            );
        }
        let capacity = service.capacity(64, &slo()).unwrap();
        assert!((capacity.mid - 64.0 / 11.4).abs() < 0.05, "{capacity:?}");
    }

    #[test]
    fn the_noise_of_a_gauge_is_no_sign_that_requests_slow_each_other_down() {
        let mut state = 7_u64;
        // Sums of uniform numbers, near enough to what a gauge of a few requests shows.
        let mut noise = || {
            let mut uniform = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1_u32 << 24) - 0.5
            };
            (0..12).map(|_| uniform()).sum::<f64>()
        };
        let mut service = ServiceTime::default();
        for look in 0..300_u32 {
            // Eight a second, 0.4 s each, in two replicas, looked at every two seconds.
            let completed = 16.0 + 4.0 * noise();
            let in_flight = (3.2 + 1.8 * noise()).max(0.0).round();
            let at = Timestamp::from_secs(i64::from(look) * 2);
            service.ingest(at, Duration::from_secs(2), in_flight, completed.max(0.0).round(), 2);
            if let Some(capacity) = service.capacity(4, &slo()).filter(|_| look >= 20) {
                assert!((7.0..13.0).contains(&capacity.mid), "{look}: {capacity:?}, should be ten");
            }
        }
    }

    #[test]
    fn absurd_looks_change_nothing() {
        let mut service = ServiceTime::default();
        service.ingest(Timestamp::EPOCH, SECOND, f64::NAN, 1e9, 1);
        service.ingest(Timestamp::EPOCH, SECOND, 1.0, -5.0, 1);
        service.ingest(Timestamp::EPOCH, SECOND, 1.0, 5.0, 0);
        assert_eq!(service, ServiceTime::default());
    }
}
