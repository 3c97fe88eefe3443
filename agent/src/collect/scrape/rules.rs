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
    /// The change of the family over that of the family `per`, both summed over series and targets: a mean, or a share.
    CounterRatio,
    /// A classic histogram: quantiles and the mean of a time that has them, the mean of another, the rate of events for a rate, the
    /// sum of the values per second for tokens.
    Histogram,
}

/// One rule: a family, the series of it that count, and the signal that they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRule {
    /// Name as it stands on the page, `_total` included; a histogram without `_bucket`.
    pub family: String,
    /// Labels that a series must have; a value may end in `*`, and `|` stands between alternatives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels that a series must not have, written alike.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub except: BTreeMap<String, String>,
    /// The signal.
    pub signal: Signal,
    /// How the series become its value.
    pub how: How,
    /// The family that a [`How::CounterRatio`] divides by; the same labels count. Named like `family`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// Factor from the family's unit to the signal's: 0.001 for milliseconds.
    #[serde(default = "one")]
    pub scale: f64,
    /// Adds to what the rules before it say of this signal, instead of standing in for them where they say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adds: bool,
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
        "a histogram cannot give {signal}: expected a latency, a duration, or a rate of requests, tokens or steps"
    )]
    NotOfHistogram {
        /// Its name.
        signal: &'static str,
    },
    /// The signal is a quantile, which only a histogram knows.
    #[error("{signal} is a quantile: expected a histogram")]
    NotOfSeries {
        /// Its name.
        signal: &'static str,
    },
    /// A ratio without a family to divide by, or another rule with one.
    #[error("expected `per` with `counter_ratio`, and only there")]
    Per,
    /// What adds must be a sum.
    #[error("only a sum of gauges or a rate of counters can add to another rule")]
    Adds,
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

/// Signals that are quantiles, and the mean, of one distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantiles {
    /// Median, 95th and 99th percentile.
    pub(super) signals: [Signal; 3],
    /// The mean, where there is a signal of it.
    pub(super) mean: Option<Signal>,
}

impl Quantiles {
    /// The signal under which the distribution is kept.
    pub(super) const fn key(self) -> Signal {
        self.signals[1]
    }
}

/// Time from arrival to answer.
pub(super) const LATENCY: Quantiles = Quantiles {
    signals: [Signal::LatencyP50, Signal::LatencyP95, Signal::LatencyP99],
    mean: Some(Signal::LatencyMean),
};
/// Time from arrival to the first token.
pub(super) const FIRST_TOKEN: Quantiles =
    Quantiles { signals: [Signal::FirstTokenP50, Signal::FirstTokenP95, Signal::FirstTokenP99], mean: None };
/// A request's mean time between tokens.
pub(super) const PER_TOKEN: Quantiles = Quantiles {
    signals: [Signal::PerTokenP50, Signal::PerTokenP95, Signal::PerTokenP99],
    mean: Some(Signal::PerTokenMean),
};
/// Time between two tokens. Its mean weighs requests by their tokens, and is that of the time per token all the same.
pub(super) const INTER_TOKEN: Quantiles = Quantiles {
    signals: [Signal::InterTokenP50, Signal::InterTokenP95, Signal::InterTokenP99],
    mean: Some(Signal::PerTokenMean),
};

/// The distribution that a signal is a quantile of.
pub(super) fn quantiles_of(signal: Signal) -> Option<Quantiles> {
    [LATENCY, FIRST_TOKEN, PER_TOKEN, INTER_TOKEN].into_iter().find(|all| all.signals.contains(&signal))
}

/// What is made of a histogram, by the signal of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfHistogram {
    /// Quantiles and the mean.
    Quantiles(Quantiles),
    /// Sum over count.
    Mean,
    /// Events per second.
    Rate,
    /// Sum of the values per second.
    SumRate,
}

pub(super) fn of_histogram(signal: Signal) -> Option<OfHistogram> {
    if let Some(quantiles) = quantiles_of(signal) {
        return Some(OfHistogram::Quantiles(quantiles));
    }
    match signal {
        Signal::StepSeconds
        | Signal::LatencyMean
        | Signal::PerTokenMean
        | Signal::QueueWaitMean
        | Signal::BatchSizeMean => Some(OfHistogram::Mean),
        Signal::RequestsPerSecond
        | Signal::CompletionsPerSecond
        | Signal::ErrorsPerSecond
        | Signal::StepsPerSecond => Some(OfHistogram::Rate),
        Signal::PromptTokensPerSecond | Signal::OutputTokensPerSecond => Some(OfHistogram::SumRate),
        _ => None,
    }
}

impl SignalRule {
    /// Every signal that the rule gives: of a distribution, its quantiles and its mean.
    #[must_use]
    pub fn gives(&self) -> Vec<Signal> {
        match quantiles_of(self.signal).filter(|_| self.how == How::Histogram) {
            Some(all) => all.signals.into_iter().chain(all.mean).collect(),
            None => vec![self.signal],
        }
    }

    /// Whether the rule can hold.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self) -> Result<(), RuleError> {
        let signal = self.signal.name();
        if self.family.is_empty() || self.per.as_ref().is_some_and(String::is_empty) {
            return Err(RuleError::NoFamily);
        }
        if self.signal.scope() != Scope::Workload {
            return Err(RuleError::NotOfWorkload { signal });
        }
        if self.how == How::Histogram && of_histogram(self.signal).is_none() {
            return Err(RuleError::NotOfHistogram { signal });
        }
        if self.how != How::Histogram && quantiles_of(self.signal).is_some() {
            return Err(RuleError::NotOfSeries { signal });
        }
        if self.per.is_some() != (self.how == How::CounterRatio) {
            return Err(RuleError::Per);
        }
        if self.adds && !matches!(self.how, How::GaugeSum | How::CounterRate) {
            return Err(RuleError::Adds);
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(RuleError::Scale { scale: self.scale });
        }
        Ok(())
    }
}

/// Whether a label's value is as a rule says: one of the alternatives between `|`, where a trailing `*` stands for anything.
pub(super) fn value_holds(pattern: &str, value: &str) -> bool {
    pattern.split('|').any(|one| match one.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => value == one,
    })
}

/// A runtime and its rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Its name: the value of the `runtime` label.
    pub name: String,
    /// Its name, as people write it, and the versions that the rules are of.
    pub title: String,
    /// What one must know of its metrics.
    pub note: String,
    /// What its families begin with; the same rules hold under each. Empty: the rules have whole names.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// As they stand in the file: [`Self::rules`] gives them with their whole names.
    pub rules: Vec<SignalRule>,
}

impl Runtime {
    /// Its rules with whole names, first wins. All rules under the first prefix come before those under the second.
    pub fn rules(&self) -> impl Iterator<Item = SignalRule> + '_ {
        let whole = [String::new()];
        let prefixes = if self.prefixes.is_empty() { whole.to_vec() } else { self.prefixes.clone() };
        prefixes.into_iter().flat_map(|prefix| {
            self.rules.iter().map(move |rule| SignalRule {
                family: format!("{prefix}{}", rule.family),
                per: rule.per.as_ref().map(|per| format!("{prefix}{per}")),
                ..rule.clone()
            })
        })
    }
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
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_of_the_catalogue_holds() {
        assert!(catalogue().len() >= 4);
        let names: BTreeSet<_> = catalogue().iter().map(|runtime| &runtime.name).collect();
        assert_eq!(names.len(), catalogue().len());
        for runtime in catalogue() {
            assert!(runtime.rules().count() > 0 && runtime.note.ends_with('.'), "{}", runtime.name);
            for rule in runtime.rules() {
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
        let quantile = rule("family = 'a'\nsignal = 'latency_p95_seconds'\nhow = 'gauge_mean'");
        assert_eq!(quantile, Err(RuleError::NotOfSeries { signal: "latency_p95_seconds" }));
        let alone = rule("family = 'a'\nsignal = 'latency_mean_seconds'\nhow = 'counter_ratio'");
        assert_eq!(alone, Err(RuleError::Per));
        let adds = rule("family = 'a'\nsignal = 'loss'\nhow = 'gauge_mean'\nadds = true");
        assert_eq!(adds, Err(RuleError::Adds));
        assert_eq!(rule("family = ''\nsignal = 'loss'\nhow = 'gauge_mean'"), Err(RuleError::NoFamily));
        assert!(toml::from_str::<SignalRule>("family = 'a'\nsignal = 'no_such'\nhow = 'gauge_sum'").is_err());
        assert!(
            toml::from_str::<SignalRule>("family = 'a'\nsignal = 'loss'\nhow = 'gauge_sum'\nunit = 'x'")
                .is_err()
        );
    }

    #[test]
    fn a_star_stands_for_anything_and_a_bar_for_either() {
        assert!(
            value_holds("200|5*", "503") && value_holds("200|5*", "200") && !value_holds("200|5*", "404")
        );
        assert!(value_holds("5*", "503") && value_holds("5*", "5xx") && value_holds("*", ""));
        assert!(!value_holds("5*", "200") && !value_holds("50", "500"));
    }
}
