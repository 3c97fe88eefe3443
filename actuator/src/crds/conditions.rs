//! Conditions of the statuses: a closed set of types, each with a closed set of reasons.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tidegate_core::Timestamp;

use super::status::time;

/// Longest message that the API server takes.
const MESSAGE_MAX: usize = 32_768;

macro_rules! conditions {
    ($($(#[doc = $about:literal])+ $kind:ident { $($(#[doc = $meaning:literal])+ $reason:ident),+ $(,)? })+) => {
        /// What a condition is about. `True` is the state wanted, but for `Conflict`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ConditionType {
            $($(#[doc = $about])+ $kind,)+
        }

        impl ConditionType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Its word in the status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),+ }
            }

            /// What it says.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$kind => concat!($($about),+)),+ }
            }
        }

        /// Why a condition has its status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ConditionReason {
            $($($(#[doc = $meaning])+ $reason,)+)+
        }

        impl ConditionReason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$($(Self::$reason),+),+];

            /// Its word in the status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$reason => stringify!($reason)),+),+ }
            }

            /// What it says.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $($(Self::$reason => concat!($($meaning),+)),+),+ }
            }

            /// The condition that it is a reason of.
            #[must_use]
            pub const fn of(self) -> ConditionType {
                match self { $($(Self::$reason => ConditionType::$kind),+),+ }
            }
        }
    };
}

conditions! {
    /// Everything works as the policy asks.
    Ready {
        /// The workload has the size that was planned, or the policy is in shadow.
        AsPlanned,
        /// Replicas are starting.
        Starting,
        /// The spec breaks a rule that the API server should have held: its definition is of another version.
        Invalid,
        /// The target refused its new size.
        Refused,
        /// A quota leaves no room for the replicas wanted.
        QuotaExceeded,
        /// The pool has fewer GPUs than its workloads want.
        PoolShort,
        /// Replicas do not get ready.
        NotStarting,
        /// Something else is in the way; another condition says what.
        Blocked,
    }
    /// Plans are put into effect.
    Active {
        /// They are.
        Acting,
        /// The policy is in shadow: it decides and shows, and changes nothing.
        Shadow,
        /// It is paused.
        Paused,
        /// It was released: everything is as it was before.
        Released,
        /// Somebody else set the size lately; that is respected for a while.
        ForeignWrite,
        /// A conflict keeps it from acting.
        Conflicting,
    }
    /// The target is there and can be read.
    TargetFound {
        /// It is.
        Found,
        /// There is none of this name.
        NotFound,
        /// The cluster does not know the kind.
        UnknownKind,
        /// Tidegate may not read it.
        Forbidden,
        /// It has no size that Tidegate knows how to set.
        NotScalable,
    }
    /// Demand is known.
    DemandKnown {
        /// It is, and fresh.
        Fresh,
        /// What is known is old.
        Stale,
        /// Nothing says it: no agent, no metrics, no query.
        NoSource,
        /// The source could not be read.
        Unreadable,
    }
    /// What one replica carries, how long it takes to start and how good the forecasts are was learned from the workload itself.
    Calibrated {
        /// It was.
        Learned,
        /// Not yet: first values come from the policy, or are careful guesses.
        Learning,
    }
    /// Somebody else sets the size of the target.
    Conflict {
        /// Nobody does.
        NoConflict,
        /// Another policy has the same target.
        OtherPolicy,
        /// A HorizontalPodAutoscaler does, and the policy writes the size directly.
        Autoscaler,
        /// A ScaledObject does, and the policy writes the size directly.
        ScaledObject,
        /// Another program, such as a GitOps tool, owns the field.
        OtherManager,
        /// A queue admits the job.
        Queue,
    }
}

/// Sets a condition. The time of its last transition changes only with its status.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    reason: ConditionReason,
    holds: Option<bool>,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let type_ = reason.of().as_str();
    let former = conditions.iter().position(|condition| condition.type_ == type_);
    let since = former.map(|i| &conditions[i]).filter(|former| former.status == status);
    let made = Condition {
        last_transition_time: since.map_or_else(|| time(now), |former| former.last_transition_time.clone()),
        message: message.chars().take(MESSAGE_MAX).collect(),
        observed_generation: generation,
        reason: reason.as_str().to_owned(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    };
    match former {
        Some(i) => conditions[i] = made,
        None => conditions.push(made),
    }
}

/// The schema of `metav1.Condition`, keyed by type, so that several managers may each own some.
pub(super) fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One aspect of the resource's state.",
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What it is about.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                },
                "status": { "description": "Whether it holds.", "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": {
                    "description": "Why, in a word.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": { "description": "Why, for people.", "type": "string", "maxLength": MESSAGE_MAX },
                "lastTransitionTime": {
                    "description": "When the status last changed.",
                    "type": "string",
                    "format": "date-time"
                },
                "observedGeneration": {
                    "description": "Generation of the spec that it was set from.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_changes_only_with_its_status() {
        let mut conditions = Vec::new();
        let at = |seconds| Timestamp::from_secs(seconds);
        set_condition(&mut conditions, ConditionReason::Starting, Some(false), "2 of 3", Some(1), at(10));
        set_condition(&mut conditions, ConditionReason::NotStarting, Some(false), "0 of 3", Some(2), at(20));
        let [only] = conditions.as_slice() else { panic!("one condition, got {conditions:?}") };
        assert_eq!((only.reason.as_str(), only.observed_generation), ("NotStarting", Some(2)));
        assert_eq!(only.last_transition_time, time(at(10)));
        set_condition(&mut conditions, ConditionReason::AsPlanned, Some(true), "3 of 3", Some(2), at(30));
        assert_eq!(conditions[0].last_transition_time, time(at(30)));
        set_condition(&mut conditions, ConditionReason::NoSource, None, "no agent", Some(2), at(30));
        assert_eq!(conditions.len(), 2);
        assert_eq!((conditions[1].type_.as_str(), conditions[1].status.as_str()), ("DemandKnown", "Unknown"));
    }

    #[test]
    fn every_type_has_reasons_and_words_are_not_used_twice() {
        for kind in ConditionType::ALL {
            assert!(
                ConditionReason::ALL.iter().filter(|reason| reason.of() == *kind).count() >= 2,
                "{kind:?}"
            );
        }
        let words: std::collections::BTreeSet<_> = ConditionReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), ConditionReason::ALL.len());
    }
}
