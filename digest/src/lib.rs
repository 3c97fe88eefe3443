//! What agents tell the controller of workloads: the messages, their limits, and how the parts of several nodes become one. No I/O:
//! the agent has the one end of the stream, the controller the other.

mod board;
mod check;
mod parts;

pub mod v1;

pub use board::{Board, NodeReport};
pub use check::{BOUNDS_MAX, Flaw, PODS_MAX, READINGS_MAX, SKETCHES_MAX, WORKLOADS_MAX, checked};
pub use parts::{Part, Parts};
