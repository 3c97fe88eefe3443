//! Collecting signals on one machine: one task per source, each with a deadline, so that a stuck one takes no other with it.
//!
//! A source gives [`reading::Reading`]s; [`run`] drives it and publishes a [`Batch`] to subscribers and to the
//! [`latest::LatestValues`]; [`agent`] puts the sources together. Not here: logs, exposition, and any decision.

pub mod agent;
pub mod container;
pub mod gpu;
pub mod kernel_log;
pub mod latest;
pub mod node;
pub mod pods;
pub mod process;
pub mod reading;
pub mod run;
pub mod scrape;
pub mod status;

pub use agent::{Agent, AgentBuilder, AgentHandle};
pub use container::ContainerPaths;
pub use latest::LatestValues;
pub use pods::targets::{Discovery, PortRef, WorkloadScrape};
pub use pods::{ApiServer, Owners, PodSources, PodTable};
pub use process::ProcessGroup;
pub use reading::{Batch, Cause, Coverage, SourceName};
pub use scrape::{Objective, ScrapeLimits, ScrapeTarget, SignalRule};
pub use status::{AgentStatus, SourceStatus, StatusBoard, TargetStatus};
