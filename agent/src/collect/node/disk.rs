//! Bytes moved by disks: `/proc/diskstats`, whole disks only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes read and written since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Read.
    pub read_bytes: u64,
    /// Written.
    pub written_bytes: u64,
}

/// The kernel counts in sectors of this size, whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;
/// Devices that are not disks: made of memory or of files, or removable.
const NOT_DISKS: [&str; 6] = ["loop", "ram", "zram", "fd", "sr", "nbd"];

/// Names of the whole disks, from `/sys/block`; `None` where that cannot be read.
#[must_use]
pub fn whole_disks(root: &Path) -> Option<BTreeSet<String>> {
    let entries = std::fs::read_dir(root.join("sys/block")).ok()?;
    // A name that holds a slash (`cciss/c0d0`) has `!` in its place there.
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.replace('!', "/")));
    Some(names.collect())
}

/// Bytes moved by each disk. `whole` tells disks from their partitions; where it is unknown, every device is kept.
#[must_use]
pub fn parse(text: &str, whole: &Option<BTreeSet<String>>) -> BTreeMap<String, Moved> {
    text.lines()
        .filter_map(line)
        .filter(|(name, _)| !NOT_DISKS.iter().any(|prefix| is_numbered(name, prefix)))
        .filter(|(name, _)| whole.as_ref().is_none_or(|whole| whole.contains(*name)))
        .map(|(name, moved)| (name.to_owned(), moved))
        .collect()
}

/// Whether `name` is `prefix` and a number: `loop0`, but not `sram`.
fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `major minor name reads merged SECTORS ms writes merged SECTORS ms …`; further fields came with later kernels.
fn line(line: &str) -> Option<(&str, Moved)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?;
    let read: u64 = words.nth(2)?.parse().ok()?;
    let written: u64 = words.nth(3)?.parse().ok()?;
    Some((
        name,
        Moved {
            read_bytes: read.checked_mul(SECTOR_BYTES)?,
            written_bytes: written.checked_mul(SECTOR_BYTES)?,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX_5_15: &str = "   7       0 loop0 11 0 28 0 0 0 0 0 0 4 0 0 0 0 0 0 0
 259       0 nvme0n1 1000 20 80000 500 2000 30 160000 900 0 700 1400 5 0 4096 1 3 9
 259       1 nvme0n1p1 900 20 70000 500 1900 30 150000 900 0 700 1400 0 0 0 0 0 0
   8       0 sda 5 0 16 1 6 0 32 2 0 3 3
   8      16 sdb 5 0 broken 1 6 0 32 2 0 3 3
";

    #[test]
    fn keeps_whole_disks_and_counts_bytes() {
        let whole = Some(BTreeSet::from(["nvme0n1".to_owned(), "sda".into(), "sdb".into(), "loop0".into()]));
        let disks = parse(LINUX_5_15, &whole);
        assert_eq!(disks.keys().collect::<Vec<_>>(), ["nvme0n1", "sda"]);
        let moved = Moved { read_bytes: 80_000 * 512, written_bytes: 160_000 * 512 };
        assert_eq!(disks["nvme0n1"], moved);
    }

    #[test]
    fn keeps_every_device_where_disks_cannot_be_told() {
        let disks = parse(LINUX_5_15, &None);
        assert_eq!(disks.keys().collect::<Vec<_>>(), ["nvme0n1", "nvme0n1p1", "sda"]);
    }

    #[test]
    fn a_short_line_of_an_old_kernel_is_left_out() {
        assert!(parse("   3    1 hda1 35486 38030 38030 38030\n", &None).is_empty());
    }
}
