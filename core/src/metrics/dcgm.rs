//! The names under which NVIDIA's exporter (`dcgm-exporter`, `etc/default-counters.csv`) shows GPUs, so that dashboards and scaling rules
//! written for it go on working. Its units are not base units: MiB, mJ, %, MHz and µs, as each help text says.

use super::{Family, Kind, Label};
use crate::units::Unit;

/// Labels of every DCGM family. An empty value is the same as an absent label.
pub const LABELS: &[Label] = &[
    Label::Gpu,
    Label::DcgmUuid,
    Label::PciBusId,
    Label::Device,
    Label::DcgmModel,
    Label::DcgmProfile,
    Label::DcgmInstance,
    Label::DcgmHost,
    Label::DcgmHostLower,
    Label::DcgmDriver,
    Label::Container,
    Label::Namespace,
    Label::Pod,
];

macro_rules! dcgm {
    ($($variant:ident, $name:literal, $kind:ident, $help:literal;)+) => {
        /// A family under its DCGM name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Dcgm { $(#[doc = $help] $variant,)+ }

        impl Dcgm {
            /// Every family, in the order of the exporter's list.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The catalogue entry.
            #[must_use]
            pub const fn family(self) -> Family {
                match self {
                    $(Self::$variant => Family { name: $name, kind: Kind::$kind, unit: Unit::One, labels: LABELS, help: $help },)+
                }
            }
        }
    };
}

dcgm! {
    SmClock, "DCGM_FI_DEV_SM_CLOCK", Gauge, "SM clock frequency (in MHz).";
    MemClock, "DCGM_FI_DEV_MEM_CLOCK", Gauge, "Memory clock frequency (in MHz).";
    MemoryTemp, "DCGM_FI_DEV_MEMORY_TEMP", Gauge, "Memory temperature (in C).";
    GpuTemp, "DCGM_FI_DEV_GPU_TEMP", Gauge, "GPU temperature (in C).";
    PowerUsage, "DCGM_FI_DEV_POWER_USAGE", Gauge, "Power draw (in W).";
    TotalEnergy, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Counter, "Total energy consumption since boot (in mJ).";
    PcieReplays, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", Counter, "Total number of PCIe retries.";
    GpuUtil, "DCGM_FI_DEV_GPU_UTIL", Gauge, "GPU utilization (in %).";
    MemCopyUtil, "DCGM_FI_DEV_MEM_COPY_UTIL", Gauge, "Memory utilization (in %).";
    EncUtil, "DCGM_FI_DEV_ENC_UTIL", Gauge, "Encoder utilization (in %).";
    DecUtil, "DCGM_FI_DEV_DEC_UTIL", Gauge, "Decoder utilization (in %).";
    XidErrors, "DCGM_FI_DEV_XID_ERRORS", Gauge, "Value of the last XID error encountered.";
    PowerViolation, "DCGM_FI_DEV_POWER_VIOLATION", Counter, "Throttling duration due to power constraints (in us).";
    ThermalViolation, "DCGM_FI_DEV_THERMAL_VIOLATION", Counter, "Throttling duration due to thermal constraints (in us).";
    SyncBoostViolation, "DCGM_FI_DEV_SYNC_BOOST_VIOLATION", Counter, "Throttling duration due to sync-boost constraints (in us).";
    BoardLimitViolation, "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION", Counter, "Throttling duration due to board limit constraints (in us).";
    LowUtilViolation, "DCGM_FI_DEV_LOW_UTIL_VIOLATION", Counter, "Throttling duration due to low utilization (in us).";
    ReliabilityViolation, "DCGM_FI_DEV_RELIABILITY_VIOLATION", Counter, "Throttling duration due to reliability constraints (in us).";
    FbFree, "DCGM_FI_DEV_FB_FREE", Gauge, "Framebuffer memory free (in MiB).";
    FbUsed, "DCGM_FI_DEV_FB_USED", Gauge, "Framebuffer memory used (in MiB).";
    FbReserved, "DCGM_FI_DEV_FB_RESERVED", Gauge, "Framebuffer memory reserved (in MiB).";
    EccSbeVolatile, "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", Counter, "Total number of single-bit volatile ECC errors.";
    EccDbeVolatile, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", Counter, "Total number of double-bit volatile ECC errors.";
    EccSbeAggregate, "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", Counter, "Total number of single-bit persistent ECC errors.";
    EccDbeAggregate, "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", Counter, "Total number of double-bit persistent ECC errors.";
    NvlinkBandwidth, "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", Gauge, "NVLink bandwidth of all lanes, both directions (in MiB/s).";
    RemappedUncorrectable, "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", Counter, "Number of remapped rows for uncorrectable errors.";
    RemappedCorrectable, "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", Counter, "Number of remapped rows for correctable errors.";
    RowRemapFailure, "DCGM_FI_DEV_ROW_REMAP_FAILURE", Gauge, "Whether remapping of rows has failed.";
    GraphicsActive, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", Gauge, "Ratio of time the graphics engine is active.";
    SmActive, "DCGM_FI_PROF_SM_ACTIVE", Gauge, "The ratio of cycles an SM has at least 1 warp assigned.";
    SmOccupancy, "DCGM_FI_PROF_SM_OCCUPANCY", Gauge, "The ratio of number of warps resident on an SM.";
    TensorActive, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", Gauge, "Ratio of cycles the tensor (HMMA) pipe is active.";
    DramActive, "DCGM_FI_PROF_DRAM_ACTIVE", Gauge, "Ratio of cycles the device memory interface is active sending or receiving data.";
    PcieSent, "DCGM_FI_PROF_PCIE_TX_BYTES", Gauge, "The rate of data transmitted over the PCIe bus (in bytes per second).";
    PcieReceived, "DCGM_FI_PROF_PCIE_RX_BYTES", Gauge, "The rate of data received over the PCIe bus (in bytes per second).";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_the_exporters_and_unique() {
        let names: BTreeSet<_> = Dcgm::ALL.iter().map(|one| one.family().name).collect();
        assert_eq!(names.len(), Dcgm::ALL.len());
        assert!(
            names.iter().all(|name| name.starts_with("DCGM_FI_DEV_") || name.starts_with("DCGM_FI_PROF_"))
        );
        let labels: BTreeSet<_> = LABELS.iter().map(|label| label.name()).collect();
        assert_eq!(labels.len(), LABELS.len());
    }
}
