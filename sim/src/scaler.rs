//! What a scaler is, and what it is shown: figures with their age, as its metric pipeline has them.

use std::time::Duration;

use tidegate_core::{ReplicaCounts, Timestamp};

/// How old and how broad a scaler's figures are, and how often it looks. Rounded to whole seconds; window and period are at least
/// one, age and window together at most a quarter of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipeline {
    /// How long before the look the window ended.
    pub age: Duration,
    /// Length of the window.
    pub window: Duration,
    /// Time between looks.
    pub period: Duration,
}

impl Pipeline {
    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(age: u64, window: u64, period: u64) -> Self {
        Self {
            age: Duration::from_secs(age),
            window: Duration::from_secs(window),
            period: Duration::from_secs(period),
        }
    }
}

/// Figures of a window. Under a fault each may be NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Length of the window; shorter than the pipeline's at the start.
    pub window: Duration,
    /// Requests that arrived.
    pub arrivals: f64,
    /// Requests that were answered.
    pub completed: f64,
    /// Requests that ended without an answer.
    pub dropped: f64,
    /// Requests that ended outside the objective, dropped ones included.
    pub missed: f64,
    /// Mean number of requests being served.
    pub in_flight: f64,
    /// Mean number of requests waiting.
    pub queued: f64,
    /// Requests waiting at the end.
    pub backlog: f64,
    /// Mean number of ready replicas.
    pub ready: f64,
    /// Mean latency of the requests that were answered, in seconds; `None` without any.
    pub latency_mean_s: Option<f64>,
    /// Prompt tokens that arrived; 0 for a generic service.
    pub prompt_tokens: f64,
    /// Output tokens of the requests that were answered; 0 for a generic service.
    pub output_tokens: f64,
    /// Mean seconds per output token after the first, of the requests that were answered; `None` without any.
    pub per_output_token_s: Option<f64>,
    /// Share of the memory for keys and values that is reserved, at the end; `None` for a generic service.
    pub kv_utilisation: Option<f64>,
}

impl Figures {
    /// Requests that ended.
    #[must_use]
    pub fn ended(&self) -> f64 {
        self.completed + self.dropped
    }

    /// Arrivals per second.
    #[must_use]
    pub fn arrivals_rps(&self) -> f64 {
        self.arrivals / self.window.as_secs_f64()
    }

    pub(crate) fn not_a_number(self) -> Self {
        let nan = f64::NAN;
        Self {
            window: self.window,
            arrivals: nan,
            completed: nan,
            dropped: nan,
            missed: nan,
            in_flight: nan,
            queued: nan,
            backlog: nan,
            ready: nan,
            latency_mean_s: self.latency_mean_s.map(|_| nan),
            prompt_tokens: nan,
            output_tokens: nan,
            per_output_token_s: self.per_output_token_s.map(|_| nan),
            kv_utilisation: self.kv_utilisation.map(|_| nan),
        }
    }
}

/// What a scaler is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Now.
    pub now: Timestamp,
    /// Replicas now: whoever scales reads them from the API server, which does not lag.
    pub replicas: ReplicaCounts,
    /// Ready replicas that became so after the window's end: they have no figures yet.
    pub fresh: u32,
    /// Replicas that ended by themselves since the last look.
    pub lost: u32,
    /// Replicas end again and again before they are ready.
    pub crash_loop: bool,
    /// How long ago the window ended.
    pub age: Duration,
    /// What could be read; `None`: nothing.
    pub figures: Option<Figures>,
}

/// Decides sizes.
pub trait Scaler {
    /// What it sees, and how often.
    fn pipeline(&self) -> Pipeline;

    /// The size it wants now: ready and starting replicas together.
    fn decide(&mut self, look: &Look) -> u32;

    /// Told of each replica that became ready, before the next look.
    fn started(&mut self, at: Timestamp, start_up: Duration) {
        let _ = (at, start_up);
    }
}
