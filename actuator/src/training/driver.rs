//! Takes a resize through its course on a local target: looks, asks, sets and writes down. It decides nothing.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use tokio::task::JoinSet;

use super::{Order, Outcome, Resize, ResizeKind, ResizeLimits, Seen};
use crate::clock::Anchored;
use crate::http_call;
use crate::targets::local::state::write_atomically;
use crate::targets::local::{LocalTarget, StateError, chain};

/// Pause between two looks at the job; also the error of the measured times.
const LOOK: Duration = Duration::from_millis(100);

/// A probe that has not answered by then has no answer.
const STEPS_LIMIT: Duration = Duration::from_secs(5);

/// Reads how many steps the job has done; `None` when that is not known at present.
pub type StepsProbe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<u64>> + Send>> + Send + Sync>;

/// How a job is asked for a checkpoint: a POST to its first ready worker, answered with 2xx when the checkpoint is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointHook {
    /// Path of the request.
    pub path: String,
}

/// Why a resize could not be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be written.
    #[error("failed to write down a resize")]
    Write(#[source] StateError),
    /// What is there is not a resize.
    #[error("failed to read a resize from {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// How a resize went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeReport {
    /// The end of it.
    pub outcome: Outcome,
    /// Workers that are wanted now.
    pub workers: u32,
    /// Its whole course: checkpoint, times, sizes.
    pub course: Resize,
}

/// Resizes one local training job. One resize at a time: drop the future of [`Self::run`] to give way to another, which
/// starts from the size that is then.
pub struct Resizer {
    target: Arc<LocalTarget>,
    hook: Option<CheckpointHook>,
    steps: StepsProbe,
    limits: ResizeLimits,
    store: PathBuf,
}

impl std::fmt::Debug for Resizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resizer")
            .field("hook", &self.hook)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Resizer {
    /// For the job of `target`. A resize on its way is kept in a file of `state_dir`.
    #[must_use]
    pub fn new(
        target: Arc<LocalTarget>,
        hook: Option<CheckpointHook>,
        steps: StepsProbe,
        limits: ResizeLimits,
        state_dir: &Path,
    ) -> Self {
        let store = state_dir.join(format!("resize-{}.json", target.spec().id.as_str().replace('/', "_")));
        Self { target, hook, steps, limits, store }
    }

    /// The resize that an earlier Tidegate left unfinished; to be given to [`Self::resume`].
    ///
    /// # Errors
    /// When the file is there but does not hold one.
    pub fn unfinished(&self) -> Result<Option<Resize>, StoreError> {
        let Ok(text) = std::fs::read(&self.store) else { return Ok(None) };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| StoreError::Parse { path: self.store.clone(), source })
    }

    /// Resizes to `to` workers and returns when that has worked or has been taken back.
    ///
    /// # Errors
    /// When it cannot be written down; then nothing was changed.
    pub async fn run(&self, to: u32, kind: ResizeKind) -> Result<ResizeReport, StoreError> {
        let from = self.target.counts().wanted;
        let resize = Resize::new(from, to, kind, self.hook.is_some(), Anchored::new().now());
        self.save(&resize)?;
        Ok(self.resume(resize).await)
    }

    /// Goes on with a resize from where it stands.
    pub async fn resume(&self, mut resize: Resize) -> ResizeReport {
        let clock = Anchored::new();
        let mut asked = JoinSet::new();
        let outcome = loop {
            self.carry_out(&resize, &mut asked);
            let seen = self.look(&mut asked).await;
            let before = resize.phase;
            resize = resize.next(&seen, &self.limits, clock.now());
            if let Some(outcome) = resize.outcome() {
                break outcome;
            }
            if resize.phase != before
                && let Err(error) = self.save(&resize)
            {
                // Taken up again it would only repeat a phase, which does no harm.
                tracing::warn!(error = chain(&error), "failed to write down the phase of a resize");
            }
            tokio::time::sleep(LOOK).await;
        };
        self.carry_out(&resize, &mut asked);
        if let Err(error) = std::fs::remove_file(&self.store) {
            tracing::warn!(%error, "failed to remove the record of a finished resize");
        }
        let Order::Workers(workers) = resize.order() else { unreachable!("an ended resize asks for a size") };
        ResizeReport { outcome, workers, course: resize }
    }

    fn carry_out(&self, resize: &Resize, asked: &mut JoinSet<Result<(), String>>) {
        match resize.order() {
            Order::Workers(workers) => self.target.set_replicas(workers),
            Order::Checkpoint if asked.is_empty() => {
                asked.spawn(self.ask());
            }
            Order::Checkpoint => {}
        }
    }

    fn ask(&self) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let worker = self.target.endpoints().first().copied();
        let hook = self.hook.clone();
        let limit = self.limits.checkpoint;
        async move {
            let hook = hook.ok_or("the job has no checkpoint hook")?;
            let worker = worker.ok_or("no worker is ready to be asked")?;
            match http_call::call(worker.addr, Method::POST, &hook.path, limit).await {
                Ok(status) if status.is_success() => Ok(()),
                Ok(status) => Err(format!("worker {} answered {status}", worker.index)),
                Err(error) => Err(chain(&error)),
            }
        }
    }

    async fn look(&self, asked: &mut JoinSet<Result<(), String>>) -> Seen {
        let checkpoint = asked.try_join_next().map(|joined| joined.unwrap_or_else(|e| Err(e.to_string())));
        let steps = tokio::time::timeout(STEPS_LIMIT, (self.steps)()).await.ok().flatten();
        Seen { checkpoint, steps, workers: self.target.counts(), crash_loop: self.target.is_crash_looping() }
    }

    fn save(&self, resize: &Resize) -> Result<(), StoreError> {
        let text = serde_json::to_vec(resize).expect("plain structs always serialise");
        write_atomically(&self.store, &text).map_err(StoreError::Write)
    }
}
