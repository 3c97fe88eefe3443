//! OpenTelemetry's protocol for metrics (OTLP): what is pushed here, and what is pushed to a collector.
//!
//! Messages are made from a proto file of ours with the part of the protocol that is used; `opentelemetry-proto` would bring the
//! whole API and SDK of OpenTelemetry with it. Names are put into Prometheus' form at once, so that one catalogue of runtimes is
//! for scraped and pushed metrics alike.

pub mod inbox;
pub(crate) mod json;
pub mod messages;
mod names;
pub(crate) mod points;
pub mod push;
pub mod receive;

pub use inbox::Inbox;
pub use push::{Protocol, PushOptions, Pusher};
pub use receive::Receiver;
