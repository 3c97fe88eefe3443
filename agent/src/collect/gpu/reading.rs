//! What is read of the GPUs at one moment, in the driver's own units: plain values, without the driver. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_core::Timestamp;

use super::cause::GpuCause;
use super::xid::PciId;
use crate::collect::pods::Owner;

/// What a GPU, or an instance of one, is. It does not change while the driver stays loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuIdentity {
    /// The driver's UUID: `GPU-…`, or `MIG-…` for an instance.
    pub uuid: String,
    /// Index as the driver counts; an instance has its GPU's.
    pub index: u32,
    /// Product name.
    pub model: Option<String>,
    /// Where it is on the PCI bus; an instance has its GPU's place.
    pub pci: Option<PciId>,
    /// The number in `/dev/nvidia0`.
    pub minor: Option<u32>,
    /// For an instance: which.
    pub instance: Option<GpuInstance>,
}

/// Which part of a GPU an instance is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuInstance {
    /// UUID of the GPU.
    pub parent: String,
    /// Id of the GPU instance; compute instances in it share memory and have the same one.
    pub gpu_instance: Option<u32>,
    /// Id of the compute instance within it.
    pub compute_instance: Option<u32>,
    /// Profile, such as `1g.10gb`.
    pub profile: Option<String>,
}

/// Memory of a GPU or instance, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// In use, without what is reserved.
    pub used: u64,
    /// To be had.
    pub free: u64,
    /// Kept by driver and firmware.
    pub reserved: u64,
    /// All of it.
    pub size: u64,
}

/// Why clocks are held down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThrottleReason {
    /// The power limit.
    Power,
    /// Temperature, by whatever mechanism.
    Thermal,
    /// Temperature, by the driver.
    SoftwareThermal,
    /// Temperature, by the GPU itself.
    HardwareThermal,
    /// The power supply asked for it.
    PowerBrake,
    /// The GPU itself, for power or temperature.
    Hardware,
    /// A group of GPUs keeps to its slowest.
    SyncBoost,
    /// A limit of the board.
    BoardLimit,
    /// Too little to do.
    LowUtilization,
    /// Voltage reliability.
    Reliability,
    /// Clocks that a user set.
    UserClocks,
    /// A display's clock.
    DisplayClocks,
}

impl ThrottleReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Power,
        Self::Thermal,
        Self::SoftwareThermal,
        Self::HardwareThermal,
        Self::PowerBrake,
        Self::Hardware,
        Self::SyncBoost,
        Self::BoardLimit,
        Self::LowUtilization,
        Self::Reliability,
        Self::UserClocks,
        Self::DisplayClocks,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Thermal => "thermal",
            Self::SoftwareThermal => "software_thermal",
            Self::HardwareThermal => "hardware_thermal",
            Self::PowerBrake => "power_brake",
            Self::Hardware => "hardware",
            Self::SyncBoost => "sync_boost",
            Self::BoardLimit => "board_limit",
            Self::LowUtilization => "low_utilization",
            Self::Reliability => "reliability",
            Self::UserClocks => "user_clocks",
            Self::DisplayClocks => "display_clocks",
        }
    }

    /// Its bit in `nvmlClocksEventReasons`, if it has one.
    #[must_use]
    pub const fn bit(self) -> Option<u64> {
        match self {
            Self::UserClocks => Some(0x2),
            Self::Power => Some(0x4),
            Self::Hardware => Some(0x8),
            Self::SyncBoost => Some(0x10),
            Self::SoftwareThermal => Some(0x20),
            Self::HardwareThermal => Some(0x40),
            Self::PowerBrake => Some(0x80),
            Self::DisplayClocks => Some(0x100),
            Self::Thermal | Self::BoardLimit | Self::LowUtilization | Self::Reliability => None,
        }
    }
}

/// What the GPU's own performance monitor saw since the reading before (Hopper and later).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Monitored {
    /// Graphics or compute engine active, percent of time.
    pub graphics_percent: Option<f64>,
    /// A multiprocessor had work, percent of time, mean of all.
    pub sm_percent: Option<f64>,
    /// Warps resident, percent of the most there could be.
    pub occupancy_percent: Option<f64>,
    /// Tensor cores active, percent of time.
    pub tensor_percent: Option<f64>,
    /// Memory bandwidth used, percent.
    pub dram_percent: Option<f64>,
    /// Sent over PCIe, MiB/s.
    pub pcie_sent_mib: Option<f64>,
    /// Received over PCIe, MiB/s.
    pub pcie_received_mib: Option<f64>,
    /// Sent over all NVLinks, MiB/s.
    pub nvlink_sent_mib: Option<f64>,
    /// Received over all NVLinks, MiB/s.
    pub nvlink_received_mib: Option<f64>,
}

/// A process with a compute context on a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuProcess {
    /// Its id on the machine, whatever container it is in.
    pub pid: u32,
    /// Memory that it holds.
    pub memory_bytes: Option<u64>,
    /// Mean of the driver's samples of its use of the multiprocessors since the reading before, percent; 0 when it took none.
    /// An estimate: the driver keeps no sample of a time in which a process did nothing.
    pub sm_percent: Option<f64>,
}

/// The values of one GPU. A field is `None` where this GPU or driver does not have it, or could not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuValues {
    /// Any kernel ran, percent of time.
    pub busy_percent: Option<u32>,
    /// Memory was read or written, percent of time.
    pub memory_busy_percent: Option<u32>,
    /// Video encoder busy, percent of time.
    pub encoder_percent: Option<u32>,
    /// Video decoder busy, percent of time.
    pub decoder_percent: Option<u32>,
    /// Memory.
    pub memory: Option<GpuMemory>,
    /// Power drawn, mW.
    pub power_milliwatts: Option<u32>,
    /// Power limit in force, mW.
    pub power_limit_milliwatts: Option<u32>,
    /// Energy used since the driver was loaded, mJ.
    pub energy_millijoules: Option<u64>,
    /// Temperature of the GPU, °C.
    pub temperature: Option<u32>,
    /// Temperature of its memory, °C.
    pub memory_temperature: Option<u64>,
    /// Clock of the multiprocessors, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Bits of the reasons for which clocks are held down now.
    pub throttle_bits: Option<u64>,
    /// Time for which clocks were held down since the driver was loaded, by reason, ns.
    pub throttled_ns: BTreeMap<ThrottleReason, u64>,
    /// Memory errors corrected since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    /// Memory errors not corrected since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Memory errors corrected over the GPU's life.
    pub ecc_corrected_lifetime: Option<u64>,
    /// Memory errors not corrected over the GPU's life.
    pub ecc_uncorrected_lifetime: Option<u64>,
    /// Rows replaced for correctable errors.
    pub rows_remapped_correctable: Option<u64>,
    /// Rows replaced for uncorrectable errors.
    pub rows_remapped_uncorrectable: Option<u64>,
    /// Whether a row waits to be replaced.
    pub row_remap_pending: Option<u64>,
    /// Whether a row could not be replaced.
    pub row_remap_failed: Option<u64>,
    /// Packets sent again over PCIe.
    pub pcie_replays: Option<u64>,
    /// Bytes sent over PCIe.
    pub pcie_sent_bytes: Option<u64>,
    /// Bytes received over PCIe.
    pub pcie_received_bytes: Option<u64>,
    /// Bytes sent over all NVLinks.
    pub nvlink_sent_bytes: Option<u64>,
    /// Bytes received over all NVLinks.
    pub nvlink_received_bytes: Option<u64>,
    /// What the driver asks for.
    pub recovery_action: Option<u64>,
    /// Of the performance monitor.
    pub monitored: Monitored,
    /// Processes with a compute context.
    pub processes: Option<Vec<GpuProcess>>,
}

/// One GPU or instance at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuReading {
    /// What it is.
    pub gpu: Arc<GpuIdentity>,
    /// What was read of it.
    pub values: GpuValues,
    /// What could not be read, and how often.
    pub causes: BTreeMap<GpuCause, u64>,
    /// Why it does not answer at all, if so; nothing is read of it then.
    pub down: Option<GpuCause>,
    /// The containers that it was given to; several share one by time slices or MPS.
    pub owners: Vec<Owner>,
}

impl GpuReading {
    /// The container that has it alone. What several share is nobody's.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        match self.owners.as_slice() {
            [owner] => Some(owner),
            _ => None,
        }
    }
}

/// Every GPU and instance of the machine at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gpus {
    /// When the reading began.
    pub at: Timestamp,
    /// Version of the driver.
    pub driver_version: Option<String>,
    /// GPUs that should answer: those bound to the driver, and those that ever answered. Instances are not counted.
    pub expected: u32,
    /// GPUs that the driver counts and does not hand out, by index.
    pub refused: BTreeMap<u32, GpuCause>,
    /// Each GPU, followed by its instances; last those that were seen earlier and are not there.
    pub readings: Vec<GpuReading>,
}

impl Gpus {
    /// The GPU or instance with this UUID.
    #[must_use]
    pub fn get(&self, uuid: &str) -> Option<&GpuReading> {
        self.readings.iter().find(|reading| reading.gpu.uuid == uuid)
    }

    /// GPUs that answer; instances are not counted.
    #[must_use]
    pub fn present(&self) -> usize {
        let is_up = |reading: &&GpuReading| reading.gpu.instance.is_none() && reading.down.is_none();
        self.readings.iter().filter(is_up).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_and_their_bits_are_unique() {
        let names: BTreeSet<_> = ThrottleReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), ThrottleReason::ALL.len());
        let bits: Vec<_> = ThrottleReason::ALL.iter().filter_map(|reason| reason.bit()).collect();
        assert_eq!(bits.iter().fold(0, |all, bit| all | bit).count_ones() as usize, bits.len());
    }
}
