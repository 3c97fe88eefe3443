//! What runs on every node: collects signals, reads and ships logs, and exposes what it knows on `/metrics`.
//!
//! Not here: forecasts, decisions and whatever acts on a workload. This crate depends on `tidegate-core` alone.

mod backoff;
pub mod clock;
pub mod collect;
pub mod export;
pub mod logs;
pub mod otlp;
mod tls;
