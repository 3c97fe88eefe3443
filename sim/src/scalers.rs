//! Scalers: Tidegate itself, what people run today, and the bounds that none can beat. Those of other projects follow their
//! defaults; what is a matter of choice, mostly the target, is an argument.

mod hpa;
mod keda;
mod kpa;
mod oracle;
mod schedule;
mod staffing;
mod tidegate;

pub use hpa::{Hpa, Metric};
pub use keda::{Check, Fallback, Keda, KedaSettings, activation, reported};
pub use kpa::{Kpa, KpaSettings, KpaState};
pub use oracle::Oracle;
pub use schedule::Schedule;
pub use staffing::Staffing;
pub use tidegate::Tidegate;

use crate::scaler::{Look, Pipeline, Scaler};

/// Always so many replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Static(pub u32);

impl Scaler for Static {
    fn pipeline(&self) -> Pipeline {
        Pipeline::from_secs(0, 60, 60)
    }

    fn decide(&mut self, _look: &Look) -> u32 {
        self.0
    }
}
