//! Shapes of log lines.

use serde::Serialize;
use tidegate_core::Timestamp;
use utoipa::ToSchema;

/// Log lines, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Logs {
    pub(crate) logs: Vec<LogLine>,
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LogLine {
    /// When it was written, as it says itself; else when it was read.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Id of the workload; `null` when it is of none.
    pub(crate) workload: Option<String>,
    /// `trace`, `debug`, `info`, `warn`, `error` or `fatal`.
    pub(crate) level: Option<String>,
    /// What kind of event it tells of.
    pub(crate) class: Option<String>,
    /// The text for people.
    pub(crate) text: String,
}
