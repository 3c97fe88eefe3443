//! Functions of one device.

use std::os::raw::{c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlClockType_enum_NVML_CLOCK_MEM as CLOCK_MEMORY, nvmlClockType_enum_NVML_CLOCK_SM as CLOCK_SM,
    nvmlClockType_t, nvmlDevice_t, nvmlFieldValue_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t,
    nvmlProcessUtilizationSample_t, nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as TOO_SMALL,
    nvmlReturn_enum_NVML_ERROR_NOT_FOUND as NOT_FOUND,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as NOT_SUPPORTED, nvmlReturn_t, nvmlTemperatureSensors_t,
    nvmlUtilization_t, nvmlValue_t, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT as U32,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG as U64,
};

use crate::calls::{give_text, of_device};
use crate::script::{Field, Process};
use crate::state::{FAILED, Outcome, Target, called_on, code, give, handle};

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) -> nvmlReturn_t {
    let asked = called_on("nvmlDeviceGetHandleByIndex_v2", handle(index as usize, None));
    // SAFETY: as nvml.h says of the arguments.
    code(asked.and_then(|target| unsafe { give(device, handle(target.gpu, None)) }))
}

of_device! {
    nvmlDeviceGetUUID(uuid: *mut c_char, length: c_uint) = |target| {
        give_text(uuid, length, target.instance().map_or(&target.gpu().uuid, |instance| &instance.uuid))
    };
    nvmlDeviceGetName(name: *mut c_char, length: c_uint) = |target| {
        let said = target.instance().map_or(&target.gpu().name, |instance| &instance.name);
        give_text(name, length, said.as_deref().ok_or(NOT_SUPPORTED)?)
    };
    nvmlDeviceGetMinorNumber(minor: *mut c_uint) = |target| give(minor, target.whole(|gpu| gpu.minor)?);
    nvmlDeviceGetPciInfo_v3(pci: *mut nvmlPciInfo_t) = |target| {
        let mut about: nvmlPciInfo_t = std::mem::zeroed();
        let said = target.whole(|gpu| gpu.pci.as_deref())?;
        give_text(about.busId.as_mut_ptr(), 32, said)?;
        give(pci, about)
    };
    nvmlDeviceGetUtilizationRates(used: *mut nvmlUtilization_t) = |target| {
        let [gpu, memory] = target.whole(|gpu| gpu.utilization.filter(|_| !gpu.split))?;
        give(used, nvmlUtilization_t { gpu, memory })
    };
    nvmlDeviceGetEncoderUtilization(used: *mut c_uint, period: *mut c_uint) = |target| {
        give(used, target.whole(|gpu| gpu.encoder)?)?;
        give(period, 1_000_000)
    };
    nvmlDeviceGetDecoderUtilization(used: *mut c_uint, period: *mut c_uint) = |target| {
        give(used, target.whole(|gpu| gpu.decoder)?)?;
        give(period, 1_000_000)
    };
    nvmlDeviceGetMemoryInfo_v2(memory: *mut nvmlMemory_v2_t) = |target| {
        let said = target.instance().map_or(target.gpu().memory, |instance| instance.memory);
        let [total, reserved, free, used] = said.ok_or(NOT_SUPPORTED)?;
        give(memory, nvmlMemory_v2_t { version: 2, total, reserved, free, used })
    };
    nvmlDeviceGetPowerUsage(power: *mut c_uint) = |target| give(power, target.whole(|gpu| gpu.power)?);
    nvmlDeviceGetEnforcedPowerLimit(limit: *mut c_uint) = |target| give(limit, target.whole(|gpu| gpu.power_limit)?);
    nvmlDeviceGetTemperature(_sensor: nvmlTemperatureSensors_t, temperature: *mut c_uint) = |target| {
        give(temperature, target.whole(|gpu| gpu.temperature)?)
    };
    nvmlDeviceGetClockInfo(kind: nvmlClockType_t, clock: *mut c_uint) = |target| {
        give(clock, target.whole(|gpu| match kind {
            CLOCK_SM => gpu.sm_clock,
            CLOCK_MEMORY => gpu.memory_clock,
            _ => None,
        })?)
    };
    nvmlDeviceGetCurrentClocksThrottleReasons(reasons: *mut c_ulonglong) = |target| {
        give(reasons, target.whole(|gpu| gpu.throttle)?)
    };
    // Nobody may call this one: the journal tells.
    nvmlDeviceGetPcieThroughput(_counter: c_uint, value: *mut c_uint) = |_target| give(value, 0);
    nvmlDeviceGetFieldValues(count: c_int, values: *mut nvmlFieldValue_t) = |target| {
        let fields = target.whole(|gpu| Some(&gpu.field))?;
        let count = usize::try_from(count).map_err(|_| FAILED)?;
        for value in std::slice::from_raw_parts_mut(values, count) {
            let said = fields.iter().find(|field| field.id == value.fieldId && field.scope == value.scopeId);
            // What the script does not say is left alone, as some drivers do.
            if let Some(said) = said {
                fill(value, said);
            }
        }
        Ok(())
    };
    nvmlDeviceGetMigMode(current: *mut c_uint, pending: *mut c_uint) = |target| {
        let mode = target.whole(|gpu| Some(c_uint::from(gpu.split)))?;
        give(current, mode)?;
        give(pending, mode)
    };
    nvmlDeviceGetMaxMigDeviceCount(count: *mut c_uint) = |target| give(count, target.whole(|_| Some(7))?);
    nvmlDeviceGetMigDeviceHandleByIndex(slot: c_uint, device: *mut nvmlDevice_t) = |target| {
        let at = target.gpu().instance.iter().position(|instance| instance.slot == slot).ok_or(NOT_FOUND)?;
        give(device, handle(target.gpu, Some(at)))
    };
    nvmlDeviceGetGpuInstanceId(id: *mut c_uint) = |target| give(id, target.instance().ok_or(NOT_SUPPORTED)?.id);
    nvmlDeviceGetComputeInstanceId(id: *mut c_uint) = |target| {
        give(id, target.instance().ok_or(NOT_SUPPORTED)?.compute)
    };
    nvmlDeviceGetComputeRunningProcesses_v3(count: *mut c_uint, list: *mut nvmlProcessInfo_t) = |target| {
        let said = target.instance().map_or(&target.gpu().process, |instance| &instance.process);
        give_processes(said.as_deref().ok_or(NOT_SUPPORTED)?, count, list)
    };
    nvmlDeviceGetMPSComputeRunningProcesses_v3(count: *mut c_uint, list: *mut nvmlProcessInfo_t) = |target| {
        let said = if target.instance().is_some() { None } else { target.gpu().mps.as_deref() };
        give_processes(said.unwrap_or_default(), count, list)
    };
    nvmlDeviceGetProcessUtilization(
        list: *mut nvmlProcessUtilizationSample_t,
        count: *mut c_uint,
        seen: c_ulonglong
    ) = |target| give_samples(&target, list, count, seen);
}

fn fill(value: &mut nvmlFieldValue_t, said: &Field) {
    value.nvmlReturn = said.code;
    value.latencyUsec = 1;
    match said.kind.as_deref() {
        Some("u32") => {
            value.valueType = U32;
            value.value = nvmlValue_t { uiVal: u32::try_from(said.value).unwrap_or(u32::MAX) };
        }
        _ => {
            value.valueType = U64;
            value.value = nvmlValue_t { ullVal: said.value };
        }
    }
}

/// The protocol of lists: a list that does not fit says how long it is.
///
/// # Safety
/// `count` points to how many entries may be written to `list`.
unsafe fn give_list<T>(items: &[T], count: *mut c_uint, list: *mut T) -> Outcome
where
    T: Copy,
{
    // SAFETY: the caller vouches for `count`, and for as much room as it says.
    unsafe {
        let room = count.read() as usize;
        give(count, c_uint::try_from(items.len()).map_err(|_| FAILED)?)?;
        if items.len() > room {
            return Err(TOO_SMALL);
        }
        if !items.is_empty() {
            std::ptr::copy_nonoverlapping(items.as_ptr(), list, items.len());
        }
    }
    Ok(())
}

/// # Safety
/// As [`give_list`].
unsafe fn give_processes(said: &[Process], count: *mut c_uint, list: *mut nvmlProcessInfo_t) -> Outcome {
    let entry = |process: &Process| nvmlProcessInfo_t {
        pid: process.pid,
        // All bits set: not known.
        usedGpuMemory: process.memory.unwrap_or(u64::MAX),
        gpuInstanceId: u32::MAX,
        computeInstanceId: u32::MAX,
    };
    let items: Vec<_> = said.iter().map(entry).collect();
    // SAFETY: the caller vouches for the same.
    unsafe { give_list(&items, count, list) }
}

/// Samples of the driver: one a second, of which those after `seen` are given. None is "not found".
///
/// # Safety
/// As [`give_list`].
unsafe fn give_samples(
    target: &Target,
    list: *mut nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    seen: c_ulonglong,
) -> Outcome {
    let processes = target.whole(|gpu| if gpu.split { None } else { gpu.process.as_deref() })?;
    let of_process = |process: &Process| {
        let pid = process.pid;
        let sample = move |(at, used): (usize, &u32)| nvmlProcessUtilizationSample_t {
            pid,
            timeStamp: (at as u64 + 1) * 1_000_000,
            smUtil: *used,
            memUtil: 0,
            encUtil: 0,
            decUtil: 0,
        };
        process.used.iter().enumerate().map(sample).collect::<Vec<_>>()
    };
    let items: Vec<_> =
        processes.iter().flat_map(of_process).filter(|sample| sample.timeStamp > seen).collect();
    if items.is_empty() {
        return Err(NOT_FOUND);
    }
    // SAFETY: the caller vouches for the same.
    unsafe { give_list(&items, count, list) }
}
