//! Puts plans into effect on this machine: processes, the gateway in front of them, resizes of training.
//!
//! It takes no scaling decision: how many replicas there should be is always told to it. What it decides by itself is only
//! how to get there and stay there: which replica goes first, when a process that ended is started again, which replica
//! takes a request.

mod clock;
pub mod cluster;
pub mod control;
pub mod crds;
pub mod gateway;
mod http_call;
pub mod keda;
pub mod routing;
pub mod targets;
pub mod training;

pub use gateway::{FailCause, Gateway, GatewaySpec, GatewayStats, StatusClass};
pub use routing::{Backend, Routing};
pub use targets::local::{LocalTarget, ProcessSpec, Readiness, sweep_orphans};
pub use training::{Outcome, Resize, ResizeKind, Resizer};
