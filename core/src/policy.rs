//! The user's intent for one workload. The same types are the `serving:` and `training:` of `tidegate.yaml`, and the better
//! part of the custom resources' `spec`.

mod mapping;
mod rules;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::Role;
use crate::time::Span;
use crate::units::Ratio;

pub use mapping::{
    FIRST_TOKEN, How, INTER_TOKEN, LATENCY, OfHistogram, PER_TOKEN, Quantiles, RuleError, SignalRule,
    of_histogram, quantiles_of,
};
pub use rules::{Check, Problem, REPLICAS_LIMIT, Rule};

/// Whether plans are put into effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Decide and show, but change nothing.
    #[default]
    Shadow,
    /// Put plans into effect.
    Active,
}

/// Hard bounds of the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

impl Bounds {
    /// `n`, moved into the bounds.
    #[must_use]
    pub fn clamp(self, n: u32) -> u32 {
        n.min(self.max).max(self.min)
    }
}

/// The objective for requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Slo {
    /// A request is in time when it is answered within this, waiting included; where `perOutputToken` is given, when its first
    /// token is.
    pub latency: Span,
    /// For language models: mean time between the tokens of an answer, after the first, that a request in time does not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_output_token: Option<Span>,
    /// Share of requests that are to be in time, for example 0.99.
    pub target: Ratio,
}

impl Slo {
    /// Share of requests that may be late.
    #[must_use]
    pub fn budget(&self) -> f64 {
        1.0 - self.target.get()
    }
}

/// What is known of one replica before anything was seen. All optional: what is absent is learned.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CapacityHint {
    /// Requests per second that one replica carries within the objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Requests that one replica serves at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// How demand is forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForecastPolicy {
    /// Off: size by what is seen alone; nothing is forecast and nothing rehearsed.
    pub enabled: bool,
    /// Length of a forecast step.
    pub step: Span,
    /// Lengths of the seasons in the load.
    #[schemars(length(max = 8))]
    pub seasons: Vec<Span>,
}

impl Default for ForecastPolicy {
    fn default() -> Self {
        let day = Span::from_secs(86_400);
        Self { enabled: true, step: Span::from_secs(60), seasons: vec![day, Span::from_secs(7 * 86_400)] }
    }
}

/// How fast the size may move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Scaling {
    /// Time from a decision to a ready replica, until it has been measured.
    pub lead_time: Span,
    /// A smaller size must have been enough for this long before it is taken; for longer where the workload's past shows that it pays.
    pub scale_down_hold: Span,
    /// After a scale-up, no scale-down for this long.
    pub flap_window: Span,
    /// Most replicas added within 15 s; absent: no limit but the bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up_max: Option<u32>,
    /// Most replicas removed within 15 s; absent: no limit but the bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_down_max: Option<u32>,
    /// Most scale-downs in an hour; scale-ups are never refused for their number.
    pub scale_downs_per_hour_max: u32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            lead_time: Span::from_secs(60),
            scale_down_hold: Span::from_secs(120),
            flap_window: Span::from_secs(60),
            step_up_max: None,
            step_down_max: None,
            scale_downs_per_hour_max: 30,
        }
    }
}

/// A floor by the clock (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleFloor {
    /// Days of the week; empty: every day.
    #[serde(default)]
    #[schemars(length(max = 7))]
    pub days: Vec<Day>,
    /// Start, `HH:MM` UTC.
    pub from: ClockTime,
    /// End, `HH:MM` UTC; before `from`: on the next day.
    pub to: ClockTime,
    /// Never fewer replicas than this in between.
    pub min: u32,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// The days, Monday first.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];
}

/// A time of day, `HH:MM`, as minutes since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClockTime(u16);

impl ClockTime {
    /// Minutes since midnight, 0 to 1439.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

/// A text is not a time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time of day such as 08:30, got {0:?}")]
pub struct ParseClockTimeError(String);

impl TryFrom<String> for ClockTime {
    type Error = ParseClockTimeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2);
        let number = |part: &str, limit: u16| part.parse::<u16>().ok().filter(|n| *n < limit);
        parts
            .and_then(|(h, m)| Some(Self(number(h, 24)? * 60 + number(m, 60)?)))
            .ok_or(ParseClockTimeError(text))
    }
}

impl From<ClockTime> for String {
    fn from(time: ClockTime) -> Self {
        format!("{:02}:{:02}", time.0 / 60, time.0 % 60)
    }
}

impl JsonSchema for ClockTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClockTime".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "maxLength": 5, "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$" })
    }
}

/// What an alert does to the size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AlertRule {
    /// Labels that the alert must bear, with these values.
    #[serde(rename = "match")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Replicas to add to the size at the time of the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<u32>,
    /// Never fewer replicas than this while the alert holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
    /// The effect ends after this even when the alert does not.
    #[serde(default = "AlertRule::ttl_default")]
    pub ttl: Span,
    /// A new alert has no effect for this long after one that had.
    #[serde(default = "AlertRule::cool_down_default")]
    pub cool_down: Span,
    /// Most effects in an hour.
    #[serde(default = "AlertRule::budget_default")]
    pub per_hour_max: u32,
}

impl AlertRule {
    const fn ttl_default() -> Span {
        Span::from_secs(600)
    }

    const fn cool_down_default() -> Span {
        Span::from_secs(300)
    }

    const fn budget_default() -> u32 {
        4
    }
}

/// Intent for a serving workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServingPolicy {
    /// Whether plans are put into effect; shadow unless said otherwise.
    #[serde(default)]
    pub mode: Mode,
    /// Bounds of the size.
    pub replicas: Bounds,
    /// The objective.
    pub slo: Slo,
    /// What is known of one replica.
    #[serde(default)]
    pub capacity: CapacityHint,
    /// How demand is forecast.
    #[serde(default)]
    pub forecast: ForecastPolicy,
    /// How fast the size may move.
    #[serde(default)]
    pub scaling: Scaling,
    /// Floors by the clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub schedule: Vec<ScheduleFloor>,
    /// What alerts do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub alerts: Vec<AlertRule>,
    /// Size to fall back to when nothing has been known for long; absent: stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<u32>,
    /// Who is cut last when the pool is too small: the higher.
    #[serde(default)]
    pub priority: i32,
}

/// Intent for a training workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrainingPolicy {
    /// Whether plans are put into effect; shadow unless said otherwise.
    #[serde(default)]
    pub mode: Mode,
    /// Bounds of the number of workers.
    pub workers: Bounds,
    /// Workers come and go in multiples of this.
    #[serde(default = "TrainingPolicy::gang_default")]
    pub gang: u32,
    /// A grown size must be free for at least this long to be worth a resize.
    #[serde(default = "TrainingPolicy::grow_hold_default")]
    pub grow_hold: Span,
    /// Most voluntary resizes in an hour; a recall for serving is never refused for its number.
    #[serde(default = "TrainingPolicy::resizes_default")]
    pub resizes_per_hour_max: u32,
    /// Who is cut last when the pool is too small: the higher.
    #[serde(default)]
    pub priority: i32,
}

impl TrainingPolicy {
    const fn gang_default() -> u32 {
        1
    }

    const fn grow_hold_default() -> Span {
        Span::from_secs(120)
    }

    const fn resizes_default() -> u32 {
        12
    }
}

/// The intent for one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a handful are kept, and never moved about")]
pub enum Policy {
    /// For a serving workload.
    Serving(ServingPolicy),
    /// For a training workload.
    Training(TrainingPolicy),
}

impl Policy {
    /// What the workload is for.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Serving(_) => Role::Serving,
            Self::Training(_) => Role::Training,
        }
    }

    /// Whether plans are put into effect.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Serving(policy) => policy.mode,
            Self::Training(policy) => policy.mode,
        }
    }

    /// Bounds of the size.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        match self {
            Self::Serving(policy) => policy.replicas,
            Self::Training(policy) => policy.workers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> ServingPolicy {
        serde_json::from_str(r#"{"replicas":{"min":1,"max":8},"slo":{"latency":"400ms","target":0.99}}"#)
            .unwrap()
    }

    #[test]
    fn a_useful_policy_takes_two_lines_and_starts_in_shadow() {
        let policy = policy();
        assert_eq!(policy.mode, Mode::Shadow);
        assert_eq!(policy.problems(), []);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let mut wrong = policy();
        wrong.replicas = Bounds { min: 9, max: 8 };
        wrong.slo.target = Ratio::new(1.0).unwrap();
        wrong.forecast.step = Span::from_secs(0);
        wrong.alerts.push(AlertRule {
            labels: BTreeMap::new(),
            add: Some(1),
            floor: Some(2),
            ttl: Span::from_secs(1),
            cool_down: Span::from_secs(1),
            per_hour_max: 1,
        });
        let paths: Vec<_> = wrong.problems().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["replicas/min", "slo/target", "forecast/step", "alerts/0", "alerts/0/match"]);
    }

    #[test]
    fn a_time_of_day_is_two_digits_and_two() {
        assert_eq!(ClockTime::try_from("08:30".to_owned()).unwrap().minutes(), 510);
        for wrong in ["8:30", "24:00", "08:60", "0830", ""] {
            assert!(ClockTime::try_from(wrong.to_owned()).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let text = r#"{"replicas":{"min":1,"max":8,"mid":2},"slo":{"latency":"400ms","target":0.99}}"#;
        assert!(serde_json::from_str::<ServingPolicy>(text).is_err());
    }
}
