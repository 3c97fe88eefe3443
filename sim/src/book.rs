//! The account of a simulation: by second for what scalers see, by minute and in total for the result.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_core::{Histogram, ReplicaCounts, Timestamp};

use crate::run::{Minute, Run, Totals};
use crate::scaler::Figures;
use crate::time::{Micros, SECOND, seconds};

/// Seconds kept for scalers: age and window of any pipeline.
const SECONDS_KEPT: usize = 900;
/// Latencies are counted by their leading bits, five of them below the first: finer than the buckets of [`Histogram`], and found
/// without a logarithm, of which a day would need millions.
const LEADING_BITS: u32 = 5;
const BUCKETS: usize = (64 - LEADING_BITS as usize + 1) << LEADING_BITS;

/// One request's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) arrived: Micros,
    pub(crate) at: Micros,
    pub(crate) late: bool,
    pub(crate) output_tokens: u32,
    /// Mean time per output token after the first, where there are any.
    pub(crate) per_output_token: Option<Micros>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    arrivals: u64,
    completed: u64,
    dropped: u64,
    missed: u64,
    /// Requests × microseconds.
    in_flight: u64,
    queued: u64,
    /// Replicas × microseconds.
    ready: u64,
    held: u64,
    latency: Micros,
    prompt_tokens: u64,
    output_tokens: u64,
    per_output_token: Micros,
    /// Requests that made more than one token.
    written: u64,
    backlog: u64,
    kv_utilisation: Option<f64>,
    /// Counters begin at zero again at its start.
    reset: bool,
}

/// Sums over minutes that are not over yet are kept in the minute itself.
#[derive(Debug)]
pub(crate) struct Book {
    start: Timestamp,
    scored_from: Micros,
    end: Micros,
    now: Micros,
    /// What holds now.
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    ready: u64,
    held: u64,
    /// When `ready` and `held` last changed, or the second began.
    replicas_since: Micros,
    open: Second,
    /// The last seconds, newest last.
    seconds: VecDeque<Second>,
    totals: Totals,
    minutes: Vec<Minute>,
    latencies: Vec<u64>,
    latency_sum: Micros,
}

impl Book {
    pub(crate) fn new(start: Timestamp, scored_from: Micros, end: Micros) -> Self {
        Self {
            start,
            scored_from,
            end,
            now: 0,
            in_flight: 0,
            queued: 0,
            ready: 0,
            held: 0,
            replicas_since: 0,
            open: Second::default(),
            seconds: VecDeque::with_capacity(SECONDS_KEPT + 1),
            totals: Totals::default(),
            minutes: Vec::new(),
            latencies: vec![0; BUCKETS],
            latency_sum: 0,
        }
    }

    /// Lets time pass up to `to`, within the second that is open.
    pub(crate) fn pass(&mut self, to: Micros) {
        let span = to.saturating_sub(self.now);
        self.open.in_flight += self.in_flight * span;
        self.open.queued += self.queued * span;
        self.now = self.now.max(to);
    }

    /// Counts the replicas up to now: they change seldom, so they are not counted with every event.
    fn count_replicas(&mut self) {
        let span = self.now - self.replicas_since;
        self.open.ready += self.ready * span;
        self.open.held += self.held * span;
        self.replicas_since = self.now;
    }

    /// The replicas that there are from now on.
    pub(crate) fn replicas(&mut self, counts: ReplicaCounts) {
        self.count_replicas();
        self.ready = u64::from(counts.ready);
        self.held = u64::from(counts.held());
    }

    /// A request arrives. Those that come again after they were dropped count again.
    pub(crate) fn arrived(&mut self, prompt_tokens: u32) {
        self.open.arrivals += 1;
        self.open.prompt_tokens += u64::from(prompt_tokens);
    }

    pub(crate) fn completed(&mut self, ended: Ended) {
        let latency = ended.at - ended.arrived;
        self.open.completed += 1;
        self.open.latency += latency;
        self.open.output_tokens += u64::from(ended.output_tokens);
        self.open.missed += u64::from(ended.late);
        if let Some(span) = ended.per_output_token {
            self.open.per_output_token += span;
            self.open.written += 1;
        }
        if ended.arrived >= self.scored_from {
            self.totals.completed += 1;
            self.latencies[bucket(latency)] += 1;
            self.latency_sum += latency;
            if ended.late {
                self.miss(ended.arrived);
            }
        }
    }

    /// A request ends without an answer.
    pub(crate) fn dropped(&mut self, arrived: Micros) {
        self.open.dropped += 1;
        self.open.missed += 1;
        if arrived >= self.scored_from {
            self.totals.dropped += 1;
            self.miss(arrived);
        }
    }

    fn miss(&mut self, arrived: Micros) {
        self.totals.missed += 1;
        if let Some(minute) = self.minute(arrived) {
            minute.missed += 1;
        }
    }

    /// The size asked for changes.
    pub(crate) fn action(&mut self, from: u32, to: u32) {
        if self.now >= self.scored_from {
            self.totals.scale_ups += u64::from(to > from);
            self.totals.scale_downs += u64::from(to < from);
        }
    }

    /// Counters begin at zero again now.
    pub(crate) fn reset_counters(&mut self) {
        self.open.reset = true;
    }

    /// A second is over.
    pub(crate) fn close_second(&mut self, wanted: u32, kv_utilisation: Option<f64>) {
        self.count_replicas();
        let second = Second { backlog: self.queued, kv_utilisation, ..std::mem::take(&mut self.open) };
        let began = self.now.saturating_sub(SECOND);
        if began >= self.scored_from && began < self.end {
            self.totals.arrived += second.arrivals;
            self.totals.replica_seconds += seconds(second.held);
            if let Some(minute) = self.minute(began) {
                minute.arrivals += second.arrivals;
                minute.replica_seconds += seconds(second.held);
                minute.ready_seconds += seconds(second.ready);
                minute.queued_max = minute.queued_max.max(second.backlog);
                minute.wanted = wanted;
            }
        }
        self.seconds.push_back(second);
        if self.seconds.len() > SECONDS_KEPT {
            self.seconds.pop_front();
        }
    }

    /// The minute that holds a time; `None` outside what is scored.
    fn minute(&mut self, at: Micros) -> Option<&mut Minute> {
        let since = at.checked_sub(self.scored_from).filter(|_| at < self.end)?;
        let index = usize::try_from(since / (60 * SECOND)).ok()?;
        while self.minutes.len() <= index {
            let offset = Duration::from_secs(60 * self.minutes.len() as u64);
            let at = self.start + Duration::from_micros(self.scored_from) + offset;
            self.minutes.push(Minute::new(at));
        }
        self.minutes.get_mut(index)
    }

    /// The figures of a window of `window` seconds that ended `age` seconds ago; `None` before one second of it has passed.
    pub(crate) fn figures(&self, age: usize, window: usize) -> Option<Figures> {
        let last = self.seconds.len().checked_sub(age)?;
        let first = last.saturating_sub(window);
        let mut sum = Second::default();
        for second in self.seconds.range(first..last) {
            if second.reset {
                sum = Second {
                    in_flight: sum.in_flight,
                    queued: sum.queued,
                    ready: sum.ready,
                    ..Second::default()
                };
            }
            sum.add(second);
        }
        let length = last - first;
        (length > 0).then(|| sum.figures(length as u64))
    }

    pub(crate) fn finish(self, inside: u64) -> Run {
        let counted = self.latencies.iter().enumerate().filter(|(_, count)| **count > 0);
        let buckets = counted.map(|(index, count)| (histogram_index(index), *count));
        let latency = Histogram::from_buckets(buckets, 0, seconds(self.latency_sum));
        Run { totals: Totals { inside, ..self.totals }, minutes: self.minutes, latency }
    }
}

impl Second {
    fn add(&mut self, other: &Self) {
        self.arrivals += other.arrivals;
        self.completed += other.completed;
        self.dropped += other.dropped;
        self.missed += other.missed;
        self.in_flight += other.in_flight;
        self.queued += other.queued;
        self.ready += other.ready;
        self.latency += other.latency;
        self.prompt_tokens += other.prompt_tokens;
        self.output_tokens += other.output_tokens;
        self.per_output_token += other.per_output_token;
        self.written += other.written;
        self.backlog = other.backlog;
        self.kv_utilisation = other.kv_utilisation;
    }

    fn figures(&self, length: u64) -> Figures {
        let mean = |area: u64| seconds(area) / length as f64;
        Figures {
            window: Duration::from_secs(length),
            arrivals: self.arrivals as f64,
            completed: self.completed as f64,
            dropped: self.dropped as f64,
            missed: self.missed as f64,
            in_flight: mean(self.in_flight),
            queued: mean(self.queued),
            backlog: self.backlog as f64,
            ready: mean(self.ready),
            latency_mean_s: (self.completed > 0).then(|| seconds(self.latency) / self.completed as f64),
            prompt_tokens: self.prompt_tokens as f64,
            output_tokens: self.output_tokens as f64,
            per_output_token_s: (self.written > 0)
                .then(|| seconds(self.per_output_token) / self.written as f64),
            kv_utilisation: self.kv_utilisation,
        }
    }
}

/// Which bucket a latency is counted in.
fn bucket(latency: Micros) -> usize {
    let shift = (Micros::BITS - latency.leading_zeros()).saturating_sub(LEADING_BITS + 1);
    let index = (u64::from(shift) << LEADING_BITS) + (latency >> shift);
    usize::try_from(index).unwrap_or(BUCKETS - 1).min(BUCKETS - 1)
}

/// Which bucket of a histogram of schema 3 the middle of a bucket belongs to.
#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a number of 64 bits is small")]
fn histogram_index(index: usize) -> i32 {
    let shift = (index >> LEADING_BITS).saturating_sub(1);
    let leading = (index - (shift << LEADING_BITS)) as f64;
    let middle = (leading + if shift > 0 { 0.5 } else { 0.0 }) * 2f64.powi(shift as i32);
    ((middle.max(1.0) / 1e6).log2() * 8.0).ceil() as i32
}
