//! From what the driver said to signals: base units, rates, shares. No I/O.

use tidegate_core::{Sample, Signal, Subject};

use super::reading::{GpuReading, GpuValues, Gpus, ThrottleReason};
use crate::clock::Moment;
use crate::collect::node::rate;
use crate::collect::reading::Samples;

const MEBIBYTE: f64 = 1_048_576.0;
const MEGAHERTZ: f64 = 1e6;
/// Percentages a little beyond 100 are the performance monitor's rounding; what is further beyond is no percentage.
const PERCENT_ABSURD: f64 = 110.0;

/// Samples of `gpus`; rates and shares of time need the reading before it. A total that went back gives no rate.
#[must_use]
pub fn samples(before: Option<(&Gpus, &Moment)>, gpus: &Gpus, now: &Moment) -> Vec<Sample> {
    let mut out = Samples::at(now.at);
    out.push(&Subject::Node, Signal::GpusExpected, Some(f64::from(gpus.expected)));
    #[expect(clippy::cast_precision_loss, reason = "a count of GPUs")]
    out.push(&Subject::Node, Signal::GpusPresent, Some(gpus.present() as f64));
    for reading in &gpus.readings {
        let subject = Subject::Gpu(reading.gpu.uuid.clone());
        let is_up = f64::from(u8::from(reading.down.is_none()));
        out.push(&subject, Signal::GpuUp, Some(is_up));
        now_samples(&mut out, &subject, &reading.values);
        let earlier = before.and_then(|(earlier, then)| {
            Some((&earlier.get(&reading.gpu.uuid)?.values, now.seconds_since(then)?))
        });
        rate_samples(&mut out, &subject, earlier, reading);
    }
    out.into_vec()
}

/// What stands by itself.
fn now_samples(out: &mut Samples, subject: &Subject, values: &GpuValues) {
    let memory = |take: fn(&super::reading::GpuMemory) -> u64| values.memory.as_ref().map(take).map(whole);
    let count = |value: Option<u64>| value.map(whole);
    let monitored = &values.monitored;
    for (signal, value) in [
        (Signal::GpuBusyRatio, values.busy_percent.and_then(share)),
        (Signal::GpuMemoryBusyRatio, values.memory_busy_percent.and_then(share)),
        (Signal::GpuEncoderBusyRatio, values.encoder_percent.and_then(share)),
        (Signal::GpuDecoderBusyRatio, values.decoder_percent.and_then(share)),
        (Signal::GpuMemoryUsedBytes, memory(|memory| memory.used)),
        (Signal::GpuMemoryFreeBytes, memory(|memory| memory.free)),
        (Signal::GpuMemoryReservedBytes, memory(|memory| memory.reserved)),
        (Signal::GpuMemorySizeBytes, memory(|memory| memory.size)),
        (Signal::GpuPowerWatts, values.power_milliwatts.map(thousandth)),
        (Signal::GpuPowerLimitWatts, values.power_limit_milliwatts.map(thousandth)),
        (Signal::GpuEnergyJoules, count(values.energy_millijoules).map(|milli| milli / 1000.0)),
        (Signal::GpuTemperature, values.temperature.map(f64::from)),
        (Signal::GpuMemoryTemperature, count(values.memory_temperature)),
        (Signal::GpuSmClock, values.sm_clock_mhz.map(|mhz| f64::from(mhz) * MEGAHERTZ)),
        (Signal::GpuMemoryClock, values.memory_clock_mhz.map(|mhz| f64::from(mhz) * MEGAHERTZ)),
        (Signal::GpuEccCorrectedErrors, count(values.ecc_corrected)),
        (Signal::GpuEccUncorrectedErrors, count(values.ecc_uncorrected)),
        (Signal::GpuRowsRemappedCorrectable, count(values.rows_remapped_correctable)),
        (Signal::GpuRowsRemappedUncorrectable, count(values.rows_remapped_uncorrectable)),
        (Signal::GpuRowRemapPending, count(values.row_remap_pending)),
        (Signal::GpuRowRemapFailed, count(values.row_remap_failed)),
        (Signal::GpuPcieReplays, count(values.pcie_replays)),
        (Signal::GpuGraphicsActiveRatio, monitored.graphics_percent.and_then(share)),
        (Signal::GpuSmActiveRatio, monitored.sm_percent.and_then(share)),
        (Signal::GpuSmOccupancyRatio, monitored.occupancy_percent.and_then(share)),
        (Signal::GpuTensorActiveRatio, monitored.tensor_percent.and_then(share)),
        (Signal::GpuDramActiveRatio, monitored.dram_percent.and_then(share)),
        (Signal::GpuProcesses, count(values.processes.as_ref().map(|processes| processes.len() as u64))),
        (Signal::GpuRecoveryAction, count(values.recovery_action)),
    ] {
        out.push(subject, signal, value);
    }
}

/// What needs an earlier reading, unless the performance monitor tells it anyway.
fn rate_samples(
    out: &mut Samples,
    subject: &Subject,
    earlier: Option<(&GpuValues, f64)>,
    reading: &GpuReading,
) {
    let values = &reading.values;
    for (signal, reason) in [
        (Signal::GpuPowerThrottledRatio, ThrottleReason::Power),
        (Signal::GpuThermalThrottledRatio, ThrottleReason::Thermal),
    ] {
        let per_second = earlier.and_then(|(earlier, seconds)| {
            rate(*earlier.throttled_ns.get(&reason)?, *values.throttled_ns.get(&reason)?, seconds)
        });
        // The driver's clock and ours need not agree to the last millisecond.
        out.push(subject, signal, per_second.map(|nanoseconds| (nanoseconds / 1e9).min(1.0)));
    }
    for (signal, value) in throughputs(earlier, values) {
        out.push(subject, signal, value);
    }
}

/// Bytes per second over PCIe and NVLink, sent and received.
#[must_use]
pub fn throughputs(earlier: Option<(&GpuValues, f64)>, values: &GpuValues) -> [(Signal, Option<f64>); 4] {
    let counted = |take: fn(&GpuValues) -> Option<u64>| {
        earlier.and_then(|(earlier, seconds)| rate(take(earlier)?, take(values)?, seconds))
    };
    let monitored = |mib: Option<f64>| mib.filter(|mib| *mib >= 0.0).map(|mib| mib * MEBIBYTE);
    let seen = &values.monitored;
    [
        (
            Signal::GpuPcieSentBytesPerSecond,
            monitored(seen.pcie_sent_mib).or_else(|| counted(|values| values.pcie_sent_bytes)),
        ),
        (
            Signal::GpuPcieReceivedBytesPerSecond,
            monitored(seen.pcie_received_mib).or_else(|| counted(|values| values.pcie_received_bytes)),
        ),
        (
            Signal::GpuNvlinkSentBytesPerSecond,
            monitored(seen.nvlink_sent_mib).or_else(|| counted(|values| values.nvlink_sent_bytes)),
        ),
        (
            Signal::GpuNvlinkReceivedBytesPerSecond,
            monitored(seen.nvlink_received_mib).or_else(|| counted(|values| values.nvlink_received_bytes)),
        ),
    ]
}

/// A percentage as a share from 0 to 1; nothing when it is none.
#[must_use]
pub fn share(percent: impl Into<f64>) -> Option<f64> {
    let percent = percent.into();
    (0.0..=PERCENT_ABSURD).contains(&percent).then(|| (percent / 100.0).min(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "bytes, joules and counts beyond 2^53 are out of reach")]
const fn whole(value: u64) -> f64 {
    value as f64
}

fn thousandth(milli: u32) -> f64 {
    f64::from(milli) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::cause::GpuCause;
    use super::super::reading::{GpuIdentity, GpuInstance, GpuMemory, GpuProcess, Monitored};
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;
    use tidegate_core::{Scope, Timestamp};

    fn moment(seconds: u64) -> Moment {
        Moment { at: Timestamp::from_secs(1_000_000), steady: Duration::from_secs(seconds) }
    }

    fn gpus(values: GpuValues) -> Gpus {
        let gpu = Arc::new(GpuIdentity { uuid: "GPU-a".into(), ..GpuIdentity::default() });
        let reading = GpuReading { gpu, values, ..GpuReading::default() };
        Gpus { expected: 1, readings: vec![reading], ..Gpus::default() }
    }

    fn value(samples: &[Sample], signal: Signal) -> Option<f64> {
        let subject = match signal.scope() {
            Scope::Gpu => Subject::Gpu("GPU-a".into()),
            _ => Subject::Node,
        };
        samples.iter().find(|s| s.signal == signal && s.subject == subject).map(|s| s.value)
    }

    fn full() -> GpuValues {
        GpuValues {
            busy_percent: Some(97),
            memory_busy_percent: Some(40),
            encoder_percent: Some(0),
            decoder_percent: Some(3),
            memory: Some(GpuMemory { used: 60 << 30, free: 19 << 30, reserved: 1 << 30, size: 80 << 30 }),
            power_milliwatts: Some(650_250),
            power_limit_milliwatts: Some(700_000),
            energy_millijoules: Some(5_000),
            temperature: Some(61),
            memory_temperature: Some(72),
            sm_clock_mhz: Some(1980),
            memory_clock_mhz: Some(2619),
            throttle_bits: Some(0x4),
            throttled_ns: BTreeMap::from([
                (ThrottleReason::Power, 1_000_000_000),
                (ThrottleReason::Thermal, 7),
            ]),
            ecc_corrected: Some(3),
            ecc_uncorrected: Some(0),
            ecc_corrected_lifetime: Some(30),
            ecc_uncorrected_lifetime: Some(1),
            rows_remapped_correctable: Some(1),
            rows_remapped_uncorrectable: Some(2),
            row_remap_pending: Some(1),
            row_remap_failed: Some(0),
            pcie_replays: Some(9),
            pcie_sent_bytes: Some(1_000),
            pcie_received_bytes: Some(2_000),
            nvlink_sent_bytes: Some(3_000),
            nvlink_received_bytes: Some(4_000),
            recovery_action: Some(1),
            monitored: Monitored {
                graphics_percent: Some(99.0),
                sm_percent: Some(88.0),
                occupancy_percent: Some(50.0),
                tensor_percent: Some(25.0),
                dram_percent: Some(100.4),
                ..Monitored::default()
            },
            processes: Some(vec![GpuProcess { pid: 7, memory_bytes: None, sm_percent: None }]),
        }
    }

    #[test]
    fn every_signal_of_a_gpu_is_told_in_its_unit() {
        let later = GpuValues {
            throttled_ns: BTreeMap::from([
                (ThrottleReason::Power, 2_000_000_000),
                (ThrottleReason::Thermal, 7),
            ]),
            pcie_sent_bytes: Some(5_000),
            pcie_received_bytes: Some(2_000),
            nvlink_sent_bytes: Some(3_004),
            nvlink_received_bytes: Some(4_400),
            ..full()
        };
        let (earlier, then) = (gpus(full()), moment(10));
        let told = samples(Some((&earlier, &then)), &gpus(later), &moment(14));
        let expected = [
            (Signal::GpusExpected, 1.0),
            (Signal::GpusPresent, 1.0),
            (Signal::GpuUp, 1.0),
            (Signal::GpuBusyRatio, 0.97),
            (Signal::GpuMemoryBusyRatio, 0.4),
            (Signal::GpuEncoderBusyRatio, 0.0),
            (Signal::GpuDecoderBusyRatio, 0.03),
            (Signal::GpuMemoryUsedBytes, 64_424_509_440.0),
            (Signal::GpuMemoryFreeBytes, 20_401_094_656.0),
            (Signal::GpuMemoryReservedBytes, 1_073_741_824.0),
            (Signal::GpuMemorySizeBytes, 85_899_345_920.0),
            (Signal::GpuPowerWatts, 650.25),
            (Signal::GpuPowerLimitWatts, 700.0),
            (Signal::GpuEnergyJoules, 5.0),
            (Signal::GpuTemperature, 61.0),
            (Signal::GpuMemoryTemperature, 72.0),
            (Signal::GpuSmClock, 1.98e9),
            (Signal::GpuMemoryClock, 2.619e9),
            (Signal::GpuPowerThrottledRatio, 0.25),
            (Signal::GpuThermalThrottledRatio, 0.0),
            (Signal::GpuEccCorrectedErrors, 3.0),
            (Signal::GpuEccUncorrectedErrors, 0.0),
            (Signal::GpuRowsRemappedCorrectable, 1.0),
            (Signal::GpuRowsRemappedUncorrectable, 2.0),
            (Signal::GpuRowRemapPending, 1.0),
            (Signal::GpuRowRemapFailed, 0.0),
            (Signal::GpuPcieReplays, 9.0),
            (Signal::GpuPcieSentBytesPerSecond, 1_000.0),
            (Signal::GpuPcieReceivedBytesPerSecond, 0.0),
            (Signal::GpuNvlinkSentBytesPerSecond, 1.0),
            (Signal::GpuNvlinkReceivedBytesPerSecond, 100.0),
            (Signal::GpuGraphicsActiveRatio, 0.99),
            (Signal::GpuSmActiveRatio, 0.88),
            (Signal::GpuSmOccupancyRatio, 0.5),
            (Signal::GpuTensorActiveRatio, 0.25),
            (Signal::GpuDramActiveRatio, 1.0),
            (Signal::GpuProcesses, 1.0),
            (Signal::GpuRecoveryAction, 1.0),
        ];
        for (signal, wanted) in expected {
            let got = value(&told, signal);
            assert!(got.is_some_and(|got| (got - wanted).abs() < 1e-9), "{}: {got:?}", signal.name());
        }
        let of_gpus = Signal::ALL.iter().filter(|signal| signal.scope() == Scope::Gpu).count() + 2;
        assert_eq!((told.len(), expected.len()), (of_gpus, of_gpus), "each signal once");
    }

    #[test]
    fn what_the_gpu_does_not_have_is_absent() {
        let told = samples(None, &gpus(GpuValues::default()), &moment(1));
        let signals: Vec<_> = told.iter().map(|sample| sample.signal).collect();
        assert_eq!(signals, [Signal::GpusExpected, Signal::GpusPresent, Signal::GpuUp]);
    }

    #[test]
    fn no_rate_from_one_reading_from_no_time_or_from_a_total_that_went_back() {
        let (first, then) = (gpus(full()), moment(10));
        let less = GpuValues {
            pcie_sent_bytes: Some(1),
            throttled_ns: BTreeMap::from([(ThrottleReason::Power, 1)]),
            ..full()
        };
        for told in [
            samples(None, &first, &then),
            samples(Some((&first, &then)), &first, &then),
            samples(Some((&first, &then)), &gpus(less), &moment(11)),
        ] {
            assert_eq!(value(&told, Signal::GpuPcieSentBytesPerSecond), None);
            assert_eq!(value(&told, Signal::GpuPowerThrottledRatio), None);
        }
    }

    #[test]
    fn the_performance_monitor_comes_before_counters() {
        let mut later = full();
        later.monitored.pcie_sent_mib = Some(2.0);
        later.monitored.nvlink_sent_mib = Some(-1.0);
        let (earlier, then) = (gpus(full()), moment(10));
        let told = samples(Some((&earlier, &then)), &gpus(later), &moment(11));
        assert_eq!(value(&told, Signal::GpuPcieSentBytesPerSecond), Some(2_097_152.0));
        let nvlink = value(&told, Signal::GpuNvlinkSentBytesPerSecond);
        assert_eq!(nvlink, Some(0.0), "what is less than nothing was not seen");
    }

    #[test]
    fn a_share_is_a_percentage_or_nothing() {
        for (percent, wanted) in
            [(0.0, Some(0.0)), (100.0, Some(1.0)), (100.4, Some(1.0)), (111.0, None), (-0.1, None)]
        {
            assert_eq!(share(percent), wanted, "{percent}");
        }
        assert_eq!(share(f64::NAN), None);
        assert_eq!(share(u32::MAX), None);
    }

    #[test]
    fn a_gpu_that_is_down_counts_as_expected_and_not_as_present() {
        let mut both = gpus(full());
        both.expected = 2;
        let gpu = Arc::new(GpuIdentity { uuid: "GPU-b".into(), ..GpuIdentity::default() });
        both.readings.push(GpuReading { gpu, down: Some(GpuCause::Lost), ..GpuReading::default() });
        let instance = Some(GpuInstance { parent: "GPU-a".into(), ..GpuInstance::default() });
        let gpu = Arc::new(GpuIdentity { uuid: "MIG-c".into(), instance, ..GpuIdentity::default() });
        both.readings.push(GpuReading { gpu, ..GpuReading::default() });
        let told = samples(None, &both, &moment(1));
        assert_eq!(value(&told, Signal::GpusExpected), Some(2.0));
        assert_eq!(value(&told, Signal::GpusPresent), Some(1.0));
        let of_lost: Vec<_> = told.iter().filter(|s| s.subject == Subject::Gpu("GPU-b".into())).collect();
        assert_eq!(of_lost.len(), 1);
        assert_eq!((of_lost[0].signal, of_lost[0].value), (Signal::GpuUp, 0.0));
    }
}
