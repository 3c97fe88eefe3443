//! The risk level: which quantile of demand to provide for. It starts at the objective and follows the misses really seen.

use std::time::Duration;

use super::Deciding;
use crate::plan::ReasonCode;

/// How often the level moves; misses within it are one piece of evidence.
const STEER_PERIOD: Duration = Duration::from_secs(60);
/// Half-life of the evidence.
const HALF_LIFE_S: f64 = 3600.0;
/// Half-life of the account of the budget: what was missed days ago is past mending.
const ACCOUNT_HALF_LIFE_S: f64 = 86_400.0;
/// Requests below which the evidence says nothing.
const ENDED_MIN: f64 = 200.0;
/// One move downwards in risk, when more was missed than allowed; upwards the move is ten times smaller, because misses are rare
/// evidence and their absence is common.
const MOVE: f64 = 0.9;
const EXCEEDANCE_MIN: f64 = 0.000_5;
const EXCEEDANCE_MAX: f64 = 0.2;

impl Deciding<'_> {
    /// Moves the level once a minute.
    pub(super) fn steer_risk(&mut self) {
        let budget = self.inputs.policy.slo.budget();
        let start = budget.clamp(EXCEEDANCE_MIN, EXCEEDANCE_MAX);
        let risk = &mut self.state.risk;
        let exceedance = *risk.exceedance.get_or_insert(start);
        let last = *risk.steered_at.get_or_insert(self.now);
        let elapsed = self.now.since(last);
        if elapsed < STEER_PERIOD {
            return;
        }
        risk.steered_at = Some(self.now);
        let fade = (-elapsed.as_secs_f64() / HALF_LIFE_S).exp2();
        risk.ended *= fade;
        risk.missed *= fade;
        if let Some(misses) =
            self.inputs.observed.misses.filter(|m| m.ended.is_finite() && m.missed.is_finite())
        {
            let ended = misses.ended.max(0.0);
            let missed = misses.missed.clamp(0.0, ended);
            risk.ended += ended;
            risk.missed += missed;
            let keep = (-elapsed.as_secs_f64() / ACCOUNT_HALF_LIFE_S).exp2();
            risk.account.since.get_or_insert(self.now);
            risk.account.ended = risk.account.ended * keep + ended;
            risk.account.missed = risk.account.missed * keep + missed;
            let expected = self.inputs.provision.map_or(budget, |provision| provision.expected);
            risk.account.expected = risk.account.expected * keep + ended * expected.clamp(0.0, 1.0);
        }
        if risk.ended >= ENDED_MIN {
            let share = risk.missed / risk.ended;
            let step = if share > budget { MOVE } else { MOVE.powf(-0.1) };
            // Never more risk than four times the budget: a quiet hour must not spend the next one's misses.
            let most = (4.0 * budget).min(EXCEEDANCE_MAX);
            risk.exceedance = Some((exceedance * step).clamp(EXCEEDANCE_MIN, most.max(EXCEEDANCE_MIN)));
        }
    }

    /// The quantile to provide for; says so when the misses have moved it.
    pub(super) fn risk_quantile(&mut self) -> f64 {
        let budget = self.inputs.policy.slo.budget();
        let p = 1.0 - self.state.risk.exceedance.unwrap_or(budget);
        if (p - self.inputs.policy.slo.target.get()).abs() > 1e-4 {
            let share = self.state.risk.missed / self.state.risk.ended.max(1.0);
            let text =
                format!("{:.2} % missed of {:.2} % allowed: quantile {p:.4}", share * 100.0, budget * 100.0);
            self.say(ReasonCode::RiskLevel, text, &[("quantile", p), ("missed_share", share)]);
        }
        p
    }
}
