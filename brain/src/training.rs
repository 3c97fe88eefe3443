//! The mind of a training workload: how fast it is at each size, what a resize costs, and how many there have been.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::{ReplicaCounts, Timestamp, TrainingNeed, TrainingPolicy, WorkloadId};

use crate::event::{Progress, ResizeOutcome};

/// Weight of a new reading of the speed at a size.
const SPEED_WEIGHT: f64 = 0.1;
/// Sizes remembered.
const SIZES_MAX: usize = 256;
/// Speed is read when a size has been steady for this long.
const STEADY: Duration = Duration::from_secs(10);
/// A resize is assumed to take this long until one has been seen.
const RESIZE_PRIOR: Duration = Duration::from_secs(15);
/// After a resize that failed, the next voluntary one waits for this long.
const RETRY_AFTER: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);
/// Resizes remembered.
const RESIZES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Training {
    pub(crate) policy: TrainingPolicy,
    /// Samples per second by number of workers.
    speed: BTreeMap<u32, f64>,
    resize: Option<Duration>,
    resizes: VecDeque<Timestamp>,
    steady: Option<(u32, Timestamp)>,
    last: Option<Progress>,
    /// How the last resize ended, while that is worth telling.
    pub(crate) trouble: Option<ResizeOutcome>,
    /// When a resize may be tried again after one that failed.
    pub(crate) retry_at: Option<Timestamp>,
}

impl Training {
    pub(crate) fn new(policy: TrainingPolicy) -> Self {
        Self {
            policy,
            speed: BTreeMap::new(),
            resize: None,
            resizes: VecDeque::new(),
            steady: None,
            last: None,
            trouble: None,
            retry_at: None,
        }
    }

    /// What was learned, under another intent.
    pub(crate) fn under(self, policy: TrainingPolicy) -> Self {
        Self { policy, ..self }
    }

    pub(crate) fn see(&mut self, progress: Progress) {
        let size = progress.workers.ready;
        let moving =
            progress.resizing || progress.workers.starting > 0 || progress.workers.draining > 0 || size == 0;
        if moving || self.steady.is_none_or(|(steady, _)| steady != size) {
            self.steady = (!moving).then_some((size, progress.at));
        } else if self.steady.is_some_and(|(_, since)| progress.at.since(since) >= STEADY) {
            self.learn_speed(size, progress.samples_per_second);
        }
        self.last = Some(progress);
    }

    fn learn_speed(&mut self, size: u32, rate: Option<f64>) {
        let Some(rate) = rate.filter(|rate| rate.is_finite() && *rate > 0.0) else { return };
        if self.speed.len() < SIZES_MAX || self.speed.contains_key(&size) {
            let speed = self.speed.entry(size).or_insert(rate);
            *speed += SPEED_WEIGHT * (rate - *speed);
        }
    }

    pub(crate) fn resized(&mut self, at: Timestamp, took: Duration, outcome: ResizeOutcome) {
        let failed = !matches!(outcome, ResizeOutcome::Done | ResizeOutcome::DoneWithoutCheckpoint);
        self.trouble = (outcome != ResizeOutcome::Done).then_some(outcome);
        self.retry_at = failed.then(|| at + RETRY_AFTER);
        if !failed {
            self.resize = Some(self.resize.map_or(took, |before| (before + took) / 2));
        }
        self.resizes.push_back(at);
        while self.resizes.len() > RESIZES_MAX || self.resizes.front().is_some_and(|t| at.since(*t) >= HOUR) {
            self.resizes.pop_front();
        }
    }

    /// Time that a resize takes, once one has been seen.
    pub(crate) const fn resize_measured(&self) -> Option<Duration> {
        self.resize
    }

    /// Time that a resize takes.
    pub(crate) fn resize_time(&self) -> Duration {
        self.resize.unwrap_or(RESIZE_PRIOR)
    }

    pub(crate) fn counts(&self) -> ReplicaCounts {
        self.last.map(|progress| progress.workers).unwrap_or_default()
    }

    pub(crate) const fn last(&self) -> Option<&Progress> {
        self.last.as_ref()
    }

    /// Samples per second by number of workers, as learned.
    pub(crate) fn speeds(&self) -> Vec<(u32, f64)> {
        self.speed.iter().map(|(n, rate)| (*n, *rate)).collect()
    }

    pub(crate) fn need<'a>(
        &'a self,
        id: &WorkloadId,
        each: u32,
        speeds: &'a [(u32, f64)],
        now: Timestamp,
    ) -> TrainingNeed<'a> {
        let resizes = self.resizes.iter().filter(|at| now.since(**at) < HOUR).count();
        TrainingNeed {
            id: id.clone(),
            each,
            policy: &self.policy,
            current: self.counts().wanted,
            throughput: speeds,
            resize: self.resize_time(),
            resizes: u32::try_from(resizes).unwrap_or(u32::MAX),
        }
    }
}
