//! What a predictor must be told about a series, and its unfitted form.

use std::time::Duration;

use tidegate_core::Series;

use crate::fitted::FittedPredictor;

/// What does not follow from the history itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictorConfig {
    /// Length of a step; the series given to [`Predictor::fit`] must have the same.
    pub step: Duration,
    /// Lengths of the cycles that the load may follow, such as a day and a week. One shorter than two steps is ignored.
    pub seasons: Vec<Duration>,
    /// Steps that a forecast covers; at least 1.
    pub horizon_steps: usize,
    /// Steps from a decision to its effect: the horizon at which models are judged. Clamped to `1..=horizon_steps`.
    pub lead_steps: usize,
    /// Seed of the draw of the origins at which models are judged.
    pub seed: u64,
}

impl Default for PredictorConfig {
    fn default() -> Self {
        Self {
            step: Duration::from_secs(60),
            seasons: vec![Duration::from_secs(86_400), Duration::from_secs(7 * 86_400)],
            horizon_steps: 120,
            lead_steps: 5,
            seed: 0,
        }
    }
}

impl PredictorConfig {
    pub(crate) fn horizon(&self) -> usize {
        self.horizon_steps.max(1)
    }

    pub(crate) fn lead(&self) -> usize {
        self.lead_steps.clamp(1, self.horizon())
    }

    /// Season lengths in steps, shortest first.
    pub(crate) fn season_steps(&self) -> Vec<usize> {
        let step = self.step.as_millis().max(1);
        let in_steps = |s: &Duration| usize::try_from((s.as_millis() + step / 2) / step).ok();
        let mut steps: Vec<usize> = self.seasons.iter().filter_map(in_steps).filter(|s| *s >= 2).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

/// A predictor that has seen nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predictor {
    config: PredictorConfig,
}

impl Predictor {
    /// A predictor for series of this kind.
    #[must_use]
    pub const fn new(config: PredictorConfig) -> Self {
        Self { config }
    }

    /// Learns from a history. Total: a history that is too short, empty or all gaps gives a predictor without an opinion,
    /// which still takes observations. Runs of zeros in an otherwise positive series count as gaps; so do negative values
    /// and values beyond 10¹⁸. After a level shift, only what came since is learned from.
    #[must_use]
    pub fn fit(&self, series: &Series) -> FittedPredictor {
        FittedPredictor::fit(&self.config, series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seasons_become_steps_and_nonsense_is_ignored() {
        let config = PredictorConfig {
            step: Duration::from_secs(5),
            seasons: [600, 0, 4, 3600, 600].map(Duration::from_secs).to_vec(),
            lead_steps: 900,
            ..PredictorConfig::default()
        };
        assert_eq!(config.season_steps(), [120, 720]);
        assert_eq!(config.lead(), 120);
    }
}
