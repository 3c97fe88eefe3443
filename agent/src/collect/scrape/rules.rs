//! Which scraped family is which signal: the rules, their check, and the embedded catalogue of known runtimes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tidegate_core::{Scope, Signal};

/// How the series of a family become one value of one target, and the targets' values one of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Series and targets add up.
    GaugeSum,
    /// The mean over all series of all targets.
    GaugeMean,
    /// Change per second; series and targets add up.
    CounterRate,
    /// Change per second; series add up, targets are averaged: for what all replicas do together, such as training steps.
    CounterRateMean,
    /// A classic histogram of seconds: quantiles for a latency, the mean for a duration, the rate of events for a rate.
    Histogram,
}

/// One rule: a family, the series of it that count, and the signal that they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRule {
    /// Name as it stands on the page, `_total` included; a histogram without `_bucket`.
    pub family: String,
    /// Labels that a series must have; a value may end in `*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels that a series must not have; a value may end in `*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub except: BTreeMap<String, String>,
    /// The signal.
    pub signal: Signal,
    /// How the series become its value.
    pub how: How,
    /// Factor from the family's unit to the signal's: 0.001 for milliseconds.
    #[serde(default = "one")]
    pub scale: f64,
}

const fn one() -> f64 {
    1.0
}

/// Why a rule cannot hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// The signal is of the machine.
    #[error("signal {signal} is of the machine, not of a workload")]
    NotOfWorkload {
        /// Its name.
        signal: &'static str,
    },
    /// No histogram gives this signal.
    #[error(
        "a histogram cannot give {signal}: expected a latency, a duration, or a rate of requests or steps"
    )]
    NotOfHistogram {
        /// Its name.
        signal: &'static str,
    },
    /// The factor is not usable.
    #[error("expected a scale above 0, got {scale}")]
    Scale {
        /// As given.
        scale: f64,
    },
    /// The family has no name.
    #[error("expected the name of a metric family, got an empty text")]
    NoFamily,
}

/// What is made of a histogram, by the signal of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfHistogram {
    /// All three latency quantiles, and the misses where there is a limit.
    Latency,
    /// Sum over count.
    Mean,
    /// Events per second.
    Rate,
}

pub(super) const fn of_histogram(signal: Signal) -> Option<OfHistogram> {
    match signal {
        Signal::LatencyP50 | Signal::LatencyP95 | Signal::LatencyP99 => Some(OfHistogram::Latency),
        Signal::StepSeconds => Some(OfHistogram::Mean),
        Signal::RequestsPerSecond | Signal::CompletionsPerSecond | Signal::StepsPerSecond => {
            Some(OfHistogram::Rate)
        }
        _ => None,
    }
}

impl SignalRule {
    /// Whether the rule can hold.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self) -> Result<(), RuleError> {
        let signal = self.signal.name();
        if self.family.is_empty() {
            return Err(RuleError::NoFamily);
        }
        if self.signal.scope() != Scope::Workload {
            return Err(RuleError::NotOfWorkload { signal });
        }
        if self.how == How::Histogram && of_histogram(self.signal).is_none() {
            return Err(RuleError::NotOfHistogram { signal });
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(RuleError::Scale { scale: self.scale });
        }
        Ok(())
    }
}

/// Whether a label's value is as a rule says; a trailing `*` stands for anything.
pub(super) fn value_holds(pattern: &str, value: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => value == pattern,
    }
}

/// A runtime and its rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Its name, as shown to people.
    pub name: String,
    /// Its rules, first wins.
    pub rule: Vec<SignalRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    runtime: Vec<Runtime>,
}

/// The known runtimes, in the order they are tried.
///
/// # Panics
/// Never: the embedded file is read by a test.
#[must_use]
pub fn catalogue() -> &'static [Runtime] {
    static CATALOGUE: OnceLock<Vec<Runtime>> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let file: File = toml::from_str(include_str!("../../../data/runtimes.toml"))
            .expect("the embedded catalogue is well-formed");
        file.runtime
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_catalogue_holds() {
        assert!(catalogue().len() >= 4);
        for runtime in catalogue() {
            assert!(!runtime.rule.is_empty());
            for rule in &runtime.rule {
                assert_eq!(rule.check(), Ok(()), "{} of {}", rule.family, runtime.name);
            }
        }
    }

    #[test]
    fn refuses_what_cannot_hold() {
        let rule = |text: &str| toml::from_str::<SignalRule>(text).unwrap().check();
        let node = rule("family = 'a'\nsignal = 'load1'\nhow = 'gauge_sum'");
        assert_eq!(node, Err(RuleError::NotOfWorkload { signal: "load1" }));
        let histogram = rule("family = 'a'\nsignal = 'loss'\nhow = 'histogram'");
        assert!(matches!(histogram, Err(RuleError::NotOfHistogram { .. })));
        let scale = rule("family = 'a'\nsignal = 'loss'\nhow = 'gauge_mean'\nscale = nan");
        assert!(matches!(scale, Err(RuleError::Scale { .. })));
        assert_eq!(rule("family = ''\nsignal = 'loss'\nhow = 'gauge_mean'"), Err(RuleError::NoFamily));
        assert!(toml::from_str::<SignalRule>("family = 'a'\nsignal = 'no_such'\nhow = 'gauge_sum'").is_err());
        assert!(
            toml::from_str::<SignalRule>("family = 'a'\nsignal = 'loss'\nhow = 'gauge_sum'\nunit = 'x'")
                .is_err()
        );
    }

    #[test]
    fn a_star_stands_for_anything() {
        assert!(value_holds("5*", "503") && value_holds("5*", "5xx") && value_holds("*", ""));
        assert!(!value_holds("5*", "200") && !value_holds("50", "500"));
    }
}
