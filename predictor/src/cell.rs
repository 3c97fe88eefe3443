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
    /// The curve that speaks alone while the series is on its course, because it is clearly better than the mix.
    pub(crate) chosen: Option<usize>,
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
    /// A cell in which the reference alone speaks.
    pub(crate) fn of_reference(h: usize, curves: usize, errors: &Grid, conformal: Conformal) -> Self {
        let mut voices = vec![None; curves];
        voices[0] = Some(CurveVoice { errors: errors.map(packed::narrowed), weights: [1.0; LEVELS.len()] });
        Self { h, voices, chosen: None, conformal }
    }

    /// The errors of a curve, and its weights; `on_course` tells whether a curve may speak alone now.
    pub(crate) fn part(&self, curve: usize, on_course: impl Fn(usize) -> bool) -> Option<(Grid, Grid)> {
        let voice = self.voices[curve]?;
        let weights = match self.chosen.filter(|chosen| on_course(*chosen)) {
            Some(chosen) if chosen == curve => [1.0; LEVELS.len()],
            Some(_) => [0.0; LEVELS.len()],
            None => voice.weights.map(f64::from),
        };
        Some((voice.errors.map(f64::from), weights))
    }
}
