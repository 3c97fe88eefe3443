//! The type that everything drives: told what happens, asked for a plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{
    Alert, AlertOutcome, Capacity, Decision, Forecast, Grant, Lead, Mode, Observed, Plan, Policy, Reason,
    ReasonCode, Rehearsed, ReplicaCounts, Role, Room, Series, ServingNeed, ServingPolicy, Standing, State,
    Timestamp, WorkloadId,
};

use crate::capacity::CapacityModel;
use crate::decisions::{Decisions, Record};
use crate::event::{Event, Progress, ResizeOutcome, Seen};
use crate::ingredients::Ingredients;
use crate::lead::LeadTime;
use crate::lesson::{Learned, Lesson};
use crate::service::ServiceTime;
use crate::serving::Serving;
use crate::tokens::TokenModel;
use crate::training::Training;
use crate::variants::Variants;

/// What is known of a workload from before: its demand at the policy's forecast step.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Arriving requests per second.
    pub demand: Option<Series>,
    /// For language models, at the same steps: tokens per second of the prompts that arrived, and of the answers to them.
    pub tokens: Option<[Series; 2]>,
}

/// What outlives a restart besides the history: learned quantities and the state of decisions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    state: Option<State>,
    capacity: Option<CapacityModel>,
    lead: Option<LeadTime>,
    service: Option<ServiceTime>,
    tokens: Option<TokenModel>,
    training: Option<Training>,
    decisions: Decisions,
    #[serde(default)]
    variants: Option<Variants>,
}

/// One workload's mind.
#[derive(Debug, Clone)]
pub struct Brain {
    id: WorkloadId,
    kind: Kind,
    decisions: Decisions,
    plan: Option<Plan>,
    /// Slots of the pool that one replica or worker takes.
    each: u32,
}

#[derive(Debug, Clone)]
enum Kind {
    Serving(Box<Serving>),
    Training(Box<Training>),
}

impl Brain {
    /// A mind that knows `history` and nothing else.
    #[must_use]
    pub fn new(id: WorkloadId, policy: Policy, history: History) -> Self {
        let kind = match policy {
            Policy::Serving(policy) => Kind::Serving(Box::new(Serving::new(policy, history))),
            Policy::Training(policy) => Kind::Training(Box::new(Training::new(policy))),
        };
        Self { id, kind, decisions: Decisions::default(), plan: None, each: 1 }
    }

    /// The same mind with these parts alone; to be said before anything is learned. A training workload has none of them.
    #[must_use]
    pub fn with(mut self, ingredients: Ingredients) -> Self {
        if let Kind::Serving(serving) = &mut self.kind {
            serving.ingredients = ingredients;
        }
        self
    }

    /// Takes back what a snapshot kept. What the policy has changed since is the policy's.
    #[must_use]
    pub fn restored(mut self, snapshot: Snapshot) -> Self {
        match &mut self.kind {
            Kind::Serving(serving) => {
                if let Some(mut state) = snapshot.state {
                    // The target may have been resized while nobody looked; that is nobody's wish.
                    state.forget_decided();
                    serving.state = state;
                }
                serving.capacity = snapshot.capacity.unwrap_or(serving.capacity.clone());
                serving.lead = snapshot.lead.unwrap_or(serving.lead.clone());
                serving.service = snapshot.service.unwrap_or_default();
                serving.variants = snapshot.variants.unwrap_or_default();
                if let Some((tokens, model)) = serving.tokens.as_mut().zip(snapshot.tokens) {
                    tokens.model = model;
                }
            }
            Kind::Training(training) => {
                if let Some(kept) = snapshot.training {
                    **training = kept.under(training.policy.clone());
                }
            }
        }
        self.decisions = snapshot.decisions;
        self
    }

    /// Whether plans are put into effect from now on. When that begins, the size is as somebody else left it, and nobody's wish.
    pub fn set_mode(&mut self, mode: Mode) {
        let begins = self.mode() == Mode::Shadow && mode == Mode::Active;
        match &mut self.kind {
            Kind::Serving(serving) => {
                serving.policy.mode = mode;
                if begins {
                    serving.state.forget_decided();
                }
            }
            Kind::Training(training) => training.policy.mode = mode,
        }
    }

    /// The same mind under another intent. What only concerns how it acts is taken over as it is; else what was learned is kept, as over
    /// a restart, and models are fitted anew.
    #[must_use]
    pub fn under(mut self, policy: Policy) -> Self {
        let (before, mode) = (self.mode(), policy.mode());
        let mut changed = match (&mut self.kind, policy) {
            (Kind::Serving(serving), Policy::Serving(policy)) => {
                let learned_by = |policy: &ServingPolicy| {
                    (policy.slo, policy.capacity, policy.forecast.clone(), policy.scaling.lead_time)
                };
                if learned_by(&serving.policy) == learned_by(&policy) {
                    serving.policy = policy;
                    self
                } else {
                    let history = History { demand: Some(serving.demand()), tokens: None };
                    let snapshot = self.snapshot();
                    Self::new(self.id, Policy::Serving(policy), history).restored(snapshot)
                }
            }
            (Kind::Training(training), Policy::Training(policy)) => {
                **training = training.clone().under(policy);
                self
            }
            (_, policy) => Self::new(self.id, policy, History::default()),
        };
        // As if the new mode came after the rest: who begins to act forgets what a shadow had decided.
        match &mut changed.kind {
            Kind::Serving(serving) => serving.policy.mode = before,
            Kind::Training(training) => training.policy.mode = before,
        }
        changed.set_mode(mode);
        changed
    }

    /// What is to outlive a restart.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let decisions = self.decisions.clone();
        match &self.kind {
            Kind::Serving(serving) => Snapshot {
                state: Some(serving.state.clone()),
                capacity: Some(serving.capacity.clone()),
                lead: Some(serving.lead.clone()),
                service: Some(serving.service.clone()),
                tokens: serving.tokens.as_ref().map(|tokens| tokens.model.clone()),
                training: None,
                decisions,
                variants: Some(serving.variants.clone()),
            },
            Kind::Training(training) => Snapshot {
                state: None,
                capacity: None,
                lead: None,
                service: None,
                tokens: None,
                training: Some((**training).clone()),
                decisions,
                variants: None,
            },
        }
    }

    /// Takes in what happened. An event that the role has no use for changes nothing.
    pub fn ingest(&mut self, event: Event) {
        match (&mut self.kind, event) {
            (Kind::Serving(serving), Event::Seen(seen)) => serving.see(seen),
            (Kind::Serving(serving), Event::Started { start_up, .. }) => serving.lead.ingest(start_up),
            (Kind::Serving(serving), Event::Runs { variant }) => serving.turn_to(&variant),
            (Kind::Serving(serving), Event::Reset) => serving.state.forget_decided(),
            (Kind::Training(training), Event::Progress(progress)) => training.see(progress),
            (Kind::Training(training), Event::Resized { at, took, outcome }) => {
                training.resized(at, took, outcome)
            }
            _ => {}
        }
    }

    /// What is to be learned anew from the history, when that is due. Whoever takes it has it learned, and gives the result
    /// to [`Brain::adopt`]; until then the brain goes on with what it knew.
    pub fn lesson(&mut self) -> Option<Lesson> {
        match &mut self.kind {
            Kind::Serving(serving) => serving.lesson(),
            Kind::Training(_) => None,
        }
    }

    /// Takes what a lesson taught into use.
    pub fn adopt(&mut self, learned: Learned) {
        if let Kind::Serving(serving) = &mut self.kind {
            serving.adopt(learned);
        }
    }

    /// Learns on the spot what is due: for those who have the time to wait for it.
    pub fn study(&mut self) {
        if let Some(lesson) = self.lesson() {
            self.adopt(lesson.learn());
        }
    }

    /// Takes in an alert; says what became of it.
    pub fn admit(&mut self, alert: &Alert, now: Timestamp) -> AlertOutcome {
        match &mut self.kind {
            Kind::Serving(serving) => serving.admit(alert, now),
            Kind::Training(_) => AlertOutcome::NoRule,
        }
    }

    /// Decides the size of a serving workload; that of a training workload is [`Brain::take`]n from the pool's plan.
    /// `room`: what its pool has for it.
    pub fn tick(&mut self, now: Timestamp, room: Option<Room>) -> (Plan, Option<Decision>) {
        let Kind::Serving(serving) = &mut self.kind else {
            return self.take(now, None);
        };
        let (plan, observed) = serving.tick(now, room);
        let inputs = serving_inputs(serving, &observed);
        self.settle(now, observed.replicas.wanted, plan, &inputs)
    }

    /// Takes the pool's grant as the plan of a training workload; without a pool it gets what its policy allows.
    pub fn take(&mut self, now: Timestamp, grant: Option<&Grant>) -> (Plan, Option<Decision>) {
        let Kind::Training(training) = &self.kind else { return self.tick(now, None) };
        let bounds = training.policy.workers;
        let mut reasons = grant.map(|grant| grant.reasons.clone()).unwrap_or_default();
        let mut replicas = grant.map_or(bounds.max, |grant| grant.replicas).min(bounds.max);
        let wanted = training.counts().wanted;
        reasons.extend(training.trouble.map(trouble));
        if training.retry_at.is_some_and(|at| now < at) && replicas > wanted {
            replicas = wanted.max(bounds.min);
        }
        if training.policy.mode == Mode::Shadow {
            reasons.push(Reason::new(
                ReasonCode::Shadow,
                format!("in shadow: {replicas} would be written"),
                &[],
            ));
        }
        let plan = Plan { replicas, unpooled: bounds.max, reasons, hpa: None };
        let last = training.last();
        let inputs = [
            ("samples_per_second", last.and_then(|p| p.samples_per_second)),
            ("steps_per_second", last.and_then(|p| p.steps_per_second)),
            ("resize_s", Some(training.resize_time().as_secs_f64())),
        ];
        self.settle(now, wanted, plan, &inputs)
    }

    fn settle(
        &mut self,
        at: Timestamp,
        from: u32,
        plan: Plan,
        inputs: &[(&'static str, Option<f64>)],
    ) -> (Plan, Option<Decision>) {
        let record = Record { at, from, applied: self.mode() == Mode::Active };
        let decision = self.decisions.record(record.of(&plan, inputs)).cloned();
        self.plan = Some(plan.clone());
        (plan, decision)
    }

    /// What a serving workload asks of the pool; `None` for training. `recall`: time until slots lent to training are free.
    #[must_use]
    pub fn serving_need(&self, now: Timestamp, recall: Duration, lasting: Duration) -> Option<ServingNeed> {
        let Kind::Serving(serving) = &self.kind else { return None };
        let planned = self.plan.as_ref().map_or(serving.policy.replicas.min, |plan| plan.unpooled);
        // Slots must be free before the decision that needs them, which itself looks a lead time ahead.
        let recall = recall + serving.lead_window();
        let soon = serving.need_within(now, recall).unwrap_or(0).max(planned);
        let later = serving.need_within(now, recall + lasting).unwrap_or(0).max(soon);
        Some(ServingNeed {
            id: self.id.clone(),
            each: self.each,
            min: serving.policy.replicas.min,
            now: planned,
            soon,
            later,
            priority: serving.policy.priority,
        })
    }

    pub(crate) fn training(&self) -> Option<&Training> {
        match &self.kind {
            Kind::Training(training) => Some(training),
            Kind::Serving(_) => None,
        }
    }

    fn serving(&self) -> Option<&Serving> {
        match &self.kind {
            Kind::Serving(serving) => Some(serving),
            Kind::Training(_) => None,
        }
    }

    /// The workload.
    #[must_use]
    pub const fn id(&self) -> &WorkloadId {
        &self.id
    }

    /// Whether it serves or trains.
    #[must_use]
    pub const fn role(&self) -> Role {
        match &self.kind {
            Kind::Serving(_) => Role::Serving,
            Kind::Training(_) => Role::Training,
        }
    }

    /// Slots of the pool that one replica or worker takes: 1, until it is said otherwise.
    #[must_use]
    pub const fn slots_each(&self) -> u32 {
        self.each
    }

    /// One replica or worker takes so many slots of the pool; 0 counts as 1.
    pub fn set_slots_each(&mut self, each: u32) {
        self.each = each.max(1);
    }

    /// The intent.
    #[must_use]
    pub fn policy(&self) -> Policy {
        match &self.kind {
            Kind::Serving(serving) => Policy::Serving(serving.policy.clone()),
            Kind::Training(training) => Policy::Training(training.policy.clone()),
        }
    }

    /// Whether plans are put into effect.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match &self.kind {
            Kind::Serving(serving) => serving.policy.mode,
            Kind::Training(training) => training.policy.mode,
        }
    }

    /// Replicas as last seen.
    #[must_use]
    pub fn counts(&self) -> ReplicaCounts {
        match &self.kind {
            Kind::Serving(serving) => serving.last().map(|seen| seen.replicas).unwrap_or_default(),
            Kind::Training(training) => training.counts(),
        }
    }

    /// What was last seen of a serving workload, with ages.
    #[must_use]
    pub fn observed(&self, now: Timestamp) -> Option<Observed> {
        self.serving().map(|serving| serving.observed(now))
    }

    /// The last look at a serving workload.
    #[must_use]
    pub fn seen(&self) -> Option<&Seen> {
        self.serving().and_then(Serving::last)
    }

    /// The last look at a training workload.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.training().and_then(Training::last)
    }

    /// The forecast of demand in use.
    #[must_use]
    pub fn forecast(&self) -> Option<&Forecast> {
        self.serving().and_then(|serving| serving.forecast.as_ref())
    }

    /// The models by their recent score.
    #[must_use]
    pub fn league(&self) -> &[Standing] {
        self.serving().map_or(&[], Serving::league)
    }

    /// What one replica carries.
    #[must_use]
    pub fn capacity(&self) -> Option<Capacity> {
        self.serving().and_then(Serving::capacity_estimate)
    }

    /// What most replicas are of, `VERSION@GPU`, as [`Event::Runs`] told.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.serving().and_then(|serving| serving.variants.present())
    }

    /// The stance in use, and what came of it in the rehearsal; `None` before one.
    #[must_use]
    pub fn stance(&self, now: Timestamp) -> Option<&Rehearsed> {
        self.serving().and_then(|serving| serving.stance(now))
    }

    /// The stances of the last rehearsal that no other beats in both cost and misses, cheapest first.
    #[must_use]
    pub fn front(&self) -> &[Rehearsed] {
        self.serving().map_or(&[], Serving::front)
    }

    /// Time from a decision to a ready replica.
    #[must_use]
    pub fn lead(&self) -> Option<Lead> {
        self.serving().map(Serving::lead_estimate)
    }

    /// Time that a resize of a training workload takes, as measured.
    #[must_use]
    pub fn resize_time(&self) -> Option<Duration> {
        self.training().and_then(Training::resize_measured)
    }

    /// Bytes of memory that the past of the demand takes, and what was learned from it.
    #[must_use]
    pub fn size(&self) -> usize {
        self.serving().map_or(0, Serving::size)
    }

    /// Demand by forecast step, as known.
    #[must_use]
    pub fn demand(&self) -> Option<Series> {
        self.serving().map(Serving::demand)
    }

    /// Samples per second by number of workers, as learned.
    #[must_use]
    pub fn speeds(&self) -> Vec<(u32, f64)> {
        self.training().map(Training::speeds).unwrap_or_default()
    }

    /// The last plan.
    #[must_use]
    pub const fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// The last few decisions, newest first; the history has the others.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.newest()
    }
}

/// What the end of the last resize has to tell.
fn trouble(outcome: ResizeOutcome) -> Reason {
    match outcome {
        ResizeOutcome::Restored => Reason::new(
            ReasonCode::StepsStalled,
            "steps did not advance after the last resize; the former size was restored",
            &[],
        ),
        ResizeOutcome::TimedOut => Reason::new(
            ReasonCode::StepsStalled,
            "the last resize was not complete in time, or steps do not advance at the new size",
            &[],
        ),
        ResizeOutcome::CheckpointFailed => Reason::new(
            ReasonCode::CheckpointFailed,
            "the job could not write a checkpoint; it was not resized",
            &[],
        ),
        ResizeOutcome::Done | ResizeOutcome::DoneWithoutCheckpoint => Reason::new(
            ReasonCode::CheckpointFailed,
            "the job was resized although it could not write a checkpoint",
            &[],
        ),
    }
}

fn serving_inputs(serving: &Serving, observed: &Observed) -> Vec<(&'static str, Option<f64>)> {
    let lead = serving.lead_estimate();
    let capacity = serving.capacity_estimate();
    vec![
        ("demand_rps", observed.demand.map(|d| d.value())),
        ("demand_age_s", observed.demand.map(|d| d.age().as_secs_f64())),
        ("in_flight", observed.in_flight.map(|r| r.value())),
        ("queued", observed.queued.map(|r| r.value())),
        ("missed_share", observed.misses.and_then(|m| m.share())),
        ("ready", Some(f64::from(observed.replicas.ready))),
        ("starting", Some(f64::from(observed.replicas.starting))),
        ("capacity_low_rps", capacity.map(|c| c.low)),
        ("capacity_mid_rps", capacity.map(|c| c.mid)),
        ("lead_p90_s", Some(lead.p90.as_secs_f64())),
    ]
}
