//! The predictive part: the smallest size that carries the demand quantile until a replica ordered now would be ready.

use std::time::Duration;

use super::{Deciding, Provision};
use crate::forecast::Forecast;
use crate::observed::Capacity;
use crate::plan::ReasonCode;

/// Added to the lead time: a new replica needs a moment to take its share.
const SETTLE: Duration = Duration::from_secs(5);
/// A forecast whose recent loss is this much above that of the last value is left out; a tie is within the noise of the score.
const TRUST_RATIO_MAX: f64 = 1.05;

impl<'a> Deciding<'a> {
    pub(super) fn predict(&mut self, capacity: Capacity) {
        match self.inputs.provision {
            Some(provision) => self.provide_for_peak(provision, capacity),
            None => self.provide_by_forecast(capacity),
        }
        self.provide_for_largest(capacity);
        self.provide_for_nodes(capacity);
    }

    /// A size below what the load has already been is a bet on its future, which a short past gives no odds for.
    fn provide_for_largest(&mut self, capacity: Capacity) {
        let Some(largest) = self.inputs.largest else { return };
        let n = capacity.replicas_for(largest);
        if n > self.n {
            let text = format!("{n} for {largest:.1} req/s: the past is too short to bet on less");
            self.say(ReasonCode::ShortPast, text, &[("replicas", f64::from(n)), ("demand_rps", largest)]);
            self.n = n;
        }
    }

    /// The rehearsal has settled whether the peak's forecast pays, and at which quantile.
    fn provide_for_peak(&mut self, provision: Provision<'_>, capacity: Capacity) {
        let stance = provision.stance;
        let Some(p) = stance.peak else {
            let text = "on this workload's past, standing headroom did better than forecasts of the peak";
            return self.say(ReasonCode::ForecastDoesNotPay, text, &[]);
        };
        let demand = provision.peak.and_then(|peak| stance.provided_peak(peak, provision.usual));
        let Some(demand) = demand else {
            return self.say(ReasonCode::NoForecast, "nothing is known of the peak at present", &[]);
        };
        let n = capacity.replicas_for(demand);
        let window_s = self.lead_window().as_secs_f64();
        let text = format!(
            "{n} for a peak of {demand:.1} req/s within {window_s:.0} s, quantile {p:.4} as rehearsed"
        );
        let values =
            [("replicas", f64::from(n)), ("demand_rps", demand), ("window_s", window_s), ("quantile", p)];
        self.say(ReasonCode::Predicted, text, &values);
        self.n = self.n.max(n);
    }

    fn provide_by_forecast(&mut self, capacity: Capacity) {
        let Some(forecast) = self.usable_forecast() else {
            return;
        };
        let window = self.lead_window();
        let p = self.risk_quantile();
        let Some(demand) = forecast.max_quantile(self.now, window, p) else {
            return self.say(ReasonCode::ForecastStale, "the last forecast no longer covers now", &[]);
        };
        let n = capacity.replicas_for(demand);
        let window_s = window.as_secs_f64();
        let text = format!(
            "{n} for {demand:.1} req/s within {window_s:.0} s, quantile {p:.4} of {}",
            forecast.model
        );
        let values =
            [("replicas", f64::from(n)), ("demand_rps", demand), ("window_s", window_s), ("quantile", p)];
        self.say(ReasonCode::Predicted, text, &values);
        // Never worse than reactive: a forecast adds to what is needed now, it never takes away.
        self.n = self.n.max(n);
    }

    /// A node takes longer than a replica on one: what will not fit onto those that are there is asked for so much earlier.
    fn provide_for_nodes(&mut self, capacity: Capacity) {
        let Some(room) = self.inputs.room.filter(|room| room.most > room.present) else { return };
        let window = self.lead_window() + room.node_wait;
        let trusted = self.inputs.policy.forecast.enabled && self.distrusted_ratio().is_none();
        let p = self.risk_quantile();
        let forecast = self.inputs.forecast.filter(|_| trusted);
        let Some(demand) = forecast.and_then(|forecast| forecast.max_quantile(self.now, window, p)) else {
            return;
        };
        let n = capacity.replicas_for(demand);
        if n > room.present && n > self.n {
            let (wait_s, beyond) = (room.node_wait.as_secs_f64(), n - room.present);
            let text = format!(
                "{n} for {demand:.1} req/s within {:.0} s: for {beyond} the pool must grow, which takes {wait_s:.0} s",
                window.as_secs_f64()
            );
            let values = [("replicas", f64::from(n)), ("demand_rps", demand), ("node_wait_s", wait_s)];
            self.say(ReasonCode::NodeAhead, text, &values);
            self.n = n;
        }
    }

    /// What the forecast loses lately against the last value, where that is too much.
    fn distrusted_ratio(&self) -> Option<f64> {
        let score = self.inputs.forecast?.score?;
        Some(score.pinball_ratio).filter(|ratio| *ratio > TRUST_RATIO_MAX)
    }

    /// The forecast, unless it is off, missing or not to be trusted; says which.
    pub(super) fn usable_forecast(&mut self) -> Option<&'a Forecast> {
        if !self.inputs.policy.forecast.enabled {
            self.say(ReasonCode::ForecastOff, "forecasting is off", &[]);
            return None;
        }
        let Some(forecast) = self.inputs.forecast else {
            self.say(ReasonCode::NoForecast, "no model has enough history yet", &[]);
            return None;
        };
        if let Some(ratio) = self.distrusted_ratio() {
            let text = format!("{} did {ratio:.2} × the loss of the last value lately", forecast.model);
            self.say(ReasonCode::ForecastNotTrusted, text, &[("pinball_ratio", ratio)]);
            return None;
        }
        self.inputs.forecast
    }

    /// From now until a replica ordered now carries load.
    pub(super) fn lead_window(&self) -> Duration {
        self.inputs.lead.p90 + SETTLE
    }
}
