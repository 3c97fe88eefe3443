//! Tidegate: the brain that runs everywhere else, told what a simulated pipeline shows.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_brain::{Brain, Event, Flow, History, Ingredients, Seen, Tokens};
use tidegate_core::policy::{ForecastPolicy, Scaling};
use tidegate_core::{
    CapacityHint, Mode, Policy, Ratio, ReasonCode, ServingPolicy, Slo, Timestamp, WorkloadId,
};

use crate::scaler::{Figures, Look, Pipeline, Scaler};
use crate::service::Service;
use crate::world::World;

/// A brain, and how often it gave each reason.
#[derive(Debug, Clone)]
pub struct Tidegate {
    brain: Brain,
    pipeline: Pipeline,
    /// Whether the workload is a language model.
    has_tokens: bool,
    /// The end of the figures taken in so far: a window that overlaps the one before counts only for what is new in it.
    counted_to: Timestamp,
    reasons: BTreeMap<ReasonCode, u64>,
}

impl Tidegate {
    /// What its own gateway gives: figures two seconds old of the last five seconds.
    pub const PIPELINE: Pipeline = Pipeline::from_secs(2, 5, 5);

    /// One with this policy, put into effect whatever its mode, and what is known from before the simulation.
    ///
    /// # Panics
    /// Never: the name of the workload is one.
    #[must_use]
    pub fn new(policy: ServingPolicy, history: History, pipeline: Pipeline) -> Self {
        Self::of(Ingredients::default(), policy, history, pipeline)
    }

    /// The same with these ingredients alone, to see what the others buy.
    ///
    /// # Panics
    /// Never: the name of the workload is one.
    #[must_use]
    pub fn of(
        ingredients: Ingredients,
        mut policy: ServingPolicy,
        history: History,
        pipeline: Pipeline,
    ) -> Self {
        policy.mode = Mode::Active;
        let has_tokens = policy.slo.per_output_token.is_some();
        let id = WorkloadId::local("workload").expect("the name is plain");
        let mut brain = Brain::new(id, Policy::Serving(policy), history).with(ingredients);
        brain.study();
        Self {
            brain,
            pipeline,
            has_tokens,
            counted_to: Timestamp::from_millis(i64::MIN),
            reasons: BTreeMap::new(),
        }
    }

    /// The default policy for the service of `world`: its bounds, its objective and how many requests a replica takes at a time.
    /// What a replica carries and how long its start takes is left to be learned.
    #[must_use]
    pub fn policy(world: &World, target: Ratio) -> ServingPolicy {
        let (latency, per_output_token, concurrency) = match &world.service {
            Service::Generic(generic) => (generic.latency, None, generic.concurrency),
            Service::Llm(llm) => (llm.ttft, Some(llm.tpot.into()), llm.batch),
        };
        ServingPolicy {
            mode: Mode::Active,
            replicas: world.bounds,
            slo: Slo { latency: latency.into(), per_output_token, target },
            capacity: CapacityHint { requests_per_second: None, concurrency: Some(concurrency) },
            forecast: ForecastPolicy::default(),
            scaling: Scaling::default(),
            schedule: Vec::new(),
            alerts: Vec::new(),
            fallback: None,
            priority: 0,
        }
    }

    /// The brain, to be asked for forecasts, decisions and whatever else.
    #[must_use]
    pub const fn brain(&self) -> &Brain {
        &self.brain
    }

    /// How many plans each reason had a part in.
    #[must_use]
    pub const fn reasons(&self) -> &BTreeMap<ReasonCode, u64> {
        &self.reasons
    }

    fn flow(&mut self, figures: &Figures, end: Timestamp) -> Option<Flow> {
        let window = figures.window.min(end.since(self.counted_to));
        self.counted_to = self.counted_to.max(end);
        let share = window.as_secs_f64() / figures.window.as_secs_f64();
        (share > 0.0).then(|| Flow {
            window,
            age: Duration::ZERO,
            arrivals: figures.arrivals * share,
            completed: figures.completed * share,
            ended: Some(figures.ended() * share),
            missed: Some(figures.missed * share),
            tokens: self.has_tokens.then_some(Tokens {
                prompt: figures.prompt_tokens * share,
                output: figures.output_tokens * share,
                per_output_token_s: figures.per_output_token_s,
            }),
        })
    }
}

impl Scaler for Tidegate {
    fn pipeline(&self) -> Pipeline {
        self.pipeline
    }

    fn decide(&mut self, look: &Look) -> u32 {
        let end = look.now.before(look.age);
        let figures = look.figures.as_ref();
        let flow = figures.and_then(|figures| self.flow(figures, end));
        self.brain.ingest(Event::Seen(Seen {
            at: look.now,
            replicas: look.replicas,
            flow,
            in_flight: figures.map(|figures| figures.in_flight),
            queued: figures.map(|figures| figures.backlog),
            kv_utilisation: figures.and_then(|figures| figures.kv_utilisation),
            lost: look.lost,
            crash_loop: look.crash_loop,
        }));
        self.brain.study();
        let (plan, _) = self.brain.tick(look.now, None);
        for reason in &plan.reasons {
            *self.reasons.entry(reason.code).or_insert(0) += 1;
        }
        plan.replicas
    }

    fn started(&mut self, at: Timestamp, start_up: Duration) {
        self.brain.ingest(Event::Started { at, start_up });
    }
}
