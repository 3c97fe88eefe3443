//! A cell: all that is needed to speak about one horizon and one kind of target. It does not learn whom to hear; see `judge`.

use serde::{Deserialize, Serialize};
use tidegate_core::forecast::LEVELS;

use crate::conformal::Conformal;
use crate::empirical::Grid;
use crate::packed;

/// How curves are heard at one horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) h: usize,
    /// By curve: quantiles of its errors, and its weight at each level. `None`: no opinion, or not worth its cost.
    pub(crate) voices: Vec<Option<CurveVoice>>,
    pub(crate) conformal: Conformal,
}

/// One curve's part in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct CurveVoice {
    #[serde(with = "packed::grid")]
    pub(crate) errors: [f32; LEVELS.len()],
    #[serde(with = "packed::grid")]
    pub(crate) weights: [f32; LEVELS.len()],
}

impl Cell {
    /// The errors of a curve, and its weights, which are none while the series is off its course.
    pub(crate) fn part(&self, curve: usize, on_course: bool) -> Option<(Grid, Grid)> {
        let voice = self.voices[curve].filter(|_| on_course)?;
        Some((voice.errors.map(f64::from), voice.weights.map(f64::from)))
    }
}
