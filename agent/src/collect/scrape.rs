//! Metrics that the workloads expose themselves: asked for, read, mapped to signals, put together per workload.
//!
//! Every target has its own deadline, so that one that hangs is late alone. A target that does not answer makes its part
//! unknown: what is told of the workload says from how many of how many targets it is; when none answered, nothing is told.

mod client;
pub mod map;
mod merge;
pub mod openmetrics;
pub mod page;
mod rate;
pub mod rules;
mod spread;
pub mod text;

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::WorkloadId;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use page::ScrapeLimits;
pub use rules::{How, RuleError, SignalRule};

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
    /// The workload's limit on latency, in seconds; with it, misses are told.
    pub latency_limit_seconds: Option<f64>,
    /// How long a scrape may take, waiting for its turn included.
    pub deadline: Duration,
}

/// A target with what is remembered of it.
#[derive(Debug)]
struct Known {
    target: ScrapeTarget,
    rules: Arc<Rules>,
    before: Option<Snapshot>,
}

impl Known {
    fn new(target: ScrapeTarget) -> Self {
        let rules = Rules::new(&target.rules, rules::catalogue());
        Self { target, rules, before: None }
    }
}

/// What came of asking one target.
struct Asked {
    known: Known,
    parts: Option<Parts>,
    status: TargetStatus,
}

/// Scrape targets as a source. They may change from one round to the next.
#[derive(Debug)]
pub(crate) struct ScrapeSource {
    client: ScrapeClient,
    limits: ScrapeLimits,
    targets: watch::Receiver<Vec<ScrapeTarget>>,
    known: Vec<Known>,
    board: Arc<StatusBoard>,
}

impl ScrapeSource {
    pub(crate) fn new(
        targets: watch::Receiver<Vec<ScrapeTarget>>,
        limits: ScrapeLimits,
        board: Arc<StatusBoard>,
    ) -> Self {
        Self { client: ScrapeClient::new(), limits, targets, known: Vec::new(), board }
    }

    /// Asks every target once, all at the same time, and puts their answers together.
    pub(crate) async fn read(&mut self, now: Moment) -> Reading {
        self.follow_targets();
        let turns = Arc::new(Semaphore::new(PAGES_AT_ONCE));
        let mut asking = JoinSet::new();
        for (at, known) in std::mem::take(&mut self.known).into_iter().enumerate() {
            let (client, limits, turns) = (self.client.clone(), self.limits, Arc::clone(&turns));
            asking.spawn(async move { (at, ask(known, client, limits, turns, now).await) });
        }
        let mut asked = asking.join_all().await;
        asked.sort_by_key(|(at, _)| *at);
        let (mut statuses, mut answers) = (Vec::new(), Vec::new());
        for (_, one) in asked {
            statuses.push(one.status);
            answers.push((one.known.target.workload.clone(), one.parts));
            self.known.push(one.known);
        }
        self.board.scraped(statuses);
        merge::reading(now.at, &answers)
    }

    /// Takes the present list of targets; what is remembered of one that is still the same is kept.
    fn follow_targets(&mut self) {
        let targets = self.targets.borrow_and_update().clone();
        let mut old = std::mem::take(&mut self.known);
        for target in targets.into_iter().take(TARGETS_MAX) {
            let at = old.iter().position(|known| known.target == target);
            self.known.push(at.map_or_else(|| Known::new(target), |at| old.swap_remove(at)));
        }
    }
}

/// Asks one target. When it does not answer, the next rate is taken over the longer time since its last answer.
async fn ask(
    mut known: Known,
    client: ScrapeClient,
    limits: ScrapeLimits,
    turns: Arc<Semaphore>,
    now: Moment,
) -> Asked {
    let deadline = known.target.deadline;
    let mut intake = Intake::new(Arc::clone(&known.rules));
    let page = async {
        let _turn = turns.acquire().await;
        let mut take = |line: &text::Line<'_>| intake.take(line);
        client.read(&known.target.url, limits, deadline, &mut take).await
    };
    let ended = tokio::time::timeout(deadline, page).await.unwrap_or(Err(Cause::Timeout));
    let mut status = TargetStatus {
        workload: known.target.workload.clone(),
        name: known.target.name.clone(),
        up: false,
        causes: std::collections::BTreeMap::new(),
        runtime: None,
    };
    let parts = match ended {
        Err(cause) => {
            status.causes.insert(cause, 1);
            None
        }
        Ok(end) => {
            status.up = end.series > 0;
            status.causes = end.causes;
            let snapshot = intake.finish(now, end.cut);
            let limit = known.target.latency_limit_seconds;
            let parts = rate::parts(&known.rules, known.before.as_ref(), &snapshot, limit);
            if !parts.known {
                status.causes.insert(Cause::NothingKnown, 1);
            }
            status.runtime.clone_from(&parts.runtime);
            known.before = Some(snapshot);
            Some(parts)
        }
    };
    Asked { known, parts, status }
}

#[cfg(test)]
mod tests;
