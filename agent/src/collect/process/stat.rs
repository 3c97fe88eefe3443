//! Reads and parses what the kernel tells of one process.

use std::path::Path;

/// The kernel tells times to programs in hundredths of a second (`USER_HZ`), whatever its own tick is, on every architecture that Rust's Linux targets of tier 1 and 2 run on.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;
/// The same, whole.
const TICKS_PER_SECOND_WHOLE: u64 = 100;

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// Its id.
    pub(super) pid: u32,
    /// State letter: `R`, `S`, `D`, `Z`…
    pub(super) state: char,
    /// Id of its process group.
    pub(super) group: u32,
    /// CPU time of its own, in user and kernel mode.
    pub(super) cpu_ticks: u64,
    /// When it started, since boot.
    pub(super) started_ticks: u64,
}

impl ProcessStat {
    /// Ended, and not waited for yet.
    pub(super) const fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads one process; `None` when it is gone.
pub(super) fn read(proc: &Path, pid: u32) -> Option<ProcessStat> {
    parse(&crate::collect::node::read_text(&proc.join(format!("{pid}/stat")))?)
}

/// Parses `PID (NAME) STATE …`. The name may hold anything, brackets and spaces included: the last `)` ends it.
pub(super) fn parse(text: &str) -> Option<ProcessStat> {
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(')')?;
    // Fields as numbered in proc(5): `state` is the 3rd, so it is at 0 here.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(ProcessStat {
        pid: pid.trim().parse().ok()?,
        state: fields.first()?.chars().next()?,
        group: u32::try_from(number(5)?).ok()?,
        cpu_ticks: number(14)?.checked_add(number(15)?)?,
        started_ticks: number(22)?,
    })
}

/// Resident memory of a process, from its `status`; `None` when it is gone or a thread of the kernel.
pub(super) fn resident_bytes(proc: &Path, pid: u32) -> Option<f64> {
    let status = crate::collect::node::read_text(&proc.join(format!("{pid}/status")))?;
    crate::collect::node::meminfo::field(&status, "VmRSS:")
}

/// Time since boot in ticks, from `/proc/uptime`, rounded down.
pub(super) fn uptime_ticks(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let whole: u64 = seconds.parse().ok()?;
    let part: u64 = hundredths.get(..2)?.parse().ok()?;
    whole.checked_mul(TICKS_PER_SECOND_WHOLE)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "4242 (worker) (1 S x) R 1 4200 4200 0 -1 4194304 100 0 0 0 321 45 7 8 20 0 4 0 98765 1000000 2500 18446744073709551615 0\n";
        let process = parse(text).unwrap();
        assert_eq!((process.pid, process.state, process.group), (4242, 'R', 4200));
        assert_eq!(process.cpu_ticks, 321 + 45, "waited-for children are not its own time");
        assert_eq!(process.started_ticks, 98_765);
        assert!(!process.is_dead());
    }

    #[test]
    fn what_is_broken_is_no_process() {
        for text in
            ["", "1", "1 (a", "1 (a) S 1 2", "x (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn reads_the_time_since_boot() {
        assert_eq!(uptime_ticks("12345.67 24000.00\n"), Some(1_234_567));
        assert_eq!(uptime_ticks("12345\n"), None);
    }
}
