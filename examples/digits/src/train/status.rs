//! What a worker counts, whether it is ready, and how `/metrics` shows it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::exposition::{Histogram, Page};
use crate::names::{label, train};

/// Seconds. Dense around the default step of 200 ms.
const BOUNDS: [f64; 12] = [0.01, 0.05, 0.1, 0.2, 0.21, 0.225, 0.25, 0.3, 0.5, 1.0, 2.0, 5.0];

/// A worker's figures.
#[derive(Debug)]
pub(super) struct Status {
    figures: Mutex<Figures>,
}

#[derive(Debug)]
struct Figures {
    steps: u64,
    samples: u64,
    last: Option<Part>,
    step_seconds: Histogram,
    saved: u64,
    failed: u64,
    leader: bool,
}

/// A worker's part in a step that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) step: u64,
    /// Samples that this worker has worked through.
    pub(super) samples: u32,
    /// Mean loss: the leader knows that of all workers, a follower its own.
    pub(super) loss: f32,
    /// How long the step took, as this worker saw it; unknown for a follower's first.
    pub(super) took: Option<Duration>,
    pub(super) workers: u32,
    pub(super) ended: Instant,
}

impl Status {
    pub(super) fn new() -> Self {
        let figures = Figures {
            steps: 0,
            samples: 0,
            last: None,
            step_seconds: Histogram::new(&BOUNDS),
            saved: 0,
            failed: 0,
            leader: false,
        };
        Self { figures: Mutex::new(figures) }
    }

    pub(super) fn count_part(&self, part: Part) {
        let mut figures = self.figures();
        figures.steps += 1;
        figures.samples += u64::from(part.samples);
        if let Some(took) = part.took {
            figures.step_seconds.observe(took.as_secs_f64());
        }
        figures.last = Some(part);
    }

    pub(super) fn count_checkpoint(&self, saved: bool) {
        let mut figures = self.figures();
        if saved { figures.saved += 1 } else { figures.failed += 1 }
    }

    pub(super) fn set_leader(&self, leader: bool) {
        self.figures().leader = leader;
    }

    /// Whether it has taken part in a step within `age_max`.
    pub(super) fn is_ready(&self, age_max: Duration) -> bool {
        self.figures().last.is_some_and(|part| part.ended.elapsed() <= age_max)
    }

    #[expect(clippy::cast_precision_loss, reason = "steps beyond 2^53 are out of reach")]
    pub(super) fn page(&self) -> Page {
        let figures = self.figures();
        let last = figures.last;
        let mut page = Page::default();
        page.counter(train::STEPS, "Steps that this worker has taken part in.", figures.steps);
        page.counter(train::SAMPLES, "Samples that this worker has worked through.", figures.samples);
        page.gauge(train::STEP, "The job's step number.", last.map(|part| part.step as f64));
        let help = "Mean loss of the last step: of all workers on the leader, else of this worker.";
        page.gauge(train::LOSS, help, last.map(|part| f64::from(part.loss)));
        page.histogram(
            train::STEP_SECONDS,
            "Seconds of a step as this worker saw it.",
            &figures.step_seconds,
        );
        let workers = last.map(|part| f64::from(part.workers));
        page.gauge(train::WORKERS, "Workers that took part in the last step.", workers);
        let results = [("saved", figures.saved), ("failed", figures.failed)];
        page.counters(
            train::CHECKPOINTS,
            "Checkpoints that this worker wrote as leader.",
            label::RESULT,
            results,
        );
        page.gauge(train::LEADER, "1 on the worker that leads.", Some(f64::from(u8::from(figures.leader))));
        page
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        // Counting cannot panic half-way, so a poisoned lock still guards whole figures.
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
