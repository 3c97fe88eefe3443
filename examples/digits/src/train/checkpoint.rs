//! The job's checkpoint: where training goes on from after a change of leader. Written by the leader, on request and from time to time.

use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use super::{Job, TrainError};
use crate::faults::Fault;
use crate::learn;
use crate::log::rounded;
use crate::model::Model;
use crate::model::file::{FileError, Saved};
use crate::names::field;

/// Steps between two checkpoints that nobody asked for: what a crash of the leader may cost.
pub(super) const EVERY: u64 = 50;
/// Requests that may wait; one more is refused. One is usual: a scaler asks once and waits for the answer.
pub(super) const REQUESTS_MAX: usize = 4;

/// What became of a checkpoint: the saved step, or why there is none.
pub(super) type Outcome = Result<u64, String>;

/// Somebody waits for a checkpoint.
#[derive(Debug)]
pub(super) struct SaveRequest {
    pub(super) reply: oneshot::Sender<Outcome>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("checkpoint.bin")
}

/// What training goes on from: the checkpoint, or an untrained model where there is none. A damaged one is moved aside and said so.
pub(super) fn resume(job: &Job) -> Result<Saved, TrainError> {
    let path = path(&job.dir);
    match Saved::read(&path) {
        Ok(saved) => Ok(saved),
        Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(untrained()),
        Err(error @ FileError::Wrong { .. }) => {
            let aside = path.with_extension("damaged");
            std::fs::rename(&path, &aside).map_err(job.failed())?;
            let line = job.log.warn("checkpoint moved aside").with(field::ERROR, error.to_string());
            line.with(field::FILE, aside.display().to_string()).write();
            Ok(untrained())
        }
        Err(error) => Err(TrainError::Model(error)),
    }
}

fn untrained() -> Saved {
    Saved { model: Model::untrained(learn::SEED), steps: 0 }
}

/// Writes a checkpoint; whatever comes of it is counted and logged.
pub(super) async fn save(job: &Job, saved: Saved) -> Outcome {
    let (step, path) = (saved.steps, path(&job.dir));
    let outcome = if job.faults.is_on(Fault::FailCheckpoint) {
        Err("failed on request (fault fail-checkpoint)".to_owned())
    } else {
        write(path, saved).await
    };
    job.status.count_checkpoint(outcome.is_ok());
    match outcome {
        Ok(accuracy) => {
            let line = job.log.info("checkpoint saved").with(field::STEP, step);
            line.with(field::ACCURACY, accuracy.map(rounded)).write();
            Ok(step)
        }
        Err(reason) => {
            let line = job.log.error("checkpoint failed").with(field::STEP, step);
            line.with(field::ERROR, reason.as_str()).write();
            Err(reason)
        }
    }
}

/// Writes and syncs off the runtime's threads; answers the model's accuracy on held-out images.
async fn write(path: PathBuf, saved: Saved) -> Result<Option<f64>, String> {
    let written = tokio::task::spawn_blocking(move || {
        saved.write(&path).map_err(|error| super::chain(&error))?;
        Ok(saved.model.accuracy(&learn::held_out()))
    });
    written.await.unwrap_or_else(|_| Err("the write was cut short".to_owned()))
}
