//! The script as it stands, and what has happened so far.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST as LOST,
    nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT as WRONG,
    nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as NOT_SUPPORTED, nvmlReturn_enum_NVML_ERROR_UNKNOWN as UNKNOWN,
    nvmlReturn_enum_NVML_SUCCESS as SUCCESS, nvmlReturn_t,
};

use crate::place;
use crate::script::{Gpu, Instance, Script};

/// How often a hanging call looks whether it may go on.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Handles of a GPU's instances follow its own.
const HANDLES_PER_GPU: usize = 32;

/// The outcome of a call: the driver's return code is the error.
pub(crate) type Outcome<T = ()> = Result<T, nvmlReturn_t>;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) script: Arc<Script>,
    /// Index of the GPU.
    pub(crate) gpu: usize,
    /// Which of its instances, if it is one.
    instance: Option<usize>,
}

impl Target {
    /// The GPU that it is, or is part of.
    pub(crate) fn gpu(&self) -> &Gpu {
        &self.script.gpu[self.gpu]
    }

    /// The instance that it is.
    pub(crate) fn instance(&self) -> Option<&Instance> {
        self.instance.map(|at| &self.gpu().instance[at])
    }

    /// What a whole GPU says; an instance has no such thing.
    pub(crate) fn whole<'a, T>(&'a self, say: impl FnOnce(&'a Gpu) -> Option<T>) -> Outcome<T> {
        if self.instance.is_some() { Err(NOT_SUPPORTED) } else { say(self.gpu()).ok_or(NOT_SUPPORTED) }
    }
}

#[derive(Debug, Default)]
struct State {
    script: Arc<Script>,
    /// Which version of the file that is: inode, length, time of change.
    version: Option<(u64, u64, i64)>,
    /// Calls so far, by GPU.
    calls: BTreeMap<usize, u64>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The script as it stands. One that cannot be read is one that says nothing: no GPUs, and no driver.
pub(crate) fn script() -> Arc<Script> {
    let mut state = state();
    let state = state.get_or_insert_default();
    let path = place::script();
    let about = path.as_ref().and_then(|path| std::fs::metadata(path).ok());
    let version = about.map(|about| (about.ino(), about.len(), about.mtime_nsec()));
    if version != state.version {
        let text = path.and_then(|path| std::fs::read_to_string(path).ok());
        let read = text.map(|text| toml::from_str(&text).expect("the script says nothing that there is not"));
        state.script = Arc::new(read.unwrap_or_default());
        state.version = version;
    }
    Arc::clone(&state.script)
}

/// A call of no device: whether it fails. Does not return while the script lets it hang.
pub(crate) fn called(function: &str) -> Outcome<Arc<Script>> {
    let mut now = script();
    if now.journal {
        journal(function);
    }
    while now.hang.as_deref() == Some(function) {
        std::thread::sleep(LOOK_EVERY);
        now = script();
    }
    match now.errors.get(function) {
        Some(code) => Err(*code),
        None => Ok(now),
    }
}

/// A call of a device: what it is, or how the call fails.
pub(crate) fn called_on(function: &str, device: nvmlDevice_t) -> Outcome<Target> {
    let script = called(function)?;
    let (gpu, part) = (device.addr() / HANDLES_PER_GPU, device.addr() % HANDLES_PER_GPU);
    let gpu = gpu.checked_sub(1).ok_or(WRONG)?;
    let of_gpu = script.gpu.get(gpu).ok_or(WRONG)?;
    if let Some(after) = of_gpu.lost_after {
        let mut state = state();
        let calls = state.get_or_insert_default().calls.entry(gpu).or_default();
        *calls += 1;
        if *calls > after {
            return Err(LOST);
        }
    }
    if let Some(code) = of_gpu.errors.get(function) {
        return Err(*code);
    }
    let instance = part.checked_sub(1);
    if instance.is_some_and(|at| at >= of_gpu.instance.len()) {
        return Err(WRONG);
    }
    Ok(Target { script, gpu, instance })
}

/// The handle of a GPU, or of one of its instances. It is a number and leads nowhere.
pub(crate) fn handle(gpu: usize, instance: Option<usize>) -> nvmlDevice_t {
    let part = instance.map_or(0, |at| at + 1);
    std::ptr::without_provenance_mut((gpu + 1) * HANDLES_PER_GPU + part)
}

/// The return code of an outcome.
pub(crate) fn code(outcome: Outcome) -> nvmlReturn_t {
    outcome.err().unwrap_or(SUCCESS)
}

/// Writes an answer to where the caller wants it.
///
/// # Safety
/// `to` is null, or points to where a `T` may be written.
pub(crate) unsafe fn give<T>(to: *mut T, value: T) -> Outcome {
    if to.is_null() {
        return Err(WRONG);
    }
    // SAFETY: it is not null, and the caller vouches for the rest.
    unsafe { to.write(value) };
    Ok(())
}

fn journal(function: &str) {
    let path = place::script().map(|script| script.with_file_name("fake-nvml.calls")).unwrap_or_default();
    let file = OpenOptions::new().append(true).create(true).open(path);
    // A journal that cannot be written fails the test that reads it.
    drop(file.and_then(|mut file| writeln!(file, "{function}")));
}

/// A failure that has no better name.
pub(crate) const FAILED: nvmlReturn_t = UNKNOWN;
