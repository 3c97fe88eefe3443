//! How the metrics page of a runtime that Tidegate does not know is read: which family is which signal.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::signals::{Scope, Signal};

/// How samples become a reading of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Sum of a gauge over samples and replicas.
    GaugeSum,
    /// Mean of a gauge over all samples of all replicas.
    GaugeMean,
    /// Rate of a counter, summed.
    CounterRate,
    /// Rate of a counter, summed over a replica's samples; mean over replicas: for what they do together, such as training steps.
    CounterRateMean,
    /// Growth of a counter over that of another, `per`, both summed: a mean, or a share.
    CounterRatio,
    /// A classic histogram: all quantiles and the mean of a latency, the mean of another duration, the rate of events for a rate, the sum of
    /// the values per second for tokens.
    Histogram,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::GaugeSum,
        Self::GaugeMean,
        Self::CounterRate,
        Self::CounterRateMean,
        Self::CounterRatio,
        Self::Histogram,
    ];

    /// Its word in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GaugeSum => "gauge_sum",
            Self::GaugeMean => "gauge_mean",
            Self::CounterRate => "counter_rate",
            Self::CounterRateMean => "counter_rate_mean",
            Self::CounterRatio => "counter_ratio",
            Self::Histogram => "histogram",
        }
    }

    /// The one of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|how| how.as_str() == word)
    }
}

/// One family of a metrics page, as a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRule {
    /// Name of the family as it stands on the page, `_total` included; of a histogram, without `_bucket`.
    #[schemars(length(min = 1, max = 253))]
    pub family: String,
    /// Labels that its samples must bear. A value may end in `*`, and a bar stands between alternatives.
    #[serde(default, rename = "match", alias = "labels", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Labels that its samples must not bear, written alike.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub except: BTreeMap<String, String>,
    /// Name of the signal, as in the catalogue.
    #[schemars(schema_with = "of_workload")]
    pub signal: Signal,
    /// How samples become a reading.
    pub how: How,
    /// The family that `counter_ratio` divides by; the same labels count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub per: Option<String>,
    /// Factor from the family's unit to the signal's: 0.001 for milliseconds.
    #[serde(default = "one")]
    pub scale: f64,
    /// Adds to what the rules before it say of the signal; else it stands in for them where they say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adds: bool,
}

const fn one() -> f64 {
    1.0
}

fn of_workload(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names =
        Signal::ALL.iter().filter(|signal| signal.scope() == Scope::Workload).map(|signal| signal.name());
    schemars::json_schema!({ "type": "string", "enum": names.collect::<Vec<_>>() })
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
pub struct Quantiles {
    /// Median, 95th and 99th percentile.
    pub signals: [Signal; 3],
    /// The mean, where there is a signal of it.
    pub mean: Option<Signal>,
}

impl Quantiles {
    /// The signal under which the distribution is kept.
    pub const fn key(self) -> Signal {
        self.signals[1]
    }
}

/// Time from arrival to answer.
pub const LATENCY: Quantiles = Quantiles {
    signals: [Signal::LatencyP50, Signal::LatencyP95, Signal::LatencyP99],
    mean: Some(Signal::LatencyMean),
};
/// Time from arrival to the first token.
pub const FIRST_TOKEN: Quantiles =
    Quantiles { signals: [Signal::FirstTokenP50, Signal::FirstTokenP95, Signal::FirstTokenP99], mean: None };
/// A request's mean time between tokens.
pub const PER_TOKEN: Quantiles = Quantiles {
    signals: [Signal::PerTokenP50, Signal::PerTokenP95, Signal::PerTokenP99],
    mean: Some(Signal::PerTokenMean),
};
/// Time between two tokens. Its mean weighs requests by their tokens, and is that of the time per token all the same.
pub const INTER_TOKEN: Quantiles = Quantiles {
    signals: [Signal::InterTokenP50, Signal::InterTokenP95, Signal::InterTokenP99],
    mean: Some(Signal::PerTokenMean),
};

/// The distribution that a signal is a quantile of.
pub fn quantiles_of(signal: Signal) -> Option<Quantiles> {
    [LATENCY, FIRST_TOKEN, PER_TOKEN, INTER_TOKEN].into_iter().find(|all| all.signals.contains(&signal))
}

/// What is made of a histogram, by the signal of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfHistogram {
    /// Quantiles and the mean.
    Quantiles(Quantiles),
    /// Sum over count.
    Mean,
    /// Events per second.
    Rate,
    /// Sum of the values per second.
    SumRate,
}

/// What a histogram gives for this signal; `None` when nothing.
#[must_use]
pub fn of_histogram(signal: Signal) -> Option<OfHistogram> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), RuleError> {
        serde_json::from_str::<SignalRule>(text).unwrap().check()
    }

    #[test]
    fn a_way_is_read_by_the_word_that_it_is_written_with() {
        for how in How::ALL {
            assert_eq!(serde_json::to_value(how).unwrap(), how.as_str());
            assert_eq!(How::from_word(how.as_str()), Some(how));
        }
        assert_eq!(How::from_word("guess"), None);
    }

    #[test]
    fn refuses_what_cannot_hold() {
        let node = check(r#"{"family":"a","signal":"load1","how":"gauge_sum"}"#);
        assert_eq!(node, Err(RuleError::NotOfWorkload { signal: "load1" }));
        let histogram = check(r#"{"family":"a","signal":"loss","how":"histogram"}"#);
        assert!(matches!(histogram, Err(RuleError::NotOfHistogram { .. })));
        let scale = check(r#"{"family":"a","signal":"loss","how":"gauge_mean","scale":0}"#);
        assert!(matches!(scale, Err(RuleError::Scale { .. })));
        let quantile = check(r#"{"family":"a","signal":"latency_p95_seconds","how":"gauge_mean"}"#);
        assert_eq!(quantile, Err(RuleError::NotOfSeries { signal: "latency_p95_seconds" }));
        let alone = check(r#"{"family":"a","signal":"latency_mean_seconds","how":"counter_ratio"}"#);
        assert_eq!(alone, Err(RuleError::Per));
        let adds = check(r#"{"family":"a","signal":"loss","how":"gauge_mean","adds":true}"#);
        assert_eq!(adds, Err(RuleError::Adds));
        assert_eq!(check(r#"{"family":"","signal":"loss","how":"gauge_mean"}"#), Err(RuleError::NoFamily));
        for wrong in [
            r#"{"family":"a","signal":"no_such","how":"gauge_sum"}"#,
            r#"{"family":"a","signal":"loss","how":"gauge_sum","unit":"x"}"#,
        ] {
            assert!(serde_json::from_str::<SignalRule>(wrong).is_err(), "{wrong}");
        }
    }
}
