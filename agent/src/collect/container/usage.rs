//! What a container's cgroup says of its use, whichever version it is, and what is made of two readings. No I/O.

use tidegate_core::{Signal, Subject};

use crate::clock::Moment;
use crate::collect::node::psi::{self, Pressure};
use crate::collect::node::rate;
use crate::collect::reading::Samples;

/// The scheduler's periods under a CPU limit, since the container started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// In which it ran.
    pub all: u64,
    /// In which it was held back.
    pub throttled: u64,
}

/// Bytes moved to and from disks since the container started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Read.
    pub read_bytes: u64,
    /// Written.
    pub written_bytes: u64,
}

/// One reading of one container. A field is `None` where the kernel does not have it, where there is no limit, or where it could
/// not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// CPU time since the container started.
    pub cpu_ns: Option<u64>,
    /// Periods under its CPU limit.
    pub periods: Option<Periods>,
    /// Its CPU limit.
    pub cpu_limit_cores: Option<f64>,
    /// Memory charged to it, file cache included.
    pub memory_bytes: Option<u64>,
    /// File cache that was not used lately.
    pub inactive_file_bytes: Option<u64>,
    /// Memory that no file backs.
    pub rss_bytes: Option<u64>,
    /// Its memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// Processes of it that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Bytes moved.
    pub moved: Option<Moved>,
    /// Pressure stall totals.
    pub pressure: Pressure,
}

impl Usage {
    /// Memory without the file cache that can be dropped at once, as the kubelet reckons it.
    #[must_use]
    pub fn working_set_bytes(&self) -> Option<u64> {
        Some(self.memory_bytes?.saturating_sub(self.inactive_file_bytes?))
    }

    /// CPU cores used since `earlier`; `None` when the counter went back or no time passed.
    #[must_use]
    pub fn cores_since(&self, earlier: &Self, seconds: f64) -> Option<f64> {
        Some(rate(earlier.cpu_ns?, self.cpu_ns?, seconds)? / 1e9)
    }

    /// Adds the samples of this reading; rates and shares need the one `before`.
    pub fn samples(
        &self,
        out: &mut Samples,
        subject: &Subject,
        before: Option<(&Self, &Moment)>,
        now: &Moment,
    ) {
        let mut bytes = |signal, value: Option<u64>| out.push(subject, signal, value.map(number));
        bytes(Signal::ContainerMemoryWorkingSetBytes, self.working_set_bytes());
        bytes(Signal::ContainerMemoryRssBytes, self.rss_bytes);
        bytes(Signal::ContainerMemoryLimitBytes, self.memory_limit_bytes);
        bytes(Signal::ContainerOomKills, self.oom_kills);
        out.push(subject, Signal::ContainerCpuLimitCores, self.cpu_limit_cores);
        let Some((earlier, then)) = before else { return };
        let Some(seconds) = now.seconds_since(then) else { return };
        out.push(subject, Signal::ContainerCpuCores, self.cores_since(earlier, seconds));
        let throttled = throttled_ratio(earlier.periods, self.periods);
        out.push(subject, Signal::ContainerCpuThrottledRatio, throttled);
        if let (Some(from), Some(to)) = (earlier.moved, self.moved) {
            let read = rate(from.read_bytes, to.read_bytes, seconds);
            out.push(subject, Signal::ContainerIoReadBytesPerSecond, read);
            let written = rate(from.written_bytes, to.written_bytes, seconds);
            out.push(subject, Signal::ContainerIoWrittenBytesPerSecond, written);
        }
        for (signal, from, to) in [
            (Signal::ContainerCpuPressureRatio, earlier.pressure.cpu, self.pressure.cpu),
            (Signal::ContainerMemoryPressureRatio, earlier.pressure.memory, self.pressure.memory),
            (Signal::ContainerIoPressureRatio, earlier.pressure.io, self.pressure.io),
        ] {
            out.push(subject, signal, psi::share(from, to, seconds));
        }
    }
}

/// Share of the periods between two readings that were held back; `None` when there were none, which an idle container has.
fn throttled_ratio(from: Option<Periods>, to: Option<Periods>) -> Option<f64> {
    let (from, to) = (from?, to?);
    let all = to.all.checked_sub(from.all).filter(|all| *all > 0)?;
    let throttled = to.throttled.checked_sub(from.throttled)?;
    // The two are not read at the same instant.
    Some((number(throttled) / number(all)).min(1.0))
}

/// Bytes and counts as numbers of a sample.
#[expect(clippy::cast_precision_loss, reason = "a rounding of bytes beyond 2^53 does not matter")]
pub(super) const fn number(value: u64) -> f64 {
    value as f64
}

/// The number after `key` in lines of `KEY NUMBER`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use tidegate_core::{Sample, Timestamp};

    fn moment(seconds: u64) -> Moment {
        Moment { at: Timestamp::from_secs(1_000_000), steady: Duration::from_secs(seconds) }
    }

    fn between(before: &Usage, after: &Usage) -> Vec<Sample> {
        let mut out = Samples::at(Timestamp::EPOCH);
        let subject = Subject::Container { pod: "u".into(), name: "c".into() };
        after.samples(&mut out, &subject, Some((before, &moment(10))), &moment(12));
        out.into_vec()
    }

    fn value(samples: &[Sample], signal: Signal) -> Option<f64> {
        samples.iter().find(|sample| sample.signal == signal).map(|sample| sample.value)
    }

    #[test]
    fn rates_and_shares_are_between_two_readings() {
        let before = Usage {
            cpu_ns: Some(1_000_000_000),
            periods: Some(Periods { all: 100, throttled: 10 }),
            moved: Some(Moved { read_bytes: 0, written_bytes: 500 }),
            pressure: Pressure { cpu: Some(0), memory: None, io: Some(9) },
            ..Usage::default()
        };
        let after = Usage {
            cpu_ns: Some(4_000_000_000),
            periods: Some(Periods { all: 120, throttled: 15 }),
            moved: Some(Moved { read_bytes: 2048, written_bytes: 400 }),
            pressure: Pressure { cpu: Some(500_000), memory: Some(1), io: Some(9) },
            ..Usage::default()
        };
        let samples = between(&before, &after);
        assert_eq!(value(&samples, Signal::ContainerCpuCores), Some(1.5));
        assert_eq!(value(&samples, Signal::ContainerCpuThrottledRatio), Some(0.25));
        assert_eq!(value(&samples, Signal::ContainerIoReadBytesPerSecond), Some(1024.0));
        let written = value(&samples, Signal::ContainerIoWrittenBytesPerSecond);
        assert_eq!(written, None, "a counter that went back has no rate");
        assert_eq!(value(&samples, Signal::ContainerCpuPressureRatio), Some(0.25));
        assert_eq!(value(&samples, Signal::ContainerMemoryPressureRatio), None);
        assert_eq!(value(&samples, Signal::ContainerIoPressureRatio), Some(0.0));
    }

    #[test]
    fn what_is_unknown_or_unlimited_is_absent() {
        assert!(between(&Usage::default(), &Usage::default()).is_empty());
        let memory = Usage { memory_bytes: Some(100), ..Usage::default() };
        assert_eq!(memory.working_set_bytes(), None, "the cache in it is not known");
        let idle = Usage { periods: Some(Periods { all: 5, throttled: 1 }), ..Usage::default() };
        assert_eq!(value(&between(&idle, &idle), Signal::ContainerCpuThrottledRatio), None);
    }

    proptest! {
        #[test]
        fn any_two_readings_give_finite_values_within_their_range(a in any::<[u64; 5]>(), b in any::<[u64; 5]>()) {
            let usage = |of: [u64; 5]| Usage {
                cpu_ns: Some(of[0]),
                periods: Some(Periods { all: of[1], throttled: of[2] }),
                moved: Some(Moved { read_bytes: of[3], written_bytes: of[4] }),
                pressure: Pressure { cpu: Some(of[0]), memory: Some(of[1]), io: Some(of[2]) },
                memory_bytes: Some(of[3]),
                inactive_file_bytes: Some(of[4]),
                ..Usage::default()
            };
            for sample in between(&usage(a), &usage(b)) {
                prop_assert!(sample.value >= 0.0);
                if sample.signal.unit() == tidegate_core::Unit::Ratio {
                    prop_assert!(sample.value <= 1.0, "{sample:?}");
                }
            }
        }
    }
}
