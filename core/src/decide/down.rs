//! Before a scale-down: the hold, the consolidation check; after a bad one: the rollback.

use std::time::Duration;

use super::Deciding;
use crate::observed::Capacity;
use crate::plan::ReasonCode;

/// A scale-down is only taken when the smaller size also holds at this quantile or the risk level's, whichever is higher.
const CONSOLIDATION_QUANTILE: f64 = 0.95;
/// The hold is doubled at most this often.
const DOUBLINGS_MAX: u32 = 3;
/// After this long without a bad scale-down, one doubling is taken back.
const EASE_AFTER: Duration = Duration::from_secs(3600);
/// A scale-down can be called bad for at least this long after it.
const BLAME_MIN: Duration = Duration::from_secs(60);
/// A share of late requests this many times the budget, right after a scale-down, is blamed on it.
const BLAME_FACTOR: f64 = 5.0;

impl Deciding<'_> {
    /// Holds a smaller size back until it has been enough for the hold, and holds for the time to come.
    pub(super) fn hold_down(&mut self, capacity: Capacity) {
        let hold = self.hold();
        self.state.remember(self.n, hold, self.now);
        if self.n >= self.current {
            return;
        }
        if let Some((at, highest)) =
            self.state.highest(hold, self.now).filter(|(_, highest)| *highest > self.n)
        {
            let to = highest.min(self.current);
            let ago = self.now.since(at).as_secs_f64();
            let text = format!("{highest} was needed {ago:.0} s ago; held for {} s", hold.as_secs());
            self.say(ReasonCode::Held, text, &[("replicas", f64::from(to)), ("hold_s", hold.as_secs_f64())]);
            self.n = to;
        }
        // A rehearsed stance has its own idea of what to keep, tried against the past.
        if self.n < self.current && self.inputs.provision.is_none() {
            self.consolidate(capacity, hold);
        }
    }

    fn consolidate(&mut self, capacity: Capacity, hold: Duration) {
        let Some(forecast) = self.inputs.forecast.filter(|_| self.inputs.policy.forecast.enabled) else {
            return;
        };
        let exceedance = self.state.risk.exceedance.unwrap_or(self.inputs.policy.slo.budget());
        let p = CONSOLIDATION_QUANTILE.max(1.0 - exceedance);
        let window = self.lead_window() + hold;
        let Some(demand) = forecast.max_quantile(self.now, window, p) else {
            return;
        };
        let needed = capacity.replicas_for(demand).min(self.current);
        if needed > self.n {
            let text = format!("{demand:.1} req/s within {} s would need {needed}", window.as_secs());
            self.say(
                ReasonCode::Consolidation,
                text,
                &[("replicas", f64::from(needed)), ("demand_rps", demand)],
            );
            self.n = needed;
        }
    }

    /// The hold: as rehearsed, else the policy's as lengthened by bad scale-downs.
    fn hold(&self) -> Duration {
        let least = self.inputs.policy.scaling.scale_down_hold.get();
        match self.inputs.provision {
            Some(provision) => provision.stance.hold.max(least),
            None => least * (1 << self.state.hold_doublings.min(DOUBLINGS_MAX)),
        }
    }

    /// Takes a bad scale-down back at once and lengthens the hold.
    pub(super) fn roll_back(&mut self) {
        self.ease_hold();
        if let Some(down) = self.state.last_down.filter(|down| self.is_bad(down.at)) {
            self.state.last_down = None;
            self.state.hold_doublings = (self.state.hold_doublings + 1).min(DOUBLINGS_MAX);
            self.state.hold_eased_at = Some(self.now);
            self.state.rollback = Some((down.from, self.now + self.hold()));
            let text = format!("requests are late since the scale-down from {} to {}", down.from, down.to);
            self.say(ReasonCode::RolledBack, text, &[("replicas", f64::from(down.from))]);
        }
        match self.state.rollback {
            Some((floor, until)) if self.now < until => self.n = self.n.max(floor),
            _ => self.state.rollback = None,
        }
    }

    fn is_bad(&self, at: crate::time::Timestamp) -> bool {
        let blame = BLAME_MIN.max(self.lead_window() * 2);
        let share = self.inputs.observed.misses.and_then(|misses| misses.share());
        let late = share.is_some_and(|share| share > BLAME_FACTOR * self.inputs.policy.slo.budget());
        late && self.now.since(at) <= blame
    }

    fn ease_hold(&mut self) {
        let since = *self.state.hold_eased_at.get_or_insert(self.now);
        if self.state.hold_doublings > 0 && self.now.since(since) >= EASE_AFTER {
            self.state.hold_doublings -= 1;
            self.state.hold_eased_at = Some(self.now);
        }
    }
}
