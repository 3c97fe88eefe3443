//! How many replicas a rate needs when all are ready: a table, worked out once.

use std::time::Duration;

use tidegate_core::{Bounds, Ratio, Timestamp};

use crate::load::{Load, Sizes};
use crate::scalers::Static;
use crate::service::{Generic, Service};
use crate::simulate::simulate;
use crate::theory::late_share;
use crate::world::World;

/// Halvings of the interval in which the highest rate of a size is sought: to a hundredth of what a replica carries.
const HALVINGS: u32 = 7;
/// Simulated time of one trial.
const TRIAL: Duration = Duration::from_secs(900);

/// Highest rate by number of replicas at which the share of requests in time is at least the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Staffing {
    /// Entry `n − 1`: requests per second that `n` replicas carry; never falling.
    rates: Vec<f64>,
}

impl Staffing {
    /// For up to `bounds.max` replicas of the world's service. A generic one by Erlang C with the correction of Allen and Cunneen; a
    /// language model by trials of 1, 2, 4, … replicas, and lines between.
    #[must_use]
    pub fn new(world: &World, target: Ratio) -> Self {
        let most = world.bounds.max.max(1);
        let mut rates = match &world.service {
            Service::Generic(generic) => (1..=most).map(|n| by_theory(generic, n, target)).collect(),
            Service::Llm(_) => by_trial(world, most, target),
        };
        for n in 1..rates.len() {
            rates[n] = f64::max(rates[n], rates[n - 1]);
        }
        Self { rates }
    }

    /// Replicas that `rate_rps` needs; the whole pool where that is not enough.
    #[must_use]
    pub fn replicas(&self, rate_rps: f64) -> u32 {
        if rate_rps <= 0.0 {
            return 0;
        }
        let enough = self.rates.partition_point(|carried| *carried < rate_rps);
        u32::try_from((enough + 1).min(self.rates.len())).unwrap_or(u32::MAX)
    }
}

/// The highest value in `0..=high` for which `holds`, which must not hold again once it has ceased to.
fn highest(high: f64, halvings: u32, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, high);
    for _ in 0..halvings {
        let middle = f64::midpoint(low, high);
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

fn by_theory(generic: &Generic, replicas: u32, target: Ratio) -> f64 {
    let full = f64::from(replicas) * Service::Generic(*generic).full_rps(Sizes::default());
    highest(full, 20, |rate| late_share(generic, replicas, rate) <= 1.0 - target.get())
}

fn by_trial(world: &World, most: u32, target: Ratio) -> Vec<f64> {
    let sizes = world.load.sizes().unwrap_or_default();
    let mut known: Vec<(u32, f64)> = vec![(0, 0.0)];
    let mut replicas = 1;
    loop {
        let full = f64::from(replicas) * world.service.full_rps(sizes);
        let carried = highest(full, HALVINGS, |rate| {
            let trial = trial(world, sizes, replicas, rate);
            simulate(&trial, &mut Static(replicas)).totals.miss_fraction().unwrap_or(0.0)
                <= 1.0 - target.get()
        });
        known.push((replicas, carried));
        if replicas == most {
            break;
        }
        replicas = (replicas * 2).min(most);
    }
    let between = |n: u32| {
        let after = known.partition_point(|(size, _)| *size < n).max(1);
        let ((a, x), (b, y)) = (known[after - 1], known[after]);
        x + (y - x) * f64::from(n - a) / f64::from(b - a)
    };
    (1..=most).map(between).collect()
}

fn trial(world: &World, sizes: Sizes, replicas: u32, rate: f64) -> World {
    World {
        load: Load::constant(rate, sizes),
        service: world.service,
        drop_after: world.drop_after,
        retries: None,
        start_up: world.start_up,
        bounds: Bounds { min: replicas, max: replicas },
        replicas,
        start: Timestamp::EPOCH,
        warm_up: TRIAL / 5,
        end: Timestamp::EPOCH + TRIAL,
        faults: Vec::new(),
        seed: world.seed,
    }
}
