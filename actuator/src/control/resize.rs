//! Training resizes beside the loop: one per workload at a time; a recall takes the place of a voluntary one.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_brain::ResizeOutcome;
use tidegate_core::{Signal, Timestamp, WorkloadId};
use tokio::task::JoinHandle;

use super::Readings;
use crate::targets::local::LocalTarget;
use crate::training::{
    CheckpointHook, ResizeKind, ResizeLimits, ResizeReport, Resizer, StepsProbe, StoreError,
};

/// A training resize that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resized {
    /// Whose.
    pub workload: WorkloadId,
    /// Workers before.
    pub from: u32,
    /// Workers wanted now.
    pub to: u32,
    /// All phases together.
    pub took: Duration,
    /// How it ended.
    pub outcome: ResizeOutcome,
    /// Why its checkpoint failed, if it did.
    pub checkpoint_failure: Option<String>,
}

/// A resize under way.
#[derive(Debug)]
pub(super) struct Resizing {
    workload: WorkloadId,
    pub(super) to: u32,
    task: JoinHandle<Result<ResizeReport, StoreError>>,
}

impl Resizing {
    pub(super) fn start(workload: &WorkloadId, resizer: Arc<Resizer>, from: u32, to: u32) -> Self {
        let kind = if to < from { ResizeKind::Recall } else { ResizeKind::Voluntary };
        let task = tokio::spawn(async move { resizer.run(to, kind).await });
        Self { workload: workload.clone(), to, task }
    }

    /// Goes on with the resize that an earlier Tidegate left unfinished, if there is one.
    pub(super) fn resume(workload: &WorkloadId, resizer: Arc<Resizer>) -> Option<Self> {
        match resizer.unfinished() {
            Ok(left) => left.map(|resize| {
                let to = resize.to;
                let task = tokio::spawn(async move { Ok(resizer.resume(resize).await) });
                Self { workload: workload.clone(), to, task }
            }),
            Err(error) => {
                tracing::warn!(%workload, %error, "an unfinished resize could not be read and is left");
                None
            }
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// What came of it; `None` when it could not even be begun.
    pub(super) async fn finish(self) -> Option<Resized> {
        match self.task.await {
            Ok(Ok(report)) => Some(resized(self.workload, &report)),
            Ok(Err(error)) => {
                tracing::error!(workload = %self.workload, %error, "a resize was not begun");
                None
            }
            Err(error) if error.is_cancelled() => None,
            Err(error) => {
                tracing::error!(workload = %self.workload, %error, "a resize ended in a panic");
                None
            }
        }
    }

    /// Ends it where it stands.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

fn resized(workload: WorkloadId, report: &ResizeReport) -> Resized {
    Resized {
        workload,
        from: report.course.from,
        to: report.workers,
        took: report.course.times.total(),
        outcome: report.course.told(report.outcome),
        checkpoint_failure: report.course.checkpoint_failure().map(str::to_owned),
    }
}

/// How a workload's training is resized.
pub(super) fn resizer(
    id: &WorkloadId,
    target: &Arc<LocalTarget>,
    checkpoint: Option<(CheckpointHook, Duration)>,
    readings: &Arc<dyn Readings>,
    state_dir: &Path,
) -> Arc<Resizer> {
    let mut limits = ResizeLimits::default();
    let hook = checkpoint.map(|(hook, limit)| {
        limits.checkpoint = limit;
        hook
    });
    let steps = steps_probe(Arc::clone(readings), id.clone());
    Arc::new(Resizer::new(Arc::clone(target), hook, steps, limits, state_dir))
}

/// Counts steps from the rate that is scraped: each new reading adds what was done since the last one.
fn steps_probe(readings: Arc<dyn Readings>, id: WorkloadId) -> StepsProbe {
    let seen: Arc<Mutex<Option<(Timestamp, f64)>>> = Arc::default();
    Arc::new(move || {
        let latest = readings.latest(&id, Signal::StepsPerSecond);
        let steps = latest.map(|(rate, at)| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let (last, steps) = seen.unwrap_or((at, 0.0));
            let steps = steps + rate.max(0.0) * at.since(last).as_secs_f64();
            *seen = Some((at.max(last), steps));
            whole(steps)
        });
        Box::pin(std::future::ready(steps))
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; steps are never negative"
)]
fn whole(steps: f64) -> u64 {
    steps as u64
}
