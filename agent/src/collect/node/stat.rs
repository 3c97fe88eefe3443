//! CPU times and the load average: `/proc/stat`, `/proc/loadavg`.

/// CPU time of all cores together since boot, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// Time with nothing to run, waiting for a disk included.
    pub idle: u64,
    /// All time.
    pub total: u64,
}

/// Fields of the `cpu` line that add up to all time: user, nice, system, idle, iowait, irq, softirq, steal.
/// What follows (guest, guest_nice) is part of user and nice already.
const FIELDS_MAX: usize = 8;
/// Oldest form of the line: user, nice, system, idle.
const FIELDS_MIN: usize = 4;
/// Places of idle and iowait in the line.
const IDLE: std::ops::RangeInclusive<usize> = 3..=4;

/// The line of all cores in `/proc/stat`; `None` when it is absent or broken.
#[must_use]
pub fn cpu_times(text: &str) -> Option<CpuTimes> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Option<Vec<u64>> =
        line.split_ascii_whitespace().take(FIELDS_MAX).map(|field| field.parse().ok()).collect();
    let fields = fields.filter(|fields| fields.len() >= FIELDS_MIN)?;
    let sum = |fields: &[u64]| fields.iter().try_fold(0u64, |sum, field| sum.checked_add(*field));
    Some(CpuTimes {
        idle: sum(&fields[*IDLE.start()..fields.len().min(IDLE.end() + 1)])?,
        total: sum(&fields)?,
    })
}

/// Share of the time between two readings that was not idle; `None` when either is unknown, no time passed or a counter went back.
#[must_use]
pub fn busy_ratio(earlier: Option<&CpuTimes>, later: Option<&CpuTimes>) -> Option<f64> {
    let (earlier, later) = (earlier?, later?);
    let total = later.total.checked_sub(earlier.total).filter(|total| *total > 0)?;
    let idle = later.idle.checked_sub(earlier.idle).filter(|idle| *idle <= total)?;
    #[expect(clippy::cast_precision_loss, reason = "a difference beyond 2^53 is out of reach")]
    Some(1.0 - idle as f64 / total as f64)
}

/// The load average over one minute, from `/proc/loadavg`.
#[must_use]
pub fn load1(text: &str) -> Option<f64> {
    let load: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    (load.is_finite() && load >= 0.0).then_some(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_old_and_new_kernels() {
        let linux_2_4 = "cpu  2255 34 2290 22625563\ncpu0 1132 34 1441 11311718\n";
        assert_eq!(cpu_times(linux_2_4).unwrap().idle, 22_625_563);
        let linux_6 = "cpu  1000 20 300 5000 40 5 6 7 900 80\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5 0\nctxt 9\n";
        let times = cpu_times(linux_6).unwrap();
        assert_eq!(times.idle, 5040);
        assert_eq!(
            times.total,
            1000 + 20 + 300 + 5000 + 40 + 5 + 6 + 7,
            "guest time stands in user time already"
        );
    }

    #[test]
    fn what_is_broken_is_unknown() {
        for text in
            ["", "cpu0 1 2 3 4\n", "cpu  1 2 x 4\n", "cpu  1 2\n", "cpu  18446744073709551615 1 1 1\n"]
        {
            assert_eq!(cpu_times(text), None, "{text:?}");
        }
        assert_eq!(load1(""), None);
        assert_eq!(load1("nan 0 0"), None);
        assert_eq!(load1("1.25 0.9 0.7 1/2 3"), Some(1.25));
    }

    #[test]
    fn idle_time_that_went_back_has_no_share() {
        let times = |idle, total| CpuTimes { idle, total };
        assert_eq!(busy_ratio(Some(&times(100, 200)), Some(&times(175, 300))), Some(0.25));
        assert_eq!(busy_ratio(Some(&times(100, 200)), Some(&times(99, 300))), None);
        assert_eq!(busy_ratio(Some(&times(100, 200)), Some(&times(100, 200))), None);
        assert_eq!(busy_ratio(None, Some(&times(100, 200))), None);
    }
}
