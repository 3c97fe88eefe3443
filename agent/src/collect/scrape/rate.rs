//! From two snapshots of one target to its part of each signal. A counter that went back means that the target began anew:
//! what happened in between is unknown, so that its part is missing once. No I/O.

use std::collections::{BTreeMap, HashMap};

use tidegate_core::Signal;

use super::map::{Buckets, Rules, Seen, Snapshot};
use super::rules::{How, OfHistogram, of_histogram};
use super::spread::{Bound, Spread};

/// One target's part of a signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// Adds up over targets.
    Sum(f64),
    /// Sum and number of series, for the mean over all.
    Mean(f64, f64),
    /// A distribution of which the signal is a statistic.
    Spread(Spread),
}

impl Part {
    /// This part and that of another target together. Parts of different kinds do not go together: the first one stays.
    pub(super) fn merged(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Sum(a), Self::Sum(b)) => Self::Sum(a + b),
            (Self::Mean(a, n), Self::Mean(b, m)) => Self::Mean(a + b, n + m),
            (Self::Spread(a), Self::Spread(b)) => Self::Spread(a.merged(b)),
            (first, _) => first,
        }
    }
}

/// Every latency is told from one distribution, kept under this signal.
pub(super) const LATENCY: Signal = Signal::LatencyP95;

/// The parts that a target gives, and the runtime that it turned out to be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts {
    /// By signal.
    pub(super) parts: BTreeMap<Signal, Part>,
    /// Whether any rule found its family, with a rate yet or not.
    pub(super) known: bool,
    /// The runtime of the first catalogue rule that found its family.
    pub(super) runtime: Option<String>,
}

/// The target's parts: per signal, of the first rule whose family the page has. With `limit_seconds`, misses are told from the latencies.
pub(super) fn parts(
    rules: &Rules,
    before: Option<&Snapshot>,
    now: &Snapshot,
    limit_seconds: Option<f64>,
) -> Parts {
    let mut out = Parts::default();
    let mut decided = Vec::new();
    for (at, rule) in rules.rules.iter().enumerate() {
        let of_latency =
            rule.how == How::Histogram && of_histogram(rule.signal) == Some(OfHistogram::Latency);
        let signal = if of_latency { LATENCY } else { rule.signal };
        if now.seen[at] == Seen::Nothing || decided.contains(&signal) {
            continue;
        }
        decided.push(signal);
        out.known = true;
        out.runtime = out.runtime.or_else(|| rules.runtimes[at].clone());
        let part = part(
            rule.how,
            rule.signal,
            before.map(|before| (before, &before.seen[at])),
            (now, &now.seen[at]),
        );
        if let Some(part) = part {
            out.parts.insert(signal, part);
        }
    }
    if let (Some(Part::Spread(latency)), Some(limit)) = (out.parts.get(&LATENCY), limit_seconds) {
        let misses = Part::Sum(latency.above(limit));
        out.parts.entry(Signal::SloMissesPerSecond).or_insert(misses);
    }
    if let Some(demand) = demand(rules, before, now, &out) {
        out.parts.entry(Signal::RequestsPerSecond).or_insert(Part::Sum(demand));
    }
    out
}

/// Arrivals per second: completions, and the change of what is waiting and running. Completions alone would hide the demand on a
/// saturated server, so that without any gauge of these there is no demand.
fn demand(rules: &Rules, before: Option<&Snapshot>, now: &Snapshot, out: &Parts) -> Option<f64> {
    let Some(Part::Sum(completions)) = out.parts.get(&Signal::CompletionsPerSecond) else {
        return None;
    };
    let before = before?;
    let seconds = now.at.seconds_since(&before.at)?;
    let from = backlog(rules, before)?;
    let to = backlog(rules, now)?;
    // A gauge that is there only once would make all of it look like a change.
    (from.1 == to.1).then(|| completions + (to.0 - from.0) / seconds)
}

/// Requests waiting and running, and how many of these two are known.
fn backlog(rules: &Rules, snapshot: &Snapshot) -> Option<(f64, usize)> {
    let gauge = |signal: Signal| {
        let of_signal = rules.rules.iter().zip(&snapshot.seen).filter(|(rule, _)| rule.signal == signal);
        of_signal.into_iter().find_map(|(_, seen)| match seen {
            Seen::Gauge { sum, .. } => Some(*sum),
            _ => None,
        })
    };
    let known: Vec<f64> = [Signal::InFlight, Signal::Queued].into_iter().filter_map(gauge).collect();
    (!known.is_empty()).then(|| (known.iter().sum(), known.len()))
}

type At<'a> = (&'a Snapshot, &'a Seen);

fn part(how: How, signal: Signal, before: Option<At<'_>>, now: At<'_>) -> Option<Part> {
    if let Seen::Gauge { sum, count } = now.1 {
        return Some(match how {
            How::GaugeMean => Part::Mean(*sum, f64::from(*count)),
            _ => Part::Sum(*sum),
        });
    }
    let before = before?;
    let seconds = now.0.at.seconds_since(&before.0.at)?;
    match (before.1, now.1) {
        (Seen::Counter(from), Seen::Counter(to)) => {
            let gained: Option<f64> =
                to.iter().map(|(key, to)| gained(from.get(key).copied(), *to, before.0)).sum();
            let rate = gained? / seconds;
            Some(if how == How::CounterRateMean { Part::Mean(rate, 1.0) } else { Part::Sum(rate) })
        }
        (Seen::Histogram(from), Seen::Histogram(to)) => {
            let spread = spread(before.0, from, to, seconds)?;
            Some(match of_histogram(signal)? {
                OfHistogram::Rate => Part::Sum(spread.rate),
                OfHistogram::Latency | OfHistogram::Mean => Part::Spread(spread),
            })
        }
        _ => None,
    }
}

/// What a counter gained; `None` when it went back. A series that the page before, come whole, did not have began at 0 since then.
fn gained(from: Option<f64>, to: f64, before: &Snapshot) -> Option<f64> {
    let from = from.or_else(|| before.whole.then_some(0.0))?;
    (to >= from).then_some(to - from)
}

/// The change of a histogram per second; `None` when any of its series went back.
fn spread(before: &Snapshot, from: &Buckets, to: &Buckets, seconds: f64) -> Option<Spread> {
    let mut all: BTreeMap<Bound, f64> = BTreeMap::new();
    for (key, (bound, count)) in &to.buckets {
        let earlier = from.buckets.get(key).map(|(_, count)| *count);
        *all.entry(Bound(*bound)).or_insert(0.0) += gained(earlier, *count, before)? / seconds;
    }
    let total = |from: &HashMap<Box<str>, f64>, to: &HashMap<Box<str>, f64>| {
        let gains: Option<f64> = to.iter().map(|(key, to)| gained(from.get(key).copied(), *to, before)).sum();
        gains.map(|gain| gain / seconds)
    };
    let infinite = all.remove(&Bound(f64::INFINITY));
    let counted = total(&from.counts, &to.counts)?;
    // A sum may go back where values are negative; then only the mean is unknown.
    let sum = if to.sums.is_empty() { None } else { total(&from.sums, &to.sums) };
    Some(Spread { below: rising(all), rate: infinite.unwrap_or(counted), sum })
}

/// Cumulative counts never fall from one bound to the next; where a torn page says so, the higher one stands.
fn rising(all: BTreeMap<Bound, f64>) -> BTreeMap<Bound, f64> {
    let mut highest = 0.0f64;
    all.into_iter()
        .map(|(bound, rate)| {
            highest = highest.max(rate);
            (bound, highest)
        })
        .collect()
}

#[cfg(test)]
mod tests;
