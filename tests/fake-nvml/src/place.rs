//! Where the script is.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names the script for a process that loads one library.
const VARIABLE: &str = "TIDEGATE_FAKE_NVML";
/// The script's name beside the library.
const NAME: &str = "fake-nvml.toml";

/// The script's path, if there is any.
pub(crate) fn script() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(library()?.parent()?.join(NAME)),
    }
}

/// The file that this code was loaded from.
fn library() -> Option<PathBuf> {
    let here = script as *const libc::c_void;
    let mut about = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is one of this library's, and `about` outlives the call; a name that is set ends in a zero byte and lives as
    // long as the library is loaded.
    let name = unsafe {
        if libc::dladdr(here, about.as_mut_ptr()) == 0 {
            return None;
        }
        let name = about.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_path_buf())
}
