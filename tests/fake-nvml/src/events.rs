//! Events: errors that GPUs tell of, to whoever waits.

use std::os::raw::{c_uint, c_ulonglong};
use std::time::Duration;

use nvml_wrapper_sys::bindings::{
    nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as WRONG, nvmlReturn_enum_NVML_ERROR_TIMEOUT as TIMEOUT,
    nvmlReturn_enum_NVML_SUCCESS as SUCCESS, nvmlReturn_t,
};

use crate::calls::of_device;
use crate::state::{Outcome, called, code, give, handle, script};

const XID: c_ulonglong = nvmlEventTypeXidCriticalError as c_ulonglong;

/// How often it is looked whether the script has another. A driver is told and looks at nothing: this must cost next to nothing, too.
const EVENTS_EVERY: Duration = Duration::from_millis(50);

/// What a set's handle leads to.
struct Set {
    gpus: Vec<usize>,
    /// Events of the script that were delivered, or happened before anybody listened.
    past: usize,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    let made = called("nvmlEventSetCreate").map(|script| {
        let made = Set { gpus: Vec::new(), past: script.event.len() };
        Box::into_raw(Box::new(made)).cast()
    });
    // SAFETY: as nvml.h says of the argument.
    code(made.and_then(|made| unsafe { give(set, made) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    if set.is_null() {
        return WRONG;
    }
    // SAFETY: the handle was made by `nvmlEventSetCreate` and is freed once.
    drop(unsafe { Box::from_raw(set.cast::<Set>()) });
    SUCCESS
}

of_device! {
    nvmlDeviceGetSupportedEventTypes(types: *mut c_ulonglong) = |_target| give(types, XID);
    nvmlDeviceRegisterEvents(types: c_ulonglong, set: nvmlEventSet_t) = |target| {
        let set = set.cast::<Set>().as_mut().ok_or(WRONG)?;
        if types & XID != 0 {
            set.gpus.push(target.gpu);
        }
        Ok(())
    };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    event: *mut nvmlEventData_t,
    milliseconds: c_uint,
) -> nvmlReturn_t {
    let answer = || -> Outcome {
        called("nvmlEventSetWait_v2")?;
        // SAFETY: the handle was made by `nvmlEventSetCreate` and not freed.
        let set = unsafe { set.cast::<Set>().as_mut() }.ok_or(WRONG)?;
        let mut left = Duration::from_millis(milliseconds.into());
        loop {
            if let Some((gpu, xid)) = next(set) {
                let told = nvmlEventData_t {
                    device: handle(gpu, None),
                    eventType: XID,
                    eventData: xid,
                    gpuInstanceId: u32::MAX,
                    computeInstanceId: u32::MAX,
                };
                // SAFETY: as nvml.h says of the argument.
                return unsafe { give(event, told) };
            }
            left = left.checked_sub(EVENTS_EVERY).ok_or(TIMEOUT)?;
            std::thread::sleep(EVENTS_EVERY);
        }
    };
    code(answer())
}

/// The next event of a GPU that is in the set.
fn next(set: &mut Set) -> Option<(usize, u64)> {
    let script = script();
    while let Some(event) = script.event.get(set.past) {
        set.past += 1;
        if set.gpus.contains(&event.gpu) {
            return Some((event.gpu, event.xid));
        }
    }
    None
}
