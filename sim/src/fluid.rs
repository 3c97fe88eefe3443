//! A fluid queue beside a running service: what the same arrivals would have cost under another policy, second by second.
//!
//! Fluid knows rates, not single requests: it has no chance within a second, so it flatters every policy alike. It costs next to
//! nothing and needs no service times, which is why `up` runs it live; whatever can wait uses [`crate::simulate`].

mod queue;
mod rival;
mod service;

pub use queue::{FluidQueue, Outcome};
pub use rival::{Rival, RivalKind, Totals};
pub use service::{Service, Size};
