//! A container's cgroup in the unified hierarchy. Reading ([`read`]) is apart from parsing.

use std::collections::BTreeSet;
use std::path::Path;

use super::usage::{Moved, Periods, Usage, keyed};
use crate::collect::node::psi::{self, Pressure};
use crate::collect::node::read_text;

/// Reads the cgroup at `dir`. `stacked` names the devices, as `MAJOR:MINOR`, whose bytes pass another device once more; limits are
/// those of `lately`, where they were read lately.
#[must_use]
pub fn read(dir: &Path, stacked: &BTreeSet<String>, lately: Option<&Usage>) -> Usage {
    let text = |name: &str| read_text(&dir.join(name));
    let cpu = text("cpu.stat");
    let memory = text("memory.stat");
    let of = |text: &Option<String>, key: &str| keyed(text.as_deref()?, key);
    Usage {
        cpu_ns: of(&cpu, "usage_usec").and_then(|us| us.checked_mul(1000)),
        periods: cpu.as_deref().and_then(periods),
        cpu_limit_cores: match lately {
            Some(lately) => lately.cpu_limit_cores,
            None => text("cpu.max").as_deref().and_then(cpu_limit_cores),
        },
        memory_bytes: text("memory.current").and_then(|text| text.trim().parse().ok()),
        inactive_file_bytes: of(&memory, "inactive_file"),
        rss_bytes: of(&memory, "anon"),
        // `max` is no number: there is no limit.
        memory_limit_bytes: match lately {
            Some(lately) => lately.memory_limit_bytes,
            None => text("memory.max").and_then(|text| text.trim().parse().ok()),
        },
        oom_kills: of(&text("memory.events"), "oom_kill"),
        moved: text("io.stat").map(|text| moved(&text, stacked)),
        pressure: Pressure {
            cpu: text("cpu.pressure").as_deref().and_then(psi::some_total),
            memory: text("memory.pressure").as_deref().and_then(psi::some_total),
            io: text("io.pressure").as_deref().and_then(psi::some_total),
        },
    }
}

/// Periods of a `cpu.stat`, which has them where the CPU controller is on.
#[must_use]
pub fn periods(text: &str) -> Option<Periods> {
    Some(Periods { all: keyed(text, "nr_periods")?, throttled: keyed(text, "nr_throttled")? })
}

/// Cores of a `cpu.max` of `QUOTA PERIOD`, in microseconds; `None` for `max`.
#[must_use]
pub fn cpu_limit_cores(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| f64::from(quota) / f64::from(period))
}

/// Bytes of an `io.stat`, one line a device: `MAJOR:MINOR rbytes=… wbytes=… …`. A container that has moved nothing has no line.
#[must_use]
pub fn moved(text: &str, stacked: &BTreeSet<String>) -> Moved {
    let mut all = Moved::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next().is_none_or(|device| stacked.contains(device)) {
            continue;
        }
        for (key, bytes) in words.filter_map(|word| word.split_once('=')) {
            let bytes: u64 = bytes.parse().unwrap_or_default();
            match key {
                "rbytes" => all.read_bytes = all.read_bytes.saturating_add(bytes),
                "wbytes" => all.written_bytes = all.written_bytes.saturating_add(bytes),
                _ => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_a_share_of_a_period() {
        assert_eq!(cpu_limit_cores("150000 100000\n"), Some(1.5));
        assert_eq!(cpu_limit_cores("max 100000\n"), None);
        assert_eq!(cpu_limit_cores("100000 0\n"), None);
        assert_eq!(cpu_limit_cores("max"), None);
    }

    #[test]
    fn bytes_of_all_disks_add_up_but_those_of_stacked_devices_do_not() {
        let text = "259:0 rbytes=4096 wbytes=100 rios=1 wios=1 dbytes=0 dios=0\n253:1 rbytes=4096 wbytes=100\n8:16 \n7:0 rbytes=x\n";
        let stacked = BTreeSet::from(["253:1".to_owned()]);
        assert_eq!(moved(text, &stacked), Moved { read_bytes: 4096, written_bytes: 100 });
        assert_eq!(moved("", &stacked), Moved::default());
    }

    #[test]
    fn periods_need_the_controller() {
        let text =
            "usage_usec 1\nuser_usec 1\nsystem_usec 0\nnr_periods 12\nnr_throttled 3\nthrottled_usec 9\n";
        assert_eq!(periods(text), Some(Periods { all: 12, throttled: 3 }));
        assert_eq!(periods("usage_usec 1\nuser_usec 1\nsystem_usec 0\n"), None);
        assert_eq!(keyed(text, "usage"), None, "a key is a whole word");
    }

    proptest! {
        #[test]
        fn any_text_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!(cpu_limit_cores(&text).is_none_or(f64::is_finite));
            let text = format!("{text}\n8:0 rbytes=7\nnr_periods 1\nnr_throttled 1\n");
            prop_assert!(moved(&text, &BTreeSet::new()).read_bytes >= 7, "a good line counts whatever stands before it");
            prop_assert!(periods(&text).is_some() || text.contains("nr_"));
        }
    }
}
