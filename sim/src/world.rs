//! What is simulated: everything but the scaler.

use std::time::Duration;

use tidegate_core::{Bounds, Timestamp};

use crate::load::Load;
use crate::service::Service;

/// A workload, its load, and what goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// What arrives.
    pub load: Load,
    /// What one replica does, and what it is to hold.
    pub service: Service,
    /// A request that has waited this long before it was served is dropped, which is a miss.
    pub drop_after: Duration,
    /// Requests that are dropped come again.
    pub retries: Option<Retries>,
    /// How long replicas take to become ready.
    pub start_up: StartUp,
    /// Fewest and most replicas; what a scaler asks for is moved into them.
    pub bounds: Bounds,
    /// Replicas that are ready when the simulation begins.
    pub replicas: u32,
    /// When the simulation begins.
    pub start: Timestamp,
    /// Simulated first and not scored: the workload is not to be judged by how it began.
    pub warm_up: Duration,
    /// When arrivals, scaling and the account of cost end. What is inside is then worked off, so that each request has its end.
    pub end: Timestamp,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What is left to chance follows from this alone. The k-th request and the k-th replica are alike for all scalers.
    pub seed: u64,
}

impl World {
    /// When scoring begins.
    #[must_use]
    pub fn scored_from(&self) -> Timestamp {
        (self.start + self.warm_up).min(self.end)
    }
}

/// Clients that try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often one request comes again at most.
    pub times: u8,
    /// How long after it was dropped.
    pub after: Duration,
}

/// Time from an order to a ready replica: lognormal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StartUp {
    /// Median.
    pub median: Duration,
    /// Standard deviation of the logarithm; 0: always the median.
    pub sigma: f64,
}

impl StartUp {
    /// A process that loads a model: a minute and a half, seldom twice that.
    pub const MODEL: Self = Self { median: Duration::from_secs(90), sigma: 0.35 };
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// When it begins.
    pub from: Timestamp,
    /// When it is over.
    pub until: Timestamp,
    /// What it is.
    pub kind: FaultKind,
}

/// What goes wrong. Those of metrics change what scalers see, the others what happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FaultKind {
    /// No figure can be read.
    MetricGap,
    /// Every figure is NaN.
    MetricNan,
    /// Figures are this much older than they otherwise are.
    MetricDelay(Duration),
    /// At `from`, counters begin at zero again: of a window around it only what came later is seen.
    CounterReset,
    /// Replicas that would become ready fail instead and begin anew.
    FailedStarts,
    /// At `from`, this many ready replicas end at once, the oldest first, with the requests that they have.
    LostReplicas(u32),
    /// Orders take effect this much later.
    SlowApi(Duration),
}

impl Fault {
    /// Whether it is there at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}
