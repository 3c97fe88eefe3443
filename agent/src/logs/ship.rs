//! From entries to batches to the sink: flush by count, bytes or time, a few batches under way, back-off, split, dead letters.
//!
//! Waits as long as it takes, with a bound on what is held: when that is full it takes no more, and the tailer stops reading.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::book::Book;
use super::dead_letter::DeadLetters;
use super::ledger::Ledger;
use super::record::Entry;
use super::sink::{Cause, Failure, Outcome, Sink};
use crate::backoff::Backoff;
use crate::clock;

/// Bounds of shipping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipLimits {
    /// Most lines of one batch.
    pub batch_lines: usize,
    /// Most bytes of one batch, before compression. One longer line still goes alone.
    pub batch_bytes: usize,
    /// How long a line waits for its batch to fill.
    pub flush: Duration,
    /// Batches under way at once.
    pub in_flight: usize,
    /// First wait before something is sent again; doubles each time, with jitter.
    pub backoff_min: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for ShipLimits {
    fn default() -> Self {
        Self {
            // What Elastic's own shippers use in their balanced preset, and well under the server's 100 MB limit.
            batch_lines: 1600,
            batch_bytes: 4 * 1024 * 1024,
            flush: Duration::from_secs(1),
            in_flight: 2,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// Ships entries to one sink.
#[derive(Debug)]
pub(crate) struct Shipper<S> {
    pub(crate) sink: Arc<S>,
    pub(crate) limits: ShipLimits,
    pub(crate) book: Arc<Book>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dead: Arc<DeadLetters>,
}

impl<S> Clone for Shipper<S> {
    fn clone(&self) -> Self {
        Self {
            sink: Arc::clone(&self.sink),
            limits: self.limits.clone(),
            book: Arc::clone(&self.book),
            ledger: Arc::clone(&self.ledger),
            dead: Arc::clone(&self.dead),
        }
    }
}

impl<S: Sink> Shipper<S> {
    /// Ships until the channel is closed and everything in it is acknowledged.
    pub(crate) async fn run(self, mut entries: mpsc::Receiver<Vec<Entry>>) {
        let mut waiting = Waiting::default();
        let mut under_way = JoinSet::new();
        let mut sent = 0u64;
        let mut open = true;
        while open || !waiting.entries.is_empty() || !under_way.is_empty() {
            let due = waiting.is_full(&self.limits)
                || !open
                || waiting.since.is_some_and(|at| at.elapsed() >= self.limits.flush);
            if due && !waiting.entries.is_empty() && under_way.len() < self.limits.in_flight.max(1) {
                let batch = waiting.take(&self.limits);
                sent += 1;
                under_way.spawn(self.clone().deliver(batch, self.limits.seed ^ sent));
                continue;
            }
            let flush_at = waiting.since.map(|at| at + self.limits.flush);
            tokio::select! {
                more = entries.recv(), if open && !waiting.is_full(&self.limits) => match more {
                    Some(more) => waiting.add(more),
                    None => open = false,
                },
                Some(_) = under_way.join_next() => {}
                () = tokio::time::sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() && !due => {}
            }
        }
    }

    /// Sends one batch until each of its lines is stored or a dead letter.
    async fn deliver(self, batch: Vec<Entry>, seed: u64) {
        let mut backoff = Backoff::new(self.limits.backoff_min, self.limits.backoff_max, seed);
        let mut uncertain = batch.iter().any(|entry| entry.resumed);
        let mut parts = VecDeque::from([batch]);
        while let Some(part) = parts.pop_front() {
            match self.sink.store(&part, uncertain).await {
                Ok(outcomes) => {
                    let (again, moved) = self.settle(part, outcomes).await;
                    if moved {
                        backoff.reset();
                    }
                    if !again.is_empty() {
                        parts.push_front(again);
                        sleep(backoff.next()).await;
                    }
                }
                Err(failure) if failure.split => self.halve(part, &failure, &mut parts, &mut backoff).await,
                Err(failure) => {
                    uncertain |= failure.answer_lost;
                    let wait = self.wait(&mut backoff, &failure);
                    self.complain(&failure, part.len(), wait, backoff.attempt());
                    parts.push_front(part);
                    sleep(wait).await;
                }
            }
        }
    }

    /// The back-off's wait, or the server's when it asks for a longer one; never beyond the bound.
    fn wait(&self, backoff: &mut Backoff, failure: &Failure) -> Duration {
        let asked = failure.retry_after.unwrap_or_default().min(self.limits.backoff_max);
        backoff.next().max(asked)
    }

    /// Acknowledges what is settled; gives what is to be sent again, and whether anything was settled.
    async fn settle(&self, part: Vec<Entry>, outcomes: Vec<Outcome>) -> (Vec<Entry>, bool) {
        let (mut stored, mut refused, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, outcome) in part.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Stored => stored.push(entry.marks),
                Outcome::Refused { cause, reason } => refused.push((entry, cause.as_str(), reason)),
                Outcome::Again(cause) => {
                    self.ledger.retried(cause.as_str(), 1);
                    again.push(entry);
                }
            }
        }
        let mut moved = !stored.is_empty();
        self.ledger.shipped(stored.len() as u64);
        self.book.acknowledge(stored);
        if !refused.is_empty() {
            match self.bury(refused).await {
                Ok(()) => moved = true,
                Err(unburied) => again.extend(unburied),
            }
        }
        (again, moved)
    }

    /// Writes dead letters and acknowledges them; when they cannot be written, they are tried again like the rest.
    async fn bury(&self, letters: Vec<(Entry, &'static str, String)>) -> Result<(), Vec<Entry>> {
        let dead = Arc::clone(&self.dead);
        let at = clock::wall();
        let written = tokio::task::spawn_blocking(move || (dead.write(at, &letters), letters)).await;
        let (written, letters) = written.expect("writing dead letters does not panic");
        if let Err(error) = written {
            self.ledger.failed("dead_letter");
            tracing::error!(%error, "cannot write dead letters; the lines are kept and tried again");
            return Err(letters.into_iter().map(|(entry, ..)| entry).collect());
        }
        for (_, cause, _) in &letters {
            self.ledger.dead_lettered(cause, 1);
        }
        self.book.acknowledge(letters.iter().map(|(entry, ..)| &*entry.marks));
        Ok(())
    }

    /// Halves a batch that is too large or holds a line that spoils it; such a line alone is a dead letter.
    async fn halve(
        &self,
        mut part: Vec<Entry>,
        failure: &Failure,
        parts: &mut VecDeque<Vec<Entry>>,
        backoff: &mut Backoff,
    ) {
        self.ledger.retried(failure.cause.as_str(), 1);
        if part.len() > 1 {
            let rest = part.split_off(part.len() / 2);
            parts.push_front(rest);
            parts.push_front(part);
            return;
        }
        let reason = failure.source.as_ref().map(ToString::to_string).unwrap_or_default();
        let letters = part.into_iter().map(|entry| (entry, failure.cause.as_str(), reason.clone())).collect();
        if let Err(unburied) = self.bury(letters).await {
            parts.push_front(unburied);
            sleep(backoff.next()).await;
        }
    }

    fn complain(&self, failure: &Failure, lines: usize, wait: Duration, attempt: u32) {
        self.ledger.retried(failure.cause.as_str(), 1);
        let cause = failure.cause.as_str();
        let error = failure.source.as_deref().map(|source| source as &dyn std::error::Error);
        // Once per outage and batch is enough; the counter has the rest.
        if attempt != 1 {
            tracing::debug!(cause, error, lines, ?wait, attempt, "log lines not stored; trying again");
        } else if failure.cause == Cause::Denied {
            tracing::error!(cause, error, lines, ?wait, "the log sink denies access; lines are kept");
        } else {
            tracing::warn!(cause, error, lines, ?wait, "log lines not stored; trying again");
        }
    }
}

/// Entries that wait for a batch.
#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
    since: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, more: Vec<Entry>) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += more.iter().map(|entry| entry.document.len()).sum::<usize>();
        self.entries.extend(more);
    }

    fn is_full(&self, limits: &ShipLimits) -> bool {
        self.entries.len() >= limits.batch_lines || self.bytes >= limits.batch_bytes
    }

    fn take(&mut self, limits: &ShipLimits) -> Vec<Entry> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = self.entries.front() {
            bytes += entry.document.len();
            if !batch.is_empty() && (bytes > limits.batch_bytes || batch.len() >= limits.batch_lines) {
                break;
            }
            self.bytes -= entry.document.len();
            batch.extend(self.entries.pop_front());
        }
        self.since = (!self.entries.is_empty()).then(Instant::now);
        batch
    }
}

#[cfg(test)]
mod tests;
