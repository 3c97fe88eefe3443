//! What an alert may do to the size of a serving workload: bounded in height, time and number. Receiving alerts is not here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{AlertRule, ServingPolicy};
use crate::time::Timestamp;

/// Effects that one workload can have at a time; further alerts are refused.
const BOOSTS_MAX: usize = 32;
const HOUR: Duration = Duration::from_secs(3600);

/// An alert as received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Names the alert across repetitions.
    pub fingerprint: String,
    /// Whether it still fires.
    pub firing: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A floor that an alert raised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Boost {
    /// The alert.
    pub fingerprint: String,
    /// Which rule of the policy, by position.
    pub rule: usize,
    /// Never fewer replicas than this.
    pub floor: u32,
    /// When it was raised.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// What became of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertOutcome {
    /// It raised the floor.
    Raised,
    /// It had already; nothing changed.
    Repeated,
    /// It ended; so did its effect, if it had one.
    Resolved,
    /// No rule matches it.
    NoRule,
    /// A rule matches, but its last effect is too recent.
    CoolingDown,
    /// A rule matches, but has had its number of effects in this hour.
    OverBudget,
}

impl AlertOutcome {
    /// Value of the `outcome` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
            Self::NoRule => "no_rule",
            Self::CoolingDown => "cooling_down",
            Self::OverBudget => "over_budget",
        }
    }
}

/// Effects of alerts in force, and those of the last hour.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Boosts {
    active: Vec<Boost>,
    raised: Vec<(usize, Timestamp)>,
}

impl Boosts {
    /// Takes in one alert. `size` is the size at this moment, which `add` adds to.
    pub fn admit(
        &mut self,
        policy: &ServingPolicy,
        alert: &Alert,
        size: u32,
        now: Timestamp,
    ) -> AlertOutcome {
        self.expire(now);
        let matches = |rule: &AlertRule| rule.labels.iter().all(|(k, v)| alert.labels.get(k) == Some(v));
        let rule = policy.alerts.iter().enumerate().find(|(_, rule)| matches(rule));
        if !alert.firing {
            let before = self.active.len();
            self.active.retain(|boost| boost.fingerprint != alert.fingerprint);
            let concerned = rule.is_some() || self.active.len() < before;
            return if concerned { AlertOutcome::Resolved } else { AlertOutcome::NoRule };
        }
        if self.active.iter().any(|boost| boost.fingerprint == alert.fingerprint) {
            return AlertOutcome::Repeated;
        }
        let Some((index, rule)) = rule else { return AlertOutcome::NoRule };
        let mut of_rule = self.raised.iter().filter(|(i, _)| *i == index).map(|(_, at)| *at);
        if of_rule.clone().any(|at| now.since(at) < rule.cool_down.get()) {
            return AlertOutcome::CoolingDown;
        }
        let effects = of_rule.by_ref().count();
        if effects >= usize::try_from(rule.per_hour_max).unwrap_or(usize::MAX)
            || self.active.len() >= BOOSTS_MAX
        {
            return AlertOutcome::OverBudget;
        }
        let floor = rule.floor.unwrap_or_else(|| size.saturating_add(rule.add.unwrap_or(0)));
        self.raised.push((index, now));
        self.active.push(Boost {
            fingerprint: alert.fingerprint.clone(),
            rule: index,
            floor: policy.replicas.clamp(floor),
            since: now,
            until: now + rule.ttl.get(),
        });
        AlertOutcome::Raised
    }

    /// Forgets effects that have ended.
    pub fn expire(&mut self, now: Timestamp) {
        self.active.retain(|boost| now < boost.until);
        self.raised.retain(|(_, at)| now.since(*at) < HOUR);
    }

    /// The effect with the highest floor.
    #[must_use]
    pub fn highest(&self, now: Timestamp) -> Option<&Boost> {
        self.active
            .iter()
            .filter(|boost| now < boost.until)
            .max_by_key(|boost| (boost.floor, &boost.fingerprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> ServingPolicy {
        serde_json::from_str(
            r#"{"replicas":{"min":1,"max":8},"slo":{"latency":"400ms","target":0.99},
                "alerts":[{"match":{"alertname":"Slow"},"add":2,"ttl":"10m","coolDown":"1m","perHourMax":2}]}"#,
        )
        .unwrap()
    }

    fn alert(fingerprint: &str, firing: bool, name: &str) -> Alert {
        Alert {
            fingerprint: fingerprint.into(),
            firing,
            labels: BTreeMap::from([("alertname".into(), name.into())]),
        }
    }

    #[test]
    fn an_alert_raises_once_and_its_end_takes_it_back() {
        let (policy, at, mut boosts) = (policy(), Timestamp::from_secs, Boosts::default());
        assert_eq!(boosts.admit(&policy, &alert("a", true, "Slow"), 3, at(0)), AlertOutcome::Raised);
        assert_eq!(boosts.admit(&policy, &alert("a", true, "Slow"), 5, at(30)), AlertOutcome::Repeated);
        assert_eq!(boosts.highest(at(31)).unwrap().floor, 5);
        assert_eq!(boosts.admit(&policy, &alert("a", false, "Slow"), 5, at(40)), AlertOutcome::Resolved);
        assert_eq!(boosts.highest(at(41)), None);
        assert_eq!(boosts.admit(&policy, &alert("x", false, "Other"), 5, at(42)), AlertOutcome::NoRule);
    }

    #[test]
    fn rules_cool_down_and_have_a_budget() {
        let (policy, at, mut boosts) = (policy(), Timestamp::from_secs, Boosts::default());
        assert_eq!(boosts.admit(&policy, &alert("x", true, "Other"), 3, at(0)), AlertOutcome::NoRule);
        assert_eq!(boosts.admit(&policy, &alert("a", true, "Slow"), 3, at(0)), AlertOutcome::Raised);
        assert_eq!(boosts.admit(&policy, &alert("b", true, "Slow"), 3, at(59)), AlertOutcome::CoolingDown);
        assert_eq!(boosts.admit(&policy, &alert("b", true, "Slow"), 7, at(60)), AlertOutcome::Raised);
        assert_eq!(boosts.highest(at(61)).unwrap().floor, 8, "never above the policy's bound");
        assert_eq!(boosts.admit(&policy, &alert("c", true, "Slow"), 3, at(900)), AlertOutcome::OverBudget);
        assert_eq!(boosts.highest(at(660)), None, "the effect ends by itself");
    }
}
