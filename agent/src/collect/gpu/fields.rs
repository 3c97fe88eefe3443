//! Values that the driver gives by number, many in one call, each with a return code of its own.

use nvml_wrapper::sys_exports::field_id;
use nvml_wrapper::{Device, FieldIdScheme};

use super::device::Asked;
use super::raw::{self, Field, Number, Scope};
use super::reading::{GpuValues, ThrottleReason};

/// Where a value goes.
type Put = fn(&mut GpuValues, Number);

const KIBIBYTE: u64 = 1024;

/// The values of a GPU, as (number in the numbering before driver 580.82, scope, where it goes).
const FIELDS: &[(u32, Scope, Put)] = &[
    (field_id::NVML_FI_DEV_ECC_SBE_VOL_TOTAL, Scope::Whole, |to, n| to.ecc_corrected = Some(n.value)),
    (field_id::NVML_FI_DEV_ECC_DBE_VOL_TOTAL, Scope::Whole, |to, n| to.ecc_uncorrected = Some(n.value)),
    (field_id::NVML_FI_DEV_ECC_SBE_AGG_TOTAL, Scope::Whole, |to, n| {
        to.ecc_corrected_lifetime = Some(n.value)
    }),
    (field_id::NVML_FI_DEV_ECC_DBE_AGG_TOTAL, Scope::Whole, |to, n| {
        to.ecc_uncorrected_lifetime = Some(n.value)
    }),
    (field_id::NVML_FI_DEV_PERF_POLICY_POWER, Scope::Whole, |to, n| throttled(to, ThrottleReason::Power, n)),
    (field_id::NVML_FI_DEV_PERF_POLICY_THERMAL, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::Thermal, n)
    }),
    (field_id::NVML_FI_DEV_PERF_POLICY_SYNC_BOOST, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::SyncBoost, n)
    }),
    (field_id::NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::BoardLimit, n)
    }),
    (field_id::NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::LowUtilization, n);
    }),
    (field_id::NVML_FI_DEV_PERF_POLICY_RELIABILITY, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::Reliability, n);
    }),
    (field_id::NVML_FI_DEV_MEMORY_TEMP, Scope::Whole, |to, n| to.memory_temperature = Some(n.value)),
    (field_id::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, Scope::Whole, |to, n| {
        to.energy_millijoules = Some(n.value)
    }),
    (field_id::NVML_FI_DEV_PCIE_REPLAY_COUNTER, Scope::Whole, |to, n| to.pcie_replays = Some(n.value)),
    (field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, Scope::AllLinks, |to, n| {
        to.nvlink_sent_bytes = to.nvlink_sent_bytes.or_else(|| n.value.checked_mul(KIBIBYTE));
    }),
    (field_id::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, Scope::AllLinks, |to, n| {
        to.nvlink_received_bytes = to.nvlink_received_bytes.or_else(|| n.value.checked_mul(KIBIBYTE));
    }),
    (field_id::NVML_FI_DEV_REMAPPED_COR, Scope::Whole, |to, n| to.rows_remapped_correctable = Some(n.value)),
    (field_id::NVML_FI_DEV_REMAPPED_UNC, Scope::Whole, |to, n| {
        to.rows_remapped_uncorrectable = Some(n.value)
    }),
    (field_id::NVML_FI_DEV_REMAPPED_PENDING, Scope::Whole, |to, n| to.row_remap_pending = Some(n.value)),
    (field_id::NVML_FI_DEV_REMAPPED_FAILURE, Scope::Whole, |to, n| to.row_remap_failed = Some(n.value)),
    (field_id::NVML_FI_DEV_PCIE_COUNT_TX_BYTES, Scope::Whole, |to, n| to.pcie_sent_bytes = bytes(n)),
    (field_id::NVML_FI_DEV_PCIE_COUNT_RX_BYTES, Scope::Whole, |to, n| to.pcie_received_bytes = bytes(n)),
    // NVLink 5 counts under numbers of its own.
    (field_id::NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES, Scope::AllLinks, |to, n| to.nvlink_sent_bytes = bytes(n)),
    (field_id::NVML_FI_DEV_NVLINK_COUNT_RCV_BYTES, Scope::AllLinks, |to, n| {
        to.nvlink_received_bytes = bytes(n)
    }),
    (field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, Scope::Whole, |to, n| to.recovery_action = Some(n.value)),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::SoftwareThermal, n);
    }),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::HardwareThermal, n);
    }),
    (field_id::NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN, Scope::Whole, |to, n| {
        throttled(to, ThrottleReason::PowerBrake, n);
    }),
];

/// The first of the numbers that driver 580.82 moved, and how far it moved those that are asked for here.
/// <https://docs.nvidia.com/deploy/nvml-api/known-issues.html>
const MOVED: std::ops::RangeInclusive<u32> = 251..=255;
const MOVED_BY: u32 = 18;

fn throttled(to: &mut GpuValues, reason: ThrottleReason, nanoseconds: Number) {
    to.throttled_ns.insert(reason, nanoseconds.value);
}

/// Bytes that went over a bus. Counted in 32 bits, they start anew several times a second and say nothing.
const fn bytes(count: Number) -> Option<u64> {
    if count.wide { Some(count.value) } else { None }
}

/// The numbers of the fields, as this driver numbers them.
fn numbered(scheme: FieldIdScheme) -> Vec<Field> {
    let id = |id: u32| match scheme {
        FieldIdScheme::V13Update1 if MOVED.contains(&id) => id + MOVED_BY,
        _ => id,
    };
    FIELDS.iter().map(|(old, scope, _)| Field { id: id(*old), scope: *scope }).collect()
}

/// Asks for all of them.
pub(super) fn read(device: &Device<'_>, asked: &mut Asked, values: &mut GpuValues) {
    let fields = numbered(device.nvml().field_id_scheme());
    let Some(results) = asked.of(|| raw::field_values(device, &fields)) else { return };
    for ((_, _, put), result) in FIELDS.iter().zip(results) {
        match result {
            Ok(number) => put(values, number),
            // An older driver takes a number that it does not know for a wrong argument.
            Err(nvml_wrapper::error::NvmlError::InvalidArg) => {}
            Err(error) => asked.note(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_driver() {
        let ids = |scheme| numbered(scheme).into_iter().map(|field| field.id).collect::<Vec<_>>();
        let (old, new) = (ids(FieldIdScheme::V12), ids(FieldIdScheme::V13Update1));
        assert_eq!(old[old.len() - 3..], [251, 252, 253]);
        assert_eq!(new[new.len() - 3..], [269, 270, 271]);
        assert_eq!(old[..old.len() - 3], new[..new.len() - 3]);
    }

    #[test]
    fn bytes_counted_in_32_bits_say_nothing() {
        assert_eq!(bytes(Number { value: 7, wide: false }), None);
        assert_eq!(bytes(Number { value: 7, wide: true }), Some(7));
    }

    #[test]
    fn what_nvlink_5_counts_comes_before_the_older_count() {
        let mut values = GpuValues::default();
        for (id, _, put) in FIELDS {
            if matches!(id, 138 | 139 | 202 | 204) {
                put(&mut values, Number { value: u64::from(*id), wide: true });
            }
        }
        assert_eq!((values.nvlink_sent_bytes, values.nvlink_received_bytes), (Some(202), Some(204)));
    }
}
