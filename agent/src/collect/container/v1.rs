//! A container's cgroups in the older hierarchies, one per controller. They have no PSI. Reading ([`read`]) is apart from parsing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::usage::{Moved, Usage, keyed};
use super::v2;
use crate::collect::node::psi::Pressure;
use crate::collect::node::read_text;

/// Limits from this on are no limits: the kernel writes the largest number of whole pages where there is none.
const UNLIMITED_BYTES: u64 = 1 << 62;
/// Where a controller's hierarchy may be mounted, first choice first.
const CPU: [&str; 2] = ["cpu", "cpu,cpuacct"];
const CPUACCT: [&str; 2] = ["cpuacct", "cpu,cpuacct"];

/// Where the hierarchies are.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    root: PathBuf,
}

impl Hierarchies {
    /// Below `root`, usually `/sys/fs/cgroup`.
    #[must_use]
    pub const fn below(root: PathBuf) -> Self {
        Self { root }
    }

    /// The hierarchy to look for containers in: the runtimes put every container into this one.
    #[must_use]
    pub fn to_search(&self) -> PathBuf {
        self.root.join("memory")
    }

    fn text(&self, controllers: &[&str], path: &Path, name: &str) -> Option<String> {
        controllers.iter().find_map(|controller| read_text(&self.root.join(controller).join(path).join(name)))
    }
}

/// Reads the cgroups of the container at `path` below each hierarchy; `stacked` as in [`v2::read`].
#[must_use]
pub fn read(hierarchies: &Hierarchies, path: &Path, stacked: &BTreeSet<String>) -> Usage {
    let text = |controllers: &[&str], name: &str| hierarchies.text(controllers, path, name);
    let number = |text: Option<String>| text?.trim().parse::<u64>().ok();
    let memory = text(&["memory"], "memory.stat");
    let of = |text: &Option<String>, key: &str| keyed(text.as_deref()?, key);
    let quota = text(&CPU, "cpu.cfs_quota_us").zip(text(&CPU, "cpu.cfs_period_us"));
    let moved = text(&["blkio"], "blkio.throttle.io_service_bytes_recursive")
        .or_else(|| text(&["blkio"], "blkio.throttle.io_service_bytes"));
    Usage {
        cpu_ns: number(text(&CPUACCT, "cpuacct.usage")),
        periods: text(&CPU, "cpu.stat").as_deref().and_then(v2::periods),
        // A quota of -1 is none, and no number of the form that is read here.
        cpu_limit_cores: quota
            .and_then(|(quota, period)| v2::cpu_limit_cores(&format!("{} {}", quota.trim(), period.trim()))),
        memory_bytes: number(text(&["memory"], "memory.usage_in_bytes")),
        inactive_file_bytes: of(&memory, "total_inactive_file"),
        rss_bytes: of(&memory, "total_rss"),
        memory_limit_bytes: number(text(&["memory"], "memory.limit_in_bytes"))
            .filter(|limit| *limit < UNLIMITED_BYTES),
        oom_kills: of(&text(&["memory"], "memory.oom_control"), "oom_kill"),
        moved: moved.map(|text| self::moved(&text, stacked)),
        pressure: Pressure::default(),
    }
}

/// Bytes of a `blkio` file, lines of `MAJOR:MINOR Read NUMBER`. The sums at its end count other kinds too and are left.
#[must_use]
pub fn moved(text: &str, stacked: &BTreeSet<String>) -> Moved {
    let mut all = Moved::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(device), Some(kind), Some(bytes)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if stacked.contains(device) {
            continue;
        }
        let bytes: u64 = bytes.parse().unwrap_or_default();
        match kind {
            "Read" => all.read_bytes = all.read_bytes.saturating_add(bytes),
            "Write" => all.written_bytes = all.written_bytes.saturating_add(bytes),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_of_all_disks_add_up() {
        let text = "8:0 Read 4096\n8:0 Write 10\n8:0 Sync 4106\n8:0 Total 4106\n8:16 Read 1\n253:0 Read 4097\nTotal 8204\n";
        let stacked = BTreeSet::from(["253:0".to_owned()]);
        assert_eq!(moved(text, &stacked), Moved { read_bytes: 4097, written_bytes: 10 });
        assert_eq!(moved("Total 0\n", &stacked), Moved::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = format!("{}\n8:0 Read 7\n", String::from_utf8_lossy(&bytes));
            prop_assert!(moved(&text, &BTreeSet::new()).read_bytes >= 7, "a good line counts whatever stands before it");
        }
    }
}
