//! Learning apart from deciding: a lesson owns all that it needs, so that a loop can have it learned beside itself and go on
//! with what it knew until then.

use tidegate_core::{Quantiles, Series};
use tidegate_predictor::{FittedPredictor, PeakConfig, PeakModel, Predictor, PredictorConfig};

use crate::rehearsal::{Findings, Rehearsal};
use crate::tokens::Scale;

/// A history from which a brain's models are to be fitted anew. Takes some tenths of a second: see [`Lesson::learn`].
#[derive(Debug, Clone)]
pub struct Lesson {
    pub(crate) predictor: PredictorConfig,
    /// `None`: the peak is not forecast.
    pub(crate) peak: Option<PeakConfig>,
    pub(crate) series: Series,
    /// `None` while what a replica carries is not known.
    pub(crate) rehearsal: Option<Rehearsal>,
    /// How the series weighs requests; `None` where they all weigh the same.
    pub(crate) scale: Option<Scale>,
}

/// What a lesson taught; for the brain that gave it.
#[derive(Debug, Clone)]
pub struct Learned {
    pub(crate) fitted: FittedPredictor,
    pub(crate) peak: Option<PeakModel>,
    /// `None` where nothing could be rehearsed.
    pub(crate) provided: Option<Findings>,
    pub(crate) scale: Option<Scale>,
}

impl Lesson {
    /// Fits the models, and rehearses. Pure: the same lesson teaches the same.
    #[must_use]
    pub fn learn(self) -> Learned {
        let fitted = Predictor::new(self.predictor).fit(&self.series);
        let (peak, past) = self.peak.and_then(|config| PeakModel::fit(&config, &self.series)).unzip();
        let mut said: Vec<Option<Quantiles>> = vec![None; self.series.len()];
        if let Some(past) = past {
            said.splice(past.first.., past.said);
        }
        let provided = self.rehearsal.and_then(|rehearsal| rehearsal.run(&self.series, &said));
        Learned { fitted, peak, provided, scale: self.scale }
    }
}
