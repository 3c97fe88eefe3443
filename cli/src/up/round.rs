//! Once a second: a round of the control loop, then telling everybody: history, metrics, cards, events, rivals.

use std::sync::Arc;
use std::time::Duration;

use tidegate_agent::collect::Batch;
use tidegate_core::Sample;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, lock};
use super::tell::Teller;
use crate::api::views::{self, Event};
use crate::clock;

/// How often the loop looks, decides and acts.
const EVERY: Duration = Duration::from_secs(1);
/// The history is flushed this often: what a kill can lose.
const FLUSH_EVERY: u64 = 5;
/// What brains have learned is kept, and the history tidied, this often.
const KEEP_EVERY: u64 = 30;
/// Collectors' batches taken in one round; the rest wait for the next.
const BATCHES_MAX: usize = 256;
/// Log lines of a class told in one round.
const LINES_MAX: usize = 50;

/// Runs rounds until told to stop.
pub(super) async fn run(machine: Arc<Machine>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut hand = Hand::new(&machine);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let machine = Arc::clone(&machine);
        // A fit, or a flush, may take a while: never on a thread that others wait for.
        let done = tokio::task::spawn_blocking(move || {
            hand.round(&machine);
            hand
        });
        hand = match done.await {
            Ok(hand) => hand,
            Err(error) => {
                tracing::error!(%error, "a round panicked; the plans stay as they are and the loop ends");
                return;
            }
        };
    }
}

/// What is carried from round to round.
struct Hand {
    batches: Option<broadcast::Receiver<Arc<Batch>>>,
    lines: Option<broadcast::Receiver<Arc<tidegate_agent::logs::LogLine>>>,
    teller: Teller,
    rounds: u64,
}

impl Hand {
    fn new(machine: &Machine) -> Self {
        Self {
            batches: lock(&machine.agent).as_ref().map(|agent| agent.subscribe()),
            lines: lock(&machine.logs).as_ref().map(|logs| logs.subscribe()),
            teller: Teller::new(),
            rounds: 0,
        }
    }

    fn round(&mut self, machine: &Machine) {
        let now = clock::now();
        self.rounds += 1;
        let begun = std::time::Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
        let samples = {
            let mut control = lock(&machine.control);
            let Some(control) = control.as_mut() else { return };
            let round = control.round(now);
            let samples = self.teller.tell(machine, control, &round);
            if self.rounds.is_multiple_of(KEEP_EVERY) {
                machine.keep(control.brains());
            }
            samples
        };
        self.keep_samples(machine, samples);
        self.tell_lines(machine);
        if self.rounds.is_multiple_of(FLUSH_EVERY) {
            self.teller.flush(machine, now, self.rounds.is_multiple_of(KEEP_EVERY));
        }
        let ended = Duration::from_millis(u64::try_from(clock::now().as_millis()).unwrap_or(0));
        self.teller.took(machine, ended.saturating_sub(begun));
    }

    /// Puts the loop's samples and the collectors' into the history. What the loop knows better is not taken from a collector.
    fn keep_samples(&mut self, machine: &Machine, samples: Vec<Sample>) {
        self.teller.keep(machine, &samples);
        let Some(batches) = &mut self.batches else { return };
        for _ in 0..BATCHES_MAX {
            match batches.try_recv() {
                Ok(batch) => {
                    let unknown =
                        |s: &&Sample| !samples.iter().any(|o| o.subject == s.subject && o.signal == s.signal);
                    let rest: Vec<_> = batch.samples.iter().filter(unknown).cloned().collect();
                    self.teller.keep(machine, &rest);
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
    }

    /// Tells of log lines that have a class, but not of every access.
    fn tell_lines(&mut self, machine: &Machine) {
        let Some(lines) = &mut self.lines else { return };
        let mut told = 0;
        while told < LINES_MAX {
            match lines.try_recv() {
                Ok(line) => {
                    if line.class.is_some_and(|class| class != tidegate_agent::logs::LogClass::Access) {
                        machine.tell(Event::LogClass(Box::new(log_line(&line))));
                        told += 1;
                    }
                }
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => break,
            }
        }
    }
}

/// A log line in the API's shape.
pub(super) fn log_line(line: &tidegate_agent::logs::LogLine) -> views::LogLine {
    views::LogLine {
        at: line.at,
        workload: line.workload.as_ref().map(ToString::to_string),
        level: line.level.map(|level| level.as_str().to_owned()),
        class: line.class.map(|class| class.as_str().to_owned()),
        text: line.text.clone(),
    }
}
