//! The closed catalogue of metric families on `/metrics`: those of the signals, and Tidegate's own.

pub mod dcgm;
pub mod external;

use crate::signals::Signal;
use crate::units::Unit;

/// The type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up; its name ends in `_total`.
    Counter,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The word of the exposition formats.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! labels {
    ($($variant:ident, $name:literal, $help:literal;)+) => {
        /// The closed set of label names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Label { $(#[doc = $help] $variant,)+ }

        impl Label {
            /// Every label.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the exposition.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What its values are.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

labels! {
    Workload, "workload", "Id of a workload.";
    Device, "device", "Disk or network interface; under DCGM names, a GPU as `nvidia0`.";
    Mountpoint, "mountpoint", "Where a filesystem is mounted.";
    Namespace, "namespace", "Namespace of a pod; empty while it is not known.";
    Pod, "pod", "Name of a pod; empty while it is not known.";
    PodUid, "pod_uid", "Uid of a pod.";
    Container, "container", "Name of a container in its pod; its id while the name is not known.";
    Volume, "volume", "Name of a volume in its pod, or of the persistent volume behind it.";
    Version, "version", "Version of the program.";
    Source, "source", "What was collected from: `node`, `filesystem`, `process`, `scrape`, `otlp`, `container`, `volume`, `pods`, `devices`, `gpu`, `kernel_log`, `logs`.";
    Target, "target", "Address of a scrape target.";
    Runtime, "runtime", "Name of a serving runtime in the catalogue.";
    Cause, "cause", "Why something failed: a closed set, never a message.";
    Outcome, "outcome", "How something ended: a closed set.";
    Direction, "direction", "`up`, `down` or `hold`.";
    Signal, "signal", "Name of a signal.";
    Quantile, "quantile", "Level of a quantile, such as `0.95`.";
    Horizon, "horizon", "How far ahead: `lead` is the workload's own lead time.";
    Model, "model", "Name of a forecasting model.";
    Code, "code", "HTTP status code class: `2xx`, `4xx`, `5xx`.";
    Role, "role", "`serving`, `training` or `free`.";
    Condition, "condition", "Name of a condition.";
    Sink, "sink", "Where logs go: `ndjson`, `elasticsearch`.";
    Policy, "policy", "Which policy would have done it: `tidegate`, `reactive`, `hpa`.";
    Uuid, "uuid", "UUID of a GPU, or of an instance of one (MIG).";
    Gpu, "gpu", "Index of a GPU, as the driver counts.";
    PciBusId, "pci_bus_id", "Where a GPU is on the PCI bus.";
    GpuModel, "model_name", "Product name of a GPU.";
    Parent, "parent", "UUID of the GPU that an instance is part of.";
    Profile, "profile", "Profile of a MIG instance, such as `1g.10gb`.";
    Estimated, "estimated", "`true` where a value was not measured, else `false`.";
    DriverVersion, "driver_version", "Version of the GPU driver.";
    Right, "right", "Something that must be allowed in the cluster, such as `patch deployments.apps/scale`: a closed set.";
    Reason, "reason", "Why clocks are held down: a closed set.";
    Xid, "xid", "Code of a GPU error, as NVIDIA numbers them.";
    Class, "class", "Whose fault an error is and what it asks for: `application`, `hardware`, `reset`, `other`.";
    DcgmUuid, "UUID", "Under DCGM names: UUID of a GPU.";
    DcgmModel, "modelName", "Under DCGM names: product name of a GPU.";
    DcgmProfile, "GPU_I_PROFILE", "Under DCGM names: profile of a MIG instance.";
    DcgmInstance, "GPU_I_ID", "Under DCGM names: id of a MIG instance.";
    DcgmDriver, "DCGM_FI_DRIVER_VERSION", "Under DCGM names: version of the GPU driver.";
    DcgmHost, "Hostname", "Under DCGM names: name of the machine, as exporters up to 4.4 wrote the label.";
    DcgmHostLower, "hostname", "Under DCGM names: name of the machine, as later exporters write the label.";
}

macro_rules! metrics {
    ($($variant:ident, $name:literal, $kind:ident, $unit:ident, [$($label:ident),*], $help:literal;)+) => {
        /// Tidegate's own metric families.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $(#[doc = $help] $variant,)+ }

        impl Metric {
            /// Every family, in catalogue order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The catalogue entry.
            #[must_use]
            pub const fn family(self) -> Family {
                match self {
                    $(Self::$variant => Family {
                        name: $name, kind: Kind::$kind, unit: Unit::$unit, labels: &[$(Label::$label),*], help: $help,
                    },)+
                }
            }
        }
    };
}

/// One metric family: what `# HELP` and `# TYPE` say, and the labels its samples bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Full name; a counter's ends in `_total`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Labels of every sample.
    pub labels: &'static [Label],
    /// One sentence for people.
    pub help: &'static str,
}

metrics! {
    BuildInfo, "tidegate_build_info", Gauge, One, [Version], "Always 1; the version is in the label.";
    ProcessCpuSeconds, "process_cpu_seconds_total", Counter, Seconds, [], "CPU time used by Tidegate itself.";
    ProcessMemory, "process_resident_memory_bytes", Gauge, Bytes, [], "Resident memory of Tidegate itself.";
    SeriesRefused, "tidegate_metrics_series_refused_total", Counter, One, [], "Series left off this page because their family holds the most it may.";
    SourceUp, "tidegate_source_up", Gauge, One, [Source], "1 when the source's last reading was in time, 0 when it failed or is stuck.";
    SourceReadSeconds, "tidegate_source_read_seconds", Gauge, Seconds, [Source], "Duration of the source's last reading.";
    SourceErrors, "tidegate_source_errors_total", Counter, One, [Source, Cause], "Readings or parts of readings that failed.";
    Pods, "tidegate_pods", Gauge, One, [], "Pods of this node that are known.";
    PodsAge, "tidegate_pods_age_seconds", Gauge, Seconds, [], "Time since the pods of this node were last known to be all there are; 0 while each change is told.";
    ScrapeTargetUp, "tidegate_scrape_target_up", Gauge, One, [Target], "1 when the target's last scrape gave metrics.";
    ScrapeTargetRuntime, "tidegate_scrape_target_runtime", Gauge, One, [Target, Runtime], "Always 1: the target's page has metrics of this runtime.";
    ScrapeErrors, "tidegate_scrape_errors_total", Counter, One, [Target, Cause], "Scrapes, or lines of a scrape, that were refused.";
    OtlpRequests, "tidegate_otlp_requests_total", Counter, One, [Outcome], "Requests of senders (OTLP), by what became of them: ok, partial, or why they were refused.";
    OtlpPoints, "tidegate_otlp_points_total", Counter, One, [], "Points taken in of senders (OTLP).";
    OtlpPointsRefused, "tidegate_otlp_points_refused_total", Counter, One, [Cause], "Points of senders (OTLP) that were refused.";
    OtlpSenders, "tidegate_otlp_senders", Gauge, One, [], "Senders (OTLP) that have told something in the last minutes.";
    OtlpSeries, "tidegate_otlp_series", Gauge, One, [], "Series that they have told, each bucket counted.";
    OtlpLogRecords, "tidegate_otlp_log_records_total", Counter, One, [], "Log records of senders (OTLP) that were put on disk, to be shipped like lines of files.";
    OtlpLogRecordsRefused, "tidegate_otlp_log_records_refused_total", Counter, One, [Cause], "Log records of senders (OTLP) that were refused for good: they were empty.";
    OtlpLogSpool, "tidegate_otlp_log_spool_bytes", Gauge, Bytes, [], "Log records of senders (OTLP) on disk, the last ones shipped among them.";
    OtlpPushed, "tidegate_otlp_pushed_total", Counter, One, [Outcome], "Requests with metrics of its own that were pushed to a collector (OTLP), by how they ended: ok, partial, refused, or dropped.";
    OtlpPushRetries, "tidegate_otlp_push_retries_total", Counter, One, [Cause], "Requests to a collector that are sent again.";
    OtlpPushWaiting, "tidegate_otlp_push_waiting", Gauge, One, [], "Requests that wait for a collector.";
    Decisions, "tidegate_decisions_total", Counter, One, [Workload, Direction], "Plans made, by what they did to the size.";
    DecisionSeconds, "tidegate_decision_seconds", Gauge, Seconds, [], "Duration of the last round of decisions over all workloads.";
    WorkloadCondition, "tidegate_workload_condition", Gauge, One, [Workload, Condition], "1 while the condition holds.";
    ReplicaRestarts, "tidegate_replica_restarts_total", Counter, One, [Workload], "Replicas that ended by themselves and were started again.";
    Resizes, "tidegate_resizes_total", Counter, One, [Workload, Outcome], "Resizes put into effect, by how they ended.";
    ResizeSeconds, "tidegate_resize_seconds", Gauge, Seconds, [Workload], "Duration of the last resize of a training job, checkpoint included.";
    SloMissRatio, "tidegate_slo_miss_ratio", Gauge, Ratio, [Workload], "Share of the requests of the last hour that ended outside the objective.";
    SloTarget, "tidegate_slo_target_ratio", Gauge, Ratio, [Workload], "Share of requests that are to end within the objective.";
    ReplicaHours, "tidegate_replica_hours_total", Counter, Hours, [Workload, Policy], "Replica-hours held, starting and draining included; those of other policies are replayed on the same arrivals.";
    PolicyMisses, "tidegate_policy_slo_misses_total", Counter, One, [Workload, Policy], "Requests outside the objective, seen (tidegate) or replayed (others).";
    Forecast, "tidegate_forecast_value", Gauge, One, [Workload, Signal, Quantile, Horizon], "Forecast of a signal, in the signal's unit.";
    DemandAge, "tidegate_demand_age_seconds", Gauge, Seconds, [Workload], "Age of the demand that decisions go by; absent while none is known.";
    ForecastScore, "tidegate_forecast_pinball_ratio", Gauge, Ratio, [Workload, Signal, Model], "Pinball loss of the model in use against that of the last value; below 1 is better.";
    ForecastCoverage, "tidegate_forecast_coverage_ratio", Gauge, Ratio, [Workload, Signal, Quantile], "Share of values that fell at or below the forecast quantile.";
    PoolSlots, "tidegate_pool_slots", Gauge, One, [Role], "Slots of the local pool, by who holds them.";
    GatewayRequests, "tidegate_gateway_requests_total", Counter, One, [Workload, Code], "Requests through the local gateway, by answer.";
    GatewayDropped, "tidegate_gateway_dropped_total", Counter, One, [Workload, Cause], "Requests that the gateway refused or gave up.";
    GatewaySeconds, "tidegate_gateway_request_seconds", Histogram, Seconds, [Workload], "Time from arrival to answer at the local gateway.";
    AlertsReceived, "tidegate_alerts_received_total", Counter, One, [Outcome], "Alerts received by webhook, by what became of them.";
    AuthDenied, "tidegate_auth_denied_total", Counter, One, [Cause], "Requests refused for want of a valid token.";
    LogLinesRead, "tidegate_log_lines_read_total", Counter, One, [Workload], "Log lines read.";
    LogLinesShipped, "tidegate_log_lines_shipped_total", Counter, One, [Sink], "Log lines that the sink has acknowledged.";
    LogLinesDeadLettered, "tidegate_log_lines_dead_lettered_total", Counter, One, [Sink, Cause], "Log lines that the sink refused for good; they lie in the dead-letter file.";
    LogLinesBuffered, "tidegate_log_lines_buffered", Gauge, One, [Sink], "Log lines read and not yet acknowledged.";
    LogShipRetries, "tidegate_log_ship_retries_total", Counter, One, [Sink, Cause], "Requests or items sent again.";
    LogShipLagSeconds, "tidegate_log_ship_lag_seconds", Gauge, Seconds, [Sink], "Age of the oldest line not yet acknowledged.";
    ClusterWrites, "tidegate_cluster_writes_total", Counter, One, [Workload, Outcome], "Sizes and floors written to the API server, by outcome: ok, or why it was refused.";
    ClusterBlindSeconds, "tidegate_cluster_blind_seconds", Gauge, Seconds, [], "Time since which the API server cannot be watched; 0 while it can.";
    ClusterRightMissing, "tidegate_cluster_right_missing", Gauge, One, [Right], "1 while the controller lacks a right that it needs.";
    PublishedAnswers, "tidegate_published_answers_total", Counter, One, [Outcome], "Sizes that autoscalers asked for, by the External Metrics API or through KEDA: ok, or why there was none.";
    ControllerLeads, "tidegate_controller_leads", Gauge, One, [], "1 while this controller leads and writes, 0 while it watches and learns.";
    DigestsSent, "tidegate_digests_sent_total", Counter, One, [], "Digests that the controller has taken in.";
    DigestErrors, "tidegate_digest_errors_total", Counter, One, [Cause], "Streams to the controller that could not be opened, or broke.";
    DigestsReceived, "tidegate_digests_received_total", Counter, One, [], "Digests of agents taken in.";
    DigestsRefused, "tidegate_digests_refused_total", Counter, One, [Cause], "Digests of agents refused, whole or in part.";
    DigestNodes, "tidegate_digest_nodes", Gauge, One, [], "Nodes whose agent has told something in the last seconds.";
    DigestSkewSeconds, "tidegate_digest_skew_seconds", Gauge, Seconds, [], "Largest distance between the clock of a node and the controller's.";
    HistoryBytes, "tidegate_history_bytes", Gauge, Bytes, [], "Size of the embedded history on disk.";
    HistorySamples, "tidegate_history_samples_total", Counter, One, [], "Readings written to the embedded history.";
    HistoryErrors, "tidegate_history_errors_total", Counter, One, [Cause], "Reads or writes of the embedded history that failed.";
    GpuInfo, "tidegate_gpu_info", Gauge, One, [Uuid, Gpu, PciBusId, GpuModel, DriverVersion, Parent, Profile], "Always 1; what a GPU or instance is, in the labels.";
    GpuOwner, "tidegate_gpu_owner_info", Gauge, One, [Uuid, Namespace, Pod, PodUid, Container, Workload], "Always 1; the containers that a GPU or instance was given to. Where there is one, it stands in the labels of the GPU's own families too.";
    GpuOwnerPart, "tidegate_gpu_owner_part_ratio", Gauge, Ratio, [Uuid, Namespace, Pod, PodUid, Container, Workload, Estimated], "Part of a GPU or instance that is put down to a container that has it; estimated, by the shares given out, where it is shared by time slices or MPS. All parts of one are never above 1 together.";
    GpuFailed, "tidegate_gpu_failed", Gauge, One, [Uuid, Cause], "1 while a GPU cannot be read, by why.";
    GpuThrottled, "tidegate_gpu_throttled", Gauge, One, [Uuid, Reason], "1 while clocks are held down for this reason, 0 while they are not.";
    GpuThrottledSeconds, "tidegate_gpu_throttled_seconds_total", Counter, Seconds, [Uuid, Reason], "Time for which clocks were held down, since the driver was loaded.";
    GpuXidErrors, "tidegate_gpu_xid_errors_total", Counter, One, [Uuid, PciBusId, Xid, Class], "GPU errors told by the driver or the kernel log.";
    GpuXidLast, "tidegate_gpu_xid_last_timestamp_seconds", Gauge, Seconds, [Uuid, PciBusId, Xid, Class], "When a GPU error was last told, in seconds since the epoch.";
}

/// Every family that `/metrics` may show: the signals' first, then Tidegate's own.
pub fn families() -> impl Iterator<Item = Family> {
    let of_signals = Signal::ALL.iter().map(|signal| Family {
        name: signal.metric_name(),
        kind: signal.kind(),
        unit: signal.unit(),
        labels: signal.labels(),
        help: signal.help(),
    });
    of_signals.chain(Metric::ALL.iter().map(|metric| metric.family()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn family_names_are_unique_and_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for family in families() {
            assert!(seen.insert(family.name), "{} stands twice", family.name);
            assert!(family.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
        }
    }
}
