//! A cell: all that is needed to speak about one horizon and one kind of target. It does not learn whom to hear; see `judge`.

use tidegate_core::forecast::LEVELS;

use crate::conformal::Conformal;
use crate::empirical::Grid;

/// How curves are heard at one horizon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) h: usize,
    /// Of the curves that have an opinion and are worth their cost.
    pub(crate) voices: Vec<CurveVoice>,
    pub(crate) conformal: Conformal,
}

/// One curve's part in a cell: quantiles of its errors, and its weight at each level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CurveVoice {
    pub(crate) curve: usize,
    pub(crate) errors: [f32; LEVELS.len()],
    pub(crate) weights: [f32; LEVELS.len()],
}

impl Cell {
    pub(crate) fn hears(&self, curve: usize) -> bool {
        self.voices.iter().any(|voice| voice.curve == curve)
    }

    /// The errors of a curve, and its weights, which are none while the series is off its course.
    pub(crate) fn part(&self, curve: usize, on_course: bool) -> Option<(Grid, Grid)> {
        let voice = self.voices.iter().find(|voice| voice.curve == curve && on_course)?;
        Some((voice.errors.map(f64::from), voice.weights.map(f64::from)))
    }
}
