//! Pressure stall information: `/proc/pressure/{cpu,memory,io}`, on kernels that have it (4.20 on, unless switched off).

/// Stalled time since boot, in microseconds; unknown where the kernel does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some task waited for a CPU.
    pub cpu: Option<u64>,
    /// Some task waited for memory.
    pub memory: Option<u64>,
    /// Some task waited for a disk.
    pub io: Option<u64>,
}

/// The total of the `some` line, in microseconds.
#[must_use]
pub fn some_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok()
}

/// Share of `seconds` that was stalled, at most 1; `None` when either total is unknown or the counter went back.
#[must_use]
pub fn share(from: Option<u64>, to: Option<u64>, seconds: f64) -> Option<f64> {
    let stalled_us_per_second = super::rate(from?, to?, seconds)?;
    // The two clocks are not the same one, so that a wholly stalled interval may come out slightly above 1.
    Some((stalled_us_per_second / 1e6).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX_6: &str = "some avg10=0.00 avg60=1.07 avg300=20.94 total=286477712\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
    const LINUX_4_20_CPU: &str = "some avg10=2.10 avg60=0.57 avg300=0.12 total=1234\n";

    #[test]
    fn reads_the_total_of_some() {
        assert_eq!(some_total(LINUX_6), Some(286_477_712));
        assert_eq!(some_total(LINUX_4_20_CPU), Some(1234));
        assert_eq!(some_total(""), None);
        assert_eq!(some_total("some avg10=1 total=x\n"), None);
    }

    #[test]
    fn a_share_stays_within_one_and_needs_both_readings() {
        assert_eq!(share(Some(0), Some(500_000), 1.0), Some(0.5));
        assert_eq!(share(Some(0), Some(1_000_400), 1.0), Some(1.0));
        assert_eq!(share(Some(9), Some(8), 1.0), None);
        assert_eq!(share(None, Some(8), 1.0), None);
    }
}
