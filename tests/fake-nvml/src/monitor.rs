//! The performance monitor: two samples of one GPU or instance, and what was between them.

use std::collections::BTreeMap;
use std::os::raw::c_uint;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{
    nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as WRONG,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as NOT_SUPPORTED, nvmlReturn_enum_NVML_SUCCESS as SUCCESS,
    nvmlReturn_t,
};

use crate::calls::of_device;
use crate::script::Script;
use crate::state::{Outcome, called, code, give};

/// Samples closer together are refused, so that nobody takes them.
const GAP_MIN: Duration = Duration::from_millis(100);

/// What a sample handle leads to.
struct Sample {
    taken: Option<(usize, Option<u32>, Instant)>,
}

#[expect(clippy::disallowed_methods, reason = "a driver has a clock of its own")]
fn now() -> Instant {
    Instant::now()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleAlloc(sample: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    let made = called("nvmlGpmSampleAlloc").map(|_| Box::into_raw(Box::new(Sample { taken: None })).cast());
    // SAFETY: as nvml.h says of the argument.
    code(made.and_then(|made| unsafe { give(sample, made) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    if sample.is_null() {
        return WRONG;
    }
    // SAFETY: the handle was made by `nvmlGpmSampleAlloc` and is freed once.
    drop(unsafe { Box::from_raw(sample.cast::<Sample>()) });
    SUCCESS
}

of_device! {
    nvmlGpmQueryDeviceSupport(support: *mut nvmlGpmSupport_t) = |target| {
        let version = (*support).version;
        let has_one = target.gpu().monitor.is_some() || target.gpu().instance.iter().any(|one| one.monitor.is_some());
        give(support, nvmlGpmSupport_t { version, isSupportedDevice: c_uint::from(has_one) })
    };
    nvmlGpmSampleGet(sample: nvmlGpmSample_t) = |target| {
        target.whole(|gpu| gpu.monitor.as_ref())?;
        take(sample, target.gpu, None)
    };
    nvmlGpmMigSampleGet(instance: c_uint, sample: nvmlGpmSample_t) = |target| {
        let is_there = target.gpu().instance.iter().any(|one| one.id == instance);
        if is_there { take(sample, target.gpu, Some(instance)) } else { Err(WRONG) }
    };
}

/// # Safety
/// The handle was made by `nvmlGpmSampleAlloc` and not freed.
unsafe fn take(sample: nvmlGpmSample_t, gpu: usize, instance: Option<u32>) -> Outcome {
    // SAFETY: the caller vouches for it.
    let sample = unsafe { sample.cast::<Sample>().as_mut() }.ok_or(WRONG)?;
    sample.taken = Some((gpu, instance, now()));
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    let answer = || -> Outcome {
        let script = called("nvmlGpmMetricsGet")?;
        // SAFETY: as nvml.h says of the argument; its handles were made by `nvmlGpmSampleAlloc`.
        let (request, earlier, later) = unsafe {
            let request = request.as_mut().ok_or(WRONG)?;
            let taken = |sample: nvmlGpmSample_t| sample.cast::<Sample>().as_ref()?.taken;
            let (earlier, later) =
                (taken(request.sample1).ok_or(WRONG)?, taken(request.sample2).ok_or(WRONG)?);
            (request, earlier, later)
        };
        let is_pair = (earlier.0, earlier.1) == (later.0, later.1);
        if !is_pair || later.2.saturating_duration_since(earlier.2) < GAP_MIN {
            return Err(WRONG);
        }
        let metrics = metrics(&script, later.0, later.1).ok_or(NOT_SUPPORTED)?;
        for metric in request.metrics.iter_mut().take(request.numMetrics as usize) {
            let said = metrics.get(&metric.metricId.to_string());
            metric.nvmlReturn = if said.is_some() { SUCCESS } else { NOT_SUPPORTED };
            metric.value = said.copied().unwrap_or_default();
        }
        Ok(())
    };
    code(answer())
}

fn metrics(script: &Script, gpu: usize, instance: Option<u32>) -> Option<&BTreeMap<String, f64>> {
    let gpu = script.gpu.get(gpu)?;
    match instance {
        None => gpu.monitor.as_ref(),
        Some(id) => gpu.instance.iter().find(|one| one.id == id)?.monitor.as_ref(),
    }
}
