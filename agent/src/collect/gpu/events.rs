//! The driver's events: errors (Xid) as they happen, waited for on a thread of their own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{EventSet, Nvml};

use super::xid::Xid;
use super::xids::Xids;
use crate::clock;

/// How long one wait lasts at most: how long the end may have to wait for this thread.
const WAIT_MILLISECONDS: u32 = 500;

/// Listens until `stop`, or until the driver no longer lets it; who called may call again.
pub(super) fn listen(nvml: &Nvml, stop: &AtomicBool, xids: &Xids) {
    let Some(set) = register(nvml) else { return };
    while !stop.load(Ordering::Relaxed) {
        match set.wait(WAIT_MILLISECONDS) {
            Ok(event) => {
                let code = match event.event_data {
                    Some(XidError::Value(code)) => u32::try_from(code).ok(),
                    _ => None,
                };
                if let Some((code, uuid)) = code.zip(event.device.uuid().ok()) {
                    xids.note_driver(&uuid, Xid::of(code), clock::wall());
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(error) => {
                tracing::debug!(%error, "the driver ended the wait for GPU errors");
                return;
            }
        }
    }
}

/// A set that every GPU with such events tells its errors to; `None` when there is none, or when the driver refuses.
///
/// The wrapper frees the set when a GPU refuses to be registered, so that it is begun anew without that one.
fn register(nvml: &Nvml) -> Option<EventSet<'_>> {
    let count = nvml.device_count().ok()?;
    let mut left_out = BTreeSet::new();
    for index in 0..count {
        let tells = nvml.device_by_index(index).and_then(|device| device.supported_event_types());
        if !tells.is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR)) {
            left_out.insert(index);
        }
    }
    // Each round leaves out one GPU more.
    while left_out.len() < count as usize {
        match register_all_but(nvml, count, &left_out)? {
            Ok(set) => return Some(set),
            Err(refused) => left_out.insert(refused),
        };
    }
    None
}

/// The set, or the GPU that refused.
fn register_all_but<'nvml>(
    nvml: &'nvml Nvml,
    count: u32,
    left_out: &BTreeSet<u32>,
) -> Option<Result<EventSet<'nvml>, u32>> {
    let mut set = nvml.create_event_set().ok()?;
    for index in (0..count).filter(|index| !left_out.contains(index)) {
        let Ok(device) = nvml.device_by_index(index) else { return Some(Err(index)) };
        match device.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
            Ok(registered) => set = registered,
            Err(_) => return Some(Err(index)),
        }
    }
    Some(Ok(set))
}
