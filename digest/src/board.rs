//! The last digest of every node, and what all of them together say of a workload.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::{Across, Signal, Spread, Timestamp, WorkloadId};

use crate::parts::{Part, Parts};

/// A node that has told nothing for this long is left out: three digests and some.
const FRESH_FOR: Duration = Duration::from_secs(8);
/// Nodes that are kept; the largest clusters have 5,000.
const NODES_MAX: usize = 10_000;

/// How one node fares.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// When its last digest came, by this program's clock.
    pub received: Timestamp,
    /// By how much the node's clock is ahead of this program's, the time on the way included; negative: behind.
    pub skew_s: f64,
    /// The digest's number.
    pub sequence: u64,
}

#[derive(Debug)]
struct Node {
    report: NodeReport,
    parts: Parts,
}

/// The last digest of every node.
#[derive(Debug, Default)]
pub struct Board {
    nodes: BTreeMap<String, Node>,
}

impl Board {
    /// Takes a digest in, at `now` by this program's clock. One that was overtaken changes nothing; a lower number after a
    /// pause is an agent that was started anew. Whether it was taken.
    pub fn take(&mut self, parts: Parts, now: Timestamp) -> bool {
        let known = self.nodes.get(&parts.node);
        if known.is_none() && self.nodes.len() >= NODES_MAX {
            return false;
        }
        let overtaken =
            known.is_some_and(|node| parts.sequence <= node.report.sequence && parts.at <= node.parts.at);
        if overtaken {
            return false;
        }
        let skew_s = parts.at.as_secs_f64() - now.as_secs_f64();
        let report = NodeReport { received: now, skew_s, sequence: parts.sequence };
        self.nodes.insert(parts.node.clone(), Node { report, parts });
        true
    }

    /// Drops nodes that have told nothing for `limit`.
    pub fn tidy(&mut self, now: Timestamp, limit: Duration) {
        self.nodes.retain(|_, node| now.since(node.report.received) <= limit);
    }

    /// How the nodes fare, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeReport)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), &node.report))
    }

    /// What the nodes that have told something lately say of all workloads: each signal with the time that its oldest part is of,
    /// by this program's clock.
    #[must_use]
    pub fn together(&self, now: Timestamp) -> BTreeMap<WorkloadId, BTreeMap<Signal, (f64, Timestamp)>> {
        let mut workloads: BTreeMap<WorkloadId, Together> = BTreeMap::new();
        let fresh = self.nodes.values().filter(|node| now.since(node.report.received) <= FRESH_FOR);
        for node in fresh {
            for (id, part) in &node.parts.workloads {
                match workloads.get_mut(id) {
                    Some(together) => together.add(part, node.report.received),
                    None => workloads.entry(id.clone()).or_default().add(part, node.report.received),
                }
            }
        }
        workloads.into_iter().map(|(id, together)| (id, together.values())).collect()
    }
}

impl Board {
    /// Requests in flight by pod, as the nodes that have told something lately say of all workloads that were asked.
    #[must_use]
    pub fn in_flight(&self, now: Timestamp) -> BTreeMap<WorkloadId, BTreeMap<String, f64>> {
        let mut all: BTreeMap<WorkloadId, BTreeMap<String, f64>> = BTreeMap::new();
        let fresh = self.nodes.values().filter(|node| now.since(node.report.received) <= FRESH_FOR);
        for (id, part) in fresh.flat_map(|node| &node.parts.workloads) {
            if !part.in_flight.is_empty() {
                let pods = part.in_flight.iter().map(|(pod, count)| (pod.clone(), *count));
                all.entry(id.clone()).or_default().extend(pods);
            }
        }
        all
    }
}

/// What several nodes say of one workload.
#[derive(Debug, Default)]
struct Together {
    sums: BTreeMap<Signal, Sum>,
    spreads: BTreeMap<Signal, (Spread, Timestamp)>,
}

impl Together {
    fn add(&mut self, part: &Part, received: Timestamp) {
        let mut by_spread: Vec<Signal> = Vec::new();
        for (key, (spread, age)) in &part.spreads {
            let at = received.before(*age);
            by_spread
                .extend(spread.told(*key).into_iter().filter_map(|(signal, value)| value.map(|_| signal)));
            self.spreads
                .entry(*key)
                .and_modify(|(all, oldest)| {
                    *all = all.merged(spread);
                    *oldest = (*oldest).min(at);
                })
                .or_insert_with(|| (spread.clone(), at));
        }
        let weight = f64::from(part.answered.max(1));
        for (signal, (value, age)) in part.readings.iter().filter(|(signal, _)| !by_spread.contains(signal)) {
            let one = Sum::of(*value, weight, received.before(*age));
            self.sums.entry(*signal).and_modify(|sum| sum.add(one)).or_insert(one);
        }
    }

    /// Each signal with the time that its oldest part is of. Where some nodes tell a quantile without its distribution, the worse stands.
    fn values(self) -> BTreeMap<Signal, (f64, Timestamp)> {
        let mut told: BTreeMap<Signal, (f64, Timestamp)> = BTreeMap::new();
        for (key, (spread, at)) in self.spreads {
            for (signal, value) in spread.told(key) {
                // Of two distributions that tell a signal, the first does, as on each node.
                if let Some(value) = value {
                    told.entry(signal).or_insert((value, at));
                }
            }
        }
        for (signal, sum) in self.sums {
            let (value, at) = (sum.value(signal.across()), sum.at);
            let known = told.entry(signal).or_insert((value, at));
            if signal.across() == Across::Worst {
                known.0 = known.0.max(value);
            }
            known.1 = known.1.min(at);
        }
        told
    }
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    added: f64,
    weighted: f64,
    weights: f64,
    worst: f64,
    at: Timestamp,
}

impl Sum {
    fn of(value: f64, weight: f64, at: Timestamp) -> Self {
        Self { added: value, weighted: value * weight, weights: weight, worst: value, at }
    }

    fn add(&mut self, other: Self) {
        self.added += other.added;
        self.weighted += other.weighted;
        self.weights += other.weights;
        self.worst = self.worst.max(other.worst);
        self.at = self.at.min(other.at);
    }

    fn value(self, across: Across) -> f64 {
        match across {
            Across::Sum => self.added,
            Across::Mean => self.weighted / self.weights,
            Across::Worst => self.worst,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::policy::LATENCY;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn id() -> WorkloadId {
        "ml/deployment/chat".parse().unwrap()
    }

    fn parts(node: &str, sequence: u64, when: Timestamp, answered: u32, values: &[(Signal, f64)]) -> Parts {
        let readings =
            values.iter().map(|(signal, value)| (*signal, (*value, Duration::from_secs(1)))).collect();
        let part = Part { answered, targets: answered, readings, ..Part::default() };
        Parts { node: node.into(), sequence, at: when, workloads: BTreeMap::from([(id(), part)]) }
    }

    #[test]
    fn nodes_together_are_added_averaged_or_taken_at_their_worst() {
        let mut board = Board::default();
        let rate = Signal::RequestsPerSecond;
        let (late, steps) = (Signal::LatencyP99, Signal::StepsPerSecond);
        board.take(parts("a", 1, at(0), 3, &[(rate, 10.0), (late, 0.2), (steps, 2.0)]), at(0));
        board.take(parts("b", 1, at(1), 1, &[(rate, 5.0), (late, 0.9), (steps, 4.0)]), at(1));
        let together = board.together(at(2));
        let of = |signal| together[&id()][&signal];
        assert_eq!(of(rate), (15.0, at(-1)));
        assert_eq!(of(late).0, 0.9);
        assert_eq!(of(steps).0, 2.5);
    }

    /// The same, with a latency of `quick` events a second below 0.1 s and `slow` ones up to 1 s.
    fn with_latency(mut parts: Parts, quick: f64, slow: f64) -> Parts {
        let below = vec![(0.1, quick), (1.0, quick + slow)];
        let spread = Spread::new(below, quick + slow, Some(0.05 * quick + 0.5 * slow));
        let part = parts.workloads.get_mut(&id()).unwrap();
        for (signal, value) in spread.told(LATENCY.key()) {
            part.readings.extend(value.map(|value| (signal, (value, Duration::from_secs(1)))));
        }
        part.spreads.insert(LATENCY.key(), (spread, Duration::from_secs(2)));
        parts
    }

    #[test]
    fn quantiles_of_nodes_together_are_of_all_their_requests() {
        let mut board = Board::default();
        board.take(with_latency(parts("busy", 1, at(0), 1, &[]), 980.0, 0.0), at(0));
        board.take(with_latency(parts("slow", 1, at(0), 1, &[]), 0.0, 20.0), at(0));
        let together = |board: &Board| board.together(at(1)).remove(&id()).unwrap();
        let all = together(&board);
        let near = |signal, value: f64| assert!((all[&signal].0 - value).abs() < 1e-9, "{signal:?} {all:?}");
        near(Signal::LatencyP50, 0.1 * 500.0 / 980.0);
        near(Signal::LatencyP95, 0.1 * 950.0 / 980.0);
        near(Signal::LatencyP99, 0.1 + 0.9 * 0.5);
        near(Signal::LatencyMean, 0.059);
        assert_eq!(all[&Signal::LatencyP95].1, at(-2));
        // A node that tells only its quantile may be the worst of all.
        board.take(parts("plain", 1, at(0), 1, &[(Signal::LatencyP95, 0.4)]), at(0));
        assert_eq!(together(&board)[&Signal::LatencyP95].0, 0.4);
    }

    #[test]
    fn a_node_that_falls_silent_is_left_out_and_one_that_starts_anew_is_heard() {
        let mut board = Board::default();
        let rate = Signal::RequestsPerSecond;
        board.take(parts("a", 50, at(0), 1, &[(rate, 10.0)]), at(0));
        assert!(!board.take(parts("a", 50, at(0), 1, &[(rate, 99.0)]), at(1)), "sent twice");
        assert!(board.take(parts("a", 1, at(3), 1, &[(rate, 4.0)]), at(3)), "the agent was started anew");
        assert_eq!(board.together(at(4))[&id()][&rate].0, 4.0);
        assert!(board.together(at(12)).is_empty());
        board.tidy(at(12), Duration::from_secs(5));
        assert_eq!(board.nodes().count(), 0);
    }

    #[test]
    fn a_clock_that_is_wrong_moves_no_reading() {
        let mut board = Board::default();
        let hours_ahead = at(7200);
        board.take(parts("a", 1, hours_ahead, 1, &[(Signal::Queued, 3.0)]), at(0));
        assert_eq!(board.together(at(1))[&id()][&Signal::Queued], (3.0, at(-1)));
        assert_eq!(board.nodes().next().unwrap().1.skew_s, 7200.0);
    }
}
