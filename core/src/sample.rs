//! One reading of one signal: what collectors give, and what the history stores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{ParseWorkloadIdError, WorkloadId};
use crate::signals::Signal;
use crate::time::Timestamp;

/// What a reading is about. Written as the workload's id, as `node`, or as `KIND//PART`: `node//PART` (a disk, an interface,
/// a mount point), `pod//UID`, `container//UID/NAME`, `volume//UID/NAME`, `gpu//UUID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// A workload.
    Workload(WorkloadId),
    /// This machine as a whole.
    Node,
    /// One part of this machine, by its device name or mount point.
    NodePart(String),
    /// A pod of this machine, by its uid: its name may be given to another pod later.
    Pod(String),
    /// A container of a pod.
    Container {
        /// Uid of the pod.
        pod: String,
        /// Its name in the pod; its id where the name is not known.
        name: String,
    },
    /// A volume of a pod.
    Volume {
        /// Uid of the pod.
        pod: String,
        /// Its name in the pod, or that of the persistent volume behind it.
        name: String,
    },
    /// A GPU of this machine, or an instance of one (MIG), by the driver's UUID.
    Gpu(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "{id}"),
            Self::Node => f.write_str("node"),
            // A mount point starts with a slash of its own, which two slashes keep apart from a workload's id.
            Self::NodePart(part) => write!(f, "node//{part}"),
            Self::Pod(uid) => write!(f, "pod//{uid}"),
            Self::Container { pod, name } => write!(f, "container//{pod}/{name}"),
            Self::Volume { pod, name } => write!(f, "volume//{pod}/{name}"),
            Self::Gpu(uuid) => write!(f, "gpu//{uuid}"),
        }
    }
}

impl FromStr for Subject {
    type Err = ParseWorkloadIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "node" {
            return Ok(Self::Node);
        }
        match text.split_once("//") {
            Some(("node", part)) => Ok(Self::NodePart(part.to_owned())),
            Some(("pod", uid)) => Ok(Self::Pod(uid.to_owned())),
            Some(("gpu", uuid)) if !uuid.is_empty() => Ok(Self::Gpu(uuid.to_owned())),
            Some((kind @ ("container" | "volume"), part)) if let Some((pod, name)) = part.split_once('/') => {
                let (pod, name) = (pod.to_owned(), name.to_owned());
                Ok(if kind == "volume" { Self::Volume { pod, name } } else { Self::Container { pod, name } })
            }
            _ => text.parse().map(Self::Workload),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = ParseWorkloadIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// One reading. Its value is finite: a collector that has no number makes no sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was read.
    pub subject: Subject,
    /// Which quantity of it.
    pub signal: Signal,
    /// When.
    pub at: Timestamp,
    /// In the signal's unit.
    pub value: f64,
}

impl Sample {
    /// A reading, or nothing when `value` is not finite.
    #[must_use]
    pub fn new(subject: Subject, signal: Signal, at: Timestamp, value: f64) -> Option<Self> {
        value.is_finite().then_some(Self { subject, signal, at, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_what_it_writes() {
        let id = WorkloadId::local("chat").unwrap();
        for subject in [
            Subject::Workload(id),
            Subject::Node,
            Subject::NodePart("/var/lib".into()),
            Subject::NodePart("sda".into()),
            Subject::NodePart("/a//b".into()),
            Subject::Pod("c9a5".into()),
            Subject::Container { pod: "c9a5".into(), name: "vllm".into() },
            Subject::Volume { pod: "c9a5".into(), name: "cache".into() },
            Subject::Gpu("MIG-7c8fbb0e-0e5c-5f0f-9f0e-1d2c3b4a5968".into()),
        ] {
            assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
        }
        for wrong in ["container//c9a5", "gpu//", "//"] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_value_that_is_not_finite_makes_no_sample() {
        assert_eq!(Sample::new(Subject::Node, Signal::Load1, Timestamp::EPOCH, f64::NAN), None);
    }
}
