//! First step: what is known, how old it is, and what may be done with it.

use std::time::Duration;

use super::Deciding;
use crate::plan::ReasonCode;

/// Demand older than this is not used: three readings at 5 s. Where readings come less often, so many of them may be missing.
const FRESH: Duration = Duration::from_secs(15);
const FRESH_READINGS: u32 = 3;
/// Readings that come less often than this are no present: nothing is waited for longer than three of them.
const EVERY_MAX: Duration = Duration::from_secs(60);
/// After this long without knowledge the fallback applies: long enough for a restart of the metrics' source.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// A size that somebody else wrote is respected for this long.
const FOREIGN_HOLD: Duration = Duration::from_secs(600);

/// The load to size for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Load {
    /// Arriving requests per second.
    Rate(f64),
    /// Requests in flight and waiting, where arrivals are unknown; with the requests one replica serves at a time.
    Concurrency { requests: f64, per_replica: f64 },
}

impl Deciding<'_> {
    /// Use → hold → reactive only → fallback floor. `None`: `n` is settled already.
    pub(super) fn assess(&mut self) -> Option<Load> {
        let observed = self.inputs.observed;
        if observed.lost > 0 {
            let subject = if observed.lost == 1 { "replica" } else { "replicas" };
            let text = format!("{} {subject} ended unasked within a minute; being replaced", observed.lost);
            self.say(ReasonCode::ReplicaLost, text, &[("lost", f64::from(observed.lost))]);
        }
        if observed.slo_unmeasurable {
            let text = "the metrics do not tell how long requests take; whether they are in time is unknown";
            self.say(ReasonCode::SloUnmeasurable, text, &[]);
        }
        if let Some(demand) = observed.demand.and_then(|reading| reading.fresh(self.fresh())) {
            self.state.known_at = Some(self.now);
            let age = demand.age().as_secs_f64();
            let text = format!("demand {:.1} req/s, {age:.0} s old", demand.value());
            self.say(ReasonCode::DemandSeen, text, &[("demand_rps", demand.value()), ("age_s", age)]);
            return Some(Load::Rate(demand.value()));
        }
        if let Some(load) = self.concurrency() {
            self.state.known_at = Some(self.now);
            return Some(load);
        }
        self.without_knowledge();
        None
    }

    /// How old a reading may be.
    fn fresh(&self) -> Duration {
        FRESH.max(self.inputs.observed.every.min(EVERY_MAX) * FRESH_READINGS)
    }

    fn concurrency(&mut self) -> Option<Load> {
        let per_replica = f64::from(self.inputs.policy.capacity.concurrency?);
        let fresh = self.fresh();
        let in_flight = self.inputs.observed.in_flight?.fresh(fresh)?.value();
        let queued = self.inputs.observed.queued.and_then(|q| q.fresh(fresh)).map_or(0.0, |q| q.value());
        let requests = in_flight + queued;
        let text = format!("demand unknown; {requests:.0} requests in flight or waiting");
        self.say(ReasonCode::DemandFromConcurrency, text, &[("requests", requests)]);
        Some(Load::Concurrency { requests, per_replica })
    }

    fn without_knowledge(&mut self) {
        let since = *self.state.known_at.get_or_insert(self.now);
        let unknown = self.now.since(since);
        let values = [("unknown_s", unknown.as_secs_f64())];
        if unknown <= HOLD_MAX {
            let text = format!("no fresh demand for {} s; held at {}", unknown.as_secs(), self.current);
            return self.say(ReasonCode::DemandStale, text, &values);
        }
        self.n = self.current.max(self.inputs.policy.fallback.unwrap_or(0));
        let text = format!("no demand known for {} s; {} or the fallback", unknown.as_secs(), self.current);
        self.say(ReasonCode::DemandUnknown, text, &values);
    }

    /// Whether somebody else's size is in force.
    pub(super) fn respect_foreign_write(&mut self) -> bool {
        let differs = self.state.decided.is_some_and(|decided| decided != self.current);
        if differs && !self.in_shadow() && !self.state.is_on_its_way(self.current, self.now) {
            self.state.foreign_until = Some(self.now + FOREIGN_HOLD);
            self.state.decided = Some(self.current);
        }
        let Some(until) = self.state.foreign_until.filter(|until| self.now < *until) else {
            return false;
        };
        let left = until.since(self.now).as_secs_f64();
        let text = format!("somebody else set {}; respected for {left:.0} s more", self.current);
        self.say(ReasonCode::ForeignWrite, text, &[("left_s", left)]);
        true
    }
}
