//! The reactive part: what the load seen now needs. Always computed; nothing that follows may fall below it.

use super::Deciding;
use super::quality::Load;
use crate::observed::Capacity;
use crate::plan::ReasonCode;
use crate::units::replicas_ceil;

/// Waiting requests are to be gone within this many seconds.
const DRAIN_SECONDS: f64 = 10.0;
/// Never less than this much of the present demand, whatever was rehearsed.
const LEVEL_MIN: f64 = 0.9;
/// A share of late requests this many times the budget says that the size does not do.
const MISSES_FACTOR: f64 = 5.0;

impl Deciding<'_> {
    pub(super) fn react(&mut self, load: Load, capacity: Capacity) {
        self.n = match load {
            Load::Rate(demand) => self.react_to_rate(demand, capacity),
            Load::Concurrency { requests, per_replica } => {
                let n = replicas_ceil(requests / per_replica.max(1.0));
                self.say(
                    ReasonCode::Reactive,
                    format!("{n} for the requests at hand"),
                    &[("replicas", f64::from(n))],
                );
                n
            }
        };
        self.add_when_still_missing();
    }

    fn react_to_rate(&mut self, demand: f64, capacity: Capacity) -> u32 {
        let provided = match self.inputs.provision {
            Some(provision) => {
                let stance = provision.stance;
                let provided = demand * stance.level.max(LEVEL_MIN) + provision.usual * stance.usual.max(0.0);
                if provided > demand {
                    let text = format!("headroom up to {provided:.1} req/s, as rehearsed on the past");
                    self.say(ReasonCode::Headroom, text, &[("provided_rps", provided)]);
                }
                provided
            }
            None => demand,
        };
        let n = capacity.replicas_for(provided);
        let text = format!("{n} for {provided:.1} req/s at {:.1} req/s a replica", capacity.low);
        let values = [("replicas", f64::from(n)), ("capacity_rps", capacity.low)];
        self.say(ReasonCode::Reactive, text, &values);
        let queued = self.inputs.observed.queued.map_or(0.0, |q| q.value());
        let with_backlog = capacity.replicas_for(demand + queued / DRAIN_SECONDS);
        if queued >= 1.0 && with_backlog > n {
            let text =
                format!("{with_backlog} to work off {queued:.0} waiting requests in {DRAIN_SECONDS:.0} s");
            self.say(ReasonCode::Backlog, text, &[("queued", queued), ("replicas", f64::from(with_backlog))]);
            return with_backlog;
        }
        n
    }

    /// Requests wait and are late although everything asked for is there: what one replica carries is overrated.
    fn add_when_still_missing(&mut self) {
        let observed = self.inputs.observed;
        let budget = self.inputs.policy.slo.budget();
        let share = observed.misses.and_then(|misses| misses.share());
        let waiting = observed.queued.is_some_and(|q| q.value() >= 1.0);
        let all_there = observed.replicas.starting == 0 && observed.replicas.ready >= self.n;
        if let Some(share) = share.filter(|share| *share > MISSES_FACTOR * budget && waiting && all_there) {
            self.n = observed.replicas.ready.saturating_add(1);
            let text =
                format!("{:.1} % late with {} ready; one more", share * 100.0, observed.replicas.ready);
            self.say(
                ReasonCode::StillMissing,
                text,
                &[("missed_share", share), ("replicas", f64::from(self.n))],
            );
        }
    }
}
