//! The simulator's messages. Unknown fields are ignored, `null` is unknown, as the protocol says.

use serde::Deserialize;

/// A line from the simulator.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromSimulator {
    Init(Box<Init>),
    Event(Happened),
    Tick(Box<Tick>),
    End,
}

#[derive(Debug, Deserialize)]
pub(super) struct Init {
    pub(super) protocol: u64,
    pub(super) workload: Workload,
    pub(super) start_time: f64,
    pub(super) history: Option<Past>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Workload {
    pub(super) replicas: Limits,
    pub(super) replica: Option<Replica>,
    pub(super) slo: Objective,
    pub(super) attainment_target: f64,
    pub(super) start_up_hint_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Limits {
    pub(super) min: u32,
    pub(super) max: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Replica {
    pub(super) max_concurrency: Option<u32>,
}

/// What a request must meet.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Objective {
    Latency { latency_s: f64 },
    Llm { ttft_s: f64, tpot_s: f64 },
}

#[derive(Debug, Deserialize)]
pub(super) struct Past {
    pub(super) step_s: Option<f64>,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<f64>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Happened {
    pub(super) event: String,
    pub(super) t: f64,
    pub(super) start_up_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tick {
    pub(super) t: f64,
    pub(super) replicas: Counts,
    pub(super) window_s: Option<f64>,
    pub(super) age_s: Option<f64>,
    pub(super) arrivals: Option<f64>,
    pub(super) completed: Option<f64>,
    pub(super) dropped: Option<f64>,
    pub(super) slo_miss: Option<f64>,
    pub(super) in_flight: Option<f64>,
    pub(super) queued: Option<f64>,
    pub(super) prompt_tokens: Option<f64>,
    pub(super) output_tokens: Option<f64>,
    pub(super) tpot_mean_s: Option<f64>,
    pub(super) kv_utilisation: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    pub(super) desired: u32,
    pub(super) ready: u32,
    pub(super) starting: u32,
    pub(super) draining: u32,
}
