//! The demand of a language model, in requests of the usual size: a request is weighed by what it takes of a replica, its prompt
//! and its answer, so that one number is forecast, rehearsed and provided for. Requests, prompt tokens and output tokens are kept
//! apart, and weighed anew whenever the engine or the usual size is known better.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Capacity, CapacitySource, Series, Slo, Timestamp};

use crate::demand::{Demand, append};
use crate::engine::{Engine, EngineModel, Full, Limits, Look, Sizes};
use crate::event::{Flow, Seen, Tokens};
use crate::evidence::{Carried, Evidence, Lateness};

/// Share of the budget that may be lost to chance alone, at a size that carries the load.
const CHANCE_SHARE: f64 = 0.2;
/// Kept free of what is measured.
const MARGIN: f64 = 0.02;
/// Squared coefficients of variation of arrivals and of service, for requests as unlike as those of people.
const VARIATION: f64 = 2.0;
/// Requests served at a time, where nobody says how many.
const CONCURRENCY_DEFAULT: u32 = 256;
/// Bounds of the time over which a load is felt.
const FELT_S: [f64; 2] = [5.0, 60.0];
/// A weight is at most this many usual requests, and at least one over it.
const WEIGHT_MAX: f64 = 50.0;

/// Demand by its parts, and how they are weighed.
#[derive(Debug, Clone)]
pub(crate) struct TokenDemand {
    limits: Limits,
    counts: [Demand; 3],
    /// Requests, prompt tokens and output tokens per second, all at the same steps.
    parts: [Series; 3],
    pub(crate) model: TokenModel,
    scale: Option<Scale>,
}

/// What is learned of a replica: its engine, and what came of the loads that this foretold it would carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenModel {
    engine: EngineModel,
    evidence: Evidence,
}

/// How requests are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scale {
    engine: Engine,
    usual: Sizes,
    /// Seconds of an iteration at full load.
    iteration_s: f64,
    /// Share of an iteration at the limit that is not fixed.
    variable: f64,
    concurrency: f64,
}

impl Scale {
    fn new(engine: Engine, usual: Sizes, limits: Limits) -> Self {
        let full = engine.full(usual, limits);
        let variable = (full.rate * engine.work_s(usual)).clamp(0.01, 1.0);
        Self { engine, usual, iteration_s: full.iteration_s, variable, concurrency: limits.concurrency }
    }

    /// Share of a replica's second that a request takes of what is scarcer for it: time of iterations, or room among the running.
    fn takes(&self, sizes: Sizes) -> f64 {
        let speed = self.engine.work_s(sizes) / self.variable;
        let room = self.engine.room(sizes, self.concurrency);
        speed.max(self.engine.service_s(sizes, self.iteration_s) / room)
    }

    /// A request of these sizes, in usual requests.
    fn weight(&self, sizes: Sizes) -> f64 {
        (self.takes(sizes) / self.takes(self.usual).max(1e-12)).clamp(1.0 / WEIGHT_MAX, WEIGHT_MAX)
    }

    /// `requests` with these tokens in all, in usual requests.
    fn weigh(&self, requests: f64, prompt: f64, output: f64) -> f64 {
        if requests <= 0.0 {
            return 0.0;
        }
        requests * self.weight(Sizes { prompt: prompt / requests, output: output / requests })
    }
}

impl TokenDemand {
    /// With the past: requests per second, and tokens of prompts and answers where they are known.
    pub(crate) fn new(
        slo: &Slo,
        per_output_token: Duration,
        concurrency: Option<u32>,
        requests: &Series,
        tokens: Option<[Series; 2]>,
    ) -> Self {
        let step = requests.step();
        let parts = match tokens {
            Some([prompt, output]) => [requests.clone(), prompt, output],
            None => std::array::from_fn(|_| Series::new(Timestamp::EPOCH, step)),
        };
        let limits = Limits {
            concurrency: f64::from(concurrency.unwrap_or(CONCURRENCY_DEFAULT)),
            per_output_token_s: per_output_token.as_secs_f64(),
            chance: (CHANCE_SHARE * slo.budget()).clamp(1e-6, 0.5),
        };
        let counts = std::array::from_fn(|_| Demand::new(step));
        let model = TokenModel { engine: EngineModel::default(), evidence: Evidence::new(slo.budget()) };
        Self { limits, counts, parts, model, scale: None }
    }

    /// Whether anybody counts tokens: in the past, or now.
    pub(crate) fn is_told(&self) -> bool {
        !self.parts[1].is_empty() || self.model.engine.sizes().is_some()
    }

    /// Takes in a look at the engine, and gives what arrived in usual requests.
    pub(crate) fn ingest(&mut self, seen: &Seen, flow: Flow, steps_max: usize) -> Flow {
        let Some(tokens) = flow.tokens else { return flow };
        if let Some(in_flight) = seen.in_flight {
            self.model.engine.ingest(seen.at, look(seen, &flow, in_flight, tokens));
        }
        let output = self.model.engine.sizes().map_or(0.0, |sizes| sizes.output) * flow.arrivals;
        let parts = [flow.arrivals, tokens.prompt, output];
        for ((count, series), arrivals) in self.counts.iter_mut().zip(&mut self.parts).zip(parts) {
            for (start, rate) in count.ingest(seen.at, Some(Flow { arrivals, ..flow })) {
                append(series, start, rate, steps_max);
            }
        }
        let weighed = self.scale.map(|scale| scale.weigh(flow.arrivals, tokens.prompt, output));
        let flow = Flow { arrivals: weighed.unwrap_or(flow.arrivals), ..flow };
        self.weigh_evidence(seen, flow);
        flow
    }

    /// Holds what a size carried against what the engine says that it carries.
    fn weigh_evidence(&mut self, seen: &Seen, flow: Flow) {
        let Some((ended, missed)) = flow.ended.zip(flow.missed) else { return };
        let Some((scale, engine)) = self.scale.zip(self.model.engine.engine()) else { return };
        let Full { rate, .. } = engine.full(scale.usual, self.limits);
        let carried = Carried {
            window: flow.window,
            ready: seen.replicas.ready,
            arrivals: flow.arrivals,
            ended,
            missed,
            queued: seen.queued.unwrap_or(0.0),
        };
        let felt = self.felt();
        self.model.evidence.ingest(seen.at, carried, rate, felt);
    }

    /// The scale by what is known now; `None` while the engine is not known.
    pub(crate) fn known_scale(&self) -> Option<Scale> {
        let engine = self.model.engine.engine()?;
        let [requests, prompt, output] = self.parts.each_ref().map(total);
        let past = (requests > 0.0 && prompt > 0.0)
            .then(|| Sizes { prompt: prompt / requests, output: output / requests });
        Some(Scale::new(engine, past.or_else(|| self.model.engine.sizes())?, self.limits))
    }

    /// Takes a scale into use, and gives the past by it.
    pub(crate) fn adopt(&mut self, scale: Scale) -> Series {
        self.scale = Some(scale);
        self.weighed(scale)
    }

    /// The past in usual requests per second by `scale`.
    pub(crate) fn weighed(&self, scale: Scale) -> Series {
        let [requests, prompt, output] = &self.parts;
        let values = (0..requests.len())
            .map(|at| Some(scale.weigh(requests.get(at)?, prompt.get(at)?, output.get(at)?)));
        Series::from_values(requests.start(), requests.step(), values)
    }

    /// What one replica carries, in usual requests of `scale` per second, or else of late; `None` while the engine is not known.
    pub(crate) fn capacity(&self, slo: &Slo, scale: Option<Scale>) -> Option<Capacity> {
        let engine = self.model.engine.engine()?;
        let usual = scale.or(self.scale).map(|scale| scale.usual).or_else(|| self.model.engine.sizes())?;
        let Full { rate, waits, .. } = engine.full(usual, self.limits);
        let spare = -self.limits.chance.ln() / self.slack_s(slo) * VARIATION / 2.0;
        // Where nobody waits for room, chance is in the rate already; what is left free for it is at most the half of a replica.
        let spare = if waits { spare.min(rate / 2.0) } else { 0.0 };
        let [low, mid] = self.model.evidence.shares().map(|share| share * rate);
        Some(Capacity { low: low * (1.0 - MARGIN), mid, high: mid, spare, source: CapacitySource::Measured })
    }

    /// How many requests are late by the load, where they do not wait for room but slow each other down.
    pub(crate) fn lateness(&self) -> Option<Lateness> {
        let scale = self.scale?;
        let slows = !scale.engine.full(scale.usual, self.limits).waits;
        slows.then(|| self.model.evidence.lateness(self.model.evidence.shares()[0] * (1.0 - MARGIN)))
    }

    /// The time over which a load is felt: as long as a request is served, beside others that are.
    pub(crate) fn felt(&self) -> Duration {
        let service_s =
            self.scale.map_or(0.0, |scale| scale.engine.service_s(scale.usual, scale.iteration_s));
        Duration::from_secs_f64(service_s.clamp(FELT_S[0], FELT_S[1]))
    }

    /// Longest wait within the objective: the first token comes after the prompt is worked through.
    pub(crate) fn slack_s(&self, slo: &Slo) -> f64 {
        let first_s = self.scale.map_or(0.0, |scale| {
            scale.engine.service_s(Sizes { output: 0.0, ..scale.usual }, scale.iteration_s)
        });
        let limit_s = slo.latency.get().as_secs_f64();
        (limit_s - first_s).max(limit_s / 10.0)
    }
}

fn look(seen: &Seen, flow: &Flow, in_flight: f64, tokens: Tokens) -> Look {
    Look {
        window: flow.window,
        ready: seen.replicas.ready,
        in_flight,
        arrivals: flow.arrivals,
        completed: flow.completed,
        prompt: tokens.prompt,
        output: tokens.output,
        per_output_token_s: tokens.per_output_token_s,
        kv_utilisation: seen.kv_utilisation,
    }
}

fn total(series: &Series) -> f64 {
    series.values().iter().flatten().sum()
}
