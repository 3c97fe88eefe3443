//! Functions of the library and of texts, and how the C functions are written.

use std::os::raw::{c_char, c_uint};

use nvml_wrapper_sys::bindings::{
    nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED as NO_DRIVER,
    nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as TOO_SMALL,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as WRONG, nvmlReturn_t,
};

use crate::state::{Outcome, called, code, give};

/// The driver that a script does not name.
const DRIVER: &str = "580.95.05";

/// A C function of a device: `name(arguments) = |target| outcome`.
macro_rules! of_device {
    ($($name:ident($($argument:ident: $kind:ty),*) = |$target:ident| $body:expr;)+) => { $(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(device: nvml_wrapper_sys::bindings::nvmlDevice_t, $($argument: $kind),*)
            -> nvml_wrapper_sys::bindings::nvmlReturn_t
        {
            let answer = || -> crate::state::Outcome {
                let $target = crate::state::called_on(stringify!($name), device)?;
                // SAFETY: the caller's pointers are as nvml.h asks for.
                unsafe { $body }
            };
            crate::state::code(answer())
        }
    )+ };
}
pub(crate) use of_device;

/// Writes a text with its zero byte into `length` bytes.
///
/// # Safety
/// `to` is null, or `length` bytes may be written there.
pub(crate) unsafe fn give_text(to: *mut c_char, length: c_uint, text: &str) -> Outcome {
    if to.is_null() {
        return Err(WRONG);
    }
    if text.len() >= length as usize {
        return Err(TOO_SMALL);
    }
    // SAFETY: text and zero byte fit, by the check above; the caller vouches for the room.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    code(called("nvmlInit_v2").and_then(|script| {
        let has_script = script.driver.is_some() || !script.gpu.is_empty();
        if has_script { Ok(()) } else { Err(NO_DRIVER) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    code(called("nvmlShutdown").map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let script = called("nvmlSystemGetDriverVersion");
    // SAFETY: as nvml.h says of the arguments.
    code(
        script.and_then(|script| unsafe {
            give_text(version, length, script.driver.as_deref().unwrap_or(DRIVER))
        }),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    let script = called("nvmlDeviceGetCount_v2");
    // SAFETY: as nvml.h says of the arguments.
    code(
        script.and_then(|script| unsafe {
            give(count, c_uint::try_from(script.gpu.len()).unwrap_or(c_uint::MAX))
        }),
    )
}
