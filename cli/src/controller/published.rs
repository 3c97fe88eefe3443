//! The sizes that policies publish, as autoscalers are answered: those of the last round, while it is not long past.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_actuator::cluster::facts::Key;
use tidegate_actuator::cluster::publish::{Published, Withheld};
use tidegate_core::Timestamp;

/// A round longer ago than this says nothing of the present: there is one a second.
const FRESH_FOR: Duration = Duration::from_secs(15);

/// Sizes after one round.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    at: Timestamp,
    of: BTreeMap<Key, Published>,
}

/// Why there is no size to answer with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSize {
    /// No such policy.
    #[error("namespace {0} has no policy with `act.via: external_metric` that the selector names")]
    NoPolicy(String),
    /// An autoscaler adds up what it is given: the sizes of two workloads would make a third.
    #[error("the selector names {0} policies; select one by its label `policy`, or by `kind` and `name`")]
    Several(usize),
    /// It has none in force.
    #[error("ServingPolicy {0}: {1}")]
    Withheld(String, Withheld),
    /// The loop stands still.
    #[error("the controller has not decided anything for {} s", FRESH_FOR.as_secs())]
    Stale,
}

impl NoSize {
    /// Value of the `outcome` label.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::NoPolicy(_) => "no_policy",
            Self::Several(_) => "several_policies",
            Self::Withheld(_, withheld) => withheld.as_str(),
            Self::Stale => "stale",
        }
    }
}

/// A size, and when it was known to be in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) policy: &'a str,
    pub(super) published: &'a Published,
    pub(super) replicas: u32,
    pub(super) at: Timestamp,
}

impl Sizes {
    pub(super) const fn new(at: Timestamp, of: BTreeMap<Key, Published>) -> Self {
        Self { at, of }
    }

    /// The size of the one policy of a namespace that is `wanted`, by its name and what it publishes.
    pub(super) fn find(
        &self,
        namespace: &str,
        wanted: impl Fn(&str, &Published) -> bool,
        now: Timestamp,
    ) -> Result<Answer<'_>, NoSize> {
        if now.since(self.at) > FRESH_FOR {
            return Err(NoSize::Stale);
        }
        let from = (namespace.to_owned(), String::new());
        let of_namespace = self.of.range(from..).take_while(|((of, _), _)| of == namespace);
        let mut found = of_namespace.filter(|((_, policy), published)| wanted(policy, published));
        let Some(((_, policy), published)) = found.next() else {
            return Err(NoSize::NoPolicy(namespace.to_owned()));
        };
        let others = found.count();
        if others > 0 {
            return Err(NoSize::Several(others + 1));
        }
        match published.size {
            Ok(replicas) => Ok(Answer { policy, published, replicas, at: self.at }),
            Err(withheld) => Err(NoSize::Withheld(format!("{namespace}/{policy}"), withheld)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Sizes at second 1000: `ml/chat` is 7, `ml/tts` in shadow, `web/chat` 0.
    pub(in crate::controller) fn sizes() -> Sizes {
        let of = |namespace: &str, name: &str, size| {
            let target = serde_json::from_value(json!({"kind": "Deployment", "name": name})).unwrap();
            ((namespace.to_owned(), name.to_owned()), Published { target, size })
        };
        let all = [of("ml", "chat", Ok(7)), of("ml", "tts", Err(Withheld::Shadow)), of("web", "chat", Ok(0))];
        Sizes::new(Timestamp::from_secs(1000), all.into())
    }

    #[test]
    fn one_policy_is_found_and_two_are_never_added_up() {
        let (sizes, now) = (sizes(), Timestamp::from_secs(1001));
        let named = |name: &'static str| move |policy: &str, _: &Published| policy == name;
        let found = sizes.find("ml", named("chat"), now).unwrap();
        assert_eq!((found.policy, found.replicas, found.at), ("chat", 7, Timestamp::from_secs(1000)));
        assert_eq!(sizes.find("web", named("chat"), now).unwrap().replicas, 0, "zero is a size, too");
        assert_eq!(sizes.find("ml", |_, _| true, now), Err(NoSize::Several(2)));
        assert_eq!(sizes.find("m", |_, _| true, now), Err(NoSize::NoPolicy("m".into())));
        assert_eq!(
            sizes.find("ml", named("tts"), now),
            Err(NoSize::Withheld("ml/tts".into(), Withheld::Shadow))
        );
    }

    #[test]
    fn sizes_of_a_loop_that_stands_still_are_none() {
        let named = |policy: &str, _: &Published| policy == "chat";
        assert!(sizes().find("ml", named, Timestamp::from_secs(1015)).is_ok());
        assert_eq!(sizes().find("ml", named, Timestamp::from_secs(1016)), Err(NoSize::Stale));
        assert_eq!(Sizes::default().find("ml", named, Timestamp::from_secs(1016)), Err(NoSize::Stale));
    }
}
