//! This machine: CPU, memory, pressure, disks and network, read from `/proc` and `/sys` under a configurable root.
//!
//! Not here: filesystems, whose `statvfs` may hang on a dead server and which are a source of their own ([`filesystem`]).
//! Reading ([`NodeReading::read`]) is apart from parsing (the submodules) and from arithmetic ([`samples`]).

pub mod disk;
pub mod filesystem;
pub mod meminfo;
pub mod net;
pub mod psi;
pub mod stat;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tidegate_core::{Sample, Signal, Subject};

use crate::clock::Moment;
use crate::collect::Cause;
use crate::collect::reading::{BlockingSource, Reading, Samples};

/// Largest pseudo-file that is read: a machine with thousands of interfaces stays far below.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most are not longer.
const FILE_BYTES_USUAL: usize = 2048;
/// Most parts (disks, interfaces) reported: a bound on series, far above what a node has.
const PARTS_MAX: usize = 256;

/// What was read of the machine at one moment. A field is `None` where the kernel does not have it or it could not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReading {
    /// Times of all CPUs together.
    pub cpu: Option<stat::CpuTimes>,
    /// Load average over a minute.
    pub load1: Option<f64>,
    /// Memory.
    pub memory: meminfo::Memory,
    /// Pressure stall totals, where the kernel counts them.
    pub pressure: psi::Pressure,
    /// Bytes read and written by disk.
    pub disks: BTreeMap<String, disk::Moved>,
    /// Bytes received and sent by interface.
    pub interfaces: BTreeMap<String, net::Moved>,
}

impl NodeReading {
    /// Reads everything once. What cannot be read stays unknown; an empty result means that `root` holds no `/proc`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| read_text(&root.join(path));
        let stat = text("proc/stat");
        // The network of the machine, not that of the container that this program may run in: that of process 1.
        let net = text("proc/1/net/dev").or_else(|| text("proc/net/dev"));
        Self {
            cpu: stat.as_deref().and_then(stat::cpu_times),
            load1: text("proc/loadavg").as_deref().and_then(stat::load1),
            memory: text("proc/meminfo").as_deref().map(meminfo::parse).unwrap_or_default(),
            pressure: psi::Pressure {
                cpu: text("proc/pressure/cpu").as_deref().and_then(psi::some_total),
                memory: text("proc/pressure/memory").as_deref().and_then(psi::some_total),
                io: text("proc/pressure/io").as_deref().and_then(psi::some_total),
            },
            disks: text("proc/diskstats")
                .map(|stats| disk::parse(&stats, &disk::whole_disks(root)))
                .unwrap_or_default(),
            interfaces: net.as_deref().map(net::parse).unwrap_or_default(),
        }
    }
}

/// The text of one pseudo-file, or nothing when it is absent, refused or absurdly long.
pub(crate) fn read_text(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    // Thousands are read every few seconds: one call takes the usual one in.
    let mut bytes = Vec::with_capacity(FILE_BYTES_USUAL);
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let whole = bytes.len() as u64 != FILE_BYTES_MAX;
    whole.then(|| {
        String::from_utf8(bytes)
            .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned())
    })
}

/// Samples of `now`'s reading; rates and shares need the one before it. A counter that went back gives no sample.
#[must_use]
pub fn samples(before: Option<(&NodeReading, &Moment)>, reading: &NodeReading, now: &Moment) -> Vec<Sample> {
    let mut out = Samples::at(now.at);
    let node = &Subject::Node;
    out.push(node, Signal::Load1, reading.load1);
    out.push(node, Signal::MemoryTotalBytes, reading.memory.total_bytes);
    out.push(node, Signal::MemoryAvailableBytes, reading.memory.available_bytes);
    if let Some((earlier, then)) = before
        && let Some(seconds) = now.seconds_since(then)
    {
        let busy = stat::busy_ratio(earlier.cpu.as_ref(), reading.cpu.as_ref());
        out.push(node, Signal::CpuBusyRatio, busy);
        pressure_samples(&mut out, &earlier.pressure, &reading.pressure, seconds);
        disk_samples(&mut out, &earlier.disks, &reading.disks, seconds);
        network_samples(&mut out, &earlier.interfaces, &reading.interfaces, seconds);
    }
    out.into_vec()
}

fn pressure_samples(out: &mut Samples, earlier: &psi::Pressure, later: &psi::Pressure, seconds: f64) {
    for (signal, from, to) in [
        (Signal::CpuPressureRatio, earlier.cpu, later.cpu),
        (Signal::MemoryPressureRatio, earlier.memory, later.memory),
        (Signal::IoPressureRatio, earlier.io, later.io),
    ] {
        out.push(&Subject::Node, signal, psi::share(from, to, seconds));
    }
}

fn disk_samples(
    out: &mut Samples,
    earlier: &BTreeMap<String, disk::Moved>,
    later: &BTreeMap<String, disk::Moved>,
    seconds: f64,
) {
    for (name, to) in later.iter().take(PARTS_MAX) {
        let Some(from) = earlier.get(name) else { continue };
        let part = Subject::NodePart(name.clone());
        let read = rate(from.read_bytes, to.read_bytes, seconds);
        let written = rate(from.written_bytes, to.written_bytes, seconds);
        out.push(&part, Signal::DiskReadBytesPerSecond, read);
        out.push(&part, Signal::DiskWrittenBytesPerSecond, written);
    }
}

fn network_samples(
    out: &mut Samples,
    earlier: &BTreeMap<String, net::Moved>,
    later: &BTreeMap<String, net::Moved>,
    seconds: f64,
) {
    for (name, to) in later.iter().take(PARTS_MAX) {
        let Some(from) = earlier.get(name) else { continue };
        let part = Subject::NodePart(name.clone());
        let received = rate(from.received_bytes, to.received_bytes, seconds);
        let sent = rate(from.sent_bytes, to.sent_bytes, seconds);
        out.push(&part, Signal::NetworkReceivedBytesPerSecond, received);
        out.push(&part, Signal::NetworkSentBytesPerSecond, sent);
    }
}

/// Change per second of a counter; `None` when it went back, which a reset or a replaced device does.
pub(crate) fn rate(from: u64, to: u64, seconds: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a difference beyond 2^53 is out of reach")]
    let difference = to.checked_sub(from)? as f64;
    Some(difference / seconds)
}

/// The machine as a source: keeps the last reading, to take rates from.
#[derive(Debug)]
pub struct NodeSource {
    root: PathBuf,
    before: Option<(NodeReading, Moment)>,
}

impl NodeSource {
    /// Reads below `root`: `/` on the machine itself, the mount point of the host's root in a container.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root, before: None }
    }
}

impl BlockingSource for NodeSource {
    fn read(&mut self, now: Moment) -> Reading {
        let reading = NodeReading::read(&self.root);
        if reading == NodeReading::default() {
            self.before = None;
            return Reading::failed(Cause::Unreadable);
        }
        let before = self.before.as_ref().map(|(reading, at)| (reading, at));
        let samples = samples(before, &reading, &now);
        self.before = Some((reading, now));
        Reading::of(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidegate_core::Timestamp;

    fn moment(seconds: u64) -> Moment {
        Moment { at: Timestamp::from_secs(1_000_000), steady: Duration::from_secs(seconds) }
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn machine(root: &Path) {
        write(root, "proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n");
        write(root, "proc/loadavg", "0.50 0.40 0.30 2/345 6789\n");
        write(root, "proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 400 kB\n");
        write(root, "proc/diskstats", " 254 0 vda 1 0 10 0 1 0 20 0 0 0 0\n");
        write(root, "proc/1/net/dev", "head\nhead\neth0: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n");
        std::fs::create_dir_all(root.join("sys/block/vda")).unwrap();
    }

    fn value(samples: &[Sample], signal: Signal) -> Option<f64> {
        samples.iter().find(|s| s.signal == signal).map(|s| s.value)
    }

    #[test]
    fn takes_rates_from_the_second_reading_on() {
        let root = tempfile::tempdir().unwrap();
        machine(root.path());
        let mut source = NodeSource::new(root.path().to_owned());
        let first = source.read(moment(10)).samples;
        assert_eq!(value(&first, Signal::Load1), Some(0.5));
        assert_eq!(value(&first, Signal::MemoryAvailableBytes), Some(409_600.0));
        assert_eq!(value(&first, Signal::CpuBusyRatio), None);
        write(root.path(), "proc/stat", "cpu  150 0 150 750 150 0 0 0 0 0\n");
        write(root.path(), "proc/diskstats", " 254 0 vda 1 0 14 0 1 0 20 0 0 0 0\n");
        write(root.path(), "proc/1/net/dev", "h\nh\neth0: 3000 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n");
        let second = source.read(moment(12)).samples;
        assert_eq!(value(&second, Signal::CpuBusyRatio), Some(0.5));
        assert_eq!(value(&second, Signal::DiskReadBytesPerSecond), Some(1024.0));
        assert_eq!(value(&second, Signal::DiskWrittenBytesPerSecond), Some(0.0));
        assert_eq!(value(&second, Signal::NetworkReceivedBytesPerSecond), Some(1000.0));
        let sent = value(&second, Signal::NetworkSentBytesPerSecond);
        assert_eq!(sent, None, "a counter that went back has no rate");
        assert_eq!(value(&second, Signal::CpuPressureRatio), None, "this kernel has no PSI");
    }

    #[test]
    fn a_root_without_proc_is_a_failure_and_no_zero() {
        let root = tempfile::tempdir().unwrap();
        let reading = NodeSource::new(root.path().to_owned()).read(moment(1));
        assert!(reading.samples.is_empty());
        assert_eq!(reading.failure, Some(Cause::Unreadable));
    }

    #[test]
    fn reads_the_machine_that_the_test_runs_on() {
        let reading = NodeReading::read(Path::new("/"));
        assert!(reading.cpu.is_some() && reading.memory.total_bytes.is_some());
        assert!(reading.load1.is_some());
    }
}
