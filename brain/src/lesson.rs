//! Learning apart from deciding: a lesson owns all that it needs, so that a loop can have it learned beside itself and go on
//! with what it knew until then.

use tidegate_core::Series;
use tidegate_predictor::{FittedPredictor, Predictor, PredictorConfig};

/// A history from which a brain's models are to be fitted anew. Takes some tenths of a second: see [`Lesson::learn`].
#[derive(Debug, Clone)]
pub struct Lesson {
    pub(crate) predictor: PredictorConfig,
    pub(crate) series: Series,
}

/// What a lesson taught; for the brain that gave it.
#[derive(Debug, Clone)]
pub struct Learned {
    pub(crate) fitted: FittedPredictor,
}

impl Lesson {
    /// Fits the models. Pure: the same lesson teaches the same.
    #[must_use]
    pub fn learn(self) -> Learned {
        Learned { fitted: Predictor::new(self.predictor).fit(&self.series) }
    }
}
