//! The resize of an elastic training job: checkpoint, resize, see that steps advance, else take it back.
//!
//! The course is plain data and a pure function ([`Resize::next`]); what a phase asks for follows from the phase alone
//! ([`Resize::order`]). So it can be stored, and taken up again by a later Tidegate at any point: asking once more for a
//! checkpoint, or for a number of workers that is already there, does no harm. Whether a resize is worth it, and how many
//! there may be in an hour, is decided elsewhere.
//!
//! A *voluntary* resize is given up when the checkpoint fails: nothing is lost by staying. A *recall* frees slots that
//! serving needs, so it goes on without: workers are drained, the job has its periodic checkpoints, and the outcome says
//! that this one is missing. Nor is a recall ever taken back: its slots are promised.

mod driver;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_brain::ResizeOutcome;
use tidegate_core::{ReplicaCounts, Timestamp};

pub use driver::{CheckpointHook, ResizeReport, Resizer, StepsProbe, StoreError};

/// Steps that must follow a resize: the first may have been under way before it.
const STEPS_PROOF: u64 = 2;

/// Why the number of workers changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeKind {
    /// It could as well stay.
    Voluntary,
    /// Its slots are needed by serving.
    Recall,
}

impl ResizeKind {
    /// For statuses and logs: a closed set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voluntary => "voluntary",
            Self::Recall => "recall",
        }
    }
}

/// Longest time for each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeLimits {
    /// From the request for a checkpoint to the answer that it is saved.
    pub checkpoint: Duration,
    /// Until the wanted number of workers is ready and no other is left.
    pub resize: Duration,
    /// Until steps advance.
    pub verify: Duration,
}

impl Default for ResizeLimits {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { checkpoint: minute, resize: 2 * minute, verify: minute }
    }
}

/// How a resize ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new size is there and steps advance.
    Done,
    /// A voluntary resize was given up, the size is as before.
    CheckpointFailed,
    /// The new size did not work; the former is there again.
    Restored,
    /// The new size (or, after that failed, the former) was not reached in time, or steps do not advance at it. It stays wanted.
    TimedOut,
}

impl Outcome {
    /// Value of the `outcome` label: a closed set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::CheckpointFailed => "checkpoint_failed",
            Self::Restored => "restored",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What became of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoint {
    /// No answer yet.
    Asked,
    /// The job has no hook, or no worker that could be asked.
    None,
    /// The job answered that it is saved.
    Saved,
    /// It was not saved, and why.
    Failed(String),
}

/// Where a resize stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for the checkpoint.
    Checkpointing,
    /// Waits for the workers.
    Resizing,
    /// Waits for steps to advance.
    Verifying {
        /// Steps when this began, or the lowest since: a job that falls back to a checkpoint counts from there.
        baseline: Option<u64>,
    },
    /// Waits for the former workers.
    Restoring,
    /// Over.
    Ended(Outcome),
}

/// How long each phase took; `None` for one that did not take place or is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PhaseTimes {
    /// Request for a checkpoint to answer.
    pub checkpoint: Option<Duration>,
    /// Change of size to all ready.
    pub resize: Option<Duration>,
    /// All ready to steps that advance.
    pub verify: Option<Duration>,
    /// Way back to the former size.
    pub restore: Option<Duration>,
}

impl PhaseTimes {
    /// All phases together.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.checkpoint, self.resize, self.verify, self.restore].into_iter().flatten().sum()
    }
}

/// One resize on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// Workers before.
    pub from: u32,
    /// Workers wanted.
    pub to: u32,
    /// Why.
    pub kind: ResizeKind,
    /// Where it stands.
    pub phase: Phase,
    /// When that phase began.
    pub since: Timestamp,
    /// What became of the checkpoint.
    pub checkpoint: Checkpoint,
    /// How long the phases took that are over.
    pub times: PhaseTimes,
}

/// One look at the job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The answer to the request for a checkpoint, once it is there.
    pub checkpoint: Option<Result<(), String>>,
    /// Workers by state.
    pub workers: ReplicaCounts,
    /// Workers end soon after their start, again and again.
    pub crash_loop: bool,
    /// Steps done so far.
    pub steps: Option<u64>,
}

/// What a phase asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A checkpoint, at the size that is.
    Checkpoint,
    /// This number of workers.
    Workers(u32),
}

impl Resize {
    /// A resize that begins now. Without workers there is nothing to save, without a hook no way to ask for it.
    #[must_use]
    pub fn new(from: u32, to: u32, kind: ResizeKind, has_hook: bool, now: Timestamp) -> Self {
        let asks = has_hook && from > 0 && from != to;
        let (phase, checkpoint) = if asks {
            (Phase::Checkpointing, Checkpoint::Asked)
        } else {
            (Phase::Resizing, Checkpoint::None)
        };
        Self { from, to, kind, phase, since: now, checkpoint, times: PhaseTimes::default() }
    }

    /// What is to be done at present; the same until the phase changes.
    #[must_use]
    pub const fn order(&self) -> Order {
        match self.phase {
            Phase::Checkpointing => Order::Checkpoint,
            Phase::Resizing | Phase::Verifying { .. } => Order::Workers(self.to),
            Phase::Restoring => Order::Workers(self.from),
            Phase::Ended(outcome) => Order::Workers(self.size_after(outcome)),
        }
    }

    /// Whether it sets a size that only it knows the way back from.
    #[must_use]
    pub const fn may_be_taken_back(&self) -> bool {
        matches!((self.kind, self.phase), (ResizeKind::Voluntary, Phase::Resizing))
    }

    /// Why its checkpoint failed, if it did.
    #[must_use]
    pub fn checkpoint_failure(&self) -> Option<&str> {
        match &self.checkpoint {
            Checkpoint::Failed(why) => Some(why),
            Checkpoint::None | Checkpoint::Asked | Checkpoint::Saved => None,
        }
    }

    /// The end of it as a brain is told: whether a checkpoint is missing is part of it.
    #[must_use]
    pub const fn told(&self, outcome: Outcome) -> ResizeOutcome {
        match outcome {
            Outcome::Done if matches!(self.checkpoint, Checkpoint::Failed(_)) => {
                ResizeOutcome::DoneWithoutCheckpoint
            }
            Outcome::Done => ResizeOutcome::Done,
            Outcome::CheckpointFailed => ResizeOutcome::CheckpointFailed,
            Outcome::Restored => ResizeOutcome::Restored,
            Outcome::TimedOut => ResizeOutcome::TimedOut,
        }
    }

    /// For a job that tells nobody of its steps: that its workers are ready must do.
    #[must_use]
    pub const fn without_proof(self, now: Timestamp) -> Self {
        match self.phase {
            Phase::Verifying { .. } => self.enter(Phase::Ended(Outcome::Done), now),
            _ => self,
        }
    }

    /// Workers that are wanted once it has ended so.
    #[must_use]
    pub const fn size_after(&self, outcome: Outcome) -> u32 {
        let restored = matches!(outcome, Outcome::CheckpointFailed | Outcome::Restored)
            || (matches!(outcome, Outcome::TimedOut) && matches!(self.kind, ResizeKind::Voluntary));
        if restored { self.from } else { self.to }
    }

    /// How it ended; `None` while it is under way.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        if let Phase::Ended(outcome) = self.phase { Some(outcome) } else { None }
    }

    /// Where it stands after a look at the job. Pure; an unknown number of steps proves nothing.
    #[must_use]
    pub fn next(self, seen: &Seen, limits: &ResizeLimits, now: Timestamp) -> Self {
        match self.phase {
            Phase::Checkpointing => self.after_checkpointing(seen, limits, now),
            Phase::Resizing => self.after_resizing(seen, limits, now),
            Phase::Verifying { baseline } => self.after_verifying(baseline, seen, limits, now),
            Phase::Restoring => self.after_restoring(seen, limits, now),
            Phase::Ended(_) => self,
        }
    }

    fn after_checkpointing(mut self, seen: &Seen, limits: &ResizeLimits, now: Timestamp) -> Self {
        let late = now.since(self.since) >= limits.checkpoint;
        self.checkpoint = match &seen.checkpoint {
            Some(Ok(())) => Checkpoint::Saved,
            Some(Err(text)) => Checkpoint::Failed(text.clone()),
            None if late => Checkpoint::Failed("no answer within the limit".to_owned()),
            None => return self,
        };
        self.times.checkpoint = Some(now.since(self.since));
        if self.checkpoint == Checkpoint::Saved || self.kind == ResizeKind::Recall {
            self.enter(Phase::Resizing, now)
        } else {
            self.enter(Phase::Ended(Outcome::CheckpointFailed), now)
        }
    }

    fn after_resizing(mut self, seen: &Seen, limits: &ResizeLimits, now: Timestamp) -> Self {
        let spent = now.since(self.since);
        if is_at(self.to, seen) {
            self.times.resize = Some(spent);
            // Nobody is left to advance.
            let phase = match self.to {
                0 => Phase::Ended(Outcome::Done),
                _ => Phase::Verifying { baseline: seen.steps },
            };
            return self.enter(phase, now);
        }
        if spent >= limits.resize || self.cannot_work(seen) {
            self.times.resize = Some(spent);
            return self.give_up(now);
        }
        self
    }

    fn after_verifying(
        mut self,
        baseline: Option<u64>,
        seen: &Seen,
        limits: &ResizeLimits,
        now: Timestamp,
    ) -> Self {
        let spent = now.since(self.since);
        let lowest = match (baseline, seen.steps) {
            (Some(before), Some(steps)) => Some(before.min(steps)),
            (before, steps) => before.or(steps),
        };
        let advanced =
            lowest.zip(seen.steps).is_some_and(|(low, steps)| steps >= low.saturating_add(STEPS_PROOF));
        if advanced && is_at(self.to, seen) {
            self.times.verify = Some(spent);
            return self.enter(Phase::Ended(Outcome::Done), now);
        }
        if spent >= limits.verify || self.cannot_work(seen) {
            self.times.verify = Some(spent);
            return self.give_up(now);
        }
        self.phase = Phase::Verifying { baseline: lowest };
        self
    }

    fn after_restoring(mut self, seen: &Seen, limits: &ResizeLimits, now: Timestamp) -> Self {
        let spent = now.since(self.since);
        let outcome = match is_at(self.from, seen) {
            true => Outcome::Restored,
            false if spent >= limits.resize => Outcome::TimedOut,
            false => return self,
        };
        self.times.restore = Some(spent);
        self.enter(Phase::Ended(outcome), now)
    }

    /// More waiting would not help a grown job whose new workers die at their start.
    fn cannot_work(&self, seen: &Seen) -> bool {
        seen.crash_loop && self.to > self.from
    }

    fn give_up(self, now: Timestamp) -> Self {
        match self.kind {
            ResizeKind::Voluntary => self.enter(Phase::Restoring, now),
            ResizeKind::Recall => self.enter(Phase::Ended(Outcome::TimedOut), now),
        }
    }

    const fn enter(mut self, phase: Phase, now: Timestamp) -> Self {
        self.phase = phase;
        self.since = now;
        self
    }
}

/// Whether exactly `size` workers are there, and all of them ready. The counts may be older than the order.
const fn is_at(size: u32, seen: &Seen) -> bool {
    let workers = &seen.workers;
    workers.ready == size && workers.starting == 0 && workers.draining == 0
}

#[cfg(test)]
mod tests;
