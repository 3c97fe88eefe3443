//! The latest lines and each workload's error rate, kept in memory for pages and decisions. Bounded; the sink has the rest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::{Sample, Signal, Subject, WorkloadId};
use tokio::sync::broadcast;

use super::classify::LogClass;
use super::parse::LogLevel;
use super::record::LogLine;
use crate::clock::Moment;

/// Lines kept: minutes of a busy machine, at most 10 MiB.
const LINES_MAX: usize = 5000;
/// Lines that a slow subscriber may lag behind before it misses some.
const FEED_LINES: usize = 256;
/// Span that error rates are taken over: long enough to be steady, short enough to show a crash within a decision or two.
const RATE_SECONDS: u64 = 60;
/// Most workloads with a rate of their own; a machine runs far fewer.
const WORKLOADS_MAX: usize = 1024;

/// Which recent lines are wanted. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// Lines of this workload.
    pub workload: Option<WorkloadId>,
    /// Lines of this class.
    pub class: Option<LogClass>,
    /// Lines of this level or worse.
    pub level: Option<LogLevel>,
    /// Lines whose text holds this, in any case.
    pub text: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl Default for LogFilter {
    fn default() -> Self {
        Self { workload: None, class: None, level: None, text: None, limit: 100 }
    }
}

impl LogFilter {
    /// Whether a line is wanted. A line of unknown level is not of any level.
    #[must_use]
    pub fn takes(&self, line: &LogLine) -> bool {
        self.workload.as_ref().is_none_or(|id| line.workload.as_ref() == Some(id))
            && self.class.is_none_or(|class| line.class == Some(class))
            && self.level.is_none_or(|least| line.level.is_some_and(|level| level >= least))
            && self.text.as_ref().is_none_or(|text| contains(&line.text, text))
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.contains(part) || text.to_lowercase().contains(&part.to_lowercase())
}

/// What is kept at hand.
#[derive(Debug)]
pub(crate) struct Recent {
    state: Mutex<State>,
    feed: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Arc<LogLine>>,
    errors: BTreeMap<WorkloadId, Errors>,
}

/// Errors per second of the latest seconds.
#[derive(Debug)]
struct Errors {
    since: Duration,
    seconds: VecDeque<(u64, u64)>,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), feed: broadcast::channel(FEED_LINES).0 }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.feed.subscribe()
    }

    pub(crate) fn keep(&self, line: LogLine, now: Moment) {
        let line = Arc::new(line);
        let mut state = self.lock();
        if let Some(workload) = &line.workload {
            let failed = line.level.is_some_and(|level| level >= LogLevel::Error);
            state.count(workload, failed, now);
        }
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
        }
        state.lines.push_back(Arc::clone(&line));
        drop(state);
        // Nobody need be listening.
        self.feed.send(line).ok();
    }

    /// Newest first.
    pub(crate) fn find(&self, filter: &LogFilter) -> Vec<Arc<LogLine>> {
        self.lock().lines.iter().rev().filter(|line| filter.takes(line)).take(filter.limit).cloned().collect()
    }

    /// Error lines per second of each workload that wrote any line, over the last minute.
    pub(crate) fn error_rates(&self, now: Moment) -> Vec<Sample> {
        let state = self.lock();
        let rates = state.errors.iter().filter_map(|(id, errors)| {
            let subject = Subject::Workload(id.clone());
            Sample::new(subject, Signal::LogErrorsPerSecond, now.at, errors.per_second(now)?)
        });
        rates.collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, workload: &WorkloadId, failed: bool, now: Moment) {
        if !self.errors.contains_key(workload) {
            if self.errors.len() >= WORKLOADS_MAX {
                return;
            }
            self.errors.insert(workload.clone(), Errors { since: now.steady, seconds: VecDeque::new() });
        }
        let errors = self.errors.get_mut(workload).expect("inserted above when it was missing");
        errors.count(u64::from(failed), now.steady.as_secs());
    }
}

impl Errors {
    fn count(&mut self, failed: u64, second: u64) {
        while self.seconds.pop_front_if(|(at, _)| *at + RATE_SECONDS <= second).is_some() {}
        match self.seconds.back_mut() {
            Some((at, count)) if *at == second => *count += failed,
            _ if failed > 0 => self.seconds.push_back((second, failed)),
            _ => {}
        }
    }

    /// `None` in the first second, when there is nothing to divide by.
    #[expect(clippy::cast_precision_loss, reason = "counts of one minute fit in 53 bits")]
    fn per_second(&self, now: Moment) -> Option<f64> {
        let span = now.steady.checked_sub(self.since)?.as_secs_f64().min(RATE_SECONDS as f64);
        let second = now.steady.as_secs();
        let count: u64 =
            self.seconds.iter().filter(|(at, _)| *at + RATE_SECONDS > second).map(|(_, n)| n).sum();
        (span >= 1.0).then(|| count as f64 / span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::Timestamp;

    fn line(n: i64, workload: &str, level: Option<LogLevel>) -> LogLine {
        LogLine {
            at: Timestamp::from_secs(n),
            workload: Some(WorkloadId::local(workload).unwrap()),
            replica: None,
            level,
            class: (n % 2 == 0).then_some(LogClass::Access),
            text: format!("Line {n}"),
            id: n.to_string(),
        }
    }

    fn moment(seconds: u64) -> Moment {
        Moment { at: Timestamp::EPOCH, steady: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_newest_lines_come_first_and_the_oldest_are_dropped() {
        let recent = Recent::new();
        for n in 0..6000 {
            recent.keep(line(n, "a", Some(LogLevel::Info)), moment(0));
        }
        let found = recent.find(&LogFilter { limit: usize::MAX, ..LogFilter::default() });
        assert_eq!((found.len(), found[0].text.as_str()), (LINES_MAX, "Line 5999"));
    }

    #[test]
    fn every_condition_of_a_filter_counts() {
        let recent = Recent::new();
        recent.keep(line(1, "a", None), moment(0));
        recent.keep(line(2, "a", Some(LogLevel::Error)), moment(0));
        recent.keep(line(3, "b", Some(LogLevel::Fatal)), moment(0));
        let ids = |filter: LogFilter| recent.find(&filter).iter().map(|l| l.id.clone()).collect::<Vec<_>>();
        let any = LogFilter::default;
        assert_eq!(ids(any()), ["3", "2", "1"]);
        assert_eq!(ids(LogFilter { workload: WorkloadId::local("a").ok(), ..any() }), ["2", "1"]);
        assert_eq!(ids(LogFilter { level: Some(LogLevel::Error), ..any() }), ["3", "2"]);
        assert_eq!(ids(LogFilter { class: Some(LogClass::Access), ..any() }), ["2"]);
        assert_eq!(ids(LogFilter { text: Some("LINE 3".to_owned()), ..any() }), ["3"]);
        assert_eq!(ids(LogFilter { limit: 1, ..any() }), ["3"]);
    }

    #[test]
    fn the_error_rate_is_over_the_last_minute_and_zero_only_when_lines_came() {
        let recent = Recent::new();
        assert!(recent.error_rates(moment(100)).is_empty());
        for second in 0..30 {
            recent.keep(line(1, "a", Some(LogLevel::Error)), moment(second));
            recent.keep(line(1, "b", Some(LogLevel::Info)), moment(second));
        }
        let rates: Vec<f64> = recent.error_rates(moment(30)).iter().map(|sample| sample.value).collect();
        assert_eq!(rates, [1.0, 0.0]);
        assert_eq!(recent.error_rates(moment(100))[0].value, 0.0);
    }
}
