//! What `/metrics` says of GPUs beyond their signals: what they are and whose, why they are down, why clocks are held down, their errors;
//! and, where it is asked for, all of it once more under the names of NVIDIA's exporter. No I/O.

use tidegate_core::{Dcgm, Family, Metric, Signal, Subject};
use tokio::sync::watch;

use std::sync::Arc;

use super::encode::{Point, Points};
use crate::collect::LatestValues;
use crate::collect::gpu::reading::ThrottleReason;
use crate::collect::gpu::xid::XidCount;
use crate::collect::gpu::{GpuReading, Gpus, Xids};
use crate::collect::pods::Owner;

const MEBIBYTE: f64 = 1_048_576.0;
const NANOSECONDS: f64 = 1e9;

/// Where the page finds what it says of GPUs.
#[derive(Debug, Clone)]
pub struct GpuPage {
    /// The GPUs as last read.
    pub gpus: watch::Receiver<Option<Arc<Gpus>>>,
    /// Their errors.
    pub xids: Xids,
    /// Whether to use DCGM's names besides, and the name of the machine in them.
    pub dcgm: Option<String>,
}

impl GpuPage {
    /// Every family that has series now.
    pub(super) fn families(&self, latest: &LatestValues) -> Vec<(Family, Points)> {
        let xids = self.xids.counts();
        let mut families = of_xids(&xids);
        if let Some(gpus) = self.gpus.borrow().clone() {
            families.extend(of_gpus(&gpus));
            if let Some(host) = &self.dcgm {
                families.extend(as_dcgm(&gpus, &xids, latest, host));
            }
        }
        families.retain(|(_, points)| !points.is_empty());
        families
    }
}

fn family<T>(
    metric: Metric,
    of: impl IntoIterator<Item = T>,
    point: impl FnMut(T) -> Point,
) -> (Family, Points) {
    (metric.family(), Points::Numbers(of.into_iter().map(point).collect()))
}

fn point<const N: usize>(labels: [&str; N], value: f64) -> Point {
    Point { labels: labels.into_iter().map(Box::from).collect(), value }
}

fn of_xids(xids: &[XidCount]) -> Vec<(Family, Points)> {
    let labelled = |count: &XidCount, value| {
        let pci = count.pci.map(|pci| pci.to_string()).unwrap_or_default();
        let (uuid, code) = (count.uuid.as_deref().unwrap_or_default(), count.code.to_string());
        point([uuid, &pci, &code, count.class.as_str()], value)
    };
    #[expect(clippy::cast_precision_loss, reason = "a count of errors")]
    let counted = family(Metric::GpuXidErrors, xids, |count| labelled(count, count.count as f64));
    vec![counted, family(Metric::GpuXidLast, xids, |count| labelled(count, count.last.as_secs_f64()))]
}

fn of_gpus(gpus: &Gpus) -> Vec<(Family, Points)> {
    let driver = gpus.driver_version.as_deref().unwrap_or_default();
    let info = |reading: &GpuReading| {
        let gpu = &reading.gpu;
        let instance = gpu.instance.as_ref();
        let (index, pci) = (gpu.index.to_string(), gpu.pci.map(|pci| pci.to_string()).unwrap_or_default());
        let parent = instance.map(|instance| instance.parent.as_str()).unwrap_or_default();
        let profile = instance.and_then(|instance| instance.profile.as_deref()).unwrap_or_default();
        point(
            [&gpu.uuid, &index, &pci, gpu.model.as_deref().unwrap_or_default(), driver, parent, profile],
            1.0,
        )
    };
    let owned = || {
        let readings = gpus.readings.iter();
        readings.flat_map(|reading| reading.owners.iter().map(|owner| (reading.gpu.uuid.as_str(), owner)))
    };
    let owner = |(uuid, owner)| point(owner_labels(uuid, owner), 1.0);
    let part = |(uuid, owner): (&str, &Owner)| {
        let [uuid, namespace, pod, pod_uid, container, workload] = owner_labels(uuid, owner);
        let estimated = if owner.shared { "true" } else { "false" };
        point([uuid, namespace, pod, pod_uid, container, workload, estimated], owner.part)
    };
    let failed = gpus.readings.iter().filter_map(|reading| Some((&reading.gpu.uuid, reading.down?)));
    vec![
        family(Metric::GpuInfo, &gpus.readings, info),
        family(Metric::GpuOwner, owned(), owner),
        family(Metric::GpuOwnerPart, owned(), part),
        family(Metric::GpuFailed, failed, |(uuid, cause)| point([uuid, cause.as_str()], 1.0)),
        family(Metric::GpuThrottled, gpus.readings.iter().flat_map(throttled), |point| point),
        family(Metric::GpuThrottledSeconds, gpus.readings.iter().flat_map(throttled_seconds), |point| point),
    ]
}

fn owner_labels<'a>(uuid: &'a str, owner: &'a Owner) -> [&'a str; 6] {
    let workload = owner.workload.as_ref().map(|id| id.as_str()).unwrap_or_default();
    let pod_uid = owner.pod_uid.as_deref().unwrap_or_default();
    [uuid, &owner.namespace, &owner.pod, pod_uid, &owner.container, workload]
}

/// Every reason that has a bit, with whether it is set.
fn throttled(reading: &GpuReading) -> Vec<Point> {
    let Some(bits) = reading.values.throttle_bits else { return Vec::new() };
    let of_reason = |reason: ThrottleReason| {
        let is_set = bits & reason.bit()? != 0;
        Some(point([&reading.gpu.uuid, reason.as_str()], f64::from(u8::from(is_set))))
    };
    ThrottleReason::ALL.into_iter().filter_map(of_reason).collect()
}

fn throttled_seconds(reading: &GpuReading) -> Vec<Point> {
    let of_reason = |(reason, nanoseconds): (&ThrottleReason, &u64)| {
        point([&reading.gpu.uuid, reason.as_str()], whole(*nanoseconds) / NANOSECONDS)
    };
    reading.values.throttled_ns.iter().map(of_reason).collect()
}

/// The same under DCGM's names and in DCGM's units. A GPU that is down has none, and one that several containers share is nobody's.
fn as_dcgm(gpus: &Gpus, xids: &[XidCount], latest: &LatestValues, host: &str) -> Vec<(Family, Points)> {
    let driver = gpus.driver_version.as_deref().unwrap_or_default();
    let up = gpus.readings.iter().filter(|reading| reading.down.is_none());
    let labelled: Vec<_> = up.map(|reading| (reading, dcgm_labels(reading, gpus, host, driver))).collect();
    let family = |name: &Dcgm| {
        let point = |(reading, labels): &(&GpuReading, Vec<Box<str>>)| {
            let value = dcgm_value(*name, reading, xids, latest)?;
            Some(Point { labels: labels.clone(), value })
        };
        (name.family(), Points::Numbers(labelled.iter().filter_map(point).collect()))
    };
    Dcgm::ALL.iter().map(family).collect()
}

/// In the order of `core`'s list of DCGM labels. An instance stands under its GPU's UUID, as the exporter has it.
fn dcgm_labels(reading: &GpuReading, gpus: &Gpus, host: &str, driver: &str) -> Vec<Box<str>> {
    let gpu = &reading.gpu;
    let instance = gpu.instance.as_ref();
    let uuid = instance.map_or(&gpu.uuid, |instance| &instance.parent);
    let model = gpus.get(uuid).and_then(|whole| whole.gpu.model.as_deref()).or(gpu.model.as_deref());
    let owner = reading.owner();
    let of_owner = |take: fn(&Owner) -> &String| owner.map(take).map(String::as_str).unwrap_or_default();
    [
        gpu.index.to_string().as_str(),
        uuid,
        &gpu.pci.map(|pci| pci.to_string()).unwrap_or_default(),
        &gpu.minor.map(|minor| format!("nvidia{minor}")).unwrap_or_default(),
        model.unwrap_or_default(),
        instance.and_then(|instance| instance.profile.as_deref()).unwrap_or_default(),
        &instance.and_then(|instance| instance.gpu_instance).map(|id| id.to_string()).unwrap_or_default(),
        host,
        host,
        driver,
        of_owner(|owner| &owner.container),
        of_owner(|owner| &owner.namespace),
        of_owner(|owner| &owner.pod),
    ]
    .into_iter()
    .map(Box::from)
    .collect()
}

fn dcgm_value(name: Dcgm, reading: &GpuReading, xids: &[XidCount], latest: &LatestValues) -> Option<f64> {
    let values = &reading.values;
    let subject = Subject::Gpu(reading.gpu.uuid.clone());
    let signal = |signal| latest.get(&subject, signal).map(|latest| latest.value);
    let microseconds = |reason| values.throttled_ns.get(&reason).map(|ns| whole(ns / 1000));
    let mebibytes = |bytes: Option<u64>| bytes.map(|bytes| (whole(bytes) / MEBIBYTE).round());
    match name {
        Dcgm::SmClock => values.sm_clock_mhz.map(f64::from),
        Dcgm::MemClock => values.memory_clock_mhz.map(f64::from),
        Dcgm::MemoryTemp => values.memory_temperature.map(whole),
        Dcgm::GpuTemp => values.temperature.map(f64::from),
        Dcgm::PowerUsage => signal(Signal::GpuPowerWatts),
        Dcgm::TotalEnergy => values.energy_millijoules.map(whole),
        Dcgm::PcieReplays => values.pcie_replays.map(whole),
        Dcgm::GpuUtil => values.busy_percent.map(f64::from),
        Dcgm::MemCopyUtil => values.memory_busy_percent.map(f64::from),
        Dcgm::EncUtil => values.encoder_percent.map(f64::from),
        Dcgm::DecUtil => values.decoder_percent.map(f64::from),
        Dcgm::XidErrors => Some(last_xid(&reading.gpu.uuid, xids)).filter(|_| reading.gpu.instance.is_none()),
        Dcgm::PowerViolation => microseconds(ThrottleReason::Power),
        Dcgm::ThermalViolation => microseconds(ThrottleReason::Thermal),
        Dcgm::SyncBoostViolation => microseconds(ThrottleReason::SyncBoost),
        Dcgm::BoardLimitViolation => microseconds(ThrottleReason::BoardLimit),
        Dcgm::LowUtilViolation => microseconds(ThrottleReason::LowUtilization),
        Dcgm::ReliabilityViolation => microseconds(ThrottleReason::Reliability),
        Dcgm::FbFree => mebibytes(values.memory.map(|memory| memory.free)),
        Dcgm::FbUsed => mebibytes(values.memory.map(|memory| memory.used)),
        Dcgm::FbReserved => mebibytes(values.memory.map(|memory| memory.reserved)),
        Dcgm::EccSbeVolatile => values.ecc_corrected.map(whole),
        Dcgm::EccDbeVolatile => values.ecc_uncorrected.map(whole),
        Dcgm::EccSbeAggregate => values.ecc_corrected_lifetime.map(whole),
        Dcgm::EccDbeAggregate => values.ecc_uncorrected_lifetime.map(whole),
        Dcgm::NvlinkBandwidth => {
            let sent = signal(Signal::GpuNvlinkSentBytesPerSecond)?;
            Some((sent + signal(Signal::GpuNvlinkReceivedBytesPerSecond)?) / MEBIBYTE)
        }
        Dcgm::RemappedUncorrectable => values.rows_remapped_uncorrectable.map(whole),
        Dcgm::RemappedCorrectable => values.rows_remapped_correctable.map(whole),
        Dcgm::RowRemapFailure => values.row_remap_failed.map(whole),
        Dcgm::GraphicsActive => signal(Signal::GpuGraphicsActiveRatio),
        Dcgm::SmActive => signal(Signal::GpuSmActiveRatio),
        Dcgm::SmOccupancy => signal(Signal::GpuSmOccupancyRatio),
        Dcgm::TensorActive => signal(Signal::GpuTensorActiveRatio),
        Dcgm::DramActive => signal(Signal::GpuDramActiveRatio),
        Dcgm::PcieSent => signal(Signal::GpuPcieSentBytesPerSecond),
        Dcgm::PcieReceived => signal(Signal::GpuPcieReceivedBytesPerSecond),
    }
}

/// Code of the last error; 0 where there was none, as the exporter has it.
fn last_xid(uuid: &str, xids: &[XidCount]) -> f64 {
    let of_gpu = xids.iter().filter(|count| count.uuid.as_deref() == Some(uuid));
    of_gpu.max_by_key(|count| count.last).map_or(0.0, |count| f64::from(count.code))
}

#[expect(clippy::cast_precision_loss, reason = "bytes, times and counts beyond 2^53 are out of reach")]
const fn whole(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
