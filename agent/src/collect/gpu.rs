//! GPUs of this machine, read through the driver's own library (NVML), which is loaded at run time from wherever it is.
//!
//! Reading (`device`, `fields`, `inventory`) is apart from meaning ([`samples`], [`xid`]), and both from the thread that does it
//! (`source`). Rules: one handle for all; what the driver cannot say is absent and counted by cause, never 0; what it hangs on hangs
//! nobody else; the call for PCIe throughput, which takes 20 ms per direction, is not made. Not here: how it is known whose GPU it is
//! ([`super::pods`]).

mod backoff;
pub mod cause;
mod device;
mod events;
mod fields;
mod inventory;
pub mod probe;
mod raw;
pub mod reading;
pub mod samples;
pub(crate) mod source;
pub mod xid;
mod xids;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use backoff::Waits;
pub use cause::GpuCause;
pub use reading::{GpuReading, Gpus};
pub use xids::Xids;

use super::pods::Owners;

/// How GPUs are read.
#[derive(Debug, Clone)]
pub struct GpuOptions {
    /// The driver's library: a path, or a name that the loader finds. Absent: `libnvidia-ml.so.1`.
    pub library: Option<PathBuf>,
    /// Whether a missing library is a failure. Otherwise the source is as good as off until the library appears.
    pub required: bool,
    /// Where the machine's root is seen.
    pub root: PathBuf,
    /// The kernel log, a device like `/dev/kmsg` or a file of lines, that GPU errors are looked for in. Absent: not looked at.
    pub kernel_log: Option<PathBuf>,
    /// Who has which GPU. Absent: as the agent's own join of pods and devices tells.
    pub owners: Option<watch::Receiver<Arc<Owners>>>,
    /// Waits between tries to open the library.
    pub open_again: Waits,
    /// Waits before the library is opened anew to find a GPU that is down; the others are not read meanwhile.
    pub search_again: Waits,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            library: None,
            required: false,
            root: PathBuf::from("/"),
            kernel_log: None,
            owners: None,
            open_again: Waits { first: Duration::from_secs(5), most: Duration::from_secs(300) },
            search_again: Waits { first: Duration::from_secs(60), most: Duration::from_secs(1800) },
        }
    }
}
