//! Shapes of what happens, as told to those who listen.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Condition, Decision, LogLine, Workload};

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A workload changed, or its readings did.
    Workload(Box<Workload>),
    /// A decision was made; told when it changed the size or its reasons.
    Decision {
        /// Of which workload.
        workload: String,
        /// The decision.
        decision: Box<Decision>,
    },
    /// A log line of a class appeared.
    LogClass(Box<LogLine>),
    /// A condition begins or ends.
    Condition(Box<ConditionChange>),
}

impl Event {
    /// Of which workload; `None`: of none that is known.
    pub(crate) fn workload(&self) -> Option<&str> {
        match self {
            Self::Workload(workload) => Some(&workload.id),
            Self::Decision { workload, .. } => Some(workload),
            Self::LogClass(line) => line.workload.as_deref(),
            Self::Condition(change) => Some(&change.workload),
        }
    }
}

/// A condition begins or ends.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ConditionChange {
    /// Of which workload.
    pub(crate) workload: String,
    /// Whether it holds now.
    pub(crate) holds: bool,
    pub(crate) condition: Condition,
}
