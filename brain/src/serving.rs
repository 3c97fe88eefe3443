//! The mind of a serving workload: demand, forecast, capacity, lead time, and the state of its decisions.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_core::{
    Alert, AlertOutcome, Capacity, Forecast, Inputs, Lead, Misses, Observed, Plan, Quantiles, Reading,
    Rehearsed, Room, Series, ServingPolicy, Signal, Standing, State, Timestamp, decide, decide::Provision,
};
use tidegate_predictor::{FittedPredictor, PeakConfig, PeakModel, PredictorConfig};

use crate::brain::History;
use crate::capacity::CapacityModel;
use crate::demand::{Demand, append};
use crate::event::{Flow, Seen};
use crate::ingredients::Ingredients;
use crate::lead::LeadTime;
use crate::lesson::{Learned, Lesson};
use crate::past::Past;
use crate::record;
use crate::rehearsal::{Findings, Rehearsal, STEPS_MIN};
use crate::service::ServiceTime;
use crate::tokens::{Scale, TokenDemand};
use crate::variants::{Carries, Variants};

/// Steps of history kept for the models: three weeks of minutes.
const STEPS_MAX: usize = 30_240;
/// Steps ahead that are forecast: two hours of minutes.
const HORIZON_STEPS: usize = 120;
/// Models are fitted again when the history has grown by this share, but neither more often nor more seldom than the bounds say.
const REFIT_SHARE: usize = 20;
const REFIT_STEPS_MIN: usize = 10;
const REFIT_STEPS_MAX: usize = 240;
/// A rehearsal is repeated when what a replica carries, or its start, has moved by this much (natural logarithm) since the last.
const CONDITIONS_MOVED: f64 = 0.2;
/// Share of the budget that a stance may have missed on the past: the future is a little worse than what was chosen to fit the past.
const CAUTION: f64 = 0.85;
/// Requests that ended within this are what a decision calls "lately".
const MISSES_WINDOW: Duration = Duration::from_secs(15);
const MISSES_KEPT_MAX: usize = 512;
/// Replicas lost within this are told of in a decision.
const LOSSES_WINDOW: Duration = Duration::from_secs(60);
const LOSSES_KEPT_MAX: usize = 256;
/// An objective that has not been measured for this long, while requests are answered, is not going to be.
const UNMEASURED: Duration = Duration::from_secs(30);
/// Capacity is learned from a size that has been steady for this long: before, a backlog of an earlier size is worked off.
const STEADY: Duration = Duration::from_secs(10);
/// What is added to the lead time before a new replica takes its share; as in the decision.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) policy: ServingPolicy,
    pub(crate) ingredients: Ingredients,
    pub(crate) state: State,
    pub(crate) capacity: CapacityModel,
    pub(crate) lead: LeadTime,
    past: Past,
    pub(crate) forecast: Option<Forecast>,
    pub(crate) service: ServiceTime,
    /// What was learned of other versions, and on other GPUs.
    pub(crate) variants: Variants,
    /// For language models: what requests are made of.
    pub(crate) tokens: Option<TokenDemand>,
    demand: Demand,
    peak: Option<PeakModel>,
    provided: Option<Findings>,
    /// What the last rehearsal took a replica to carry, and its start to take, in seconds.
    rehearsed: Option<(f64, f64)>,
    fitted: Option<FittedPredictor>,
    /// Steps since the last lesson was given; `None` before the first.
    steps_since_lesson: Option<usize>,
    last: Option<Seen>,
    /// The largest demand of a moment, while there is too little for a rehearsal.
    largest: Option<f64>,
    /// What is to be expected beyond the largest demand known, and of which windows: their steps and their number.
    beyond: Option<((usize, usize), Option<f64>)>,
    misses: VecDeque<(Timestamp, Misses)>,
    losses: VecDeque<(Timestamp, u32)>,
    steady: Option<(u32, Timestamp)>,
    /// Since when requests are answered and nobody tells how many of them were in time.
    unmeasured: Option<Timestamp>,
}

impl Serving {
    pub(crate) fn new(policy: ServingPolicy, history: History) -> Self {
        let step = policy.forecast.step.get();
        let known = |series: &Series| series.step() == step;
        let past = history.demand.filter(known).map(|series| Past::of(&series, STEPS_MAX));
        let past = past.unwrap_or_else(|| Past::new(Timestamp::EPOCH, step));
        let tokens = policy.slo.per_output_token.map(|limit| {
            let parts = history.tokens.filter(|parts| parts.iter().all(known));
            let parts = parts.map(|parts| parts.map(|series| Past::of(&series, STEPS_MAX)));
            TokenDemand::new(&policy.slo, limit.get(), policy.capacity.concurrency, &past, parts)
        });
        Self {
            state: State::default(),
            capacity: CapacityModel::new(policy.capacity, policy.slo.budget()),
            lead: LeadTime::new(policy.scaling.lead_time.get()),
            service: ServiceTime::default(),
            variants: Variants::default(),
            tokens,
            demand: Demand::new(step),
            peak: None,
            provided: None,
            rehearsed: None,
            past,
            forecast: None,
            fitted: None,
            steps_since_lesson: None,
            last: None,
            largest: None,
            beyond: None,
            misses: VecDeque::new(),
            losses: VecDeque::new(),
            steady: None,
            unmeasured: None,
            ingredients: Ingredients::default(),
            policy,
        }
    }

    /// Demand by forecast step, as known.
    pub(crate) fn demand(&self) -> Series {
        self.past.series()
    }

    pub(crate) fn see(&mut self, mut seen: Seen) {
        if let Some((tokens, flow)) = self.tokens.as_mut().zip(seen.flow) {
            seen.flow = Some(tokens.ingest(&seen, flow, STEPS_MAX));
        }
        for (start, rate) in self.demand.ingest(seen.at, seen.flow) {
            self.append(start, rate);
        }
        if let Some(flow) = seen.flow {
            self.count_misses(seen.at, flow);
            self.learn_capacity(seen, flow);
            if let Some(in_flight) = seen.in_flight {
                self.service.ingest(seen.at, flow.window, in_flight, flow.completed, seen.replicas.ready);
            }
        }
        self.count_losses(seen);
        self.last = Some(seen);
        self.remember_largest(seen.at);
    }

    /// Most replicas are of this variant from now on.
    pub(crate) fn turn_to(&mut self, variant: &str) {
        let known = || Carries {
            capacity: self.capacity.clone(),
            service: self.service.clone(),
            tokens: self.tokens.as_ref().map(|tokens| tokens.model.clone()),
        };
        let Some(next) = self.variants.turn_to(variant, known) else { return };
        self.capacity = next.capacity.under(&self.capacity);
        self.service = next.service;
        if let Some((tokens, model)) = self.tokens.as_mut().zip(next.tokens) {
            tokens.model = model;
        }
        self.steady = None;
    }

    /// While the past is too short for a rehearsal, the largest demand is what is known of what may come.
    fn remember_largest(&mut self, now: Timestamp) {
        if self.provided.is_none() && self.past.known_len() < STEPS_MIN {
            let level = self.demand.reading(now).map(|reading| reading.value());
            self.largest = self.largest.into_iter().chain(level).reduce(f64::max);
        }
    }

    fn count_losses(&mut self, seen: Seen) {
        if seen.lost > 0 {
            self.losses.push_back((seen.at, seen.lost));
        }
        let old = |loss: &(Timestamp, u32)| seen.at.since(loss.0) >= LOSSES_WINDOW;
        while self.losses.len() > LOSSES_KEPT_MAX || self.losses.front().is_some_and(old) {
            self.losses.pop_front();
        }
    }

    fn append(&mut self, start: Timestamp, rate: Option<f64>) {
        let added = append(&mut self.past, start, rate, STEPS_MAX);
        self.steps_since_lesson = self.steps_since_lesson.map(|steps| steps + added);
        if let Some(fitted) = &mut self.fitted {
            let first = self.past.len().saturating_sub(added);
            (first..self.past.len()).for_each(|at| fitted.observe(self.past.get(at)));
        }
        self.forecast = None;
    }

    fn count_misses(&mut self, at: Timestamp, flow: Flow) {
        if flow.missed.is_some() {
            self.unmeasured = None;
        } else if flow.completed > 0.0 {
            self.unmeasured.get_or_insert(at);
        }
        if let (Some(ended), Some(missed)) = (flow.ended, flow.missed) {
            self.misses.push_back((at, Misses { ended, missed }));
        }
        while self.misses.len() > MISSES_KEPT_MAX
            || self.misses.front().is_some_and(|m| at.since(m.0) >= MISSES_WINDOW)
        {
            self.misses.pop_front();
        }
    }

    /// Learns from a steady size without a backlog of its past: the load of one replica, and what missed.
    fn learn_capacity(&mut self, seen: Seen, flow: Flow) {
        if !self.ingredients.capacity {
            return;
        }
        let counts = seen.replicas;
        let size = counts.ready;
        let moving = counts.starting > 0 || counts.draining > 0 || seen.crash_loop || size == 0;
        if moving || self.steady.is_none_or(|(steady, _)| steady != size) {
            self.steady = (!moving).then_some((size, seen.at));
            return;
        }
        let settled = self.steady.is_some_and(|(_, since)| seen.at.since(since) >= STEADY);
        if let (true, Some(ended), Some(missed)) = (settled, flow.ended, flow.missed) {
            let rate = flow.arrivals.max(flow.completed) / flow.window.as_secs_f64();
            self.capacity.ingest(seen.at, rate / f64::from(size), ended, missed);
        }
    }

    pub(crate) fn observed(&self, now: Timestamp) -> Observed {
        let Some(last) = self.last else { return Observed::default() };
        let age = now.since(last.at);
        let reading = |value: Option<f64>| value.and_then(|value| Reading::new(value, age));
        let sum = self.misses.iter().fold(Misses { ended: 0.0, missed: 0.0 }, |sum, (_, m)| Misses {
            ended: sum.ended + m.ended,
            missed: sum.missed + m.missed,
        });
        Observed {
            replicas: last.replicas,
            demand: self.demand.reading(now),
            every: self.demand.every(),
            in_flight: reading(last.in_flight),
            queued: reading(last.queued),
            misses: (!self.misses.is_empty()).then_some(sum),
            slo_unmeasurable: self.unmeasured.is_some_and(|since| now.since(since) >= UNMEASURED),
            lost: self.losses.iter().map(|(_, n)| n).fold(0, |sum, n| n.saturating_add(sum)),
            crash_loop: last.crash_loop,
        }
    }

    pub(crate) fn tick(&mut self, now: Timestamp, room: Option<Room>) -> (Plan, Observed) {
        self.foresee(now);
        self.look_beyond();
        let observed = self.observed(now);
        let (stance, peak) = (self.stance(now).copied(), self.peak_after(&observed, now));
        let provision = stance.as_ref().zip(self.provided.as_ref()).map(|(rehearsed, provided)| Provision {
            stance: &rehearsed.stance,
            expected: rehearsed.missed,
            usual: provided.usual,
            peak: peak.as_ref(),
        });
        let blind = (!self.ingredients.reactive).then(|| blinded(&observed));
        let inputs = Inputs {
            policy: &self.policy,
            observed: blind.as_ref().unwrap_or(&observed),
            forecast: self.forecast.as_ref(),
            provision,
            largest: self.largest_of_few(),
            capacity: self.capacity_estimate(),
            lead: self.lead.estimate(),
            room,
        };
        let (plan, state) = decide(&inputs, &self.state, now);
        self.state = state;
        (plan, observed)
    }

    /// Makes the forecast of this step, from what was learned last.
    fn foresee(&mut self, now: Timestamp) {
        if !self.policy.forecast.enabled || self.past.is_empty() {
            self.forecast = None;
            return;
        }
        let due =
            self.forecast.as_ref().is_none_or(|forecast| now.since(forecast.issued_at) >= self.past.step());
        if let (true, Some(fitted)) = (due, &self.fitted) {
            self.forecast = fitted.predict(Signal::RequestsPerSecond, now);
        }
    }

    /// Learns what a strict objective has to expect beyond the largest demand known, once in every lead time.
    fn look_beyond(&mut self) {
        let budget = self.policy.slo.budget();
        if !self.policy.forecast.enabled || self.past.is_empty() || !record::is_strict(budget) {
            self.beyond = None;
            return;
        }
        let window = self.lead_steps();
        let seen = (window, self.past.len() / window);
        if self.beyond.is_some_and(|(of, _)| of == seen) {
            return;
        }
        let is_short = self.past.known_len() / window < record::WINDOWS;
        self.beyond = Some((seen, is_short.then(|| self.demand_beyond(window, budget)).flatten()));
    }

    fn demand_beyond(&self, window: usize, budget: f64) -> Option<f64> {
        let known: Vec<_> = (0..self.past.len()).map(|at| self.past.get(at)).collect();
        let largest = |window: &[Option<f64>]| window.iter().flatten().copied().reduce(f64::max);
        let mut maxima: Vec<_> = known.chunks(window).filter_map(largest).collect();
        if let Some((first, level)) = maxima.first_mut().zip(self.largest) {
            *first = first.max(level);
        }
        record::beyond(maxima, budget)
    }

    /// The largest demand known, while there is too little for a rehearsal.
    fn largest_of_few(&self) -> Option<f64> {
        let few =
            self.policy.forecast.enabled && self.provided.is_none() && self.past.known_len() < STEPS_MIN;
        if !few {
            return self.beyond.and_then(|(_, demand)| demand);
        }
        let past = (0..self.past.len()).filter_map(|at| self.past.get(at));
        past.chain(self.largest).reduce(f64::max)
    }

    /// The stance in use: the cheapest that would have kept the objective on the past, with something to spare.
    pub(crate) fn stance(&self, now: Timestamp) -> Option<&Rehearsed> {
        if !self.policy.forecast.enabled {
            return None;
        }
        let budget = self.policy.slo.budget();
        let allowance = if self.ingredients.calibration { self.state.allowance(budget, now) } else { 1.0 };
        let allowed = CAUTION * budget * allowance;
        self.provided.as_ref()?.repertoire.choose(allowed)
    }

    /// All stances worth choosing from.
    pub(crate) fn front(&self) -> &[Rehearsed] {
        self.provided.as_ref().map_or(&[], |provided| provided.repertoire.front())
    }

    /// The peak until a replica ordered now could be ready.
    fn peak_after(&self, observed: &Observed, now: Timestamp) -> Option<Quantiles> {
        let model = self.peak.as_ref()?;
        let demand = observed.demand?;
        let (end, step) = (self.past.end(), self.past.step());
        let newest = now.before(demand.age());
        let past = |ago: usize| {
            self.demand.rolling(ago).or_else(|| {
                let at = newest.before(step.saturating_mul(u32::try_from(ago).ok()?));
                // The step that has its middle in what ended then.
                let back = end.since(at.before(step / 2)).as_millis() / step.as_millis().max(1);
                self.past.get(self.past.len().checked_sub(1 + usize::try_from(back).ok()?)?)
            })
        };
        Some(model.peak(past, demand.value(), newest))
    }

    /// What is to be learned anew, once the history has grown enough since the last lesson was given.
    pub(crate) fn lesson(&mut self) -> Option<Lesson> {
        if !self.policy.forecast.enabled || self.past.is_empty() || !self.is_lesson_due() {
            return None;
        }
        self.steps_since_lesson = Some(0);
        let scale = self.tokens.as_ref().and_then(TokenDemand::known_scale);
        let series = match self.tokens.as_ref().zip(scale) {
            Some((tokens, scale)) => tokens.weighed(scale),
            None => self.past.series(),
        };
        let rehearsal = self.capacity_by(scale).map(|capacity| {
            self.rehearsed = Some((capacity.low, self.lead.estimate().p90.as_secs_f64()));
            self.rehearsal(capacity)
        });
        let rehearsal = rehearsal.filter(|_| self.ingredients.rehearsal);
        let peak = self.ingredients.peak.then(|| self.peak_config());
        Some(Lesson { predictor: self.predictor(), peak, series, rehearsal, scale })
    }

    fn is_lesson_due(&self) -> bool {
        let Some(since) = self.steps_since_lesson else { return true };
        let every = || (self.past.known_len() / REFIT_SHARE).clamp(REFIT_STEPS_MIN, REFIT_STEPS_MAX);
        let unrehearsed = since > 0 && self.rehearsed.is_none() && self.capacity_estimate().is_some();
        unrehearsed || (since >= REFIT_STEPS_MIN && (since >= every() || self.conditions_moved()))
    }

    /// Whether replicas carry something else, or start in another time, than the last rehearsal took for granted.
    fn conditions_moved(&self) -> bool {
        let Some(((low, lead_s), capacity)) = self.rehearsed.zip(self.capacity_estimate()) else {
            return false;
        };
        let moved = |now: f64, then: f64| (now / then).ln().abs() > CONDITIONS_MOVED;
        moved(capacity.low, low) || moved(self.lead.estimate().p90.as_secs_f64(), lead_s)
    }

    fn rehearsal(&self, capacity: Capacity) -> Rehearsal {
        let slo = &self.policy.slo;
        Rehearsal {
            capacity,
            lead: self.lead.estimate(),
            bounds: self.policy.replicas,
            hold: self.policy.scaling.scale_down_hold.get(),
            wait_max: Duration::from_secs_f64(match &self.tokens {
                Some(tokens) => tokens.slack_s(slo),
                None => self.service.slack_s(slo),
            }),
            felt: self.tokens.as_ref().map_or(Duration::ZERO, TokenDemand::felt),
            lateness: self.tokens.as_ref().and_then(TokenDemand::lateness),
            roughness: self.demand.roughness(),
            reactive: self.ingredients.reactive,
        }
    }

    /// Takes a lesson's result into use, and shows it the steps that came meanwhile.
    pub(crate) fn adopt(&mut self, learned: Learned) {
        let mut fitted = learned.fitted;
        if let Some((tokens, scale)) = self.tokens.as_mut().zip(learned.scale) {
            self.past = tokens.adopt(scale, STEPS_MAX);
            self.beyond = None;
            self.demand.feel(tokens.felt());
        }
        let (known, step) = (fitted.end().since(self.past.start()), self.past.step());
        let known = usize::try_from(known.as_millis() / step.as_millis().max(1)).unwrap_or(usize::MAX);
        (known..self.past.len()).for_each(|at| fitted.observe(self.past.get(at)));
        self.fitted = Some(fitted);
        self.forecast = None;
        self.peak = learned.peak;
        // A lesson without a rehearsal takes nothing back.
        self.provided = learned.provided.or(self.provided.take());
    }

    fn predictor(&self) -> PredictorConfig {
        PredictorConfig {
            step: self.past.step(),
            seasons: self.seasons(),
            horizon_steps: HORIZON_STEPS,
            lead_steps: self.lead_steps(),
            seed: 1,
        }
    }

    fn peak_config(&self) -> PeakConfig {
        PeakConfig {
            step: self.past.step(),
            seasons: self.seasons(),
            window_steps: self.lead_steps(),
            seed: 1,
        }
    }

    fn seasons(&self) -> Vec<Duration> {
        self.policy.forecast.seasons.iter().map(|season| season.get()).collect()
    }

    /// Steps until a replica ordered now carries load, rounded up.
    fn lead_steps(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let steps = (self.lead_window().as_secs_f64() / self.past.step().as_secs_f64()).ceil() as usize;
        steps.clamp(1, HORIZON_STEPS)
    }

    /// From now until a replica ordered now carries load.
    pub(crate) fn lead_window(&self) -> Duration {
        self.lead.estimate().p90 + SETTLE
    }

    /// Replicas needed within `window`, by the forecast in use; `None`: no forecast.
    pub(crate) fn need_within(&self, now: Timestamp, window: Duration) -> Option<u32> {
        let exceedance = self.state.risk.exceedance.unwrap_or(self.policy.slo.budget());
        let demand = self.forecast.as_ref()?.max_quantile(now, window, 1.0 - exceedance)?;
        let capacity = self.capacity_estimate()?;
        Some(self.policy.replicas.clamp(capacity.replicas_for(demand)))
    }

    pub(crate) fn admit(&mut self, alert: &Alert, now: Timestamp) -> AlertOutcome {
        let size = self.last.map_or(self.policy.replicas.min, |seen| seen.replicas.wanted);
        self.state.boosts.admit(&self.policy, alert, size, now)
    }

    pub(crate) fn league(&self) -> &[Standing] {
        self.fitted.as_ref().map_or(&[], FittedPredictor::league)
    }

    /// What replicas carry: measured where it is known how many requests one serves at a time, or what an engine takes for tokens,
    /// else learned from what was late.
    pub(crate) fn capacity_estimate(&self) -> Option<Capacity> {
        self.capacity_by(None)
    }

    /// The same, in usual requests of this scale.
    fn capacity_by(&self, scale: Option<Scale>) -> Option<Capacity> {
        let slo = &self.policy.slo;
        if !self.ingredients.capacity {
            return self.capacity.estimate();
        }
        if let Some(tokens) = self.tokens.as_ref().filter(|tokens| tokens.is_told()) {
            return tokens.capacity(slo, scale).or_else(|| self.capacity.estimate());
        }
        let concurrency = self.policy.capacity.concurrency;
        let measured = concurrency.and_then(|limit| self.service.capacity(limit, slo));
        measured.or_else(|| self.capacity.estimate())
    }

    /// Bytes that the past takes, and what was learned from it.
    pub(crate) fn size(&self) -> usize {
        self.past.size()
            + self.tokens.as_ref().map_or(0, TokenDemand::size)
            + self.fitted.as_ref().map_or(0, FittedPredictor::size)
            + self.peak.as_ref().map_or(0, PeakModel::size)
    }

    pub(crate) fn lead_estimate(&self) -> Lead {
        self.lead.estimate()
    }

    pub(crate) const fn last(&self) -> Option<&Seen> {
        self.last.as_ref()
    }
}

/// What is seen without the load of the present: a decision can then go by what is forecast alone.
fn blinded(observed: &Observed) -> Observed {
    let demand = observed.demand.and_then(|demand| Reading::new(0.0, demand.age()));
    Observed { demand, in_flight: None, queued: None, ..observed.clone() }
}
