//! The resize of a training job of the cluster: the course of [`crate::training`], taken a step further in each round, by the
//! controller that leads. Where it stands is in the policy's status, so that another can take it up.

use std::time::Duration;

use futures::FutureExt;
use tidegate_brain::ResizeOutcome;
use tidegate_core::{ReplicaCounts, Signal, Timestamp, WorkloadId};
use tokio::task::JoinHandle;

use super::checkpoint::{Asker, Worker};
use crate::control::Readings;
use crate::crds::{CheckpointHook, ResizeStatus, TrainingPolicySpec, status_time};
use crate::training::{Checkpoint, Order, Phase, Resize, ResizeKind, ResizeLimits, Seen};

/// Steps are counted from rates that come at least this often; what lies further apart is not filled in.
const STEP_GAP_MAX: Duration = Duration::from_secs(60);
/// Whoever has told of steps within this is expected to go on telling after a resize.
const STEPS_KNOWN: Duration = Duration::from_secs(120);

/// How a policy has its job resized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// How a checkpoint is asked for.
    pub hook: Option<CheckpointHook>,
    /// Longest time for each phase.
    pub limits: ResizeLimits,
}

impl Manner {
    /// As the spec says.
    #[must_use]
    pub fn of(spec: &TrainingPolicySpec) -> Self {
        let checkpoint = spec.checkpoint.as_ref().map(|hook| hook.deadline.get());
        let limits = ResizeLimits {
            checkpoint: checkpoint.unwrap_or_default(),
            resize: spec.resize_deadline.get(),
            verify: spec.steps_deadline.get(),
        };
        Self { hook: spec.checkpoint.clone(), limits }
    }
}

/// A resize that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) from: u32,
    pub(super) to: u32,
    /// All phases together.
    pub(super) took: Duration,
    pub(super) outcome: ResizeOutcome,
    /// Why its checkpoint failed, if it did.
    pub(super) checkpoint_failure: Option<String>,
}

/// What is remembered of one job from round to round.
#[derive(Debug, Default)]
pub(super) struct Course {
    resize: Option<Resize>,
    asked: Option<JoinHandle<Result<(), String>>>,
    steps: Steps,
    taken_up: bool,
}

/// One look at the job.
pub(super) struct Look<'a> {
    pub(super) manner: &'a Manner,
    pub(super) workers: ReplicaCounts,
    pub(super) crash_loop: bool,
    /// The first worker that is ready: whom a checkpoint is asked of.
    pub(super) worker: Option<Worker>,
    /// What the policy's status says of it: where the last leader left it, later what this one has told.
    pub(super) stored: Option<&'a ResizeStatus>,
    pub(super) now: Timestamp,
}

impl Course {
    /// Whether a resize is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.resize.as_ref().is_some_and(|resize| resize.outcome().is_none())
    }

    /// Takes in what the job tells of its steps.
    pub(super) fn see(&mut self, readings: &dyn Readings, id: &WorkloadId) {
        self.steps.see(readings.latest(id, Signal::StepsPerSecond));
    }

    /// Forgets a resize that somebody else goes on with.
    pub(super) fn leave(&mut self) {
        if let Some(asked) = self.asked.take() {
            asked.abort();
        }
        (self.resize, self.taken_up) = (None, false);
    }

    /// A step further on the way from the size that is to `planned`: the size that is to be in force now, if any, and how a resize
    /// ended that did. Must be called within a Tokio runtime.
    pub(super) fn go_on(
        &mut self,
        look: &Look<'_>,
        planned: u32,
        asker: &impl Asker,
    ) -> (Option<u32>, Option<Ended>) {
        let (size, now) = (look.workers.wanted, look.now);
        if !std::mem::replace(&mut self.taken_up, true) {
            self.resize = look.stored.and_then(resume);
        }
        let recalled = |resize: &Resize| planned < resize.to && planned < size;
        if self.resize.as_ref().is_none_or(|resize| resize.outcome().is_some() || recalled(resize)) {
            if planned == size {
                return (None, None);
            }
            let kind = if planned < size { ResizeKind::Recall } else { ResizeKind::Voluntary };
            let has_hook = look.manner.hook.is_some() && look.worker.is_some();
            self.asked = None;
            self.resize = Some(Resize::new(size, planned, kind, has_hook, now));
        }
        let Some(before) = self.resize.take() else { return (None, None) };
        if before.order() == Order::Checkpoint && self.asked.is_none() {
            self.asked = look.manner.hook.as_ref().zip(look.worker.clone()).map(|(hook, worker)| {
                // Whoever asks has the deadline, too; the course has its own in case that fails.
                asker.ask(hook, worker)
            });
        }
        let seen = Seen {
            checkpoint: self.answer(),
            workers: look.workers,
            crash_loop: look.crash_loop,
            steps: self.steps.done(now),
        };
        let steps_known = self.steps.is_told(now) || matches!(before.phase, Phase::Verifying { .. });
        let resize = before.next(&seen, &look.manner.limits, now);
        // A job that never told of steps cannot prove any: that its workers are ready must do.
        let resize = if steps_known { resize } else { resize.without_proof(now) };
        let ended = resize.outcome().map(|outcome| Ended {
            from: resize.from,
            to: resize.size_after(outcome),
            took: resize.times.total(),
            outcome: resize.told(outcome),
            checkpoint_failure: resize.checkpoint_failure().map(str::to_owned),
        });
        let size = match resize.order() {
            Order::Workers(workers) if !resize.may_be_taken_back() || is_stored(&resize, look.stored) => {
                Some(workers)
            }
            Order::Workers(_) | Order::Checkpoint => None,
        };
        self.resize = Some(resize);
        (size, ended)
    }

    fn answer(&mut self) -> Option<Result<(), String>> {
        let asked = self.asked.as_mut()?;
        if !asked.is_finished() {
            return None;
        }
        // It is finished, so this is there at once.
        let answer = asked.now_or_never()?;
        self.asked = None;
        Some(answer.unwrap_or_else(|_| Err("asking for it was broken off".to_owned())))
    }

    /// For the policy's status.
    pub(super) fn status(&self) -> Option<ResizeStatus> {
        let resize = self.resize.as_ref()?;
        let phase = match resize.phase {
            Phase::Checkpointing => CHECKPOINTING,
            Phase::Resizing => RESIZING,
            Phase::Verifying { .. } => VERIFYING,
            Phase::Restoring => RESTORING,
            Phase::Ended(outcome) => outcome.as_str(),
        };
        Some(ResizeStatus {
            from: resize.from,
            to: resize.to,
            kind: resize.kind.as_str().to_owned(),
            phase: phase.to_owned(),
            since: Some(status_time(resize.since)),
            checkpoint: match &resize.checkpoint {
                Checkpoint::Asked => Some("asked".to_owned()),
                Checkpoint::None => None,
                Checkpoint::Saved => Some("saved".to_owned()),
                Checkpoint::Failed(why) => Some(format!("failed: {why}")),
            },
        })
    }
}

/// Whether another leader would find this resize: the way back is written down before it is needed.
fn is_stored(resize: &Resize, stored: Option<&ResizeStatus>) -> bool {
    let stored = stored.and_then(resume);
    stored.is_some_and(|s| (s.from, s.to, s.kind) == (resize.from, resize.to, resize.kind))
}

const CHECKPOINTING: &str = "checkpointing";
const RESIZING: &str = "resizing";
const VERIFYING: &str = "verifying";
const RESTORING: &str = "restoring";

/// A resize that another controller has begun; `None` for one that is over, or that cannot be read.
fn resume(left: &ResizeStatus) -> Option<Resize> {
    let kind = [ResizeKind::Voluntary, ResizeKind::Recall].into_iter().find(|k| k.as_str() == left.kind)?;
    let phase = match left.phase.as_str() {
        CHECKPOINTING => Phase::Checkpointing,
        RESIZING => Phase::Resizing,
        VERIFYING => Phase::Verifying { baseline: None },
        RESTORING => Phase::Restoring,
        _ => return None,
    };
    let since = left.since.as_ref().map(super::facts::timestamp)?;
    let asks = phase == Phase::Checkpointing;
    let mut resize = Resize::new(left.from, left.to, kind, asks, since);
    resize.phase = phase;
    resize.checkpoint = match left.checkpoint.as_deref() {
        Some("saved") => Checkpoint::Saved,
        Some("asked") => Checkpoint::Asked,
        Some(failed) => Checkpoint::Failed(failed.trim_start_matches("failed: ").to_owned()),
        None => Checkpoint::None,
    };
    Some(resize)
}

/// Steps that a job has done, counted from the rate that it tells.
#[derive(Debug, Default)]
struct Steps {
    done: f64,
    last: Option<Timestamp>,
}

impl Steps {
    fn see(&mut self, reading: Option<(f64, Timestamp)>) {
        let Some((rate, at)) = reading else { return };
        let since = self.last.map_or(Duration::ZERO, |last| at.since(last)).min(STEP_GAP_MAX);
        if self.last.is_none_or(|last| at > last) {
            self.done += rate.max(0.0) * since.as_secs_f64();
            self.last = Some(at);
        }
    }

    fn is_told(&self, now: Timestamp) -> bool {
        self.last.is_some_and(|last| now.since(last) <= STEPS_KNOWN)
    }

    fn done(&self, now: Timestamp) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates; steps are never negative"
        )]
        self.is_told(now).then_some(self.done as u64)
    }
}

#[cfg(test)]
mod tests;
