//! Replays recorded arrivals through other scaling policies, in a fluid queue with the measured capacity and lead time.
//!
//! A fluid queue knows rates, not single requests: it has no chance within a second, so it flatters every policy alike. What
//! it is good for is to compare policies on the same arrivals. Pure and deterministic.

mod queue;
mod rival;
mod service;

pub use queue::{FluidQueue, Outcome};
pub use rival::{Rival, RivalKind, Totals};
pub use service::{Service, Size};
