//! The floor of somebody else's autoscaler: raised before the load comes, never above its ceiling, and given back.
//!
//! What it was before stands in an annotation of the autoscaler itself, with a time until which the raise holds. Whoever comes
//! later can give it back from that alone: the next leader, `tidegate release`, or `tidegate restore`, which the chart runs
//! every minute as a job of its own, so that a floor comes back also when no controller is left.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use tidegate_core::Timestamp;

use super::facts::AutoscalerFacts;

/// Annotation with the record of a raise.
pub const ANNOTATION: &str = "tidegate.io/floor";
/// A raise holds for this long without being renewed.
const RAISED_FOR: Duration = Duration::from_secs(900);
/// It is renewed when less than this is left: one write in ten minutes.
const RENEW_BELOW: Duration = Duration::from_secs(300);

/// What is remembered of a raised floor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    /// The floor as the user has it; `None`: the field was absent.
    pub original: Option<u32>,
    /// The floor as written.
    pub raised: u32,
    /// Until then it holds; afterwards anybody may give it back.
    pub until: Timestamp,
    /// The policy, `namespace/name`.
    pub by: String,
}

impl Raise {
    /// The record of an autoscaler, if it has a valid one.
    #[must_use]
    pub fn of(facts: &AutoscalerFacts) -> Option<Self> {
        serde_json::from_str(facts.raised.as_deref()?).ok()
    }

    /// Whether it no longer holds.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now > self.until
    }
}

/// What is to be written to an autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloorWrite {
    /// Version of the autoscaler that this was made from; the server refuses it for another.
    pub version: Option<String>,
    /// The floor; `None`: the field is to be absent.
    pub min: Option<u32>,
    /// The record; `None`: it is to be absent.
    pub raise: Option<Raise>,
}

impl FloorWrite {
    /// As a merge patch (RFC 7386) whose floor stands in the spec's field `field`. A record of another version than the one that was
    /// looked at is refused by the server.
    #[must_use]
    pub fn patch(&self, field: &str) -> Value {
        let record = self.raise.as_ref().map(|raise| serde_json::to_string(raise).expect("plain data"));
        let mut patch = json!({"metadata": {"annotations": {ANNOTATION: record}}, "spec": {field: self.min}});
        if let Some(version) = &self.version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        patch
    }
}

/// The floor that is in force: as written, or as the user has it, or its kind's default.
#[must_use]
pub fn in_force(facts: &AutoscalerFacts) -> u32 {
    facts.min.unwrap_or(facts.min_default)
}

/// The write that brings the floor to `wanted`, or back to what it was when that is `None`; `None`: nothing is to be written.
///
/// A floor that was changed by somebody else meanwhile is the user's new floor. The user's floor is never undercut, nor the
/// ceiling exceeded.
#[must_use]
pub fn step(facts: &AutoscalerFacts, wanted: Option<u32>, by: &str, now: Timestamp) -> Option<FloorWrite> {
    let record = Raise::of(facts);
    let original = match &record {
        Some(raise) if facts.min == Some(raise.raised) => raise.original,
        _ => facts.min,
    };
    let usual = original.unwrap_or(facts.min_default);
    let floor = wanted.map(|wanted| wanted.min(facts.max.unwrap_or(wanted))).filter(|floor| *floor > usual);
    let Some(floor) = floor else {
        // Also a broken record is cleared away.
        let is_clean = facts.raised.is_none() && facts.min == original;
        return (!is_clean).then(|| FloorWrite {
            version: facts.version.clone(),
            min: original,
            raise: None,
        });
    };
    let holds = record.is_some_and(|raise| {
        raise.raised == floor
            && raise.original == original
            && raise.by == by
            && raise.until.since(now) >= RENEW_BELOW
    });
    if holds && facts.min == Some(floor) {
        return None;
    }
    let raise = Raise { original, raised: floor, until: now + RAISED_FOR, by: by.to_owned() };
    Some(FloorWrite { version: facts.version.clone(), min: Some(floor), raise: Some(raise) })
}

/// What gives a floor back whose raise is over; `None`: there is nothing to give back.
#[must_use]
pub fn restore(facts: &AutoscalerFacts, now: Timestamp) -> Option<FloorWrite> {
    Raise::of(facts).filter(|raise| raise.is_over(now)).and_then(|_| step(facts, None, "", now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn hpa(min: Option<u32>, max: u32) -> AutoscalerFacts {
        AutoscalerFacts {
            uid: "h".into(),
            target_kind: "Deployment".into(),
            target_name: "chat".into(),
            min,
            min_default: 1,
            max: Some(max),
            desired: None,
            raised: None,
            of_scaled_object: false,
            version: None,
            deleting: false,
        }
    }

    fn written(mut facts: AutoscalerFacts, write: Option<FloorWrite>) -> AutoscalerFacts {
        if let Some(write) = write {
            facts.min = write.min;
            facts.raised = write.raise.map(|raise| serde_json::to_string(&raise).unwrap());
        }
        facts
    }

    #[test]
    fn a_floor_is_raised_once_and_given_back_whole() {
        for original in [None, Some(2)] {
            let before = hpa(original, 10);
            let raised = written(before.clone(), step(&before, Some(6), "ml/chat", NOW));
            assert_eq!(raised.min, Some(6));
            assert_eq!(step(&raised, Some(6), "ml/chat", NOW + Duration::from_secs(60)), None);
            assert_eq!(written(raised.clone(), step(&raised, None, "ml/chat", NOW)), before);
        }
    }

    #[test]
    fn it_is_never_above_the_ceiling_nor_below_the_users() {
        let before = hpa(Some(3), 8);
        assert_eq!(step(&before, Some(20), "p", NOW).unwrap().min, Some(8));
        assert_eq!(step(&before, Some(2), "p", NOW), None);
        let raised = written(before.clone(), step(&before, Some(6), "p", NOW));
        assert_eq!(written(raised.clone(), step(&raised, Some(1), "p", NOW)), before);
    }

    #[test]
    fn one_that_may_go_down_to_none_is_held_at_one() {
        let before = AutoscalerFacts { min_default: 0, ..hpa(None, 8) };
        let raised = written(before.clone(), step(&before, Some(1), "p", NOW));
        assert_eq!((raised.min, in_force(&before), in_force(&raised)), (Some(1), 0, 1));
        assert_eq!(step(&before, Some(0), "p", NOW), None);
        assert_eq!(written(raised.clone(), step(&raised, None, "p", NOW)), before);
    }

    #[test]
    fn a_raise_is_renewed_in_time_and_over_when_nobody_does() {
        let before = hpa(Some(1), 8);
        let raised = written(before.clone(), step(&before, Some(6), "p", NOW));
        assert_eq!(step(&raised, Some(6), "p", NOW + Duration::from_secs(599)), None);
        let later = NOW + Duration::from_secs(601);
        let renewed = step(&raised, Some(6), "p", later).unwrap();
        assert_eq!(renewed.raise.unwrap().until, later + RAISED_FOR);
        assert_eq!(restore(&raised, NOW + RAISED_FOR), None);
        let after = NOW + RAISED_FOR + Duration::from_secs(1);
        assert_eq!(written(raised.clone(), restore(&raised, after)), before);
        assert_eq!(restore(&before, after), None);
    }

    #[test]
    fn a_floor_that_the_user_changed_meanwhile_is_the_users() {
        let before = hpa(Some(1), 8);
        let mut raised = written(before.clone(), step(&before, Some(6), "p", NOW));
        raised.min = Some(4);
        assert_eq!(
            step(&raised, None, "p", NOW),
            Some(FloorWrite { version: None, min: Some(4), raise: None })
        );
        let again = step(&raised, Some(5), "p", NOW).unwrap();
        assert_eq!((again.min, again.raise.unwrap().original), (Some(5), Some(4)));
    }

    #[test]
    fn a_broken_record_is_cleared_away() {
        let mut facts = hpa(Some(4), 8);
        facts.raised = Some("not ours".into());
        assert_eq!(restore(&facts, NOW), None, "whose it is cannot be said");
        assert_eq!(
            step(&facts, None, "p", NOW),
            Some(FloorWrite { version: None, min: Some(4), raise: None })
        );
    }

    #[test]
    fn the_patch_removes_what_is_to_be_absent() {
        let patch = FloorWrite { version: None, min: None, raise: None }.patch("minReplicas");
        assert_eq!(patch["spec"]["minReplicas"], Value::Null);
        assert_eq!(patch["metadata"]["annotations"][ANNOTATION], Value::Null);
    }

    proptest! {
        #[test]
        fn whatever_was_wanted_in_between_release_restores(
            original in proptest::option::of(0_u32..12),
            max in 1_u32..20,
            wants in proptest::collection::vec(0_u32..30, 0..8),
        ) {
            let before = hpa(original, max.max(original.unwrap_or(1)));
            let mut facts = before.clone();
            for (i, wanted) in (0_u64..).zip(wants) {
                let now = NOW + Duration::from_secs(100 * i);
                facts = written(facts.clone(), step(&facts, Some(wanted), "p", now));
                prop_assert!(in_force(&facts) <= before.max.unwrap());
                prop_assert!(in_force(&facts) >= in_force(&before));
                prop_assert_eq!(step(&facts, Some(wanted), "p", now), None);
            }
            facts = written(facts.clone(), step(&facts, None, "p", NOW));
            prop_assert_eq!(facts, before);
        }
    }
}
