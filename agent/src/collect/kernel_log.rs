//! The kernel log, looked through for GPU errors: `/dev/kmsg`, the same by a system call where the device may not be opened, or a file of
//! lines such as a system logger writes.
//!
//! The kernel still holds what happened before this program started; each record says when. A file is read from where it ends now, and
//! is followed through rotation and truncation.

mod ring;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use tidegate_core::Timestamp;

use super::gpu::Xids;
use super::gpu::xid::kernel_line;
use super::node::read_text;
use super::reading::{BlockingSource, Cause, Reading};
use crate::clock::Moment;

/// Longest record of the device: the kernel's own bound.
const RECORD_BYTES_MAX: usize = 8192;
/// Records taken in one reading: more than the device holds by default, so that one reading catches up.
const RECORDS_MAX: usize = 65_536;
/// Bytes taken from a file in one reading; the rest is taken by the next ones.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is open.
enum Log {
    /// The device: one record per read.
    Device { file: File, booted_at: Option<Timestamp> },
    /// The kernel's buffer: times since boot up to which it was looked through.
    Ring { seen: Duration, booted_at: Option<Timestamp> },
    /// A file: which one, and what its last line lacks.
    Lines { file: File, inode: u64, at: u64, partial: Vec<u8> },
}

/// The kernel log as a source. It gives no signals; what it finds goes into the book of GPU errors.
pub(crate) struct KernelLogSource {
    path: PathBuf,
    root: PathBuf,
    xids: Xids,
    log: Option<Log>,
    /// Whether a file that appears now is new, and so to be read from its beginning.
    from_start: bool,
}

impl KernelLogSource {
    /// Reads `path`; `root` is where the machine's `/proc` is seen.
    pub(crate) const fn new(path: PathBuf, root: PathBuf, xids: Xids) -> Self {
        Self { path, root, xids, log: None, from_start: false }
    }

    fn open(&self, now: Moment) -> std::io::Result<Log> {
        let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&self.path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if is_device(&self.path) => {
                let booted_at = booted_at(&self.root, now);
                return ring::read()
                    .map(|_| Log::Ring { seen: Duration::ZERO, booted_at })
                    .map_err(|_| error);
            }
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        if about.file_type().is_char_device() {
            return Ok(Log::Device { file, booted_at: booted_at(&self.root, now) });
        }
        let at = if self.from_start { 0 } else { file.seek(SeekFrom::End(0))? };
        Ok(Log::Lines { file, inode: about.ino(), at, partial: Vec::new() })
    }

    fn note(&self, line: &str, at: Timestamp) {
        if let Some((pci, xid)) = kernel_line(line) {
            self.xids.note_kernel(pci, xid, at);
        }
    }

    fn look_through(&mut self, now: Moment) -> std::io::Result<()> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => self.open(now)?,
        };
        match &mut log {
            Log::Device { file, booted_at } => {
                let mut buffer = [0; RECORD_BYTES_MAX];
                for _ in 0..RECORDS_MAX {
                    match file.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(length) => {
                            if let Some((since_boot, text)) = record(&buffer[..length]) {
                                self.note(&text, booted_at.map_or(now.at, |at| at + since_boot));
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        // Records that were overwritten before they were read: the next read goes on with what there is.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Log::Ring { seen, booted_at } => {
                let mut newest = *seen;
                for (since_boot, text) in ring::read()?.lines().filter_map(ring::record) {
                    if since_boot > *seen {
                        self.note(text, booted_at.map_or(now.at, |at| at + since_boot));
                        newest = newest.max(since_boot);
                    }
                }
                *seen = newest;
            }
            Log::Lines { file, inode, at, partial } => {
                let is_gone = !is_same(&self.path, *inode, *at);
                for line in lines(file, at, partial)? {
                    self.note(&line, now.at);
                }
                if is_gone {
                    self.from_start = true;
                    return Ok(());
                }
            }
        }
        self.log = Some(log);
        Ok(())
    }
}

impl BlockingSource for KernelLogSource {
    fn read(&mut self, now: Moment) -> Reading {
        match self.look_through(now) {
            Ok(()) => Reading::default(),
            Err(_) => Reading::failed(Cause::Unreadable),
        }
    }
}

/// How a kernel log can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The file or the device can be opened.
    Open,
    /// The device cannot, but the kernel says the same when it is asked: `syslog(2)`.
    Asked,
}

/// How the log at `path` can be read.
///
/// # Errors
/// When it cannot: what the system says to opening it.
pub fn way(path: &Path) -> std::io::Result<Way> {
    match File::open(path) {
        Ok(_) => Ok(Way::Open),
        Err(error) if is_device(path) => ring::read().map(|_| Way::Asked).map_err(|_| error),
        Err(error) => Err(error),
    }
}

/// Whether it is the kernel's own device, there or not.
fn is_device(path: &Path) -> bool {
    path.ends_with("dev/kmsg")
}

/// Whether the file at `path` is still the open one, and no shorter than what was read of it.
fn is_same(path: &Path, inode: u64, at: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.ino() == inode && about.len() >= at)
}

/// Whole lines that were added. A line that is longer than what is taken in one reading is cut there.
fn lines(file: &mut File, at: &mut u64, partial: &mut Vec<u8>) -> std::io::Result<Vec<String>> {
    *at += file.take(BYTES_MAX).read_to_end(partial)? as u64;
    let end = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let is_overlong = partial.len() as u64 > BYTES_MAX;
    let whole: Vec<u8> = partial.drain(..if is_overlong { partial.len() } else { end }).collect();
    Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
}

/// A record of the device: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`, then lines of properties. Gives the time since boot and the text.
fn record(bytes: &[u8]) -> Option<(Duration, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, message) = text.split_once(';')?;
    let micros = head.split(',').nth(2)?.parse().ok()?;
    Some((Duration::from_micros(micros), message.lines().next()?.to_owned()))
}

/// When the machine was started; `None` where it does not say how long ago that was.
fn booted_at(root: &Path, now: Moment) -> Option<Timestamp> {
    let uptime = read_text(&root.join("proc/uptime"))?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(now.at.before(Duration::try_from_secs_f64(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const XID: &str = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.\n";

    fn moment(seconds: i64) -> Moment {
        Moment { at: Timestamp::from_secs(seconds), steady: Duration::from_secs(seconds.unsigned_abs()) }
    }

    #[test]
    fn a_record_of_the_device_says_when_and_what() {
        let read = record(
            b"4,1234,5000000,-;NVRM: Xid (0000:3b:00): 31, pid=1\n SUBSYSTEM=pci\n DEVICE=+pci:0000\n",
        );
        assert_eq!(read, Some((Duration::from_secs(5), "NVRM: Xid (0000:3b:00): 31, pid=1".to_owned())));
        for wrong in [&b""[..], b"no head", b"4,5;x", b"4,5,x,-;y", b"\xff\xfe;"] {
            assert_eq!(record(wrong), None);
        }
    }

    #[test]
    fn a_file_is_followed_from_its_end_through_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kern.log");
        std::fs::write(&path, XID).unwrap();
        let xids = Xids::default();
        let mut source = KernelLogSource::new(path.clone(), "/".into(), xids.clone());
        let mut read = |at| {
            assert_eq!(source.read(moment(at)).failure, None);
            xids.counts().first().map(|count| (count.count, count.last))
        };
        assert_eq!(read(1), None, "what was there before is old");
        let append = |text: &str| {
            let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let (head, tail) = XID.split_at(20);
        append(head);
        assert_eq!(read(2), None, "half a line says nothing yet");
        append(tail);
        assert_eq!(read(3), Some((1, Timestamp::from_secs(3))));
        append(XID);
        std::fs::rename(&path, folder.path().join("kern.log.1")).unwrap();
        append(XID);
        assert_eq!(read(4), Some((2, Timestamp::from_secs(4))), "the end of the old file");
        assert_eq!(read(5), Some((3, Timestamp::from_secs(5))), "the new file from its beginning");
        std::fs::write(&path, "").unwrap();
        read(6);
        append(XID);
        assert_eq!(read(7), Some((4, Timestamp::from_secs(7))));
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_a_failure_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kern.log");
        let mut source = KernelLogSource::new(path.clone(), "/".into(), Xids::default());
        assert_eq!(source.read(moment(1)).failure, Some(Cause::Unreadable));
        std::fs::write(&path, "").unwrap();
        assert_eq!(source.read(moment(2)).failure, None);
    }

    #[test]
    fn only_the_kernels_own_device_is_asked_for_otherwise() {
        assert!(is_device(Path::new("/host/dev/kmsg")) && !is_device(Path::new("/var/log/kern.log")));
        let folder = tempfile::tempdir().unwrap();
        assert!(way(&folder.path().join("kern.log")).is_err());
        let device = folder.path().join("dev/kmsg");
        // Whether this process may ask the kernel is no matter of the test; that it says so is.
        let asked = way(&device);
        let mut source = KernelLogSource::new(device, "/".into(), Xids::default());
        let read = source.read(moment(1)).failure;
        assert_eq!(asked.is_ok(), read.is_none(), "{asked:?} {read:?}");
        assert!(asked.is_err() || matches!(asked, Ok(Way::Asked)));
    }

    #[test]
    fn records_of_before_the_start_have_their_own_time() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/uptime"), "100.50 12.0\n").unwrap();
        assert_eq!(booted_at(root.path(), moment(1000)), Some(Timestamp::from_millis(899_500)));
        assert_eq!(booted_at(Path::new("/nowhere"), moment(1000)), None);
    }
}
