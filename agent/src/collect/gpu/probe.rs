//! Asking the GPU driver once, for a check of a node.

use std::path::Path;

use nvml_wrapper::Nvml;

use super::cause::{GpuCause, cause_of};

/// What a driver's library says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Version of the driver; `None` where it does not say.
    pub version: Option<String>,
    /// Version of the library.
    pub library: Option<String>,
    /// GPUs that it counts.
    pub gpus: u32,
}

/// Opens the driver's library, asks and closes it. May hang for as long as the driver does.
///
/// # Errors
/// Why the library cannot be opened or the driver does not count.
pub fn driver(library: Option<&Path>) -> Result<Driver, GpuCause> {
    let mut builder = Nvml::builder();
    if let Some(path) = library {
        builder.lib_path(path.as_os_str());
    }
    // A file that is no driver's library has no such function.
    let nvml = builder.init().map_err(|error| cause_of(&error).unwrap_or(GpuCause::NoLibrary))?;
    let gpus = nvml.device_count().map_err(|error| cause_of(&error).unwrap_or(GpuCause::Other))?;
    Ok(Driver { version: nvml.sys_driver_version().ok(), library: nvml.sys_nvml_version().ok(), gpus })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_told() {
        assert_eq!(driver(Some(Path::new("/nowhere/libnvidia-ml.so.1"))), Err(GpuCause::NoLibrary));
    }
}
