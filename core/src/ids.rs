//! Names of the things that Tidegate speaks of.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names a workload: `namespace/kind/name`, lower case, with a worker group as an optional fourth segment.
/// A workload of this machine is `local/process/NAME`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId(Arc<str>);

/// A text does not name a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected namespace/kind/name in lower case (letters, digits, '-', '.'), got {0:?}")]
pub struct ParseWorkloadIdError(String);

/// Longest accepted segment: that of a DNS subdomain, which Kubernetes names are.
const SEGMENT_MAX: usize = 253;

impl WorkloadId {
    /// The id of a process group of this machine.
    ///
    /// # Errors
    /// When `name` is not a valid segment.
    pub fn local(name: &str) -> Result<Self, ParseWorkloadIdError> {
        format!("local/process/{name}").parse()
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The third segment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or(&self.0)
    }
}

/// Whether `text` may be a segment of an id: lower-case letters, digits, `-` and `.`, starting and ending with a letter or digit.
#[must_use]
pub fn is_segment(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= SEGMENT_MAX
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
}

impl FromStr for WorkloadId {
    type Err = ParseWorkloadIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let segments = text.split('/').count();
        if (3..=4).contains(&segments) && text.split('/').all(is_segment) {
            Ok(Self(text.into()))
        } else {
            Err(ParseWorkloadIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = ParseWorkloadIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a workload is for; decides how it is sized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Answers requests; sized by demand.
    Serving,
    /// Works off a job; sized by what the pool can spare.
    Training,
}

impl Role {
    /// The word used in the API and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Training => "training",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_three_or_four_lower_case_segments() {
        for right in ["ml/deployment/chat", "local/process/digits-serve", "a/raycluster/b/workers"] {
            assert_eq!(right.parse::<WorkloadId>().unwrap().as_str(), right);
        }
        for wrong in ["chat", "ml/chat", "ML/deployment/chat", "a//b", "a/b/-c", "a/b/c/d/e", "a/b/c d"] {
            assert!(wrong.parse::<WorkloadId>().is_err(), "{wrong:?} was accepted");
        }
        assert_eq!(WorkloadId::local("x").unwrap().name(), "x");
    }
}
