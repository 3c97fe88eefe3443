//! What one replica does with requests.

use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Exp1, StandardNormal};

use crate::load::Sizes;
use crate::time::{Micros, micros_of};

/// One replica, and the objective of its requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Service {
    /// Any service: so many requests at a time, each for its own time.
    Generic(Generic),
    /// A language model with continuous batching.
    Llm(Llm),
}

impl Service {
    /// Requests per second of one replica that is never idle, for requests of these sizes.
    #[must_use]
    pub fn full_rps(&self, sizes: Sizes) -> f64 {
        match self {
            Self::Generic(generic) => f64::from(generic.concurrency) / generic.time.mean_s(),
            Self::Llm(llm) => llm.full_rps(sizes),
        }
    }

    /// Requests that one replica serves at a time, at most; for a language model as the memory for keys and values allows.
    #[must_use]
    pub fn concurrency(&self, sizes: Sizes) -> f64 {
        match self {
            Self::Generic(generic) => f64::from(generic.concurrency),
            Self::Llm(llm) => llm.full_batch(sizes),
        }
    }
}

/// A replica that serves requests side by side, undisturbed by each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Generic {
    /// Requests served at a time, at least one.
    pub concurrency: u32,
    /// How long one is served.
    pub time: ServiceTime,
    /// A request is in time when waiting and service together take at most this.
    pub latency: Duration,
}

impl Default for Generic {
    /// Four at a time, half a second each, two seconds allowed.
    fn default() -> Self {
        Self { concurrency: 4, time: ServiceTime::default(), latency: Duration::from_secs(2) }
    }
}

/// Distribution of the time that a request is served for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServiceTime {
    /// Lognormal, as measured service times mostly are.
    Lognormal {
        /// Mean before the cut, in seconds.
        mean_s: f64,
        /// Coefficient of variation.
        cv: f64,
        /// Longer times are cut to this many means.
        cut: f64,
    },
    /// Exponential with this mean in seconds: what queueing theory has exact results for.
    Exponential {
        /// Mean in seconds.
        mean_s: f64,
    },
}

impl Default for ServiceTime {
    fn default() -> Self {
        Self::Lognormal { mean_s: 0.5, cv: 0.5, cut: 3.2 }
    }
}

impl ServiceTime {
    /// Mean in seconds (the cut, which takes next to nothing off, is left out).
    #[must_use]
    pub const fn mean_s(&self) -> f64 {
        match self {
            Self::Lognormal { mean_s, .. } | Self::Exponential { mean_s } => *mean_s,
        }
    }

    /// Squared coefficient of variation.
    #[must_use]
    pub const fn variation(&self) -> f64 {
        match self {
            Self::Lognormal { cv, .. } => *cv * *cv,
            Self::Exponential { .. } => 1.0,
        }
    }

    /// Times drawn from it, in the order of `rng`.
    pub(crate) fn times(&self, rng: ChaCha8Rng) -> Times {
        let law = match *self {
            Self::Lognormal { mean_s, cv, cut } => {
                let sigma = (1.0 + cv * cv).ln().sqrt();
                Law::Lognormal { mu: mean_s.ln() - sigma * sigma / 2.0, sigma, most: micros_of(cut * mean_s) }
            }
            Self::Exponential { mean_s } => Law::Exponential { mean_s },
        };
        Times { law, rng, drawn: [0; AHEAD], next: AHEAD }
    }
}

/// A distribution with its constants worked out.
#[derive(Debug, Clone, Copy)]
enum Law {
    Lognormal { mu: f64, sigma: f64, most: Micros },
    Exponential { mean_s: f64 },
}

/// Times drawn at once: side by side they take less time than one by one.
const AHEAD: usize = 64;

/// Service times, each at least a microsecond.
#[derive(Debug)]
pub(crate) struct Times {
    law: Law,
    rng: ChaCha8Rng,
    drawn: [Micros; AHEAD],
    /// The first of them that was not given yet.
    next: usize,
}

impl Times {
    pub(crate) fn draw(&mut self) -> Micros {
        if self.next == AHEAD {
            self.refill();
        }
        let drawn = self.drawn[self.next];
        self.next += 1;
        drawn
    }

    fn refill(&mut self) {
        self.next = 0;
        match self.law {
            Law::Lognormal { mu, sigma, most } => {
                let normals: [f64; AHEAD] = std::array::from_fn(|_| self.rng.sample(StandardNormal));
                self.drawn = normals.map(|normal| micros_of((mu + sigma * normal).exp()).min(most).max(1));
            }
            Law::Exponential { mean_s } => {
                let drawn: [f64; AHEAD] = std::array::from_fn(|_| self.rng.sample(Exp1));
                self.drawn = drawn.map(|drawn| micros_of(drawn * mean_s).max(1));
            }
        }
    }
}

/// A replica of a language model that batches continuously: each iteration writes one token of every request that has been read,
/// and reads a chunk of those that have not. Memory for a request is reserved when it is taken in; nothing is pre-empted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llm {
    /// Fixed time of an iteration, in seconds.
    pub base_s: f64,
    /// Further time for each request that is being written.
    pub per_running_s: f64,
    /// Further time for each prompt token that is read.
    pub per_prefill_token_s: f64,
    /// Most prompt tokens read in one iteration.
    pub chunk: u32,
    /// Most requests in a replica.
    pub batch: u32,
    /// Tokens, read and written, that the memory holds. A request larger than that takes all of it.
    pub kv_tokens: u32,
    /// Longest time to the first token within the objective.
    pub ttft: Duration,
    /// Longest mean time per further token within the objective.
    pub tpot: Duration,
}

impl Default for Llm {
    /// A model of some ten billion parameters on one large GPU.
    fn default() -> Self {
        Self {
            base_s: 0.020,
            per_running_s: 0.000_35,
            per_prefill_token_s: 0.000_03,
            chunk: 2048,
            batch: 64,
            kv_tokens: 160_000,
            ttft: Duration::from_secs(2),
            tpot: Duration::from_millis(60),
        }
    }
}

impl Llm {
    /// Length of an iteration in seconds.
    #[must_use]
    pub fn iteration_s(&self, running: u32, prefill_tokens: u32) -> f64 {
        self.base_s
            + self.per_running_s * f64::from(running)
            + self.per_prefill_token_s * f64::from(prefill_tokens)
    }

    fn full_batch(&self, sizes: Sizes) -> f64 {
        let each = (sizes.prompt_mean + sizes.output_mean).max(1.0);
        (f64::from(self.kv_tokens) / each).clamp(1.0, f64::from(self.batch))
    }

    /// With B requests in it, an iteration takes a + b·B and writes B tokens; a request needs its output's share of that and the
    /// reading of its prompt.
    fn full_rps(&self, sizes: Sizes) -> f64 {
        let batch = self.full_batch(sizes);
        let token_s = (self.base_s + self.per_running_s * batch) / batch;
        1.0 / (sizes.prompt_mean * self.per_prefill_token_s + sizes.output_mean * token_s)
    }
}
