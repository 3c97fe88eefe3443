//! One GPU or instance, asked through the driver's library: every call that a reading makes, and what each failure means for the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample};
use nvml_wrapper::{Device, GpmSample};

use super::cause::{GpuCause, cause_of};
use super::fields;
use super::reading::{GpuIdentity, GpuMemory, GpuProcess, GpuReading, GpuValues, Monitored};
use crate::clock;

/// The performance monitor wants its two samples at least this far apart.
const MONITOR_GAP_MIN: Duration = Duration::from_millis(100);
/// Samples further apart are of two different times: the monitor's counters may have wrapped.
const MONITOR_GAP_MAX: Duration = Duration::from_secs(120);
/// A list of processes that grows while it is read is asked for again this often.
const LIST_TRIES: usize = 3;

/// What the performance monitor is asked for, in this order.
const MONITORED: [GpmMetricId; 9] = [
    GpmMetricId::GraphicsUtil,
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::DramBwUtil,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
    GpmMetricId::NvlinkTotalTxPerSec,
    GpmMetricId::NvlinkTotalRxPerSec,
];

/// A GPU or an instance, and what is remembered of it between readings.
pub(super) struct KnownDevice<'nvml> {
    pub(super) device: Device<'nvml>,
    pub(super) gpu: Arc<GpuIdentity>,
    memory: Remembered<'nvml>,
}

/// What is remembered of a device between readings.
#[derive(Default)]
pub(super) struct Remembered<'nvml> {
    /// Whether it has a performance monitor; `None` before it was asked.
    monitor: Option<bool>,
    /// The monitor's last sample, and when it was taken.
    sampled: Option<(GpmSample<'nvml>, Duration)>,
    /// The driver's time of the last sample of a process that was seen.
    seen: u64,
}

impl<'nvml> KnownDevice<'nvml> {
    pub(super) fn new(device: Device<'nvml>, gpu: Arc<GpuIdentity>, memory: Remembered<'nvml>) -> Self {
        Self { device, gpu, memory }
    }

    /// What is remembered, for a handle that takes this one's place.
    pub(super) fn into_memory(self) -> Remembered<'nvml> {
        self.memory
    }

    /// Reads everything that a whole GPU has.
    pub(super) fn read(&mut self) -> GpuReading {
        let mut asked = Asked::default();
        let device = &self.device;
        let mut values = GpuValues::default();
        if let Some(used) = asked.of(|| device.utilization_rates()) {
            (values.busy_percent, values.memory_busy_percent) = (Some(used.gpu), Some(used.memory));
        }
        values.encoder_percent = asked.of(|| device.encoder_utilization()).map(|used| used.utilization);
        values.decoder_percent = asked.of(|| device.decoder_utilization()).map(|used| used.utilization);
        values.memory = memory(device, &mut asked);
        values.power_milliwatts = asked.of(|| device.power_usage());
        values.power_limit_milliwatts = asked.of(|| device.enforced_power_limit());
        values.temperature = asked.of(|| device.temperature(TemperatureSensor::Gpu));
        values.sm_clock_mhz = asked.of(|| device.clock_info(Clock::SM));
        values.memory_clock_mhz = asked.of(|| device.clock_info(Clock::Memory));
        values.throttle_bits = asked.of(|| device.current_throttle_reasons()).map(|reasons| reasons.bits());
        fields::read(device, &mut asked, &mut values);
        values.monitored = self.memory.monitored(device, &mut asked, || device.gpm_sample());
        values.processes = self.processes(&mut asked);
        asked.reading(Arc::clone(&self.gpu), values)
    }

    /// Reads what an instance of `whole` has: memory, processes, and its share of the performance monitor.
    pub(super) fn read_instance(&mut self, whole: &Device<'nvml>) -> GpuReading {
        let mut asked = Asked::default();
        let device = &self.device;
        let mut values = GpuValues { memory: memory(device, &mut asked), ..GpuValues::default() };
        let instance = self.gpu.instance.as_ref().and_then(|instance| instance.gpu_instance);
        if let Some(id) = instance {
            values.monitored = self.memory.monitored(whole, &mut asked, || whole.gpm_mig_sample(id));
        }
        values.processes = asked.of(|| all_processes(device)).map(|list| {
            let process = |listed: ProcessInfo| GpuProcess { sm_percent: None, ..process(&listed) };
            list.into_iter().map(process).collect()
        });
        asked.reading(Arc::clone(&self.gpu), values)
    }

    fn processes(&mut self, asked: &mut Asked) -> Option<Vec<GpuProcess>> {
        let device = &self.device;
        let listed = asked.of(|| all_processes(device))?;
        if listed.is_empty() {
            return Some(Vec::new());
        }
        let used = asked.of(|| used_by_processes(device, self.memory.seen));
        if let Some(samples) = &used {
            let newest = samples.iter().map(|sample| sample.timestamp).max();
            self.memory.seen = self.memory.seen.max(newest.unwrap_or_default());
        }
        let with_use = |listed: ProcessInfo| {
            let sm_percent = used.as_ref().map(|samples| mean_of(samples, listed.pid));
            GpuProcess { sm_percent, ..process(&listed) }
        };
        Some(listed.into_iter().map(with_use).collect())
    }
}

impl<'nvml> Remembered<'nvml> {
    /// What the performance monitor saw since the last reading; nothing the first time, which only begins to watch.
    fn monitored(
        &mut self,
        whole: &Device<'nvml>,
        asked: &mut Asked,
        sample: impl FnOnce() -> Result<GpmSample<'nvml>, NvmlError>,
    ) -> Monitored {
        if self.monitor.is_none() {
            self.monitor = asked.of(|| match whole.gpm_support() {
                // A driver that does not know the question has no monitor.
                Err(error) if cause_of(&error).is_none() => Ok(false),
                answer => answer,
            });
        }
        if self.monitor != Some(true) {
            return Monitored::default();
        }
        let now = clock::steady();
        let gap = self.sampled.as_ref().map(|(_, then)| now.saturating_sub(*then));
        if gap.is_some_and(|gap| gap < MONITOR_GAP_MIN) {
            return Monitored::default();
        }
        let later = asked.of(sample);
        let earlier = std::mem::take(&mut self.sampled);
        let Some(later) = later else { return Monitored::default() };
        let seen = match &earlier {
            Some((earlier, _)) if gap.is_some_and(|gap| gap <= MONITOR_GAP_MAX) => {
                asked.of(|| monitor(earlier, &later))
            }
            _ => None,
        };
        self.sampled = Some((later, now));
        seen.unwrap_or_default()
    }
}

fn monitor<'nvml>(earlier: &GpmSample<'nvml>, later: &GpmSample<'nvml>) -> Result<Monitored, NvmlError> {
    let mut results = gpm_metrics_get(later.nvml(), earlier, later, &MONITORED)?.into_iter();
    // A metric that this GPU lacks, and a value that is none, are both absent.
    let mut next = || results.next()?.ok().map(|result| result.value).filter(|value| value.is_finite());
    Ok(Monitored {
        graphics_percent: next(),
        sm_percent: next(),
        occupancy_percent: next(),
        tensor_percent: next(),
        dram_percent: next(),
        pcie_sent_mib: next(),
        pcie_received_mib: next(),
        nvlink_sent_mib: next(),
        nvlink_received_mib: next(),
    })
}

fn memory(device: &Device<'_>, asked: &mut Asked) -> Option<GpuMemory> {
    let memory = asked.of(|| device.memory_info())?;
    Some(GpuMemory { used: memory.used, free: memory.free, reserved: memory.reserved, size: memory.total })
}

/// Processes with a compute context, clients of MPS among them, each once.
fn all_processes(device: &Device<'_>) -> Result<Vec<ProcessInfo>, NvmlError> {
    let mut processes = retried(|| device.running_compute_processes())?;
    // Clients of MPS stand in a list of their own, which older drivers lack.
    match retried(|| device.mps_running_compute_processes()) {
        Ok(clients) => processes.extend(clients),
        Err(error) if cause_of(&error).is_none() => {}
        Err(error) => return Err(error),
    }
    processes.sort_by_key(|process| process.pid);
    processes.dedup_by_key(|process| process.pid);
    Ok(processes)
}

fn used_by_processes(device: &Device<'_>, seen: u64) -> Result<Vec<ProcessUtilizationSample>, NvmlError> {
    match retried(|| device.process_utilization_stats(seen)) {
        // No process did anything since then.
        Err(NvmlError::NotFound) => Ok(Vec::new()),
        answer => answer,
    }
}

/// Asks again while the list grows between the question for its size and the question for itself.
fn retried<T>(mut ask: impl FnMut() -> Result<T, NvmlError>) -> Result<T, NvmlError> {
    let mut answer = ask();
    for _ in 1..LIST_TRIES {
        if !matches!(answer, Err(NvmlError::InsufficientSize(_))) {
            break;
        }
        answer = ask();
    }
    answer
}

fn process(listed: &ProcessInfo) -> GpuProcess {
    let memory_bytes = match listed.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    GpuProcess { pid: listed.pid, memory_bytes, sm_percent: None }
}

/// Mean use of the multiprocessors over the driver's samples of this process; 0 when it has none.
fn mean_of(samples: &[ProcessUtilizationSample], pid: u32) -> f64 {
    let of_process =
        samples.iter().filter(|sample| sample.pid == pid).map(|sample| f64::from(sample.sm_util));
    let (count, sum) = of_process.fold((0.0, 0.0), |(count, sum), used| (count + 1.0, sum + used));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The failures of one reading. Once the GPU is out of reach, nothing more is asked of it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    causes: BTreeMap<GpuCause, u64>,
    down: Option<GpuCause>,
}

impl Asked {
    /// Asks one thing. What the GPU does not have, and what it could not say, are both nothing; only the latter is counted.
    pub(super) fn of<T>(&mut self, call: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        if self.down.is_some() {
            return None;
        }
        call().map_err(|error| self.note(&error)).ok()
    }

    pub(super) fn note(&mut self, error: &NvmlError) {
        if let Some(cause) = cause_of(error) {
            *self.causes.entry(cause).or_default() += 1;
            if cause.is_of_whole_gpu() || cause.is_of_library() {
                self.down = Some(cause);
            }
        }
    }

    /// The reading. A GPU that said nothing at all, and failed to, is down too.
    fn reading(self, gpu: Arc<GpuIdentity>, values: GpuValues) -> GpuReading {
        let most = self.causes.iter().max_by_key(|(_, count)| **count).map(|(cause, _)| *cause);
        let silent = values == GpuValues::default();
        let down = self.down.or(most.filter(|_| silent));
        let values = if down.is_some() { GpuValues::default() } else { values };
        GpuReading { gpu, values, causes: self.causes, down, owners: Vec::new() }
    }
}
