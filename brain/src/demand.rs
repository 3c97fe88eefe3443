//! Turns counts of arrivals into steps for the forecast, and into the demand of this moment.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Reading, Timestamp};

use crate::event::Flow;

/// The demand of this moment is the mean over this long: enough to smooth one second's chance, short against any lead time.
const NOW_WINDOW: Duration = Duration::from_secs(5);
/// Counts kept for it, should looks come more often than once a second.
const RECENT_MAX: usize = 256;
/// A step is known when at least this share of it was counted.
const COVERED_MIN: f64 = 0.5;
/// Most steps closed at once; after a longer absence the rest are left out.
const CLOSED_MAX: usize = 5000;

/// Counts of the step that is not over, and of the last seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Demand {
    step: Duration,
    open: Option<Open>,
    recent: VecDeque<(Timestamp, f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Open {
    start: Timestamp,
    arrivals: f64,
    covered_s: f64,
}

impl Demand {
    pub(crate) fn new(step: Duration) -> Self {
        Self { step, open: None, recent: VecDeque::new() }
    }

    /// Takes in what arrived in the window before `at`, and gives the steps that are over by then: their start and mean rate.
    pub(crate) fn ingest(&mut self, at: Timestamp, flow: Option<Flow>) -> Vec<(Timestamp, Option<f64>)> {
        let closed = self.close_until(at);
        let counted =
            flow.filter(|flow| flow.arrivals.is_finite() && flow.arrivals >= 0.0 && !flow.window.is_zero());
        if let Some(flow) = counted {
            let window_s = flow.window.as_secs_f64();
            if let Some(open) = &mut self.open {
                // A window that began before the step is counted in it whole: it is a second or so, and the rate stays right.
                open.arrivals += flow.arrivals;
                open.covered_s += window_s;
            }
            self.recent.push_back((at, flow.arrivals, window_s));
            let old = |entry: &(Timestamp, f64, f64)| at.since(entry.0) >= NOW_WINDOW;
            while self.recent.len() > RECENT_MAX || self.recent.front().is_some_and(old) {
                self.recent.pop_front();
            }
        }
        closed
    }

    fn close_until(&mut self, at: Timestamp) -> Vec<(Timestamp, Option<f64>)> {
        let current = at.floor_to(self.step);
        let mut closed = Vec::new();
        let mut open = *self.open.get_or_insert(Open { start: current, arrivals: 0.0, covered_s: 0.0 });
        while open.start + self.step <= at && closed.len() < CLOSED_MAX {
            let known = open.covered_s >= COVERED_MIN * self.step.as_secs_f64();
            closed.push((open.start, known.then(|| open.arrivals / open.covered_s)));
            open = Open { start: open.start + self.step, arrivals: 0.0, covered_s: 0.0 };
        }
        if open.start + self.step <= at {
            open.start = current;
        }
        self.open = Some(open);
        closed
    }

    /// The demand of this moment: the mean rate over the last seconds, with the age of the newest count.
    pub(crate) fn reading(&self, now: Timestamp) -> Option<Reading> {
        let (newest, ..) = self.recent.back()?;
        let (arrivals, covered) =
            self.recent.iter().fold((0.0, 0.0), |sum, (_, n, s)| (sum.0 + n, sum.1 + s));
        Reading::new(arrivals / covered, now.since(*newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(arrivals: f64) -> Option<Flow> {
        let window = Duration::from_secs(1);
        Some(Flow { window, arrivals, completed: arrivals, ended: None, missed: None })
    }

    #[test]
    fn a_step_is_the_mean_rate_of_what_was_counted_in_it() {
        let mut demand = Demand::new(Duration::from_secs(5));
        let mut closed = Vec::new();
        for second in 0..12 {
            let seen = if (5..9).contains(&second) { None } else { flow(10.0) };
            closed.extend(demand.ingest(Timestamp::from_secs(second), seen));
        }
        let at = Timestamp::from_secs;
        assert_eq!(
            closed,
            [(at(0), Some(10.0)), (at(5), None)],
            "one second of five is not enough to know a step"
        );
    }

    #[test]
    fn the_present_demand_ages_when_counts_stop() {
        let mut demand = Demand::new(Duration::from_secs(60));
        for second in 0..10 {
            demand.ingest(Timestamp::from_secs(second), flow(20.0));
        }
        demand.ingest(Timestamp::from_secs(30), None);
        let reading = demand.reading(Timestamp::from_secs(39)).unwrap();
        assert_eq!((reading.value(), reading.age()), (20.0, Duration::from_secs(30)));
    }

    #[test]
    fn a_long_absence_closes_a_bounded_number_of_steps() {
        let mut demand = Demand::new(Duration::from_secs(1));
        demand.ingest(Timestamp::from_secs(0), flow(1.0));
        assert_eq!(demand.ingest(Timestamp::from_secs(1_000_000), flow(1.0)).len(), CLOSED_MAX);
        assert_eq!(demand.ingest(Timestamp::from_secs(1_000_001), flow(1.0)).len(), 1);
    }
}
