//! Hard limits, applied last: no forecast, alert or schedule passes them.

use std::time::Duration;

use super::Deciding;
use crate::plan::ReasonCode;
use crate::policy::Mode;
use crate::units::replicas_ceil;

/// A step of at most this share of the size, or of one replica, is small; of at most the other, middling.
const SMALL_STEP: f64 = 0.08;
const MIDDLING_STEP: f64 = 0.25;
/// How far steps upwards are from the step before at least, as a share of the time that a replica takes to start: what waits that
/// little is hardly later for it. Downwards, in multiples of the hold.
const SMALL_UPS_APART: f64 = 0.4;
const MIDDLING_UPS_APART: f64 = 0.25;
const SMALL_DOWNS_APART: f64 = 3.5;
const MIDDLING_DOWNS_APART: f64 = 1.25;
/// Window of the limits on one step.
const STEP_WINDOW: Duration = Duration::from_secs(15);

impl Deciding<'_> {
    pub(super) fn apply_rails(&mut self) {
        self.stop_at_crash_loop();
        self.limit_step();
        self.guard_down();
        self.keep_in_bounds();
        self.unpooled = Some(self.n);
        self.keep_in_pool();
    }

    pub(super) fn in_shadow(&self) -> bool {
        self.inputs.policy.mode == Mode::Shadow
    }

    fn stop_at_crash_loop(&mut self) {
        if !self.inputs.observed.crash_loop {
            return;
        }
        let more = self.n > self.current;
        let what = if more { format!("; {} would not help", self.n) } else { String::new() };
        let text = format!("replicas end soon after their start{what}");
        self.say(ReasonCode::CrashLoop, text, &[("replicas", f64::from(self.n))]);
        self.n = self.n.min(self.current);
    }

    fn limit_step(&mut self) {
        let expired = |(at, _): &(crate::time::Timestamp, u32)| self.now.since(*at) >= STEP_WINDOW;
        if self.state.step_window.as_ref().is_none_or(expired) {
            self.state.step_window = Some((self.now, self.current));
        }
        let base = self.state.step_window.map_or(self.current, |(_, size)| size);
        let scaling = &self.inputs.policy.scaling;
        let most = scaling.step_up_max.map_or(u32::MAX, |step| base.saturating_add(step)).max(self.current);
        let least = scaling.step_down_max.map_or(0, |step| base.saturating_sub(step)).min(self.current);
        let limited = self.n.clamp(least, most);
        if limited != self.n {
            let text = format!("{} is too far from {base} for one step; {limited}", self.n);
            self.say(ReasonCode::StepLimit, text, &[("replicas", f64::from(limited))]);
            self.n = limited;
        }
    }

    /// No scale-down soon after a scale-up, and not too many in an hour.
    fn guard_down(&mut self) {
        if self.n >= self.current {
            return;
        }
        let window = self.inputs.policy.scaling.flap_window.get();
        let since_up = self.state.last_up.map(|at| self.now.since(at)).filter(|since| *since < window);
        if let Some(since) = since_up {
            let text =
                format!("scaled up {} s ago; no scale-down within {} s", since.as_secs(), window.as_secs());
            self.say(ReasonCode::FlapGuard, text, &[("since_up_s", since.as_secs_f64())]);
            self.n = self.current;
            return;
        }
        let limit = self.inputs.policy.scaling.scale_downs_per_hour_max;
        if self.state.downs.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            let text = format!("{limit} scale-downs in the last hour already");
            self.say(ReasonCode::RateLimit, text, &[("limit", f64::from(limit))]);
            self.n = self.current;
        }
    }

    /// A step soon after another waits the longer the smaller it is, so that a slow rise or fall is a few steps and not one each
    /// look. Never while requests wait, are late, or what is there is below the policy's bounds.
    pub(super) fn merge_small_steps(&mut self) {
        let step = self.n.abs_diff(self.current);
        let (lead, hold) = (self.inputs.lead.p90, self.inputs.policy.scaling.scale_down_hold.get());
        let within = |share: f64| step <= replicas_ceil(share * f64::from(self.current)).max(1);
        let apart = match (self.n > self.current, within(SMALL_STEP), within(MIDDLING_STEP)) {
            (true, true, _) => lead.mul_f64(SMALL_UPS_APART),
            (true, false, true) => lead.mul_f64(MIDDLING_UPS_APART),
            (false, true, _) => hold.mul_f64(SMALL_DOWNS_APART),
            (false, false, true) => hold.mul_f64(MIDDLING_DOWNS_APART),
            (_, false, false) => return,
        };
        let Some(since) = self.state.changed_at.map(|at| self.now.since(at)).filter(|since| *since < apart)
        else {
            return;
        };
        if step == 0 || self.is_strained() || self.inputs.observed.crash_loop {
            return;
        }
        let since_s = since.as_secs_f64();
        let text = format!("{} is a small step, {since_s:.0} s after the last; it waits for others", self.n);
        self.say(ReasonCode::SmallStep, text, &[("replicas", f64::from(self.n)), ("since_s", since_s)]);
        self.n = self.current;
    }

    /// Requests wait, or are late beyond the budget.
    fn is_strained(&self) -> bool {
        let observed = self.inputs.observed;
        let budget = self.inputs.policy.slo.budget();
        let late = observed.misses.and_then(|misses| misses.share()).is_some_and(|share| share > budget);
        late || observed.queued.is_some_and(|queued| queued.value() >= 1.0)
    }

    pub(super) fn keep_in_bounds(&mut self) {
        let bounds = self.inputs.policy.replicas;
        let kept = bounds.clamp(self.n);
        if kept > self.n {
            self.say(
                ReasonCode::MinReplicas,
                format!("never fewer than {kept}"),
                &[("replicas", f64::from(kept))],
            );
        } else if kept < self.n {
            let text = format!("{} wanted; never more than {kept}", self.n);
            self.say(
                ReasonCode::MaxReplicas,
                text,
                &[("replicas", f64::from(kept)), ("wanted", f64::from(self.n))],
            );
        }
        self.n = kept;
    }

    /// The pool cannot hold more than it has; what is held already is never cut here, that is for the pool's plan.
    fn keep_in_pool(&mut self) {
        let Some(room) = self.inputs.room else {
            return;
        };
        let bounds = self.inputs.policy.replicas;
        let limit = room.most.max(self.current.min(self.n)).max(bounds.min);
        if self.n > limit {
            let text = format!("{} wanted; the pool has room for {limit} at present", self.n);
            self.say(
                ReasonCode::PoolLimit,
                text,
                &[("replicas", f64::from(limit)), ("wanted", f64::from(self.n))],
            );
            self.n = limit;
        }
    }
}
