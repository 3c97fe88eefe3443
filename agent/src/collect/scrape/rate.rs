//! From two snapshots of one target to its part of each signal. A counter that went back means that the target began anew:
//! what happened in between is unknown, so that its part is missing once. No I/O.

use std::collections::{BTreeMap, HashMap};

use tidegate_core::{Signal, Spread};

use super::Objective;
use super::map::{Buckets, Ratio, Rules, Seen, Snapshot};
use tidegate_core::policy::{
    FIRST_TOKEN, How, LATENCY, OfHistogram, PER_TOKEN, Quantiles, SignalRule, of_histogram,
};

/// One target's part of a signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// Adds up over targets.
    Sum(f64),
    /// Sum and number of what it is of, for the mean over all.
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

/// The parts that a target gives, and what it turned out to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Parts {
    /// By signal; a distribution under the key of its quantiles.
    pub(super) parts: BTreeMap<Signal, Part>,
    /// Whether any rule found its family, with a rate yet or not.
    pub(super) known: bool,
    /// Whether this is the first page of the target: it has no rates yet.
    pub(super) is_first: bool,
    /// The runtimes of the catalogue that have a family on the page, in its order.
    pub(super) runtimes: Vec<String>,
}

/// The signal that a rule decides: of a distribution, its key.
fn key(rule: &SignalRule) -> Signal {
    match (rule.how, of_histogram(rule.signal)) {
        (How::Histogram, Some(OfHistogram::Quantiles(quantiles))) => quantiles.key(),
        _ => rule.signal,
    }
}

/// The target's parts: per signal, of the first rule whose family the page has, and of those that add to it. With an objective,
/// misses are told from the times.
pub(super) fn parts(
    rules: &Rules,
    before: Option<&Snapshot>,
    now: &Snapshot,
    objective: Option<Objective>,
) -> Parts {
    let mut out = Parts { is_first: before.is_none(), ..Parts::default() };
    let mut decided: BTreeMap<Signal, Option<&str>> = BTreeMap::new();
    for (at, rule) in rules.rules.iter().enumerate().filter(|(at, _)| now.seen[*at] != Seen::Nothing) {
        out.known = true;
        let runtime = rules.runtimes[at].as_deref();
        if let Some(name) = runtime.filter(|name| !out.runtimes.iter().any(|known| known == name)) {
            out.runtimes.push(name.to_owned());
        }
        let signal = key(rule);
        let before = before.map(|before| (before, &before.seen[at]));
        match decided.get(&signal) {
            None => {
                decided.insert(signal, runtime);
                out.parts.extend(part(rule, before, (now, &now.seen[at])).map(|part| (signal, part)));
            }
            // A sum of which one part is unknown is unknown.
            Some(by) if rule.adds && *by == runtime => {
                let sum = out.parts.remove(&signal).zip(part(rule, before, (now, &now.seen[at])));
                out.parts.extend(sum.map(|(sum, part)| (signal, sum.merged(&part))));
            }
            Some(_) => {}
        }
    }
    if let Some(misses) = objective.and_then(|objective| misses(&out.parts, objective)) {
        out.parts.entry(Signal::SloMissesPerSecond).or_insert(Part::Sum(misses));
    }
    let completing = decided.get(&Signal::CompletionsPerSecond).copied().flatten();
    if let Some(demand) = demand(rules, before, now, &out, completing) {
        out.parts.entry(Signal::RequestsPerSecond).or_insert(Part::Sum(demand));
    }
    out
}

/// Requests per second that ended outside the objective; `None` where the times that it is about are not known. Of a request that
/// was late in both ways the two histograms do not tell that it is one: their sum is the most that were late.
fn misses(parts: &BTreeMap<Signal, Part>, objective: Objective) -> Option<f64> {
    let late = |quantiles: Quantiles, limit: f64| match parts.get(&quantiles.key()) {
        Some(Part::Spread(spread)) => Some((spread.above(limit)?, spread.rate())),
        _ => None,
    };
    let Some(per_token) = objective.per_output_token_seconds else {
        return late(LATENCY, objective.latency_seconds).map(|(late, _)| late);
    };
    let (first, all) = late(FIRST_TOKEN, objective.latency_seconds)?;
    let (slow, _) = late(PER_TOKEN, per_token)?;
    Some((first + slow).min(all.max(slow)))
}

/// Arrivals per second: completions, and the change of what is waiting and running. Completions alone would hide the demand on a
/// saturated server, so that without any gauge of these there is no demand. The gauges are those of the runtime that counts the
/// completions, or the user's: another's may be of other requests.
fn demand(
    rules: &Rules,
    before: Option<&Snapshot>,
    now: &Snapshot,
    out: &Parts,
    runtime: Option<&str>,
) -> Option<f64> {
    let Some(Part::Sum(completions)) = out.parts.get(&Signal::CompletionsPerSecond) else {
        return None;
    };
    let before = before?;
    let seconds = now.at.seconds_since(&before.at)?;
    let (from, to) = (backlog(rules, before, runtime), backlog(rules, now, runtime));
    // A gauge that is there only once would make all of it look like a change.
    let is_alike = !to.is_empty() && from.keys().eq(to.keys());
    let sum = |gauges: BTreeMap<usize, f64>| gauges.into_values().sum::<f64>();
    is_alike.then(|| completions + (sum(to) - sum(from)) / seconds)
}

/// The gauges of requests waiting and running, by rule.
fn backlog(rules: &Rules, snapshot: &Snapshot, runtime: Option<&str>) -> BTreeMap<usize, f64> {
    let mut found = BTreeMap::new();
    for signal in [Signal::InFlight, Signal::Queued] {
        let mut decided = None;
        for (at, rule) in rules.rules.iter().enumerate().filter(|(_, rule)| rule.signal == signal) {
            let (Seen::Gauge { sum, .. }, by) = (&snapshot.seen[at], rules.runtimes[at].as_deref()) else {
                continue;
            };
            let is_other = runtime.is_some() && by.is_some() && by != runtime;
            if !is_other && (decided.is_none() || (rule.adds && decided == Some(by))) {
                decided.get_or_insert(by);
                found.insert(at, *sum);
            }
        }
    }
    found
}

type At<'a> = (&'a Snapshot, &'a Seen);

fn part(rule: &SignalRule, before: Option<At<'_>>, now: At<'_>) -> Option<Part> {
    if let Seen::Gauge { sum, count } = now.1 {
        return Some(match rule.how {
            How::GaugeMean => Part::Mean(*sum, f64::from(*count)),
            _ => Part::Sum(*sum),
        });
    }
    let before = before?;
    let seconds = now.0.at.seconds_since(&before.0.at)?;
    let none = Seen::Counter(HashMap::new());
    // Many a server has no family of errors before the first one. Of other families, one that comes late may come with a past.
    let is_new = *before.1 == Seen::Nothing && rule.signal == Signal::ErrorsPerSecond && before.0.is_known();
    match (if is_new { &none } else { before.1 }, now.1) {
        (Seen::Counter(from), Seen::Counter(to)) => {
            let rate = gain(before.0, from, to)? / seconds;
            let is_shared = rule.how == How::CounterRateMean;
            Some(if is_shared { Part::Mean(rate, 1.0) } else { Part::Sum(rate) })
        }
        (Seen::Ratio(from), Seen::Ratio(to)) => {
            let Ratio { over, per } = &**to;
            Some(Part::Mean(gain(before.0, &from.over, over)?, gain(before.0, &from.per, per)?))
        }
        (Seen::Histogram(from), Seen::Histogram(to)) => {
            let spread = spread(before.0, from, to, seconds)?;
            match of_histogram(rule.signal)? {
                OfHistogram::Rate => Some(Part::Sum(spread.rate())),
                OfHistogram::SumRate => spread.sum().or((spread.rate() == 0.0).then_some(0.0)).map(Part::Sum),
                OfHistogram::Quantiles(_) | OfHistogram::Mean => Some(Part::Spread(spread)),
            }
        }
        _ => None,
    }
}

/// What the series of a counter gained together; `None` when any of them went back.
fn gain(before: &Snapshot, from: &HashMap<Box<str>, f64>, to: &HashMap<Box<str>, f64>) -> Option<f64> {
    to.iter().map(|(key, to)| gained(from.get(key).copied(), *to, before)).sum()
}

/// What a counter gained; `None` when it went back. A series that the page before, come whole, did not have began at 0 since then.
fn gained(from: Option<f64>, to: f64, before: &Snapshot) -> Option<f64> {
    let from = from.or_else(|| before.whole.then_some(0.0))?;
    (to >= from).then_some(to - from)
}

/// The change of a histogram per second; `None` when any of its series went back.
fn spread(before: &Snapshot, from: &Buckets, to: &Buckets, seconds: f64) -> Option<Spread> {
    let (mut all, mut infinite) = (Vec::with_capacity(to.buckets.len()), None);
    for (key, (bound, count)) in &to.buckets {
        let earlier = from.buckets.get(key).map(|(_, count)| *count);
        let rate = gained(earlier, *count, before)? / seconds;
        if *bound == f64::INFINITY {
            *infinite.get_or_insert(0.0) += rate;
        } else {
            all.push((*bound, rate));
        }
    }
    let total = |from: &HashMap<Box<str>, f64>, to: &HashMap<Box<str>, f64>| {
        gain(before, from, to).map(|gain| gain / seconds)
    };
    let counted = total(&from.counts, &to.counts)?;
    // A sum may go back where values are negative; then only the mean is unknown.
    let sum = if to.sums.is_empty() { None } else { total(&from.sums, &to.sums) };
    Some(Spread::new(all, infinite.unwrap_or(counted), sum))
}

#[cfg(test)]
mod runtimes;
#[cfg(test)]
mod tests;
