//! One workload's mind, whole: what it has seen, what it has learned, and what it decides.
//!
//! `Brain::new(policy, history)`, then `ingest` what happens and `tick` for a plan. Pure: no clock, file, thread or unseeded
//! randomness, so that the live loop, the replay beside it and every later simulation drive one and the same type.

mod bottleneck;
mod brain;
mod capacity;
mod decisions;
mod demand;
mod engine;
mod event;
mod evidence;
mod fleet;
mod ingredients;
mod lead;
mod lesson;
mod past;
mod record;
mod rehearsal;
mod service;
mod serving;
#[cfg(test)]
mod tests;
mod tokens;
mod training;
mod variants;

pub use bottleneck::Bottleneck;
pub use brain::{Brain, History, Snapshot};
pub use capacity::CapacityModel;
pub use event::{Event, Flow, Progress, ResizeOutcome, Seen, Tokens};
pub use fleet::{Fleet, Planned, PoolSize};
pub use ingredients::Ingredients;
pub use lead::LeadTime;
pub use lesson::{Learned, Lesson};
