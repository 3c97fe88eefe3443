//! What agents tell the controller of workloads: the messages, their limits, and how the parts of several nodes become one. No I/O:
//! the agent has the one end of the stream, the controller the other.

mod board;
mod check;
mod parts;

/// The messages and both ends of the service, as made from `proto/digest.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("tidegate.digest.v1");
}

pub use board::{Board, NodeReport};
pub use check::{Flaw, READINGS_MAX, WORKLOADS_MAX, checked};
pub use parts::{Part, Parts};
