//! A simulated service: replicas that take their time to become ready, in front of a fluid queue.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_core::{ReplicaCounts, Timestamp};

use crate::fluid::queue::{FluidQueue, Outcome};

/// The service's fixed quantities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Requests per second that one replica serves.
    pub capacity_rps: f64,
    /// Time from an order to a ready replica.
    pub lead: Duration,
    /// Longest wait within the objective: its latency less the time a request takes when it is served at once.
    pub wait_max: Duration,
    /// A request that waits longer than this is dropped.
    pub drop_after: Duration,
}

/// Replicas by state, and what waits for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    ready: u32,
    /// When each starting replica becomes ready, soonest first.
    starting: VecDeque<Timestamp>,
    queue: FluidQueue,
}

impl Size {
    /// `ready` replicas and an empty queue.
    #[must_use]
    pub fn new(ready: u32) -> Self {
        Self { ready, starting: VecDeque::new(), queue: FluidQueue::default() }
    }

    /// Asks for `wanted` replicas: orders what is missing; gives up starting ones first, newest first.
    pub fn set(&mut self, wanted: u32, now: Timestamp, service: &Service) {
        while self.counts().supply() < wanted {
            self.starting.push_back(now + service.lead);
        }
        while self.counts().supply() > wanted {
            if self.starting.pop_back().is_none() {
                self.ready -= 1;
            }
        }
    }

    /// Lets `step_s` pass, up to `now`; gives how many replicas became ready in it, and what became of requests.
    pub fn step(&mut self, now: Timestamp, step_s: f64, arrivals: f64, service: &Service) -> (u32, Outcome) {
        let mut started = 0;
        while self.starting.front().is_some_and(|ready_at| *ready_at <= now) {
            self.starting.pop_front();
            started += 1;
        }
        self.ready += started;
        let rate = f64::from(self.ready) * service.capacity_rps;
        let (wait, drop) = (service.wait_max.as_secs_f64(), service.drop_after.as_secs_f64());
        (started, self.queue.step(step_s, arrivals, rate, wait, drop))
    }

    /// Replicas by state; nothing drains, because fluid has no requests in flight.
    #[must_use]
    pub fn counts(&self) -> ReplicaCounts {
        let starting = u32::try_from(self.starting.len()).unwrap_or(u32::MAX);
        ReplicaCounts { wanted: self.ready + starting, ready: self.ready, starting, draining: 0 }
    }

    /// Requests waiting.
    #[must_use]
    pub fn waiting(&self) -> f64 {
        self.queue.waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Service = Service {
        capacity_rps: 10.0,
        lead: Duration::from_secs(5),
        wait_max: Duration::from_millis(250),
        drop_after: Duration::from_secs(30),
    };

    #[test]
    fn a_replica_carries_load_only_after_the_lead_time() {
        let at = Timestamp::from_secs;
        let mut size = Size::new(1);
        size.set(3, at(0), &SERVICE);
        assert_eq!(size.step(at(4), 1.0, 0.0, &SERVICE).0, 0);
        assert_eq!(
            size.step(at(5), 1.0, 30.0, &SERVICE),
            (2, Outcome { completed: 30.0, dropped: 0.0, missed: 0.0 })
        );
        size.set(1, at(6), &SERVICE);
        assert_eq!(size.counts(), ReplicaCounts { wanted: 1, ready: 1, starting: 0, draining: 0 });
    }

    #[test]
    fn starting_replicas_are_given_up_first() {
        let mut size = Size::new(2);
        size.set(5, Timestamp::EPOCH, &SERVICE);
        size.set(3, Timestamp::EPOCH, &SERVICE);
        assert_eq!((size.counts().ready, size.counts().starting), (2, 1));
    }
}
