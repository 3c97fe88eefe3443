//! What a run comes to: its share of requests in time, its cost, its worst hour, and what it costs against the oracle. Pure.

use std::time::Duration;

use tidegate_core::{Reason, Timestamp};
use tidegate_sim::Minute;

use super::args::Named;

/// How finely a run is kept: reports show minutes at best.
pub(super) const MINUTE: Duration = Duration::from_secs(60);
/// Minutes of the hour that is looked for.
const HOUR: usize = 60;

/// A change of size and its reasons.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    pub(super) at: Timestamp,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) reasons: Vec<Reason>,
}

/// One policy with one setting over the scored time.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) policy: Named,
    /// Its main parameter, where it has one.
    pub(super) setting: Option<f64>,
    /// For people, the setting included.
    pub(super) name: String,
    /// Whether this is the setting of the table.
    pub(super) usual: bool,
    pub(super) requests: u64,
    pub(super) missed: u64,
    pub(super) replica_hours: f64,
    /// Changes of size an hour.
    pub(super) actions_per_hour: f64,
    /// 0.99 quantile of the latencies of answered requests, in seconds.
    pub(super) latency_p99_s: Option<f64>,
    pub(super) minutes: Vec<Minute>,
    /// Of Tidegate's usual run; empty of all others.
    pub(super) decisions: Vec<Decision>,
}

/// Sixty minutes of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hour {
    /// The first minute.
    pub(super) first: usize,
    pub(super) requests: u64,
    pub(super) missed: u64,
}

impl Ran {
    /// The share of requests that were in time.
    pub(super) fn attained(&self) -> f64 {
        1.0 - share(self.missed, self.requests)
    }

    /// The hour with most misses, these in its middle where that is possible; `None` when nothing was missed.
    pub(super) fn worst_hour(&self) -> Option<Hour> {
        let missed = |first: usize| -> u64 { self.hour(first).iter().map(|minute| minute.missed).sum() };
        let last = self.minutes.len().saturating_sub(HOUR);
        let (mut now, mut worst, mut at) = (missed(0), missed(0), 0);
        for first in 1..=last {
            now = now + self.minutes[first + HOUR - 1].missed - self.minutes[first - 1].missed;
            if now > worst {
                (worst, at) = (now, first);
            }
        }
        let late = |from: usize| self.hour(from).iter().enumerate().filter(|(_, minute)| minute.missed > 0);
        let (first, end) = (at + late(at).next()?.0, at + late(at).next_back()?.0);
        let centred = usize::midpoint(first, end).saturating_sub(HOUR / 2).min(last);
        let at = if missed(centred) >= worst { centred } else { at };
        let requests = self.hour(at).iter().map(|minute| minute.arrivals).sum();
        Some(Hour { first: at, requests, missed: missed(at) })
    }

    /// The minutes of the hour that begins at `first`.
    pub(super) fn hour(&self, first: usize) -> &[Minute] {
        &self.minutes[first..(first + HOUR).min(self.minutes.len())]
    }
}

/// The mean number of ready replicas in a minute.
pub(super) fn ready(minute: &Minute) -> f64 {
    minute.ready_seconds / MINUTE.as_secs_f64()
}

/// Arrivals per second in a minute.
pub(super) fn rps(minute: &Minute) -> f64 {
    share(minute.arrivals, MINUTE.as_secs())
}

/// A part of a whole; of nothing, nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Replica-hours that the oracle needs to miss no more than a share `miss` of the requests: on the line between the two settings of its
/// front that lie around it, over the logarithm of the misses. `None` when even its dearest setting misses more.
pub(super) fn oracle_hours(runs: &[Ran], miss: f64) -> Option<f64> {
    let mut front: Vec<(f64, f64)> = runs
        .iter()
        .filter(|run| run.policy == Named::Oracle)
        // Half a request: none missed has no logarithm.
        .map(|run| {
            (run.replica_hours, share(run.missed, run.requests).max(0.5 * share(1, run.requests)).ln())
        })
        .collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    let wanted = miss.ln();
    let reached = front.iter().position(|(_, missed)| *missed <= wanted)?;
    let (hours, missed) = front[reached];
    let Some((cheaper, more)) = reached.checked_sub(1).map(|before| front[before]) else {
        return Some(hours);
    };
    let part = (more - wanted) / (more - missed);
    Some(cheaper + (hours - cheaper) * part)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A minute with these arrivals per second.
    pub(in crate::backtest) fn minute(
        k: usize,
        arrivals: u64,
        missed: u64,
        wanted: u32,
        ready: f64,
    ) -> Minute {
        Minute {
            at: Timestamp::EPOCH + MINUTE * u32::try_from(k).unwrap(),
            arrivals,
            missed,
            replica_seconds: 60.0 * ready,
            ready_seconds: 60.0 * ready,
            wanted,
            queued_max: 0,
        }
    }

    /// A run of a policy.
    pub(in crate::backtest) fn ran(
        policy: Named,
        replica_hours: f64,
        missed: u64,
        minutes: Vec<Minute>,
    ) -> Ran {
        Ran {
            policy,
            setting: None,
            name: policy.to_string(),
            usual: true,
            requests: 1000,
            missed,
            replica_hours,
            actions_per_hour: 0.0,
            latency_p99_s: None,
            minutes,
            decisions: Vec::new(),
        }
    }

    fn minutes(count: usize, missed: &[(usize, u64)]) -> Vec<Minute> {
        let mut all: Vec<Minute> = (0..count).map(|k| minute(k, 10, 0, 1, 1.0)).collect();
        for &(at, missed) in missed {
            all[at].missed = missed;
        }
        all
    }

    #[test]
    fn the_worst_hour_may_begin_at_any_minute() {
        let run = |missed| ran(Named::Hpa, 1.0, 0, minutes(200, missed)).worst_hour();
        let hour = run(&[(5, 3), (59, 2), (90, 4), (110, 4)]).unwrap();
        assert_eq!((hour.missed, hour.requests), (10, 600));
        assert!((51..=59).contains(&hour.first), "{hour:?}");
        assert_eq!(
            run(&[(100, 3), (104, 3)]).map(|hour| hour.first),
            Some(72),
            "the misses are in its middle"
        );
        assert_eq!(run(&[]), None);
        let short = ran(Named::Hpa, 1.0, 0, minutes(20, &[(3, 1)])).worst_hour().unwrap();
        assert_eq!((short.first, short.missed), (0, 1));
    }

    #[test]
    fn the_oracles_cost_is_read_off_its_front() {
        let runs = [
            ran(Named::Oracle, 10.0, 100, Vec::new()),
            ran(Named::Oracle, 20.0, 1, Vec::new()),
            ran(Named::Hpa, 1.0, 0, Vec::new()),
        ];
        let at = |miss| oracle_hours(&runs, miss);
        assert!((at(0.01).unwrap() - 15.0).abs() < 1e-9, "half of the way in the logarithm");
        assert_eq!(at(0.5), Some(10.0));
        assert_eq!(at(0.000_1), None);
    }
}
