//! Training in one process at full speed: how the model file that `digits-serve` loads is made.

use std::path::Path;

use crate::glyphs::{self, Image};
use crate::model::Model;
use crate::model::file::{FileError, Saved};
use crate::seeds;

/// Step size of gradient descent: found by trial; half of it learns too slowly, four times as much does not settle.
pub(crate) const RATE: f32 = 0.25;
/// Seed of the job's data and first parameters.
pub const SEED: u64 = 0xd161_7501;
/// Steps that reach an accuracy above 0.95 on images that the model has not seen.
pub const STEPS: u64 = 800;
/// Samples of a step.
const BATCH: usize = 64;
/// Place, under the job's seed, of the images that no step trains on.
const HELD_OUT: u64 = u64::MAX;
/// Enough to tell accuracies two points apart.
const HELD_OUT_IMAGES: usize = 1000;

/// Images that no step trains on.
#[must_use]
pub fn held_out() -> Vec<Image> {
    glyphs::images(seeds::mix(SEED, HELD_OUT), HELD_OUT_IMAGES)
}

/// The images of shard `shard` of step `step`: no two shards of any steps share one.
pub(crate) fn shard(step: u64, shard: u32, count: usize) -> Vec<Image> {
    glyphs::images(seeds::mix(seeds::mix(SEED, step), u64::from(shard)), count)
}

/// Trains a fresh model for `steps` steps.
#[must_use]
pub fn train(steps: u64) -> Saved {
    let mut model = Model::untrained(SEED);
    for step in 0..steps {
        let gradient = model.gradient(&shard(step, 0, BATCH));
        assert!(model.descend(&gradient.values, RATE), "a finite model has finite gradients");
    }
    Saved { model, steps }
}

/// Trains a fresh model for `steps` steps and writes it to `out`.
///
/// # Errors
/// When the file cannot be written.
pub fn train_to(out: &Path, steps: u64) -> Result<Saved, FileError> {
    let saved = train(steps);
    saved.write(out)?;
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_learns_what_it_has_not_seen() {
        let held_out = held_out();
        let before = Model::untrained(SEED).accuracy(&held_out).unwrap();
        let after = train(STEPS).model.accuracy(&held_out).unwrap();
        assert!(before < 0.3, "{before} without training");
        assert!(after > 0.93, "{after} after training");
        eprintln!("accuracy {before:.3} -> {after:.3}");
    }
}
