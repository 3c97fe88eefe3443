//! Shapes of what belongs to no single workload: the program itself, its pool, its rivals, its sinks, this machine.

use serde::Serialize;
use tidegate_core::Timestamp;
use utoipa::ToSchema;

use crate::api::access::sight::Sight;

/// What this program is and does.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct About {
    pub(crate) version: String,
    /// Name of the machine.
    pub(crate) host: Option<String>,
    /// Since when it runs.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    /// Whether it runs the demo.
    pub(crate) demo: bool,
    /// How many times faster than real the generated load runs; `null` where none is generated.
    pub(crate) speed: Option<f64>,
    /// Seconds that a day of load lasts: 86,400 unless load is generated faster.
    pub(crate) day_s: f64,
    /// History that was there before the start; `null`: none.
    pub(crate) history_preloaded: Option<Preloaded>,
    /// Addresses of the API and of gateways.
    pub(crate) listen: Vec<String>,
    /// Things that a user should know, in words.
    pub(crate) notes: Vec<String>,
    /// Figures of log shipping, per sink.
    pub(crate) sinks: Vec<Sink>,
    /// Logs in Elasticsearch; `null` where none are sent there.
    pub(crate) elasticsearch: Option<IndexedLogs>,
    /// The pool of this machine; `null` where there is none.
    pub(crate) pool: Option<Pool>,
    /// What the same traffic would have cost under other policies.
    pub(crate) rivals: Vec<Rival>,
    /// Since when rivals are compared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) rivals_since: Option<Timestamp>,
}

/// History that was made up or imported before the start.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Preloaded {
    /// How long it is, in days of load.
    pub(crate) days: f64,
    /// Where it comes from, in words.
    pub(crate) text: String,
}

/// Figures of one sink of logs. `read = shipped + dead_lettered + buffered`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Sink {
    /// `ndjson` or `elasticsearch`.
    pub(crate) sink: String,
    /// Lines read.
    pub(crate) read: Option<u64>,
    /// Lines that the sink has acknowledged.
    pub(crate) shipped: Option<u64>,
    /// Lines that the sink refused for good.
    pub(crate) dead_lettered: Option<u64>,
    /// Lines read and not yet acknowledged.
    pub(crate) buffered: Option<u64>,
    /// Requests or items sent again.
    pub(crate) retries: Option<u64>,
    /// Age of the oldest line not yet acknowledged, in seconds.
    pub(crate) lag_s: Option<f64>,
    /// What is wrong at present, in words.
    pub(crate) problem: Option<String>,
}

/// Lines sent to Elasticsearch against those found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct IndexedLogs {
    /// Address, without credentials.
    pub(crate) url: String,
    /// Lines that were looked for: the last thousand that were acknowledged.
    pub(crate) written: Option<u64>,
    /// Of these, found by their ids.
    pub(crate) indexed: Option<u64>,
}

/// Slots that serving and training share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Pool {
    /// All of them.
    pub(crate) slots: u32,
    /// Who holds how many, in the order of their ids.
    pub(crate) held: Vec<PoolHolder>,
    /// Held by nobody; 0 also when more are held than there are.
    pub(crate) free: u32,
    /// Who was cut and why, in words.
    pub(crate) notes: Vec<String>,
}

impl Pool {
    /// As it is to be shown: who else holds slots is nobody's business, how many are free is everybody's.
    pub(crate) fn seen_by(mut self, sight: &Sight) -> Self {
        if !sight.is_whole() {
            self.held.retain(|holder| sight.sees(&holder.workload));
            self.notes.clear();
        }
        self
    }
}

/// Slots of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PoolHolder {
    pub(crate) workload: String,
    /// `serving` or `training`.
    pub(crate) role: String,
    pub(crate) slots: u32,
}

/// What the same arrivals cost under one policy.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Rival {
    /// `tidegate` (as seen), `reactive` or `hpa` (replayed).
    pub(crate) policy: String,
    pub(crate) workload: String,
    /// Replica-hours, starting replicas included.
    pub(crate) replica_hours: Option<f64>,
    /// Share of requests outside the objective, 0 to 1.
    pub(crate) slo_miss_fraction: Option<f64>,
}

/// This machine.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct NodeView {
    pub(crate) readings: Vec<NodeReading>,
}

/// The last reading of a signal of this machine.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct NodeReading {
    /// Name in the catalogue of signals.
    pub(crate) signal: String,
    pub(crate) unit: String,
    /// Disk, interface or mount point; `null` for the machine as a whole.
    pub(crate) part: Option<String>,
    pub(crate) value: Option<f64>,
    /// Age of the reading, in seconds.
    pub(crate) age_s: Option<f64>,
}
