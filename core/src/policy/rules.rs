//! What the types of a policy cannot say. Each rule stands here once, in two languages side by side: as a function, for
//! this program, and in the Common Expression Language, for an API server that admits policies as custom resources.

use std::time::Duration;

use super::{ServingPolicy, TrainingPolicy};

/// Most replicas that any policy may ask for: a typing error must not start a million processes.
pub const REPLICAS_LIMIT: u32 = 10_000;

/// One thing wrong with a policy: where, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path within the policy, such as `replicas/min`.
    pub path: String,
    /// What is expected there.
    pub text: String,
}

/// How a rule is checked here; true: it is kept.
#[derive(Debug)]
pub enum Check<T> {
    /// Of the whole.
    Whole(fn(&T) -> bool),
    /// Of each entry of a list, in its order.
    Each(fn(&T) -> Vec<bool>),
}

/// Something that every `T` must keep.
#[derive(Debug)]
pub struct Rule<T> {
    /// Where it is told to be broken, such as `slo/target`; `*` stands for the entry of a list.
    pub path: &'static str,
    /// What is expected there.
    pub text: &'static str,
    /// The check.
    pub check: Check<T>,
    /// The same check in the Common Expression Language with the libraries that Kubernetes adds; `self` is the whole `T` as
    /// it is written, with every default filled in.
    pub cel: &'static str,
}

impl<T> Rule<T> {
    /// Where `value` breaks this rule.
    pub fn problems(&self, value: &T) -> Vec<Problem> {
        let problem = |path: String| Problem { path, text: self.text.to_owned() };
        match self.check {
            Check::Whole(kept) if kept(value) => Vec::new(),
            Check::Whole(_) => vec![problem(self.path.to_owned())],
            Check::Each(kept) => {
                let broken = kept(value).into_iter().enumerate().filter(|(_, kept)| !kept);
                broken.map(|(i, _)| problem(self.path.replace('*', &i.to_string()))).collect()
            }
        }
    }
}

/// Milliseconds of a [`Span`](crate::Span), in the Common Expression Language: its own durations know no days.
macro_rules! millis {
    ($span:literal) => {
        concat!(
            $span,
            ".findAll('[0-9]+[a-z]+').map(part, int(part.find('[0-9]+')) * \
             {'ms': 1, 's': 1000, 'm': 60000, 'h': 3600000, 'd': 86400000}[part.find('[a-z]+')]).sum()"
        )
    };
}

impl ServingPolicy {
    /// What every serving policy keeps, beyond its types.
    pub const RULES: &'static [Rule<Self>] = &[
        Rule {
            path: "replicas/min",
            text: "must not be above replicas/max",
            check: Check::Whole(|policy| policy.replicas.min <= policy.replicas.max),
            cel: "self.replicas.min <= self.replicas.max",
        },
        Rule {
            path: "replicas/max",
            text: "must be from 1 to 10000",
            check: Check::Whole(|policy| (1..=REPLICAS_LIMIT).contains(&policy.replicas.max)),
            cel: "self.replicas.max >= 1 && self.replicas.max <= 10000",
        },
        Rule {
            path: "slo/latency",
            text: "must be longer than zero",
            check: Check::Whole(|policy| policy.slo.latency.get() > Duration::ZERO),
            cel: "self.slo.latency.matches('[1-9]')",
        },
        Rule {
            path: "slo/perOutputToken",
            text: "must be longer than zero",
            check: Check::Whole(|policy| {
                policy.slo.per_output_token.is_none_or(|span| span.get() > Duration::ZERO)
            }),
            cel: "!has(self.slo.perOutputToken) || self.slo.perOutputToken.matches('[1-9]')",
        },
        Rule {
            path: "slo/target",
            text: "must be from 0.5 to below 1",
            check: Check::Whole(|policy| (0.5..1.0).contains(&policy.slo.target.get())),
            cel: "self.slo.target >= 0.5 && self.slo.target < 1.0",
        },
        Rule {
            path: "capacity/requestsPerSecond",
            text: "must be above zero",
            check: Check::Whole(|policy| {
                policy.capacity.requests_per_second.is_none_or(|r| r.is_finite() && r > 0.0)
            }),
            cel: "!has(self.capacity.requestsPerSecond) || self.capacity.requestsPerSecond > 0.0",
        },
        Rule {
            path: "capacity/concurrency",
            text: "must be at least 1",
            check: Check::Whole(|policy| policy.capacity.concurrency != Some(0)),
            cel: "!has(self.capacity.concurrency) || self.capacity.concurrency >= 1",
        },
        Rule {
            path: "forecast/step",
            text: "must be at least 1s",
            check: Check::Whole(|policy| policy.forecast.step.get() >= Duration::from_secs(1)),
            cel: concat!(millis!("self.forecast.step"), " >= 1000"),
        },
        Rule {
            path: "forecast/seasons",
            text: "each must be at least four steps long",
            check: Check::Whole(|policy| {
                let least = policy.forecast.step.get().saturating_mul(4);
                policy.forecast.seasons.iter().all(|season| season.get() >= least)
            }),
            cel: concat!(
                "self.forecast.seasons.all(season, ",
                millis!("season"),
                " >= 4 * ",
                millis!("self.forecast.step"),
                ")"
            ),
        },
        Rule {
            path: "scaling/stepUpMax",
            text: "must be at least 1",
            check: Check::Whole(|policy| policy.scaling.step_up_max != Some(0)),
            cel: "!has(self.scaling.stepUpMax) || self.scaling.stepUpMax >= 1",
        },
        Rule {
            path: "scaling/stepDownMax",
            text: "must be at least 1",
            check: Check::Whole(|policy| policy.scaling.step_down_max != Some(0)),
            cel: "!has(self.scaling.stepDownMax) || self.scaling.stepDownMax >= 1",
        },
        Rule {
            path: "fallback",
            text: "must be within replicas",
            check: Check::Whole(|policy| {
                policy.fallback.is_none_or(|n| (policy.replicas.min..=policy.replicas.max).contains(&n))
            }),
            cel: "!has(self.fallback) || (self.fallback >= self.replicas.min && self.fallback <= self.replicas.max)",
        },
        Rule {
            path: "schedule/*/min",
            text: "must not be above replicas/max",
            check: Check::Each(|policy| {
                policy.schedule.iter().map(|floor| floor.min <= policy.replicas.max).collect()
            }),
            cel: "!has(self.schedule) || self.schedule.all(floor, floor.min <= self.replicas.max)",
        },
        Rule {
            path: "schedule/*/to",
            text: "must differ from `from`",
            check: Check::Each(|policy| policy.schedule.iter().map(|floor| floor.from != floor.to).collect()),
            cel: "!has(self.schedule) || self.schedule.all(floor, floor.from != floor.to)",
        },
        Rule {
            path: "alerts/*",
            text: "needs either `add` or `floor`",
            check: Check::Each(|policy| {
                policy.alerts.iter().map(|a| a.add.is_some() != a.floor.is_some()).collect()
            }),
            cel: "!has(self.alerts) || self.alerts.all(alert, has(alert.add) != has(alert.floor))",
        },
        Rule {
            path: "alerts/*/match",
            text: "needs at least one label",
            check: Check::Each(|policy| policy.alerts.iter().map(|alert| !alert.labels.is_empty()).collect()),
            cel: "!has(self.alerts) || self.alerts.all(alert, alert.match.size() > 0)",
        },
    ];

    /// Everything that the types alone cannot rule out.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        Self::RULES.iter().flat_map(|rule| rule.problems(self)).collect()
    }
}

impl TrainingPolicy {
    /// What every training policy keeps, beyond its types.
    pub const RULES: &'static [Rule<Self>] = &[
        Rule {
            path: "workers/min",
            text: "must not be above workers/max",
            check: Check::Whole(|policy| policy.workers.min <= policy.workers.max),
            cel: "self.workers.min <= self.workers.max",
        },
        Rule {
            path: "workers/max",
            text: "must be from 1 to 10000",
            check: Check::Whole(|policy| (1..=REPLICAS_LIMIT).contains(&policy.workers.max)),
            cel: "self.workers.max >= 1 && self.workers.max <= 10000",
        },
        Rule {
            path: "gang",
            text: "must be at least 1",
            check: Check::Whole(|policy| policy.gang >= 1),
            cel: "self.gang >= 1",
        },
        Rule {
            path: "workers/min",
            text: "must be a multiple of `gang`",
            check: Check::Whole(|policy| policy.gang == 0 || policy.workers.min.is_multiple_of(policy.gang)),
            cel: "self.gang < 1 || self.workers.min % self.gang == 0",
        },
        Rule {
            path: "workers/max",
            text: "must be a multiple of `gang`",
            check: Check::Whole(|policy| policy.gang == 0 || policy.workers.max.is_multiple_of(policy.gang)),
            cel: "self.gang < 1 || self.workers.max % self.gang == 0",
        },
    ];

    /// Everything that the types alone cannot rule out.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        Self::RULES.iter().flat_map(|rule| rule.problems(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_same_in_words_and_in_both_languages() {
        let limit = REPLICAS_LIMIT.to_string();
        let rules = ServingPolicy::RULES.iter().map(|rule| (rule.path, rule.text, rule.cel));
        let rules = rules.chain(TrainingPolicy::RULES.iter().map(|rule| (rule.path, rule.text, rule.cel)));
        let bounds: Vec<_> = rules.filter(|(_, text, _)| text.starts_with("must be from 1 to")).collect();
        assert_eq!(bounds.len(), 2);
        assert!(bounds.iter().all(|(_, text, cel)| text.ends_with(&limit) && cel.ends_with(&limit)));
    }
}
