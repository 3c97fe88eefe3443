//! What is to be tailed: whose files, where, in which format. Plain values; finding the files is `discover`'s.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_core::WorkloadId;

/// How the lines of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Each line is looked at: JSON, logfmt and access lines are told apart cheaply, anything else ships raw.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
    /// The common or combined access log of web servers.
    Access,
    /// Not parsed, and not expected to be.
    Raw,
    /// Framed by a container runtime (CRI), in the folders of the kubelet; what the containers wrote is looked at as with `Auto`.
    Cri,
    /// As records that were pushed here stand in the spool; not for files of others.
    #[serde(skip)]
    Pushed,
}

/// Files of one workload, or of one replica of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSource {
    /// Whose files; `None` for files of no workload.
    pub workload: Option<WorkloadId>,
    /// Which replica's.
    pub replica: Option<String>,
    /// Files, or shell patterns (`*`, `?`, `[…]`, `**`). A file that two sources name belongs to the first. None: its records are pushed.
    pub paths: Vec<PathBuf>,
    /// How their lines are written.
    pub format: LogFormat,
}
