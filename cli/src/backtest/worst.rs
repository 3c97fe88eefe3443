//! Why the worst hour was bad: what arrived, what was wanted and ready, and what held it up. Reads a finished run; pure.

use std::time::Duration;

use serde::Serialize;
use tidegate_core::Timestamp;
use tidegate_sim::Minute;

use super::score::{Decision, Hour, MINUTE, Ran, ready, rps, share};

/// Minutes shown before and after the hour.
const AROUND: usize = 30;
/// Decisions that are told: an hour has a dozen or two.
const DECISIONS_MAX: usize = 60;
/// A rise by less than this within a start-up is covered by the headroom that any size leaves.
const BURST_MIN: f64 = 1.3;
/// A cause of less than this share of the misses is not worth a sentence.
const TOLD_MIN: f64 = 0.05;

/// What is needed to judge an hour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// Requests per second that keep one replica busy.
    pub(super) replica_rps: f64,
    pub(super) replicas_max: u32,
    pub(super) start_up: Duration,
}

/// What held a run up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Limit {
    /// The pool had no more replicas.
    PoolMax,
    /// Replicas were ordered, and not ready yet.
    StartUp,
    /// The size stood, and the arrivals alone needed more.
    TooSmall,
    /// The size carried the arrivals, but not what waited or came at once.
    Backlog,
}

/// A sentence on what held the run up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Cause {
    pub(super) limit: Limit,
    /// Misses of minutes in which this was the limit.
    pub(super) missed: u64,
    pub(super) text: String,
}

/// The hour, explained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Explained {
    pub(super) text: String,
    pub(super) causes: Vec<Cause>,
    pub(super) decisions: Vec<Decision>,
    /// Minutes to show: from this one up to, not including, the other.
    pub(super) shown: (usize, usize),
}

/// Explains an hour of a run that began at `start`.
pub(super) fn explain(run: &Ran, hour: Hour, start: Timestamp, facts: &Facts) -> Explained {
    let within = run.hour(hour.first);
    let last = hour.first + within.len();
    let shown = (hour.first.saturating_sub(AROUND), (last + AROUND).min(run.minutes.len()));
    let from = start + MINUTE * u32::try_from(shown.0).unwrap_or(u32::MAX);
    let to = start + MINUTE * u32::try_from(last).unwrap_or(u32::MAX);
    let decisions = run.decisions.iter().filter(|one| (from..to).contains(&one.at)).take(DECISIONS_MAX);
    Explained {
        text: text(run, hour, within, rise(&run.minutes, hour.first, last, facts), facts),
        causes: causes(within, facts),
        decisions: decisions.cloned().collect(),
        shown,
    }
}

/// The steepest rise of the arrivals within a start-up.
struct Rise {
    minutes: usize,
    from_rps: f64,
    to_rps: f64,
}

fn rise(minutes: &[Minute], first: usize, last: usize, facts: &Facts) -> Option<Rise> {
    let lead = usize::try_from(facts.start_up.as_secs().div_ceil(60)).unwrap_or(usize::MAX).max(1);
    let steepest = (first.max(lead)..last)
        .map(|k| Rise { minutes: lead, from_rps: rps(&minutes[k - lead]), to_rps: rps(&minutes[k]) })
        .max_by(|a, b| (a.to_rps - a.from_rps).total_cmp(&(b.to_rps - b.from_rps)))?;
    // Less than a replica's worth is no burst, however large the ratio.
    let burst = steepest.to_rps >= steepest.from_rps * BURST_MIN
        && steepest.to_rps - steepest.from_rps >= facts.replica_rps;
    burst.then_some(steepest)
}

fn text(run: &Ran, hour: Hour, within: &[Minute], rise: Option<Rise>, facts: &Facts) -> String {
    let peak = within.iter().map(rps).fold(0.0, f64::max);
    let sizes = within.iter().map(ready);
    let (least, most) =
        sizes.fold((f64::INFINITY, 0.0_f64), |(least, most), ready| (least.min(ready), most.max(ready)));
    let mut text = format!(
        "{} of {} requests were late: {:.0} % of all that it missed. Up to {peak:.1} req/s arrived, which alone keep {:.1} replicas \
         busy; from {least:.0} to {most:.0} were ready.",
        hour.missed,
        hour.requests,
        100.0 * share(hour.missed, run.missed),
        peak / facts.replica_rps,
    );
    if let Some(Rise { minutes, from_rps, to_rps }) = rise {
        text += &format!(
            " Within {minutes} min, about what a replica takes to start, arrivals went from {from_rps:.1} to {to_rps:.1} req/s."
        );
    }
    text
}

/// What held the run up in a minute with misses.
fn limit(minute: &Minute, facts: &Facts) -> Limit {
    let busy = rps(minute) / facts.replica_rps;
    let (wanted, ready) = (f64::from(minute.wanted), ready(minute));
    if ready >= busy && ready >= wanted {
        Limit::Backlog
    } else if minute.wanted >= facts.replicas_max && ready + 0.5 >= wanted {
        Limit::PoolMax
    } else if ready + 0.5 < wanted {
        Limit::StartUp
    } else {
        Limit::TooSmall
    }
}

fn causes(within: &[Minute], facts: &Facts) -> Vec<Cause> {
    let all: u64 = within.iter().map(|minute| minute.missed).sum();
    let late = within.iter().filter(|minute| minute.missed > 0);
    let mut tally = std::collections::BTreeMap::<Limit, (u64, usize)>::new();
    for minute in late {
        let slot = tally.entry(limit(minute, facts)).or_default();
        *slot = (slot.0 + minute.missed, slot.1 + 1);
    }
    let mut causes: Vec<Cause> = tally
        .into_iter()
        .filter(|(_, (missed, _))| share(*missed, all) >= TOLD_MIN)
        .map(|(limit, (missed, minutes))| {
            let share = 100.0 * share(missed, all);
            let text = format!("{share:.0} % of them in {minutes} min in which {}.", limit.text(facts));
            Cause { limit, missed, text }
        })
        .collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.missed));
    causes
}

impl Limit {
    fn text(self, facts: &Facts) -> String {
        match self {
            Self::PoolMax => format!("all {} replicas of the pool were in use: a larger pool would have helped", facts.replicas_max),
            Self::StartUp => format!(
                "more replicas were ordered and still starting: a start-up shorter than {:.0} s would have helped, or more headroom before",
                facts.start_up.as_secs_f64()
            ),
            Self::TooSmall => "the size stood although the arrivals alone needed more: they were not expected, or not seen yet".into(),
            Self::Backlog => {
                "what was ready carried the arrivals on average: requests waited from before, or came many at once".into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::args::Named;
    use crate::backtest::score::tests::{minute, ran};

    const FACTS: Facts = Facts { replica_rps: 8.0, replicas_max: 10, start_up: Duration::from_secs(90) };

    #[test]
    fn each_minute_has_one_limit() {
        let cases = [
            (90, 10, 10.0, Limit::PoolMax),
            (70, 9, 5.0, Limit::StartUp),
            (70, 10, 5.0, Limit::StartUp),
            (70, 5, 5.0, Limit::TooSmall),
            (30, 5, 5.0, Limit::Backlog),
            (90, 12, 12.0, Limit::Backlog),
        ];
        for (rps, wanted, ready, expected) in cases {
            let minute = minute(0, rps * 60, 9, wanted, ready);
            assert_eq!(limit(&minute, &FACTS), expected, "{minute:?}");
        }
    }

    #[test]
    fn an_hour_says_what_arrived_what_was_ready_and_what_held_it_up() {
        let mut minutes: Vec<Minute> = (0..100).map(|k| minute(k, 16 * 60, 0, 3, 3.0)).collect();
        minutes[50] = minute(50, 64 * 60, 2000, 3, 3.0);
        minutes[51] = minute(51, 64 * 60, 3000, 9, 3.0);
        minutes[52] = minute(52, 64 * 60, 100, 9, 9.0);
        let mut run = ran(Named::Tidegate, 1.0, 5100, minutes);
        let decision =
            |k: i64| Decision { at: Timestamp::from_secs(k * 60), from: 1, to: 2, reasons: Vec::new() };
        run.decisions = (0..100).map(decision).collect();
        let explained = explain(&run, run.worst_hour().unwrap(), Timestamp::EPOCH, &FACTS);
        let text = &explained.text;
        assert!(text.contains("5100 of") && text.contains("100 % of all"), "{text}");
        assert!(text.contains("keep 8.0 replicas") && text.contains("from 16.0 to 64.0 req/s"), "{text}");
        let limits: Vec<Limit> = explained.causes.iter().map(|cause| cause.limit).collect();
        assert_eq!(limits, [Limit::StartUp, Limit::TooSmall], "2 % are left out");
        assert!(
            explained.causes[0].text.starts_with("59 % of them in 1 min"),
            "{}",
            explained.causes[0].text
        );
        let (first, end) = explained.shown;
        assert_eq!((first, end), (0, 100), "half an hour on either side, as far as there is one");
        assert!(!explained.decisions.is_empty() && explained.decisions.len() <= DECISIONS_MAX);
    }
}
