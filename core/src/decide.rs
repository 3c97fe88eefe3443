//! The size of a serving workload: one pure function, one file per step, every step leaves its reason.
//!
//! Order: data-quality ladder → reactive → predictive at the risk level → never worse than reactive → consolidation and hold
//! before down → rollback → alert boosts → schedule floors → rails → plan.

mod down;
mod floors;
mod predict;
mod quality;
mod rails;
mod react;
mod risk;
mod state;

use std::time::Duration;

use crate::forecast::Forecast;
use crate::forecast::Quantiles;
use crate::hpa;
use crate::observed::{Capacity, Lead, Observed};
use crate::plan::{Plan, Reason, ReasonCode};
use crate::policy::{Mode, ServingPolicy};
use crate::stance::Stance;
use crate::time::Timestamp;

pub use state::{Risk, State};

/// Share of a replica's capacity that `kubectl autoscale` aims at unless told otherwise: the HPA's customary 80 %.
pub const HPA_TARGET_SHARE: f64 = 0.8;

/// Everything that a decision looks at, besides its own state.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The user's intent.
    pub policy: &'a ServingPolicy,
    /// What was seen.
    pub observed: &'a Observed,
    /// The last forecast of demand; `None`: no model has an opinion.
    pub forecast: Option<&'a Forecast>,
    /// What was learned by rehearsal; `None`: the past is too short, or forecasting is off.
    pub provision: Option<Provision<'a>>,
    /// Demand below which no size is bet on while the past is too short to give odds, in requests per second; else `None`.
    pub largest: Option<f64>,
    /// What one replica carries; `None`: not known yet.
    pub capacity: Option<Capacity>,
    /// Time from a decision to a ready replica.
    pub lead: Lead,
    /// What its pool has for this workload; `None`: no pool.
    pub room: Option<Room>,
}

/// What a pool has for one workload, in replicas of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// For which there are slots at present that nobody else holds.
    pub present: u32,
    /// The same, once the pool has grown as far as it may.
    pub most: u32,
    /// Time until a node that is added can run a pod.
    pub node_wait: Duration,
}

/// How to provide, as rehearsed on the workload's own past.
#[derive(Debug, Clone, Copy)]
pub struct Provision<'a> {
    /// The stance in use.
    pub stance: &'a Stance,
    /// Share of requests that the stance missed in the rehearsal.
    pub expected: f64,
    /// The usual demand, in requests per second.
    pub usual: f64,
    /// The peak until a replica ordered now could be ready; `None`: no opinion.
    pub peak: Option<&'a Quantiles>,
}

/// Decides the next size. Pure and total: a missing signal is a reason to hold, not an error.
#[must_use]
pub fn decide(inputs: &Inputs<'_>, state: &State, now: Timestamp) -> (Plan, State) {
    let mut deciding = Deciding::new(inputs, state, now);
    deciding.run();
    deciding.finish()
}

/// A decision under way: each step reads and moves `n`, and says why.
struct Deciding<'a> {
    inputs: &'a Inputs<'a>,
    state: State,
    now: Timestamp,
    /// The size at this moment: what the target was last asked for.
    current: u32,
    n: u32,
    /// `n` as it was before the pool's limit.
    unpooled: Option<u32>,
    reasons: Vec<Reason>,
}

impl<'a> Deciding<'a> {
    fn new(inputs: &'a Inputs<'a>, state: &State, now: Timestamp) -> Self {
        let current = inputs.observed.replicas.wanted;
        Self { inputs, state: state.clone(), now, current, n: current, unpooled: None, reasons: Vec::new() }
    }

    fn run(&mut self) {
        self.state.boosts.expire(self.now);
        self.steer_risk();
        if self.respect_foreign_write() {
            self.keep_in_bounds();
            return;
        }
        let load = self.assess();
        match (load, self.inputs.capacity) {
            (Some(load), Some(capacity)) => {
                self.react(load, capacity);
                self.predict(capacity);
                self.hold_down(capacity);
            }
            (Some(_), None) => {
                self.say(ReasonCode::CapacityUnknown, "what one replica carries is unknown; held", &[])
            }
            (None, _) => {}
        }
        self.merge_small_steps();
        self.roll_back();
        self.raise_floors();
        self.apply_rails();
    }

    fn say(&mut self, code: ReasonCode, text: impl Into<String>, values: &[(&'static str, f64)]) {
        self.reasons.push(Reason::new(code, text, values));
    }

    fn finish(mut self) -> (Plan, State) {
        let hpa = self.hpa();
        self.state.record(self.current, self.n, self.now);
        if self.inputs.policy.mode == Mode::Shadow {
            self.say(ReasonCode::Shadow, format!("in shadow: {} would be written", self.n), &[]);
        }
        (
            Plan { replicas: self.n, unpooled: self.unpooled.unwrap_or(self.n), reasons: self.reasons, hpa },
            self.state,
        )
    }

    /// What the HPA would write, with its usual target, on the same demand.
    fn hpa(&mut self) -> Option<u32> {
        let capacity = self.inputs.capacity?;
        let demand = self.inputs.observed.demand?;
        let look = hpa::Look {
            total: Some(demand.value()),
            target: capacity.mid * HPA_TARGET_SHARE,
            replicas: self.current,
        };
        Some(self.state.hpa.sync(hpa::recommend(look), self.current, self.inputs.policy.replicas, self.now))
    }
}

#[cfg(test)]
mod tests;
