//! Filesystems: size, room left, and hours until full. A source of its own: `statvfs` on a dead network mount never returns.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_core::{Signal, Subject};

use crate::clock::Moment;
use crate::collect::Cause;
use crate::collect::reading::{BlockingSource, Reading, Samples};

/// The rate of filling is that of the last hour.
const WINDOW: Duration = Duration::from_secs(3600);
/// Points are kept this far apart, so that an hour has about sixty of them.
const POINT_EVERY: Duration = Duration::from_secs(60);
/// No rate is told from less than this: one large file written would look like a trend.
const WINDOW_MIN: Duration = Duration::from_secs(600);
/// Beyond a year a filesystem counts as not filling: the slope is noise.
const HOURS_MAX: f64 = 24.0 * 365.0;
/// Most filesystems reported: a bound on series and on time.
const FILESYSTEMS_MAX: usize = 64;
/// Kinds of filesystems that hold files of their own on a disk or a server. Anything else is made up by the kernel.
const KINDS: [&str; 18] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "vfat", "exfat", "ntfs3", "jfs",
    "reiserfs", "nfs", "nfs4", "cifs", "ceph", "lustre",
];

/// One mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number: the same for every place that one filesystem is mounted at.
    pub device: String,
    /// Where.
    pub path: String,
}

/// Filesystems of a `mountinfo` file, each once, at its shortest mount point.
#[must_use]
pub fn mounts(text: &str) -> Vec<Mount> {
    let mut by_device: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in text.lines().filter_map(mount) {
        match by_device.get(&mount.device) {
            Some(known) if known.path.len() <= mount.path.len() => {}
            _ => {
                by_device.insert(mount.device.clone(), mount);
            }
        }
    }
    by_device.into_values().take(FILESYSTEMS_MAX).collect()
}

/// `id parent MAJOR:MINOR root MOUNTPOINT options [optional…] - KIND source super-options`
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let kind = right.split_ascii_whitespace().next()?;
    let mut words = left.split_ascii_whitespace().skip(2);
    let device = words.next()?;
    let path = words.nth(1)?;
    // The root of a container is an overlay; those of other containers show what their host shows already.
    let counts = KINDS.contains(&kind) || (kind == "overlay" && path == "/");
    counts.then(|| Mount { device: device.to_owned(), path: unescape(path) })
}

/// The kernel writes space, tab, newline and backslash of a path as three octal digits.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (code, text)| path.replace(code, text))
}

/// Room of one filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    /// All of it.
    pub size_bytes: f64,
    /// What an ordinary user may still write.
    pub available_bytes: f64,
    /// Files that an ordinary user may still make; `None` where the filesystem sets no number.
    pub inodes_free: Option<f64>,
}

/// Asks the kernel; `None` when it refuses or the filesystem has no size.
pub(crate) fn room(path: &Path) -> Option<Room> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a rounding of bytes beyond 2^53 does not matter")]
    let bytes = |blocks: u64| blocks as f64 * stat.fragment_size() as f64;
    #[expect(clippy::cast_precision_loss, reason = "a rounding of counts beyond 2^53 does not matter")]
    let inodes_free = (stat.files() > 0).then(|| stat.files_available() as f64);
    (stat.blocks() > 0).then(|| Room {
        size_bytes: bytes(stat.blocks()),
        available_bytes: bytes(stat.blocks_available()),
        inodes_free,
    })
}

/// Room left over the last hour, a point a minute.
#[derive(Debug, Clone, Default)]
pub struct Filling {
    points: VecDeque<(Duration, f64)>,
}

impl Filling {
    /// Notes the room left at `at`.
    pub fn note(&mut self, at: Duration, available_bytes: f64) {
        while self.points.front().is_some_and(|(then, _)| *then + WINDOW < at) {
            self.points.pop_front();
        }
        let due = self.points.back().is_none_or(|(then, _)| *then + POINT_EVERY <= at);
        if due {
            self.points.push_back((at, available_bytes));
        }
    }

    /// Hours until `available_bytes` is used up at the slope of the points (least squares); `None` while it does not fill, or with too short a view.
    #[must_use]
    pub fn hours_until_full(&self, available_bytes: f64) -> Option<f64> {
        let (first, last) = (self.points.front()?.0, self.points.back()?.0);
        if last.checked_sub(first)? < WINDOW_MIN {
            return None;
        }
        let hours = |at: &Duration| at.saturating_sub(first).as_secs_f64() / 3600.0;
        #[expect(clippy::cast_precision_loss, reason = "about sixty points")]
        let count = self.points.len() as f64;
        let mean_at = self.points.iter().map(|(at, _)| hours(at)).sum::<f64>() / count;
        let mean = self.points.iter().map(|(_, bytes)| bytes).sum::<f64>() / count;
        let (mut across, mut along) = (0.0, 0.0);
        for (at, bytes) in &self.points {
            across += (hours(at) - mean_at) * (bytes - mean);
            along += (hours(at) - mean_at).powi(2);
        }
        let lost_per_hour = -across / along;
        let left = available_bytes / lost_per_hour;
        (lost_per_hour > 0.0 && left <= HOURS_MAX).then_some(left)
    }
}

/// Filesystems as a source.
#[derive(Debug)]
pub struct FilesystemSource {
    root: PathBuf,
    filling: BTreeMap<String, Filling>,
}

impl FilesystemSource {
    /// Reads below `root`: `/` on the machine itself, the mount point of the host's root in a container.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root, filling: BTreeMap::new() }
    }

    fn under_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl BlockingSource for FilesystemSource {
    fn read(&mut self, now: Moment) -> Reading {
        let text = super::read_text(&self.root.join("proc/1/mountinfo"))
            .or_else(|| super::read_text(&self.root.join("proc/self/mountinfo")));
        let Some(text) = text else {
            return Reading::failed(Cause::Unreadable);
        };
        let mut out = Samples::at(now.at);
        let mut filling = BTreeMap::new();
        for mount in mounts(&text) {
            let Some(room) = room(&self.under_root(&mount.path)) else {
                continue;
            };
            let mut seen = self.filling.remove(&mount.path).unwrap_or_default();
            seen.note(now.steady, room.available_bytes);
            let hours = seen.hours_until_full(room.available_bytes);
            let part = Subject::NodePart(mount.path.clone());
            out.push(&part, Signal::FilesystemSizeBytes, Some(room.size_bytes));
            out.push(&part, Signal::FilesystemAvailableBytes, Some(room.available_bytes));
            out.push(&part, Signal::FilesystemHoursUntilFull, hours);
            filling.insert(mount.path, seen);
        }
        self.filling = filling;
        Reading::of(out.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
31 27 254:0 /srv/a /mnt/bind rw,relatime - ext4 /dev/vda rw,discard
40 27 259:1 / /data\040set rw master:2 - xfs /dev/nvme0n1 rw
41 27 0:55 / /run rw,nosuid - tmpfs tmpfs rw
42 27 0:60 / /nfs rw - nfs4 server:/export rw
broken line
";

    #[test]
    fn finds_each_filesystem_once() {
        let mounts = mounts(MOUNTINFO);
        let mut paths: Vec<_> = mounts.iter().map(|mount| mount.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/", "/data set", "/nfs"]);
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn tells_the_hours_from_the_slope() {
        let mut filling = Filling::default();
        for minute in 0..=30 {
            filling.note(minutes(minute), 1000.0 - 10.0 * minute as f64);
        }
        let hours = filling.hours_until_full(700.0).unwrap();
        assert!((hours - 700.0 / 600.0).abs() < 1e-9, "{hours}");
    }

    #[test]
    fn says_nothing_when_it_does_not_fill_or_has_not_seen_enough() {
        let mut short = Filling::default();
        (0..5).for_each(|minute| short.note(minutes(minute), 1000.0 - minute as f64));
        assert_eq!(short.hours_until_full(995.0), None);
        let mut emptying = Filling::default();
        (0..20).for_each(|minute| emptying.note(minutes(minute), 1000.0 + minute as f64));
        assert_eq!(emptying.hours_until_full(1020.0), None);
    }

    #[test]
    fn keeps_one_hour_only() {
        let mut filling = Filling::default();
        for second in 0..20_000 {
            filling.note(Duration::from_secs(second), 1.0);
        }
        assert!(filling.points.len() <= 61, "{}", filling.points.len());
    }

    #[test]
    fn sees_the_filesystem_that_the_test_runs_on() {
        let room = room(Path::new("/")).unwrap();
        assert!(room.size_bytes >= room.available_bytes);
    }
}
