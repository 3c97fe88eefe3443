//! One first-in-first-out queue of fluid: work arrives at a rate and is served at a rate.

use std::collections::VecDeque;

/// Slices of arrivals kept; beyond, the oldest two are joined. At one a second this is over the time after which requests are dropped.
const SLICES_MAX: usize = 4096;

/// What became of requests during one step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// Requests that were served.
    pub completed: f64,
    /// Requests that waited too long to be served at all.
    pub dropped: f64,
    /// Requests that ended, served or dropped, outside the objective.
    pub missed: f64,
}

impl Outcome {
    /// Requests that ended.
    #[must_use]
    pub fn ended(&self) -> f64 {
        self.completed + self.dropped
    }
}

/// Arrivals that are not served yet, with their ages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FluidQueue {
    /// Arrival time in seconds and amount, oldest first.
    waiting: VecDeque<(f64, f64)>,
    clock_s: f64,
}

impl FluidQueue {
    /// One step of `step_s`: `arrivals` spread over it, served at `rate_rps`. A request is in time when it waits at most
    /// `wait_max_s`, and is dropped after `drop_after_s`.
    pub fn step(
        &mut self,
        step_s: f64,
        arrivals: f64,
        rate_rps: f64,
        wait_max_s: f64,
        drop_after_s: f64,
    ) -> Outcome {
        self.clock_s += step_s;
        if arrivals > 0.0 {
            self.waiting.push_back((self.clock_s - step_s / 2.0, arrivals));
        }
        let mut outcome = Outcome::default();
        self.serve(step_s, rate_rps, wait_max_s, &mut outcome);
        self.drop_old(drop_after_s, &mut outcome);
        if self.waiting.len() > SLICES_MAX {
            let (first, second) = (self.waiting.pop_front(), self.waiting.pop_front());
            if let (Some(first), Some(second)) = (first, second) {
                self.waiting.push_front((first.0, first.1 + second.1));
            }
        }
        outcome
    }

    fn serve(&mut self, step_s: f64, rate_rps: f64, wait_max_s: f64, outcome: &mut Outcome) {
        let mut left = rate_rps.max(0.0) * step_s;
        let start = self.clock_s - step_s;
        let mut served = 0.0;
        while left > 0.0 {
            let Some((arrived, amount)) = self.waiting.pop_front() else { break };
            let take = amount.min(left);
            // Served at the middle of its share of the step, but never before it arrived.
            let at = (start + (served + take / 2.0) / rate_rps).max(arrived);
            outcome.completed += take;
            if at - arrived > wait_max_s {
                outcome.missed += take;
            }
            served += take;
            left -= take;
            if amount > take {
                self.waiting.push_front((arrived, amount - take));
            }
        }
    }

    fn drop_old(&mut self, drop_after_s: f64, outcome: &mut Outcome) {
        while let Some((arrived, amount)) = self.waiting.front().copied() {
            if self.clock_s - arrived <= drop_after_s {
                break;
            }
            self.waiting.pop_front();
            outcome.dropped += amount;
            outcome.missed += amount;
        }
    }

    /// Requests waiting.
    #[must_use]
    pub fn waiting(&self) -> f64 {
        self.waiting.iter().map(|(_, amount)| amount).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_served_at_once_is_in_time_and_what_waits_is_not() {
        let mut queue = FluidQueue::default();
        assert_eq!(
            queue.step(1.0, 10.0, 20.0, 0.5, 30.0),
            Outcome { completed: 10.0, dropped: 0.0, missed: 0.0 }
        );
        for _ in 0..5 {
            queue.step(1.0, 30.0, 20.0, 0.5, 30.0);
        }
        assert_eq!(queue.waiting(), 50.0, "10 a second more than is served");
        let late = queue.step(1.0, 0.0, 20.0, 0.5, 30.0);
        assert_eq!((late.completed, late.missed), (20.0, 20.0));
    }

    #[test]
    fn what_waits_too_long_is_dropped_and_missed() {
        let mut queue = FluidQueue::default();
        queue.step(1.0, 10.0, 0.0, 0.5, 3.0);
        let dropped: f64 =
            (0..4).map(|_| queue.step(1.0, 0.0, 0.0, 0.5, 3.0)).map(|o| o.dropped.min(o.missed)).sum();
        assert_eq!(dropped, 10.0);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made(steps in prop::collection::vec((0.0f64..100.0, 0.0f64..80.0), 1..200)) {
            let mut queue = FluidQueue::default();
            let mut ended = 0.0;
            for (arrivals, rate) in &steps {
                let outcome = queue.step(1.0, *arrivals, *rate, 0.4, 10.0);
                prop_assert!(outcome.missed <= outcome.ended() + 1e-6);
                ended += outcome.ended();
            }
            let arrived: f64 = steps.iter().map(|s| s.0).sum();
            prop_assert!((arrived - ended - queue.waiting()).abs() < 1e-6 * arrived.max(1.0));
        }
    }
}
