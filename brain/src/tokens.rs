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
use crate::past::Past;
use crate::service::{MARGIN, chance};

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
    /// Requests, prompt tokens and output tokens per second; tokens may be known for a part of the time only.
    parts: [Past; 3],
    pub(crate) model: TokenModel,
    scale: Option<Scale>,
}

/// What is learned of a replica: its engine, and what came of the loads that this foretold it would carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TokenModel {
    engine: EngineModel,
    evidence: Evidence,
}

impl TokenModel {
    /// What was seen is of another variant of the workload: its engine is where learning begins, and nothing is corrected by it.
    pub(crate) fn doubt(&mut self) {
        self.engine.doubt();
        self.evidence.forget();
    }
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
        requests: &Past,
        tokens: Option<[Past; 2]>,
    ) -> Self {
        let step = requests.step();
        let [prompt, output] =
            tokens.unwrap_or_else(|| std::array::from_fn(|_| Past::new(Timestamp::EPOCH, step)));
        let parts = [requests.clone(), prompt, output];
        let limits = Limits {
            concurrency: f64::from(concurrency.unwrap_or(CONCURRENCY_DEFAULT)),
            per_output_token_s: per_output_token.as_secs_f64(),
            chance: chance(slo),
        };
        let counts = std::array::from_fn(|_| Demand::new(step));
        let model = TokenModel { engine: EngineModel::default(), evidence: Evidence::new(slo.budget()) };
        Self { limits, counts, parts, model, scale: None }
    }

    /// Bytes that the past takes.
    pub(crate) fn size(&self) -> usize {
        self.parts.iter().map(Past::size).sum()
    }

    /// Whether anybody counts tokens: in the past, or now.
    pub(crate) fn is_told(&self) -> bool {
        !self.parts[1].is_empty() || self.model.engine.sizes().is_some()
    }

    /// Takes in a look at the engine, and gives what arrived in usual requests.
    pub(crate) fn ingest(&mut self, seen: &Seen, flow: Flow, steps_max: usize) -> Flow {
        if let Some((tokens, in_flight)) = flow.tokens.zip(seen.in_flight) {
            self.model.engine.ingest(seen.at, look(seen, &flow, in_flight, tokens));
        }
        let answer = self.model.engine.sizes().map_or(0.0, |sizes| sizes.output);
        let tokens = flow.tokens.map(|tokens| (tokens.prompt, answer * flow.arrivals));
        let parts = [Some(flow.arrivals), tokens.map(|(prompt, _)| prompt), tokens.map(|(_, output)| output)];
        for ((count, series), amount) in self.counts.iter_mut().zip(&mut self.parts).zip(parts) {
            for (start, rate) in count.ingest(seen.at, amount.map(|arrivals| Flow { arrivals, ..flow })) {
                append(series, start, rate, steps_max);
            }
        }
        let Some((prompt, output)) = tokens else { return flow };
        let weighed = self.scale.map(|scale| scale.weigh(flow.arrivals, prompt, output));
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
        let sum = self.steps().flatten().filter_map(|(requests, tokens)| Some((requests, tokens?)));
        let (requests, prompt, output) = sum.fold((0.0, 0.0, 0.0), |sum, (requests, (prompt, output))| {
            (sum.0 + requests, sum.1 + prompt, sum.2 + output)
        });
        let past = (requests > 0.0 && prompt > 0.0)
            .then(|| Sizes { prompt: prompt / requests, output: output / requests });
        Some(Scale::new(engine, past.or_else(|| self.model.engine.sizes())?, self.limits))
    }

    /// Takes a scale into use, and gives the past by it.
    pub(crate) fn adopt(&mut self, scale: Scale, steps_max: usize) -> Past {
        self.scale = Some(scale);
        Past::of(&self.weighed(scale), steps_max)
    }

    /// The past in usual requests per second by `scale`; where tokens are not known, requests are taken to be usual.
    pub(crate) fn weighed(&self, scale: Scale) -> Series {
        let values = self.steps().map(|step| {
            let (requests, tokens) = step?;
            Some(tokens.map_or(requests, |(prompt, output)| scale.weigh(requests, prompt, output)))
        });
        Series::from_values(self.parts[0].start(), self.parts[0].step(), values)
    }

    /// Requests per second, and tokens of prompts and answers per second where both are known, by step.
    fn steps(&self) -> impl Iterator<Item = Option<(f64, Option<(f64, f64)>)>> + '_ {
        let [requests, prompt, output] = &self.parts;
        (0..requests.len()).map(move |at| {
            let tokens = |part: &Past| part.at(requests.time(at));
            Some((requests.get(at)?, tokens(prompt).zip(tokens(output))))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(60);

    #[test]
    fn requests_known_for_longer_than_tokens_are_kept_and_tokens_are_matched_by_time() {
        let slo: Slo =
            serde_json::from_str(r#"{"latency":"2s","perOutputToken":"60ms","target":0.99}"#).unwrap();
        let series = |start: i64, value: f64, steps: usize| {
            let start = Timestamp::from_secs(start * 60);
            Past::of(&Series::from_values(start, STEP, (0..steps).map(|_| Some(value))), steps)
        };
        let tokens = [series(70, 4000.0, 30), series(80, 800.0, 20)];
        let limit = Duration::from_millis(60);
        let mut demand = TokenDemand::new(&slo, limit, Some(64), &series(0, 4.0, 100), Some(tokens));
        for second in 0..600 {
            let look = Look {
                window: Duration::from_secs(1),
                ready: 2,
                in_flight: 30.0,
                arrivals: 4.0,
                completed: 4.0,
                prompt: 4000.0,
                output: 800.0,
                per_output_token_s: Some(0.03),
                kv_utilisation: None,
            };
            demand.model.engine.ingest(Timestamp::from_secs(6000 + second), look);
        }
        let scale = demand.known_scale().unwrap();
        assert_eq!(
            scale.usual,
            Sizes { prompt: 1000.0, output: 200.0 },
            "from the steps where both are known"
        );
        let weighed = demand.adopt(scale, 1000);
        assert_eq!((weighed.len(), weighed.get(10)), (100, Some(4.0)));
        assert!((weighed.get(90).unwrap() - 4.0).abs() < 1e-9, "{:?}", weighed.get(90));
    }
}
