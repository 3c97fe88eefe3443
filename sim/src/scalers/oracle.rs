//! Knows what will arrive. Near to a bound for everything that must guess: it does not plan which requests to give up, nor how to
//! work off a backlog.

use std::time::Duration;

use tidegate_core::Ratio;

use crate::load::{Load, Sizes};
use crate::scaler::{Look, Pipeline, Scaler};
use crate::scalers::Staffing;
use crate::service::Service;
use crate::world::World;

/// Time between looks, and between the times ahead at which it looks at the load.
const STEP: Duration = Duration::from_secs(10);

/// Staffs what is to come within a start-up time: orders are in time, and gaps shorter than it are held through.
#[derive(Debug, Clone)]
pub struct Oracle<'a> {
    load: &'a Load,
    service: &'a Service,
    /// Of a request to it, on average.
    mean: Sizes,
    staffing: Staffing,
    ahead: Duration,
}

impl<'a> Oracle<'a> {
    /// One that knows the load of `world` and looks `ahead` start-up medians ahead; 1.5 covers most starts.
    #[must_use]
    pub fn new(world: &'a World, target: Ratio, ahead: f64) -> Self {
        Self::staffed(world, Staffing::new(world, target), ahead)
    }

    /// The same with a table that was worked out before.
    #[must_use]
    pub fn staffed(world: &'a World, staffing: Staffing, ahead: f64) -> Self {
        let ahead =
            Duration::try_from_secs_f64(world.start_up.median.as_secs_f64() * ahead).unwrap_or_default();
        Self {
            load: &world.load,
            service: &world.service,
            mean: world.load.sizes().unwrap_or_default(),
            staffing,
            ahead: ahead.max(STEP),
        }
    }
}

impl Scaler for Oracle<'_> {
    fn pipeline(&self) -> Pipeline {
        Pipeline { age: Duration::ZERO, window: STEP, period: STEP }
    }

    fn decide(&mut self, look: &Look) -> u32 {
        let steps = u32::try_from(self.ahead.as_millis().div_ceil(STEP.as_millis())).unwrap_or(u32::MAX);
        let rate_in = |step| self.load.work_at(look.now + STEP * step, self.service, self.mean);
        let most = (0..=steps).map(rate_in).fold(0.0, f64::max);
        self.staffing.replicas(most)
    }
}
