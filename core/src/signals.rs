//! The closed catalogue of signals: every quantity that Tidegate stores, forecasts or shows. A name that is not here does not exist.

use serde::{Deserialize, Serialize};

use crate::metrics::{Kind, Label};
use crate::units::Unit;

/// What a signal belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A workload; its subject is the workload's id.
    Workload,
    /// This machine; its subject is `node`, or `node//PART` for one of several parts.
    Node,
    /// A container of a pod on this machine; its subject is `container//UID/NAME`.
    Container,
    /// A pod on this machine; its subject is `pod//UID`, or `volume//UID/NAME` for one of its volumes.
    Pod,
    /// A GPU, or an instance of one (MIG); its subject is `gpu//UUID`.
    Gpu,
}

/// How the values that several nodes have of one workload become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// They add up.
    Sum,
    /// Their mean, each weighted by the targets that it stands for.
    Mean,
    /// The largest: of quantiles, the whole's is no larger than that of its worst part.
    Worst,
}

macro_rules! signals {
    ($($variant:ident, $name:literal, $scope:ident, $unit:ident, [$($label:ident),*], $help:literal;)+) => {
        /// A named, typed, unit-bearing quantity. Nearly all are gauges: rates are taken where a counter is read. The few counters,
        /// whose names end in `_total`, are the device's own and start again from zero when it does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Signal {
            $(#[doc = $help] #[serde(rename = $name)] $variant,)+
        }

        impl Signal {
            /// Every signal, in catalogue order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in the API, in the history and in configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The name of the metric that `/metrics` shows it under.
            #[must_use]
            pub const fn metric_name(self) -> &'static str {
                match self { $(Self::$variant => signals!(@metric $scope, $name),)+ }
            }

            /// What it belongs to.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Self::$variant => Scope::$scope,)+ }
            }

            /// Its unit.
            #[must_use]
            pub const fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }

            /// Labels of its metric.
            #[must_use]
            pub const fn labels(self) -> &'static [Label] {
                match self { $(Self::$variant => &[$(Label::$label),*],)+ }
            }
        }
    };
    (@metric Workload, $name:literal) => { concat!("tidegate_workload_", $name) };
    (@metric Node, $name:literal) => { concat!("tidegate_node_", $name) };
    // These names begin with their scope, since a name stands for one signal and `cpu_cores` is a workload's.
    (@metric Container, $name:literal) => { concat!("tidegate_", $name) };
    (@metric Pod, $name:literal) => { concat!("tidegate_", $name) };
    (@metric Gpu, $name:literal) => { concat!("tidegate_", $name) };
}

signals! {
    RequestsPerSecond, "requests_per_second", Workload, RequestsPerSecond, [Workload], "Arriving requests per second, whether served or not.";
    CompletionsPerSecond, "completions_per_second", Workload, RequestsPerSecond, [Workload], "Requests answered per second.";
    ErrorsPerSecond, "errors_per_second", Workload, RequestsPerSecond, [Workload], "Requests answered with a server error, or dropped, per second.";
    PromptTokensPerSecond, "prompt_tokens_per_second", Workload, TokensPerSecond, [Workload], "Prompt tokens arriving per second.";
    OutputTokensPerSecond, "output_tokens_per_second", Workload, TokensPerSecond, [Workload], "Output tokens made per second.";
    InFlight, "in_flight_requests", Workload, One, [Workload], "Requests being served.";
    Queued, "queued_requests", Workload, One, [Workload], "Requests waiting for a free replica.";
    LatencyP50, "latency_p50_seconds", Workload, Seconds, [Workload], "Median time from arrival to answer.";
    LatencyP95, "latency_p95_seconds", Workload, Seconds, [Workload], "95th percentile of the time from arrival to answer.";
    LatencyP99, "latency_p99_seconds", Workload, Seconds, [Workload], "99th percentile of the time from arrival to answer.";
    LatencyMean, "latency_mean_seconds", Workload, Seconds, [Workload], "Mean time from arrival to answer; alone it says nothing of the objective.";
    FirstTokenP50, "time_to_first_token_p50_seconds", Workload, Seconds, [Workload], "Median time from arrival to the first output token.";
    FirstTokenP95, "time_to_first_token_p95_seconds", Workload, Seconds, [Workload], "95th percentile of the time from arrival to the first output token.";
    FirstTokenP99, "time_to_first_token_p99_seconds", Workload, Seconds, [Workload], "99th percentile of the time from arrival to the first output token.";
    PerTokenP50, "time_per_output_token_p50_seconds", Workload, Seconds, [Workload], "Median over requests of the mean time between output tokens after the first.";
    PerTokenP95, "time_per_output_token_p95_seconds", Workload, Seconds, [Workload], "95th percentile over requests of the mean time between output tokens after the first.";
    PerTokenP99, "time_per_output_token_p99_seconds", Workload, Seconds, [Workload], "99th percentile over requests of the mean time between output tokens after the first.";
    PerTokenMean, "time_per_output_token_mean_seconds", Workload, Seconds, [Workload], "Mean time between output tokens after the first.";
    InterTokenP50, "inter_token_latency_p50_seconds", Workload, Seconds, [Workload], "Median over output tokens of the time since the token before.";
    InterTokenP95, "inter_token_latency_p95_seconds", Workload, Seconds, [Workload], "95th percentile over output tokens of the time since the token before.";
    InterTokenP99, "inter_token_latency_p99_seconds", Workload, Seconds, [Workload], "99th percentile over output tokens of the time since the token before.";
    QueueWaitMean, "queue_wait_mean_seconds", Workload, Seconds, [Workload], "Mean time that a request waits in the server before it is worked on.";
    BatchSizeMean, "batch_size_mean", Workload, One, [Workload], "Mean number of requests that the model works on at once.";
    KvUtilisation, "kv_utilisation_ratio", Workload, Ratio, [Workload], "Share of the memory for attention keys and values that is taken; mean over replicas.";
    PrefixCacheHits, "prefix_cache_hit_ratio", Workload, Ratio, [Workload], "Share of prompt tokens, or blocks of them, found in the prefix cache.";
    PreemptionsPerSecond, "preemptions_per_second", Workload, PerSecond, [Workload], "Requests per second that lost their place in the batch for want of memory for keys and values.";
    SloMissesPerSecond, "slo_misses_per_second", Workload, RequestsPerSecond, [Workload], "Requests per second that ended outside the objective, drops included.";
    ReplicasWanted, "replicas_wanted", Workload, One, [Workload], "Replicas that the last plan in force asks for.";
    ReplicasReady, "replicas_ready", Workload, One, [Workload], "Replicas that take requests, or workers that take part in steps.";
    ReplicasStarting, "replicas_starting", Workload, One, [Workload], "Replicas started and not yet ready.";
    ReplicasDraining, "replicas_draining", Workload, One, [Workload], "Replicas that finish what they have and then stop.";
    CpuCores, "cpu_cores", Workload, Cores, [Workload], "CPU cores used by the workload's processes on this node.";
    MemoryBytes, "memory_bytes", Workload, Bytes, [Workload], "Resident memory of the workload's processes on this node.";
    CapacityPerReplica, "capacity_per_replica", Workload, RequestsPerSecond, [Workload], "Learned demand that one replica carries within its objective.";
    LeadSeconds, "lead_seconds", Workload, Seconds, [Workload], "Time from a decision to a ready replica: upper estimate in use.";
    StepsPerSecond, "steps_per_second", Workload, PerSecond, [Workload], "Training steps per second.";
    SamplesPerSecond, "samples_per_second", Workload, PerSecond, [Workload], "Training samples worked through per second, all workers together.";
    StepSeconds, "step_seconds", Workload, Seconds, [Workload], "Mean duration of a training step.";
    WorkersLost, "workers_lost", Workload, One, [Workload], "Workers' worth of training speed that a resize costs at this moment.";
    Loss, "loss", Workload, One, [Workload], "Training loss as the job reports it.";
    LogErrorsPerSecond, "log_errors_per_second", Workload, PerSecond, [Workload], "Log lines of level error or worse, per second.";
    CpuBusyRatio, "cpu_busy_ratio", Node, Ratio, [], "Share of CPU time not idle, all cores together.";
    Load1, "load1", Node, One, [], "Load average over one minute.";
    MemoryAvailableBytes, "memory_available_bytes", Node, Bytes, [], "Memory that can be had without swapping.";
    MemoryTotalBytes, "memory_total_bytes", Node, Bytes, [], "Memory of the machine.";
    CpuPressureRatio, "cpu_pressure_ratio", Node, Ratio, [], "Share of time in which some task waited for a CPU (PSI).";
    MemoryPressureRatio, "memory_pressure_ratio", Node, Ratio, [], "Share of time in which some task waited for memory (PSI).";
    IoPressureRatio, "io_pressure_ratio", Node, Ratio, [], "Share of time in which some task waited for a disk (PSI).";
    DiskReadBytesPerSecond, "disk_read_bytes_per_second", Node, BytesPerSecond, [Device], "Bytes read from a disk per second.";
    DiskWrittenBytesPerSecond, "disk_written_bytes_per_second", Node, BytesPerSecond, [Device], "Bytes written to a disk per second.";
    NetworkReceivedBytesPerSecond, "network_received_bytes_per_second", Node, BytesPerSecond, [Device], "Bytes received by a network interface per second.";
    NetworkSentBytesPerSecond, "network_sent_bytes_per_second", Node, BytesPerSecond, [Device], "Bytes sent by a network interface per second.";
    FilesystemAvailableBytes, "filesystem_available_bytes", Node, Bytes, [Mountpoint], "Bytes that an ordinary user may still write.";
    FilesystemSizeBytes, "filesystem_size_bytes", Node, Bytes, [Mountpoint], "Size of a filesystem.";
    FilesystemHoursUntilFull, "filesystem_full_in_hours", Node, Hours, [Mountpoint], "Hours until a filesystem is full at the rate of the last hour; absent while it does not fill.";
    ContainerCpuCores, "container_cpu_cores", Container, Cores, [Namespace, Pod, PodUid, Container, Workload], "CPU cores used by a container.";
    ContainerCpuLimitCores, "container_cpu_limit_cores", Container, Cores, [Namespace, Pod, PodUid, Container, Workload], "CPU cores that a container may use; absent without a limit.";
    ContainerCpuThrottledRatio, "container_cpu_throttled_ratio", Container, Ratio, [Namespace, Pod, PodUid, Container, Workload], "Share of the scheduler's periods in which a container was held back by its CPU limit; absent without a limit and while idle.";
    ContainerMemoryWorkingSetBytes, "container_memory_working_set_bytes", Container, Bytes, [Namespace, Pod, PodUid, Container, Workload], "Memory of a container without the file cache that can be dropped at once: what eviction looks at.";
    ContainerMemoryRssBytes, "container_memory_rss_bytes", Container, Bytes, [Namespace, Pod, PodUid, Container, Workload], "Memory of a container that is backed by no file.";
    ContainerMemoryLimitBytes, "container_memory_limit_bytes", Container, Bytes, [Namespace, Pod, PodUid, Container, Workload], "Memory that a container may use; absent without a limit.";
    ContainerOomKills, "container_oom_kills", Container, One, [Namespace, Pod, PodUid, Container, Workload], "Processes of a container that the kernel has killed for want of memory since it started.";
    ContainerIoReadBytesPerSecond, "container_io_read_bytes_per_second", Container, BytesPerSecond, [Namespace, Pod, PodUid, Container, Workload], "Bytes read from disks by a container per second.";
    ContainerIoWrittenBytesPerSecond, "container_io_written_bytes_per_second", Container, BytesPerSecond, [Namespace, Pod, PodUid, Container, Workload], "Bytes written to disks by a container per second.";
    ContainerCpuPressureRatio, "container_cpu_pressure_ratio", Container, Ratio, [Namespace, Pod, PodUid, Container, Workload], "Share of time in which some task of a container waited for a CPU (PSI).";
    ContainerMemoryPressureRatio, "container_memory_pressure_ratio", Container, Ratio, [Namespace, Pod, PodUid, Container, Workload], "Share of time in which some task of a container waited for memory (PSI).";
    ContainerIoPressureRatio, "container_io_pressure_ratio", Container, Ratio, [Namespace, Pod, PodUid, Container, Workload], "Share of time in which some task of a container waited for a disk (PSI).";
    ContainerRestarts, "container_restarts", Container, One, [Namespace, Pod, PodUid, Container, Workload], "How often a container has been started again in its pod.";
    PodNetworkReceivedBytesPerSecond, "pod_network_received_bytes_per_second", Pod, BytesPerSecond, [Namespace, Pod, PodUid, Workload], "Bytes received by a pod per second; absent for pods in the machine's own network.";
    PodNetworkSentBytesPerSecond, "pod_network_sent_bytes_per_second", Pod, BytesPerSecond, [Namespace, Pod, PodUid, Workload], "Bytes sent by a pod per second; absent for pods in the machine's own network.";
    PodVolumeAvailableBytes, "pod_volume_available_bytes", Pod, Bytes, [Namespace, Pod, PodUid, Volume, Workload], "Bytes that may still be written to a pod's volume.";
    PodVolumeSizeBytes, "pod_volume_size_bytes", Pod, Bytes, [Namespace, Pod, PodUid, Volume, Workload], "Size of the filesystem that holds a pod's volume.";
    PodVolumeInodesFree, "pod_volume_inodes_free", Pod, One, [Namespace, Pod, PodUid, Volume, Workload], "Files that may still be made on a pod's volume; absent where the filesystem sets no number.";
    PodVolumeHoursUntilFull, "pod_volume_full_in_hours", Pod, Hours, [Namespace, Pod, PodUid, Volume, Workload], "Hours until a pod's volume is full at the rate of the last hour; absent while it does not fill.";
    GpusExpected, "gpus_expected", Node, One, [], "GPUs that should answer: those bound to the driver, and those that ever answered.";
    GpusPresent, "gpus_present", Node, One, [], "GPUs that answer.";
    GpuUp, "gpu_up", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "1 while the GPU answers, 0 while it is known and does not.";
    GpuBusyRatio, "gpu_busy_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which any kernel ran, however small; absent on a GPU that is split into instances.";
    GpuMemoryBusyRatio, "gpu_memory_busy_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which the GPU's memory was read or written.";
    GpuEncoderBusyRatio, "gpu_encoder_busy_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which the video encoder was busy.";
    GpuDecoderBusyRatio, "gpu_decoder_busy_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which the video decoder was busy.";
    GpuMemoryUsedBytes, "gpu_memory_used_bytes", Gpu, Bytes, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "GPU memory in use, without what the driver keeps for itself.";
    GpuMemoryFreeBytes, "gpu_memory_free_bytes", Gpu, Bytes, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "GPU memory that can be had.";
    GpuMemoryReservedBytes, "gpu_memory_reserved_bytes", Gpu, Bytes, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "GPU memory that the driver and firmware keep.";
    GpuMemorySizeBytes, "gpu_memory_size_bytes", Gpu, Bytes, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Memory of the GPU or instance.";
    GpuPowerWatts, "gpu_power_watts", Gpu, Watts, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Power drawn by the board.";
    GpuPowerLimitWatts, "gpu_power_limit_watts", Gpu, Watts, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Power limit in force.";
    GpuEnergyJoules, "gpu_energy_joules_total", Gpu, Joules, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Energy used by the board since the driver was loaded.";
    GpuTemperature, "gpu_temperature_celsius", Gpu, Celsius, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Temperature of the GPU.";
    GpuMemoryTemperature, "gpu_memory_temperature_celsius", Gpu, Celsius, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Temperature of the GPU's memory.";
    GpuSmClock, "gpu_sm_clock_hertz", Gpu, Hertz, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Clock of the multiprocessors.";
    GpuMemoryClock, "gpu_memory_clock_hertz", Gpu, Hertz, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Clock of the GPU's memory.";
    GpuPowerThrottledRatio, "gpu_power_throttled_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which clocks were held down by the power limit.";
    GpuThermalThrottledRatio, "gpu_thermal_throttled_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which clocks were held down by temperature.";
    GpuEccCorrectedErrors, "gpu_ecc_corrected_errors_total", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Memory errors corrected since the driver was loaded.";
    GpuEccUncorrectedErrors, "gpu_ecc_uncorrected_errors_total", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Memory errors that could not be corrected since the driver was loaded.";
    GpuRowsRemappedCorrectable, "gpu_rows_remapped_correctable", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Memory rows replaced for correctable errors, over the GPU's life.";
    GpuRowsRemappedUncorrectable, "gpu_rows_remapped_uncorrectable", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Memory rows replaced for uncorrectable errors, over the GPU's life.";
    GpuRowRemapPending, "gpu_row_remap_pending", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "1 while a row waits for a reset of the GPU to be replaced.";
    GpuRowRemapFailed, "gpu_row_remap_failed", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "1 when a row could not be replaced: the GPU is to be exchanged.";
    GpuPcieReplays, "gpu_pcie_replays_total", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Packets sent again over PCIe.";
    GpuPcieSentBytesPerSecond, "gpu_pcie_sent_bytes_per_second", Gpu, BytesPerSecond, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Bytes sent by the GPU over PCIe per second.";
    GpuPcieReceivedBytesPerSecond, "gpu_pcie_received_bytes_per_second", Gpu, BytesPerSecond, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Bytes received by the GPU over PCIe per second.";
    GpuNvlinkSentBytesPerSecond, "gpu_nvlink_sent_bytes_per_second", Gpu, BytesPerSecond, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Bytes sent over all NVLinks of the GPU per second.";
    GpuNvlinkReceivedBytesPerSecond, "gpu_nvlink_received_bytes_per_second", Gpu, BytesPerSecond, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Bytes received over all NVLinks of the GPU per second.";
    GpuGraphicsActiveRatio, "gpu_graphics_active_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which the compute or graphics engine was active (Hopper and later).";
    GpuSmActiveRatio, "gpu_sm_active_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which a multiprocessor had work, mean of all (Hopper and later).";
    GpuSmOccupancyRatio, "gpu_sm_occupancy_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Warps resident against the most there could be (Hopper and later).";
    GpuTensorActiveRatio, "gpu_tensor_active_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Share of time in which tensor cores were active (Hopper and later).";
    GpuDramActiveRatio, "gpu_dram_active_ratio", Gpu, Ratio, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Memory bandwidth used, of the bandwidth there is (Hopper and later).";
    GpuProcesses, "gpu_processes", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "Processes that hold a compute context on the GPU.";
    GpuRecoveryAction, "gpu_recovery_action", Gpu, One, [Uuid, Gpu, Namespace, Pod, PodUid, Container, Workload], "What the driver asks for: 0 nothing, 1 reset of the GPU, 2 reboot of the machine, 3 peer-to-peer drained, 4 drained and reset.";
}

impl Signal {
    /// The signal of this name, if the catalogue has it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|signal| signal.name() == name)
    }

    /// How it is exposed: by the conventions, what ends in `_total` is a counter and nothing else is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        let name = self.name().as_bytes();
        match name {
            [.., b'_', b't', b'o', b't', b'a', b'l'] => Kind::Counter,
            _ => Kind::Gauge,
        }
    }

    /// How the values that several nodes have of one workload become one.
    #[must_use]
    pub const fn across(self) -> Across {
        match (self, self.unit()) {
            // Every worker counts the steps that it took part in, and tells the loss of all.
            (Self::StepsPerSecond | Self::Loss | Self::StepSeconds, _) | (_, Unit::Ratio) => Across::Mean,
            (Self::LatencyMean | Self::PerTokenMean | Self::QueueWaitMean | Self::BatchSizeMean, _) => {
                Across::Mean
            }
            (_, Unit::Seconds) => Across::Worst,
            _ => Across::Sum,
        }
    }

    /// Whether it is demand: what drives serving size, independent of the replicas there are.
    #[must_use]
    pub const fn is_demand(self) -> bool {
        matches!(self, Self::RequestsPerSecond | Self::PromptTokensPerSecond | Self::OutputTokensPerSecond)
    }

    /// Whether a workload's value is the sum over its replicas, so that one that is missing is missing in it. Means and quantiles
    /// are not, nor is what all replicas do together.
    #[must_use]
    pub const fn is_sum_over_replicas(self) -> bool {
        self.is_demand()
            || matches!(
                self,
                Self::CompletionsPerSecond
                    | Self::ErrorsPerSecond
                    | Self::SloMissesPerSecond
                    | Self::InFlight
                    | Self::Queued
                    | Self::PreemptionsPerSecond
                    | Self::SamplesPerSecond
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_adds_up_over_replicas_adds_up_over_nodes_and_means_do_not() {
        for signal in Signal::ALL.iter().filter(|signal| signal.is_sum_over_replicas()) {
            assert_eq!(signal.across(), Across::Sum, "{}", signal.name());
        }
        for signal in Signal::ALL.iter().filter(|signal| signal.name().contains("_mean")) {
            assert_eq!(signal.across(), Across::Mean, "{}", signal.name());
        }
        assert_eq!(Signal::PerTokenP95.across(), Across::Worst);
    }

    #[test]
    fn names_are_unique_and_found_again() {
        let names: BTreeSet<_> = Signal::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(names.len(), Signal::ALL.len());
        for signal in Signal::ALL {
            assert_eq!(Signal::from_name(signal.name()), Some(*signal));
            assert!(signal.help().ends_with('.'), "{}", signal.name());
        }
        assert_eq!(Signal::from_name("requests"), None);
    }

    #[test]
    fn names_tell_kind_and_scope() {
        assert_eq!(Signal::GpuEnergyJoules.kind(), Kind::Counter);
        assert_eq!(Signal::MemoryTotalBytes.kind(), Kind::Gauge);
        for signal in Signal::ALL {
            assert_eq!(signal.scope() == Scope::Gpu, signal.name().starts_with("gpu_"), "{}", signal.name());
        }
    }
}
