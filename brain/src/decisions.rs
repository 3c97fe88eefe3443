//! The last decisions of a workload: a record when the size or the reasons change, not one a second.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{Decision, Named, ReasonCode, Timestamp};

/// Decisions kept in memory, at some kilobytes each; the history keeps the others.
const KEPT_MAX: usize = 3;
/// Reasons that change without a change of the size are recorded at most this often.
const SAME_SIZE_EVERY: Duration = Duration::from_secs(30);

/// Reasons that tell of trouble are recorded sooner.
const TELLING_EVERY: Duration = Duration::from_secs(5);
/// Reasons that come and go in good order.
const ROUTINE: [ReasonCode; 14] = [
    ReasonCode::DemandSeen,
    ReasonCode::Reactive,
    ReasonCode::Backlog,
    ReasonCode::Predicted,
    ReasonCode::RiskLevel,
    ReasonCode::Held,
    ReasonCode::Consolidation,
    ReasonCode::FlapGuard,
    ReasonCode::MinReplicas,
    ReasonCode::MaxReplicas,
    ReasonCode::StepLimit,
    ReasonCode::PoolLimit,
    ReasonCode::PoolGrant,
    ReasonCode::GrowNotWorthIt,
];

/// The last decisions, oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Decisions {
    kept: VecDeque<Decision>,
}

impl Decisions {
    /// Keeps the decision if it says something new; gives it back then.
    pub(crate) fn record(&mut self, decision: Decision) -> Option<&Decision> {
        let news = self.kept.back().is_none_or(|last| is_news(last, &decision));
        if !news {
            return None;
        }
        self.kept.push_back(decision);
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.back()
    }

    /// Newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Decision> {
        self.kept.iter().rev()
    }
}

fn is_news(last: &Decision, next: &Decision) -> bool {
    let changed = next.from != next.to
        && (next.to != last.to || next.from != last.from || next.at.since(last.at) >= SAME_SIZE_EVERY);
    let since = next.at.since(last.at);
    let telling = codes(next).iter().any(|code| !ROUTINE.contains(code) && !codes(last).contains(code));
    changed || (telling && since >= TELLING_EVERY) || (codes(last) != codes(next) && since >= SAME_SIZE_EVERY)
}

fn codes(decision: &Decision) -> Vec<ReasonCode> {
    decision.reasons.iter().map(|reason| reason.code).collect()
}

/// Makes the record of one decision.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at: Timestamp,
    pub(crate) from: u32,
    pub(crate) applied: bool,
}

impl Record {
    pub(crate) fn of(self, plan: &tidegate_core::Plan, inputs: &[(&'static str, Option<f64>)]) -> Decision {
        Decision {
            at: self.at,
            from: self.from,
            to: plan.replicas,
            applied: self.applied,
            reasons: plan.reasons.clone(),
            hpa: plan.hpa,
            inputs: Named::new(inputs.iter().copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::Reason;

    fn decision(secs: i64, from: u32, to: u32, code: ReasonCode) -> Decision {
        Decision {
            at: Timestamp::from_secs(secs),
            from,
            to,
            applied: true,
            reasons: vec![Reason::new(code, "", &[])],
            hpa: None,
            inputs: Default::default(),
        }
    }

    #[test]
    fn the_latest_are_kept() {
        let mut log = Decisions::default();
        for size in 0..50 {
            log.record(decision(i64::from(size) * 60, size, size + 1, ReasonCode::Reactive));
        }
        assert!(log.newest().map(|decision| decision.to).eq((48..=50).rev()));
    }

    #[test]
    fn the_same_words_again_are_no_news() {
        let mut log = Decisions::default();
        assert!(log.record(decision(0, 2, 3, ReasonCode::Reactive)).is_some());
        assert!(log.record(decision(1, 3, 3, ReasonCode::Reactive)).is_none());
        assert!(
            log.record(decision(2, 3, 3, ReasonCode::Held)).is_none(),
            "too soon for a change of words alone"
        );
        assert!(log.record(decision(31, 3, 3, ReasonCode::Held)).is_some());
        assert!(log.record(decision(36, 3, 3, ReasonCode::CrashLoop)).is_some(), "trouble is told sooner");
        assert!(log.record(decision(37, 3, 2, ReasonCode::Reactive)).is_some());
        assert_eq!(log.newest().next().unwrap().to, 2);
    }
}
