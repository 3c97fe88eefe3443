//! The engine against theory, against cases worked by hand, under faults, and against itself.

mod faults;
mod llm;
mod pool;
mod theory;

use std::time::Duration;

use tidegate_core::{Bounds, Timestamp};
use tidegate_sim::{Generic, Load, Look, Pipeline, Scaler, Service, Sizes, StartUp, World};

/// When simulations begin.
const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A time of a simulation.
fn at(second: u64) -> Timestamp {
    START + Duration::from_secs(second)
}

/// A constant load for a generic service, scored from the first second.
fn world(rate_rps: f64, seconds: u64) -> World {
    World {
        load: Load::constant(rate_rps, Sizes::default()),
        service: Service::Generic(Generic::default()),
        drop_after: Duration::from_secs(30),
        retries: None,
        start_up: StartUp::MODEL,
        bounds: Bounds { min: 0, max: 64 },
        replicas: 2,
        start: START,
        warm_up: Duration::ZERO,
        end: at(seconds),
        faults: Vec::new(),
        seed: 7,
    }
}

/// Wants what it was told for each look, the last for ever, and keeps what it was shown.
#[derive(Debug, Default)]
struct Probe {
    plan: Vec<u32>,
    looks: Vec<Look>,
    started: Vec<Duration>,
}

impl Probe {
    /// Looks every ten seconds at the ten seconds before.
    fn new(plan: impl Into<Vec<u32>>) -> Self {
        Self { plan: plan.into(), ..Self::default() }
    }

    /// The look at a second.
    fn at(&self, second: u64) -> &Look {
        self.looks.iter().find(|look| look.now == at(second)).expect("it looks every ten seconds")
    }
}

impl Scaler for Probe {
    fn pipeline(&self) -> Pipeline {
        Pipeline::from_secs(0, 10, 10)
    }

    fn decide(&mut self, look: &Look) -> u32 {
        self.looks.push(*look);
        let next = self.plan.get(self.looks.len() - 1).or(self.plan.last());
        next.copied().unwrap_or(look.replicas.wanted)
    }

    fn started(&mut self, _at: Timestamp, start_up: Duration) {
        self.started.push(start_up);
    }
}
