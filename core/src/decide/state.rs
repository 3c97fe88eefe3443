//! What decisions remember of one workload: plain data, bounded, serialisable.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alerts::Boosts;
use crate::hpa::HpaState;
use crate::time::Timestamp;

/// Requirements kept for the hold; one a second for ten minutes. When full, neighbours are merged by their maximum.
const REQUIREMENTS_MAX: usize = 600;
/// Requests from which on the account of the budget says something, and the time after which it is taken at its word.
const ACCOUNT_MIN: f64 = 1000.0;
const ACCOUNT_FULL_S: f64 = 86_400.0;
/// Bounds of what is left of the budget: a quiet day does not make the next one reckless, nor a bad one extravagant.
const LEFT: [f64; 2] = [0.6, 1.5];
/// Bounds of what rehearsals foretold against what came true.
const FORETOLD: [f64; 2] = [0.5, 5.0];
/// Days that the foretelling is believed for before it was ever checked.
const DOUBT_DAYS: f64 = 0.3;
const HOUR: Duration = Duration::from_secs(3600);
/// An order may take this long to come into force: until then, its size and the one before it are nobody else's.
const ORDER_SETTLES: Duration = Duration::from_secs(120);
/// Sizes remembered for that: three for an order every two seconds.
const ORDERS_MAX: usize = 192;
/// Most changes remembered for the limit per hour; the policy's own limit is far below.
const CHANGES_MAX: usize = 4096;

/// Holds, boosts, rollbacks, flap history and risk level of one workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Effects of alerts.
    pub boosts: Boosts,
    /// The risk level that the misses seen have led to.
    pub risk: Risk,
    /// What the HPA would remember.
    pub hpa: HpaState,
    /// The size last decided.
    pub(super) decided: Option<u32>,
    /// Sizes ordered lately, and those that they were to replace.
    #[serde(default)]
    pub(super) orders: VecDeque<(Timestamp, u32)>,
    /// Somebody else's size is respected until then.
    pub(super) foreign_until: Option<Timestamp>,
    /// When demand was last known.
    pub(super) known_at: Option<Timestamp>,
    /// Requirements seen, for the hold before a scale-down.
    pub(super) requirements: VecDeque<(Timestamp, u32)>,
    /// When the size was last changed.
    pub(super) changed_at: Option<Timestamp>,
    pub(super) last_up: Option<Timestamp>,
    pub(super) last_down: Option<Down>,
    /// A rolled-back scale-down keeps this floor until then.
    pub(super) rollback: Option<(u32, Timestamp)>,
    /// How often the hold is doubled, after bad scale-downs.
    pub(super) hold_doublings: u32,
    pub(super) hold_eased_at: Option<Timestamp>,
    pub(super) downs: VecDeque<Timestamp>,
    /// Start of the present window of the step limit, and the size at its start.
    pub(super) step_window: Option<(Timestamp, u32)>,
}

/// A scale-down that may yet turn out bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Down {
    pub(super) at: Timestamp,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// How much of the demand's distribution is left unserved: steered by the misses really seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Risk {
    /// Probability that demand exceeds what is provided for; `None` before the first decision.
    pub exceedance: Option<f64>,
    /// Requests that ended lately, fading with a half-life of an hour; of these, missed.
    pub(super) ended: f64,
    pub(super) missed: f64,
    pub(super) steered_at: Option<Timestamp>,
    /// The account of the budget: requests that ended and missed, fading with a half-life of a day, and since when it is kept.
    pub(super) account: Account,
}

/// What the objective allows to be missed, and what was: of the last seconds of each minute, which stand for all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) ended: f64,
    pub(super) missed: f64,
    /// What the rehearsals of the stances in use foretold.
    pub(super) expected: f64,
    pub(super) since: Option<Timestamp>,
}

impl State {
    /// Remembers what was decided.
    pub(super) fn record(&mut self, current: u32, decided: u32, now: Timestamp) {
        if decided != current && self.decided != Some(decided) {
            self.changed_at = Some(now);
            // The former order was given until now, so it may come into force until then, too.
            let former = self.decided.unwrap_or(current);
            self.orders.extend([(now, current), (now, former), (now, decided)]);
        }
        let is_settled = |order: &(Timestamp, u32)| now.since(order.0) > ORDER_SETTLES;
        while self.orders.len() > ORDERS_MAX || self.orders.front().is_some_and(is_settled) {
            self.orders.pop_front();
        }
        if decided > current {
            self.last_up = Some(now);
            self.last_down = None;
        } else if decided < current && self.decided != Some(decided) {
            self.last_down = Some(Down { at: now, from: current, to: decided });
            self.downs.push_back(now);
        }
        while self.downs.len() > CHANGES_MAX || self.downs.front().is_some_and(|at| now.since(*at) >= HOUR) {
            self.downs.pop_front();
        }
        self.decided = Some(decided);
    }

    /// Whether a size may be one of our own that is on its way into force, or one that such an order has yet to replace.
    pub(super) fn is_on_its_way(&self, size: u32, now: Timestamp) -> bool {
        self.orders.iter().any(|(at, n)| *n == size && now.since(*at) <= ORDER_SETTLES)
    }

    /// Remembers a requirement; equal ones in a row and those beyond the bound are merged.
    pub(super) fn remember(&mut self, requirement: u32, keep: Duration, now: Timestamp) {
        while self.requirements.front().is_some_and(|(at, _)| now.since(*at) > keep) {
            self.requirements.pop_front();
        }
        // Only those matter that no later one exceeds: a later, higher one holds longer and higher.
        while self.requirements.back().is_some_and(|(_, n)| *n <= requirement) {
            self.requirements.pop_back();
        }
        self.requirements.push_back((now, requirement));
        if self.requirements.len() > REQUIREMENTS_MAX {
            self.requirements.remove(1);
        }
    }

    /// The highest requirement within `window`.
    pub(super) fn highest(&self, window: Duration, now: Timestamp) -> Option<(Timestamp, u32)> {
        self.requirements.iter().filter(|(at, _)| now.since(*at) <= window).max_by_key(|(_, n)| *n).copied()
    }

    /// What a stance may have missed in its rehearsal, as a multiple of the budget: 1 while little is known.
    ///
    /// More where the days behind have missed less than they might, and less where they have missed more; and more where
    /// rehearsals have foretold more than came true, because the past is known only by its steps, and less where they foretold less.
    #[must_use]
    pub fn allowance(&self, budget: f64, now: Timestamp) -> f64 {
        let account = &self.risk.account;
        let (Some(since), true) = (account.since, account.ended >= ACCOUNT_MIN && budget > 0.0) else {
            return 1.0;
        };
        let known = (now.since(since).as_secs_f64() / ACCOUNT_FULL_S).min(1.0);
        let spent = account.missed / account.ended / budget;
        let left = (1.0 + known * (1.0 - spent)).clamp(LEFT[0], LEFT[1]);
        // As if a day had come true as foretold, before the first one has.
        let doubt = budget * account.ended * DOUBT_DAYS / known.max(0.05);
        let foretold = (account.expected + doubt) / (account.missed + doubt);
        left * foretold.clamp(FORETOLD[0], FORETOLD[1])
    }

    /// The size last decided, if any.
    #[must_use]
    pub fn decided(&self) -> Option<u32> {
        self.decided
    }

    /// The size was changed by Tidegate for another reason than a decision, such as a fault that a user asked for: not foreign.
    pub fn forget_decided(&mut self) {
        self.decided = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_may_take_its_time_to_come_into_force() {
        let at = Timestamp::from_secs;
        let mut state = State::default();
        state.record(3, 5, at(0));
        state.record(3, 6, at(60));
        for own in [3, 5, 6] {
            assert!(state.is_on_its_way(own, at(90)), "{own}");
        }
        assert!(!state.is_on_its_way(4, at(90)), "nobody here ordered it");
        assert!(state.is_on_its_way(5, at(180)), "it was wanted until 60 s");
        assert!(!state.is_on_its_way(5, at(181)));
        state.record(6, 6, at(300));
        assert!(state.orders.is_empty());
    }
}
