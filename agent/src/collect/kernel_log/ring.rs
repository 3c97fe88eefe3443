//! The kernel's ring buffer by the system call `syslog(2)`: for who may not open the device, as in a container, and has the capability
//! SYSLOG.

use std::ffi::{c_char, c_int};
use std::io;
use std::time::Duration;

/// Copies all that the buffer holds, and takes nothing away.
const READ_ALL: c_int = 3;
/// Bytes that the buffer has room for.
const SIZE: c_int = 10;
/// The largest buffer that is read; kernels are built with 2^25 bytes at most.
const BYTES_MAX: usize = 1 << 25;

/// Everything that the buffer holds, the oldest first.
///
/// # Errors
/// When the kernel does not say: without the capability, or where a seccomp profile forbids the call.
pub(super) fn read() -> io::Result<String> {
    let size = call(SIZE, &mut [])?.min(BYTES_MAX);
    let mut bytes = vec![0; size];
    let length = call(READ_ALL, &mut bytes)?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[expect(unsafe_code, reason = "the C library has it, and no safe crate that is kept does")]
fn call(action: c_int, bytes: &mut [u8]) -> io::Result<usize> {
    let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
    // SAFETY: the kernel writes at most `length` bytes to where `bytes` begins, and keeps no pointer to it; SIZE writes nothing.
    let answer = unsafe { libc::klogctl(action, bytes.as_mut_ptr().cast::<c_char>(), length) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A line, `<PRIORITY>[SECONDS][CALLER] TEXT`: the time since boot and the text. `None` where the kernel tells no times: what has been seen
/// before could not be told from what is new.
pub(super) fn record(line: &str) -> Option<(Duration, &str)> {
    let (_, rest) = line.strip_prefix('<')?.split_once('>')?;
    let (seconds, text) = rest.strip_prefix('[')?.split_once(']')?;
    let since_boot = Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()?;
    let text =
        text.strip_prefix('[').and_then(|caller| caller.split_once(']')).map_or(text, |(_, text)| text);
    Some((since_boot, text.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_what() {
        let xid = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.";
        for line in [format!("<4>[   12.500000] {xid}"), format!("<4>[   12.500000][  T123] {xid}")] {
            assert_eq!(record(&line), Some((Duration::from_millis(12_500), xid)));
        }
        for wrong in ["", xid, "<4>no time", "<4>[soon] text", "<4>[-1.0] text", "[1.0] no priority"] {
            assert_eq!(record(wrong), None, "{wrong}");
        }
    }
}
