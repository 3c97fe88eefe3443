//! Why the driver could not say something: its return codes, kept apart. What it does not have at all is no failure, and has no cause.

use nvml_wrapper::error::NvmlError;

/// A failure that the driver reported, or that kept it from being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuCause {
    /// The driver's library is not on this machine.
    NoLibrary,
    /// The library is there and the kernel's part of the driver is not loaded.
    NoDriver,
    /// The library and the loaded driver are of different versions: the driver was changed beneath us.
    DriverMismatch,
    /// The GPU fell off the bus.
    Lost,
    /// The GPU answers nothing before it is reset.
    ResetRequired,
    /// A GPU that was there before is not among those that the driver counts.
    Missing,
    /// This process may not ask that.
    NoPermission,
    /// The library was not initialised, or was shut down by somebody else.
    Uninitialized,
    /// The driver took an argument for wrong: a handle that is no longer one.
    InvalidArgument,
    /// The power cables are not attached as they should be.
    InsufficientPower,
    /// The driver gave up waiting for the GPU.
    DriverTimeout,
    /// The kernel has trouble with the GPU's interrupts.
    Interrupts,
    /// The board's own store of settings is damaged.
    CorruptedInforom,
    /// The operating system refused.
    OperatingSystem,
    /// Somebody else holds what is needed.
    InUse,
    /// The driver is out of memory.
    OutOfMemory,
    /// The driver kept naming a larger size than it was given.
    InsufficientSize,
    /// An answer that makes no sense, such as text that is none.
    Garbled,
    /// The driver's own "unknown error".
    Unknown,
    /// A return code that has no name here.
    Other,
}

impl GpuCause {
    /// Every cause.
    pub const ALL: [Self; 20] = [
        Self::NoLibrary,
        Self::NoDriver,
        Self::DriverMismatch,
        Self::Lost,
        Self::ResetRequired,
        Self::Missing,
        Self::NoPermission,
        Self::Uninitialized,
        Self::InvalidArgument,
        Self::InsufficientPower,
        Self::DriverTimeout,
        Self::Interrupts,
        Self::CorruptedInforom,
        Self::OperatingSystem,
        Self::InUse,
        Self::OutOfMemory,
        Self::InsufficientSize,
        Self::Garbled,
        Self::Unknown,
        Self::Other,
    ];

    /// The value of the `cause` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoLibrary => "no_library",
            Self::NoDriver => "no_driver",
            Self::DriverMismatch => "driver_mismatch",
            Self::Lost => "gpu_lost",
            Self::ResetRequired => "gpu_reset_required",
            Self::Missing => "gpu_missing",
            Self::NoPermission => "no_permission",
            Self::Uninitialized => "driver_uninitialized",
            Self::InvalidArgument => "invalid_argument",
            Self::InsufficientPower => "insufficient_power",
            Self::DriverTimeout => "driver_timeout",
            Self::Interrupts => "interrupts",
            Self::CorruptedInforom => "corrupted_inforom",
            Self::OperatingSystem => "operating_system",
            Self::InUse => "in_use",
            Self::OutOfMemory => "out_of_memory",
            Self::InsufficientSize => "insufficient_size",
            Self::Garbled => "garbled",
            Self::Unknown => "driver_unknown",
            Self::Other => "driver_other",
        }
    }

    /// Whether the GPU as a whole is out of reach, so that asking it anything else is of no use.
    #[must_use]
    pub const fn is_of_whole_gpu(self) -> bool {
        matches!(self, Self::Lost | Self::ResetRequired)
    }

    /// Whether the library as a whole is out of step, so that it has to be opened anew.
    #[must_use]
    pub const fn is_of_library(self) -> bool {
        matches!(self, Self::DriverMismatch | Self::NoDriver | Self::Uninitialized)
    }
}

/// The cause behind an error, or nothing where it says no more than that this driver or this GPU does not have what was asked for.
#[must_use]
pub fn cause_of(error: &NvmlError) -> Option<GpuCause> {
    Some(match error {
        // A symbol that is not there is an older driver's way of saying the same.
        NvmlError::NotSupported
        | NvmlError::NoData
        | NvmlError::NotFound
        | NvmlError::FunctionNotFound
        | NvmlError::VgpuEccNotSupported
        | NvmlError::FailedToLoadSymbol(_) => return None,
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => GpuCause::NoLibrary,
        NvmlError::DriverNotLoaded => GpuCause::NoDriver,
        NvmlError::LibRmVersionMismatch => GpuCause::DriverMismatch,
        NvmlError::GpuLost => GpuCause::Lost,
        NvmlError::ResetRequired => GpuCause::ResetRequired,
        NvmlError::NoPermission => GpuCause::NoPermission,
        NvmlError::Uninitialized => GpuCause::Uninitialized,
        NvmlError::InvalidArg => GpuCause::InvalidArgument,
        NvmlError::InsufficientPower => GpuCause::InsufficientPower,
        NvmlError::Timeout => GpuCause::DriverTimeout,
        NvmlError::IrqIssue => GpuCause::Interrupts,
        NvmlError::CorruptedInfoROM => GpuCause::CorruptedInforom,
        NvmlError::OperatingSystem => GpuCause::OperatingSystem,
        NvmlError::InUse => GpuCause::InUse,
        NvmlError::InsufficientMemory => GpuCause::OutOfMemory,
        NvmlError::InsufficientSize(_) => GpuCause::InsufficientSize,
        NvmlError::Utf8Error(_) | NvmlError::NulError(_) | NvmlError::IncorrectBits(_) => GpuCause::Garbled,
        NvmlError::Unknown => GpuCause::Unknown,
        _ => GpuCause::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvml_wrapper::error::nvml_try;
    use std::collections::BTreeSet;

    #[test]
    fn codes_stay_apart() {
        // The numbers of `nvmlReturn_t`.
        let causes: Vec<_> =
            (1..=22).chain([999]).map(|code| cause_of(&nvml_try(code).unwrap_err())).collect();
        let named: Vec<_> = causes.iter().flatten().filter(|cause| **cause != GpuCause::Other).collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "{causes:?}");
        for (code, cause) in [(3, None), (6, None), (13, None), (21, None)] {
            assert_eq!(cause_of(&nvml_try(code).unwrap_err()), cause, "{code} says that there is none");
        }
        assert_eq!(cause_of(&nvml_try(15).unwrap_err()), Some(GpuCause::Lost));
        assert_eq!(cause_of(&nvml_try(18).unwrap_err()), Some(GpuCause::DriverMismatch));
        assert_eq!(cause_of(&nvml_try(4711).unwrap_err()), Some(GpuCause::Other));
    }
}
