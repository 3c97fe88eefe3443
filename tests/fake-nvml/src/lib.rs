//! A `libnvidia-ml.so` for GPUs that are not there: the C functions that Tidegate's GPU collector calls, answered from a script.
//!
//! The script is a TOML file ([`script`]): the one that the variable `TIDEGATE_FAKE_NVML` names, else `fake-nvml.toml` beside the library.
//! It is read again when it changes, so that a test may break and mend things while they run. A copy of the library is a library of its
//! own to the loader, so that tests in one process have one each. Not here: anything that writes to a GPU.
#![expect(
    unsafe_code,
    reason = "a C library's functions take pointers; each is read and written as nvml.h says"
)]

mod calls;
mod device;
mod events;
mod monitor;
mod place;
pub mod script;
mod state;
