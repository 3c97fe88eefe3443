//! When statuses are written: news first, and no more than an API server can be asked to take.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::Timestamp;

use super::entry::PolicyKey;
use super::status::Status;

/// Which statuses are to be written now: news first, then numbers, as many as the API server can be asked to take.
#[derive(Debug, Default)]
pub struct Book {
    written: BTreeMap<PolicyKey, Written>,
    /// Policies whose last writes failed: how many in a row, and when the next is tried.
    failing: BTreeMap<PolicyKey, (u32, Timestamp)>,
    budget: f64,
    filled: Option<Timestamp>,
}

/// What was last written of one policy.
#[derive(Debug)]
struct Written {
    status: Status,
    at: Timestamp,
    /// Whether the server did not take it.
    failed: bool,
}

/// Writes of statuses per second, in the mean; and as many may come at once after a quiet time.
const WRITES_PER_SECOND: f64 = 5.0;
const WRITES_AT_ONCE: f64 = 50.0;
/// Numbers alone are told no more often than this, and news of one policy no more often than every second.
const NUMBERS_EVERY: Duration = Duration::from_secs(15);

/// Pauses before a write that failed is tried again.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// In which order statuses are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// At once, whatever else is to be written.
    Now,
    /// As soon as there is room.
    News,
    /// After all news.
    Numbers,
}

impl Turn {
    /// Of a status that follows on what the server has.
    fn of(last: Option<&Status>, status: &Status) -> Self {
        let size_before = status.size_before();
        let is_new = size_before.is_some() && last.and_then(Status::size_before) != size_before;
        let is_waited_for = is_new && status.is_resize_planned();
        if last.is_some_and(|last| last.news() == status.news()) {
            Self::Numbers
        } else if status.is_published() || is_waited_for {
            Self::Now
        } else {
            Self::News
        }
    }
}

impl Book {
    /// A status as last written, to go on from.
    #[must_use]
    pub fn last(&self, key: &PolicyKey) -> Option<&Status> {
        self.written.get(key).map(|written| &written.status)
    }

    /// Remembers what the server has: another has written it.
    pub fn know(&mut self, key: PolicyKey, status: Status, now: Timestamp) {
        self.written.insert(key, Written { status, at: now, failed: false });
    }

    /// Of these, those to be written now; they count as written. What is published, and what a size waits for, is written like a size:
    /// it waits for nothing.
    pub fn due(&mut self, all: Vec<(PolicyKey, Status)>, now: Timestamp) -> Vec<(PolicyKey, Status)> {
        let passed = self.filled.map_or(0.0, |filled| now.since(filled).as_secs_f64());
        self.budget = match self.filled {
            None => WRITES_AT_ONCE,
            Some(_) => (self.budget + passed * WRITES_PER_SECOND).min(WRITES_AT_ONCE),
        };
        self.filled = Some(now);
        let mut waiting: Vec<(Turn, Timestamp, PolicyKey, Status)> = Vec::new();
        for (key, status) in all {
            if self.failing.get(&key).is_some_and(|(_, next)| now < *next) {
                continue;
            }
            let (turn, since) = match self.written.get(&key) {
                Some(last) if !last.failed && last.status == status => continue,
                Some(last) if !last.failed => (Turn::of(Some(&last.status), &status), last.at),
                _ => (Turn::of(None, &status), Timestamp::EPOCH),
            };
            if turn != Turn::Numbers || now.since(since) >= NUMBERS_EVERY {
                waiting.push((turn, since, key, status));
            }
        }
        waiting.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        let mut due = Vec::new();
        for (turn, _, key, status) in waiting {
            if self.budget < 1.0 && turn != Turn::Now {
                break;
            }
            self.budget = (self.budget - 1.0).max(0.0);
            self.written.insert(key.clone(), Written { status: status.clone(), at: now, failed: false });
            due.push((key, status));
        }
        due
    }

    /// A write failed: it is due again, each time after twice as long. Whether it is the first failure in a row.
    pub fn failed(&mut self, key: &PolicyKey, now: Timestamp) -> bool {
        if let Some(written) = self.written.get_mut(key) {
            written.failed = true;
        }
        let (failures, next) = self.failing.entry(key.clone()).or_insert((0, now));
        let pause = AGAIN_MIN.saturating_mul(1 << (*failures).min(16)).min(AGAIN_MAX);
        (*failures, *next) = (*failures + 1, now + pause);
        *failures == 1
    }

    /// A write succeeded. Whether those before it had failed.
    pub fn succeeded(&mut self, key: &PolicyKey) -> bool {
        self.failing.remove(key).is_some()
    }

    /// Forgets policies that are gone.
    pub fn retain(&mut self, keep: impl Fn(&PolicyKey) -> bool) {
        self.written.retain(|key, _| keep(key));
        self.failing.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::entry::PolicyKind;
    use crate::crds::{ReplicaStatus, ServingPolicyStatus};

    fn key(name: &str) -> PolicyKey {
        PolicyKey { kind: PolicyKind::Serving, namespace: "ml".into(), name: name.into() }
    }

    fn status(wanted: u32, demand: f64) -> Status {
        Status::Serving(ServingPolicyStatus {
            replicas: Some(ReplicaStatus { wanted, ready: 1, starting: 0 }),
            capacity_per_replica: Some(demand),
            ..ServingPolicyStatus::default()
        })
    }

    #[test]
    fn news_is_told_at_once_and_numbers_now_and_then() {
        let at = |seconds: i64| Timestamp::from_secs(1000 + seconds);
        let mut book = Book::default();
        assert_eq!(book.due(vec![(key("a"), status(1, 1.0))], at(0)).len(), 1);
        assert!(book.due(vec![(key("a"), status(1, 1.0))], at(60)).is_empty(), "nothing is new");
        assert_eq!(book.due(vec![(key("a"), status(1, 2.0))], at(61)).len(), 1);
        assert!(book.due(vec![(key("a"), status(1, 3.0))], at(62)).is_empty(), "numbers can wait");
        assert_eq!(book.due(vec![(key("a"), status(2, 3.0))], at(62)).len(), 1);
    }

    #[test]
    fn the_server_is_not_flooded_and_news_comes_before_numbers() {
        let at = |seconds: i64| Timestamp::from_secs(1000 + seconds);
        let mut book = Book::default();
        let all =
            |demand| (0..500).map(|i| (key(&format!("p{i:03}")), status(1, demand))).collect::<Vec<_>>();
        assert_eq!(book.due(all(1.0), at(0)).len(), 50);
        let mut told = 50;
        for second in 1..=90 {
            told += book.due(all(1.0), at(second)).len();
        }
        assert_eq!(told, 500);
        let mut next = all(2.0);
        next[400].1 = status(9, 2.0);
        let first = book.due(next, at(120));
        assert_eq!(first[0].0, key("p400"));
    }

    #[test]
    fn what_cannot_be_written_is_tried_more_and_more_seldom() {
        let mut book = Book::default();
        let mut tried = Vec::new();
        for second in 0..200 {
            let now = Timestamp::from_secs(1000 + second);
            if !book.due(vec![(key("a"), status(1, 1.0))], now).is_empty() {
                assert_eq!(book.failed(&key("a"), now), tried.is_empty(), "said once");
                tried.push(second);
            }
        }
        assert_eq!(tried, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert!(book.succeeded(&key("a")) && !book.succeeded(&key("a")));
    }

    #[test]
    fn a_published_size_waits_for_nothing() {
        let published = |wanted| {
            let Status::Serving(status) = status(wanted, 1.0) else { unreachable!() };
            Status::Serving(ServingPolicyStatus { via: Some("external_metric".into()), ..status })
        };
        let all =
            |wanted| (0..500).map(|i| (key(&format!("p{i:03}")), published(wanted))).collect::<Vec<_>>();
        let mut book = Book::default();
        assert_eq!(book.due(all(1), Timestamp::from_secs(1000)).len(), 500);
        assert_eq!(book.due(all(2), Timestamp::from_secs(1001)).len(), 500);
        assert!(book.due(all(2), Timestamp::from_secs(1002)).is_empty());
    }

    #[test]
    fn the_size_from_before_waits_for_nothing_once_another_is_planned() {
        let active = |size_before, wanted, demand| {
            let Status::Serving(status) = status(wanted, demand) else { unreachable!() };
            Status::Serving(ServingPolicyStatus { size_before, ..status })
        };
        let all = |size_before, wanted, demand| {
            (0..500)
                .map(|i| (key(&format!("p{i:03}")), active(size_before, wanted, demand)))
                .collect::<Vec<_>>()
        };
        let mut book = Book::default();
        for (key, status) in all(None, 3, 1.0) {
            book.know(key, status, Timestamp::from_secs(900));
        }
        assert!(book.due(all(None, 3, 1.0), Timestamp::from_secs(1000)).is_empty(), "it is known already");
        assert_eq!(book.due(all(Some(3), 3, 1.0), Timestamp::from_secs(1001)).len(), 50, "nothing waits");
        assert_eq!(book.due(all(Some(3), 8, 1.0), Timestamp::from_secs(1001)).len(), 450);
        assert!(book.due(all(Some(3), 8, 2.0), Timestamp::from_secs(1100)).len() <= 50, "numbers wait");
    }

    #[test]
    fn a_write_that_failed_is_gone_on_from() {
        let at = |seconds: i64| Timestamp::from_secs(1000 + seconds);
        let mut book = Book::default();
        assert_eq!(book.due(vec![(key("a"), status(1, 1.0))], at(0)).len(), 1);
        book.failed(&key("a"), at(0));
        assert_eq!(book.last(&key("a")), Some(&status(1, 1.0)));
        assert_eq!(book.due(vec![(key("a"), status(1, 1.0))], at(1)).len(), 1, "the server lacks it");
    }
}
