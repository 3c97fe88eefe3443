//! CPU and memory of Tidegate itself, for its own metrics.

use std::path::Path;

use tidegate_core::Metric;

use super::stat;
use crate::export::Registry;

/// Reads this process once and sets its two metrics; what cannot be read vanishes.
#[expect(clippy::cast_precision_loss, reason = "ticks of a process fit in 53 bits")]
pub fn note(registry: &Registry) {
    let proc = Path::new("/proc");
    let pid = std::process::id();
    let cpu = stat::read(proc, pid).map(|process| process.cpu_ticks as f64 / stat::TICKS_PER_SECOND);
    if let Some(seconds) = cpu {
        registry.counter(Metric::ProcessCpuSeconds, &[]).raise_to(seconds);
    }
    registry.gauge(Metric::ProcessMemory, &[]).set(stat::resident_bytes(proc, pid));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_this_process() {
        let registry = Registry::new();
        note(&registry);
        let memory = registry.gauge(Metric::ProcessMemory, &[]).get();
        assert!(memory.is_some_and(|bytes| bytes > 100_000.0), "{memory:?}");
    }
}
