//! Metrics that the workloads expose themselves: asked for, read, mapped to signals, put together per workload.
//!
//! Every target has its own deadline and no round waits for it longer than a second, so that one that hangs is late alone. A target that does not answer makes its part
//! unknown: a sum over the workload takes it to be like the others, and says from how many of how many targets it is; when less
//! than half answered, there is no sum, and when none did, nothing is told.

mod client;
pub mod map;
mod merge;
pub mod openmetrics;
pub mod page;
pub(crate) mod pushed;
mod rate;
pub mod rules;
pub mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{Timestamp, WorkloadId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use page::ScrapeLimits;
pub use rules::{Runtime, catalogue};
pub use tidegate_core::policy::{How, RuleError, SignalRule};

use crate::clock::Moment;
use crate::collect::reading::{Cause, Reading};
use crate::collect::status::{StatusBoard, TargetStatus};
use client::ScrapeClient;
use map::{Intake, Rules, Snapshot};
use rate::Parts;

/// Most targets of one node; more are left out, and the status says so by their absence.
const TARGETS_MAX: usize = 1024;
/// Pages read at the same time: bounds memory and sockets.
const PAGES_AT_ONCE: usize = 64;
/// A round waits this long for its targets, so that a slow one does not hold up what the others say.
const ROUND_MAX: Duration = Duration::from_secs(1);

/// Which requests are in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// A request is in time when it is answered within this many seconds; where `per_output_token_seconds` is given, when its
    /// first token is.
    pub latency_seconds: f64,
    /// Mean seconds between a request's tokens that one in time does not exceed.
    pub per_output_token_seconds: Option<f64>,
}

/// One replica to ask for its metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeTarget {
    /// The workload that it is a replica of.
    pub workload: WorkloadId,
    /// Short name, unique among the targets: the value of the `target` label.
    pub name: String,
    /// `http://HOST:PORT/PATH`.
    pub url: String,
    /// The user's own rules; they come before the catalogue's.
    pub rules: Vec<SignalRule>,
    /// Labels that a series must bear with these values, if it bears them at all; for one of several models in a server.
    pub select: BTreeMap<String, String>,
    /// The workload's objective; with it, misses are told.
    pub objective: Option<Objective>,
    /// How long a scrape may take, waiting for its turn included.
    pub deadline: Duration,
    /// Nobody decides by what it says: it is asked in one round of [`RARELY`].
    pub rarely: bool,
}

/// Rounds of which a target is asked in one, where nobody decides by what it says.
pub const RARELY: u64 = 5;

impl ScrapeTarget {
    /// A usual deadline: as long as the usual interval.
    pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
}

/// What is remembered of a target between its pages.
#[derive(Debug)]
struct Known {
    rules: Arc<Rules>,
    before: Option<Snapshot>,
}

/// A target's place in the list.
#[derive(Debug)]
struct Slot {
    target: ScrapeTarget,
    /// Lent to the task that asks, while one does.
    known: Option<Known>,
    status: TargetStatus,
    /// Whether it has ever been asked.
    is_asked: bool,
    /// What it said last, and when; nothing where it did not answer.
    said: Option<(Timestamp, Parts)>,
    /// The round in which that came.
    noted_in: u64,
}

impl Slot {
    fn new(target: ScrapeTarget) -> Self {
        Self {
            status: Self::new_status(&target),
            known: Some(Known {
                rules: Rules::new(&target.rules, &target.select, rules::catalogue()),
                before: None,
            }),
            is_asked: false,
            said: None,
            noted_in: 0,
            target,
        }
    }

    /// Whether it is to be asked in this round: those of one workload take their turns together.
    fn is_due(&self, round: u64) -> bool {
        let turn = self.target.workload.as_str().bytes().fold(0, |sum, byte| sum + u64::from(byte));
        !self.target.rarely || !self.is_asked || (round + turn).is_multiple_of(RARELY)
    }

    fn new_status(target: &ScrapeTarget) -> TargetStatus {
        TargetStatus {
            workload: target.workload.clone(),
            name: target.name.clone(),
            up: false,
            causes: BTreeMap::new(),
            runtimes: Vec::new(),
            in_flight: None,
        }
    }
}

/// What came of asking one target.
#[derive(Debug)]
struct Asked {
    target: ScrapeTarget,
    known: Known,
    /// When the round began in which it was asked.
    at: Timestamp,
    parts: Option<Parts>,
    status: TargetStatus,
}

/// Scrape targets as a source. They may change from one round to the next.
#[derive(Debug)]
pub(crate) struct ScrapeSource {
    client: ScrapeClient,
    limits: ScrapeLimits,
    targets: watch::Receiver<Vec<ScrapeTarget>>,
    slots: Vec<Slot>,
    asking: JoinSet<Asked>,
    turns: Arc<Semaphore>,
    board: Arc<StatusBoard>,
    round: u64,
}

impl ScrapeSource {
    pub(crate) fn new(
        targets: watch::Receiver<Vec<ScrapeTarget>>,
        limits: ScrapeLimits,
        board: Arc<StatusBoard>,
    ) -> Self {
        Self {
            client: ScrapeClient::new(),
            limits,
            targets,
            slots: Vec::new(),
            asking: JoinSet::new(),
            turns: Arc::new(Semaphore::new(PAGES_AT_ONCE)),
            board,
            round: 0,
        }
    }

    /// Asks every target whose turn it is and that is not being asked, and puts together what has been answered: in this round, or, by a target
    /// that takes longer than [`ROUND_MAX`], since the last one.
    pub(crate) async fn read(&mut self, now: Moment) -> Reading {
        self.follow_targets();
        self.round += 1;
        while let Some(Ok(asked)) = self.asking.try_join_next() {
            self.note(asked);
        }
        self.ask_due(now);
        let round = async {
            while let Some(asked) = self.asking.join_next().await {
                // A task that panicked keeps what it was lent; its slot is made anew below.
                if let Ok(asked) = asked {
                    self.note(asked);
                }
            }
        };
        // What is late is counted as missing now, and taken up in a later round.
        tokio::time::timeout(ROUND_MAX, round).await.ok();
        if self.asking.is_empty() {
            self.renew_lost();
        }
        self.board.scraped(self.slots.iter().map(|slot| slot.status.clone()).collect());
        // Of one that is being asked still, what it said late of the question before.
        let has_said = |slot: &Slot| slot.known.is_some() || slot.noted_in == self.round;
        let said = |slot: &Slot| slot.said.clone().filter(|_| has_said(slot));
        let answers = self.slots.iter().map(|slot| (&slot.target.workload, said(slot)));
        merge::reading(now.at, answers)
    }

    /// Takes the present list of targets; what is remembered of one that is still the same is kept.
    fn follow_targets(&mut self) {
        let targets = self.targets.borrow_and_update().clone();
        let mut old = std::mem::take(&mut self.slots);
        for target in targets.into_iter().take(TARGETS_MAX) {
            let at = old.iter().position(|slot| slot.target == target);
            self.slots.push(at.map_or_else(|| Slot::new(target), |at| old.swap_remove(at)));
        }
    }

    fn ask_due(&mut self, now: Moment) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_due(self.round)) {
            let Some(known) = slot.known.take() else { continue };
            slot.is_asked = true;
            let (client, limits, turns) = (self.client.clone(), self.limits, Arc::clone(&self.turns));
            self.asking.spawn(ask(slot.target.clone(), known, client, limits, turns, now));
        }
    }

    /// Takes an answer, unless its target is gone or has become another one.
    fn note(&mut self, asked: Asked) {
        let of = |slot: &&mut Slot| slot.known.is_none() && slot.target == asked.target;
        if let Some(slot) = self.slots.iter_mut().find(of) {
            slot.known = Some(asked.known);
            slot.status = asked.status;
            slot.said = asked.parts.map(|parts| (asked.at, parts));
            slot.noted_in = self.round;
        }
    }

    /// With nobody being asked, a slot that has lent what it knew will not get it back.
    fn renew_lost(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.known.is_none()) {
            let causes = BTreeMap::from([(Cause::Panicked, 1)]);
            *slot = Slot::new(slot.target.clone());
            slot.status.causes = causes;
        }
    }
}

/// Asks one target. When it does not answer, the next rate is taken over the longer time since its last answer.
async fn ask(
    target: ScrapeTarget,
    mut known: Known,
    client: ScrapeClient,
    limits: ScrapeLimits,
    turns: Arc<Semaphore>,
    now: Moment,
) -> Asked {
    let mut status = Slot::new_status(&target);
    let mut intake = Intake::new(Arc::clone(&known.rules));
    let page = async {
        let _turn = turns.acquire().await;
        let mut take = |line: &text::Line<'_>| intake.take(line);
        client.read(&target.url, limits, target.deadline, &mut take).await
    };
    let ended = tokio::time::timeout(target.deadline, page).await;
    let parts = match ended.unwrap_or(Err(Cause::Timeout)) {
        Err(cause) => {
            status.causes.insert(cause, 1);
            None
        }
        Ok(end) => {
            status.up = end.series > 0;
            status.causes = end.causes;
            let snapshot = intake.finish(now, end.cut);
            let parts = rate::parts(&known.rules, known.before.as_ref(), &snapshot, target.objective);
            if !parts.known {
                status.causes.insert(Cause::NothingKnown, 1);
            }
            status.runtimes.clone_from(&parts.runtimes);
            status.in_flight = merge::in_flight(&parts);
            known.before = Some(snapshot);
            Some(parts)
        }
    };
    Asked { target, known, at: now.at, parts, status }
}

#[cfg(test)]
mod tests;
