//! OpenTelemetry's protocol (OTLP): metrics and log records that are pushed here, and metrics that are pushed to a collector.
//!
//! Messages are made from a proto file of ours with the part of the protocol that is used; `opentelemetry-proto` would bring the
//! whole API and SDK of OpenTelemetry with it. Names are put into Prometheus' form at once, so that one catalogue of runtimes is
//! for scraped and pushed metrics alike. Log records go to the log path's spool, and from there as lines of files do.

pub mod inbox;
pub(crate) mod json;
mod logs;
pub mod messages;
mod names;
pub(crate) mod points;
pub mod push;
pub mod receive;

pub use inbox::Inbox;
pub use push::{Protocol, PushOptions, Pusher};
pub use receive::Receiver;
