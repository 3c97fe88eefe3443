//! The judge: walks through a trial in time order, for one horizon and one kind of target. Each curve's errors become its
//! distribution, the mix learns whom to follow, calibration learns how far to trust it, and each is scored. At every
//! origin only what had come true by then is known.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_core::Quantiles;
use tidegate_core::forecast::{LEVELS, Score};

use crate::aggregate::{Mix, average};
use crate::conformal::Conformal;
use crate::curve::Curve;
use crate::empirical::{Errors, Grid, pinball};
use crate::grid::steps;
use crate::history::{History, rounded};
use crate::trial::{Origin, Trial};

/// Indices into [`LEVELS`] of 0.5, 0.9, 0.95 and 0.99, at which forecasts are scored.
const SCORED: [usize; 4] = [3, 6, 7, 10];
/// Index of 0.95.
const LEVEL_95: usize = 7;
/// Fewest judged origins before a score is given, and before the mix may speak.
const JUDGED_MIN: u32 = 20;
/// What a loss still counts after as many further judgements as there are in a fit, one in four hundred each time.
const GUARD_MEMORY: f64 = 1.0 - 1.0 / 400.0;
/// The mix speaks at a horizon where its loss is below this share of the last value's.
const GUARD_RATIO: f64 = 0.995;
/// Weights below this are not worth the cost of a curve.
const WEIGHT_MIN: f64 = 0.005;

/// What is forecast `h` steps ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    /// The value of that step.
    Step,
    /// The largest value up to that step.
    Max,
}

impl Target {
    /// What came true; `None` where it is not known.
    pub(crate) fn actual(self, history: &History, origin: usize, h: usize) -> Option<f64> {
        match self {
            Self::Step => history.value(origin + h),
            Self::Max => history.max(origin + 1, origin + h),
        }
    }
}

/// All that is needed to speak about one horizon.
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
    pub(crate) errors: [f32; LEVELS.len()],
    pub(crate) weights: [f32; LEVELS.len()],
}

/// Losses of one forecaster beside those of the reference, at the same origins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    own: f64,
    reference: f64,
    covered: u32,
    judged: u32,
}

impl Tally {
    fn add(&mut self, said: &Grid, reference: f64, value: f64) {
        self.own += loss(said, value);
        self.reference += reference;
        self.covered += u32::from(value <= said[LEVEL_95]);
        self.judged += 1;
    }

    /// Two tallies as one.
    pub(crate) const fn with(mut self, other: &Self) -> Self {
        self.own += other.own;
        self.reference += other.reference;
        self.covered += other.covered;
        self.judged += other.judged;
        self
    }

    /// The score; `None` while too little was judged.
    pub(crate) fn score(&self) -> Option<Score> {
        let judged = f64::from(self.judged);
        (self.judged >= JUDGED_MIN).then(|| Score {
            pinball: self.own / judged,
            // Two perfect forecasts are equal.
            pinball_ratio: if self.reference > 0.0 { self.own / self.reference } else { 1.0 },
            coverage95: f64::from(self.covered) / judged,
            origins: self.judged,
        })
    }
}

/// What the next horizon may take over about curves that it has seen too little of.
#[derive(Debug, Clone)]
pub(crate) struct Learned {
    mix: Mix,
    leads: bool,
}

/// What a judge found: how to speak, and the tallies of every curve and, last, of the mix.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) cell: Cell,
    /// Quantiles of the reference's errors.
    pub(crate) reference: Grid,
    /// What was learned about whom to follow, for the next horizon.
    pub(crate) learned: Learned,
    pub(crate) tallies: Vec<Tally>,
}

/// A forecast that waits for its value.
struct Waiting<'a> {
    origin: &'a Origin,
    said: Vec<Option<Grid>>,
    mixed: Option<Grid>,
    spoken: Option<Grid>,
}

struct Judge<'a> {
    history: &'a History,
    curves: &'a [Curve],
    h: usize,
    place: usize,
    target: Target,
    errors: Vec<Errors>,
    mix: Mix,
    conformal: Conformal,
    overlap: f64,
    /// Fading losses of the mix and of the reference.
    fading: (f64, f64),
    judged: u32,
    tallies: Vec<Tally>,
}

/// Judges one horizon of a trial; `None` when not even the reference has seen enough. `shorter` is what was learned at the
/// horizon before: in a short history, far horizons come true too seldom to learn whom to follow.
pub(crate) fn judge(
    history: &History,
    trial: &Trial,
    curves: &[Curve],
    place: usize,
    target: Target,
    shorter: Option<&Learned>,
) -> Option<Verdict> {
    let h = trial.grid[place];
    let span = trial.origins.last().map_or(0, |o| o.at) + 1;
    let apart = steps(span) / steps(trial.origins.len().max(1));
    let mut judge = Judge {
        history,
        curves,
        h,
        place,
        target,
        errors: vec![Errors::default(); curves.len()],
        mix: Mix::new(curves.len()),
        conformal: Conformal::default(),
        overlap: (apart / steps(h)).min(1.0),
        fading: (0.0, 0.0),
        judged: 0,
        tallies: vec![Tally::default(); curves.len() + 1],
    };
    let mut waiting: VecDeque<Waiting<'_>> = VecDeque::new();
    for origin in &trial.origins {
        while waiting.front().is_some_and(|w| w.origin.at + h <= origin.at) {
            waiting.pop_front().into_iter().for_each(|w| judge.settle(&w));
        }
        waiting.push_back(judge.speak(origin));
    }
    waiting.retain(|w| w.origin.at + h < history.end());
    waiting.iter().for_each(|w| judge.settle(w));
    judge.verdict(shorter)
}

impl<'a> Judge<'a> {
    fn point(&self, origin: &Origin, curve: &Curve) -> Option<f64> {
        let points = origin.points[curve.model].as_ref()?;
        Some(match self.target {
            Target::Step => points.steps[self.place],
            Target::Max => points.maxima[self.place],
        })
    }

    fn speak(&self, origin: &'a Origin) -> Waiting<'a> {
        let say = |(curve, errors): (&Curve, &Errors)| {
            let (point, errors) = (self.point(origin, curve)?, errors.quantiles()?);
            Some(errors.map(|e| curve.spread.value(self.history, point, origin.volatility, e)))
        };
        let said: Vec<Option<Grid>> = self.curves.iter().zip(&self.errors).map(say).collect();
        let awake: Vec<bool> = said.iter().map(Option::is_some).collect();
        let mixed = average(&said, &self.mix.weights(&awake));
        let chosen = if self.mix_leads() { mixed } else { said[0] };
        let spoken =
            chosen.and_then(Quantiles::new).and_then(|q| self.conformal.apply(&q)).map(|q| *q.values());
        Waiting { origin, said, mixed, spoken }
    }

    fn mix_leads(&self) -> bool {
        self.judged >= JUDGED_MIN && self.fading.0 < GUARD_RATIO * self.fading.1
    }

    fn settle(&mut self, waiting: &Waiting<'_>) {
        let Some(value) = self.target.actual(self.history, waiting.origin.at, self.h) else { return };
        for (curve, at) in self.curves.iter().zip(0..) {
            if let Some(point) = self.point(waiting.origin, curve) {
                self.errors[at].insert(curve.spread.error(
                    self.history,
                    point,
                    waiting.origin.volatility,
                    value,
                ));
            }
        }
        let (Some(reference), Some(mixed), Some(spoken)) =
            (&waiting.said[0], &waiting.mixed, &waiting.spoken)
        else {
            return;
        };
        let reference_loss = loss(reference, value);
        for (tally, said) in self.tallies.iter_mut().zip(&waiting.said) {
            said.iter().for_each(|said| tally.add(said, reference_loss, value));
        }
        self.tallies[self.curves.len()].add(spoken, reference_loss, value);
        self.mix.learn(&waiting.said, mixed, value);
        self.conformal.learn(spoken, value, self.overlap);
        self.fading.0 = self.fading.0 * GUARD_MEMORY + loss(mixed, value);
        self.fading.1 = self.fading.1 * GUARD_MEMORY + reference_loss;
        self.judged += 1;
    }

    fn verdict(mut self, shorter: Option<&Learned>) -> Option<Verdict> {
        let errors: Vec<Option<Grid>> = self.errors.iter().map(Errors::quantiles).collect();
        let reference = errors.first().copied().flatten()?;
        let inherited = shorter.is_some_and(|s| self.mix.inherit(&s.mix, JUDGED_MIN) && s.leads);
        let leads = self.mix_leads() || inherited;
        let awake: Vec<bool> =
            errors.iter().enumerate().map(|(i, e)| e.is_some() && (leads || i == 0)).collect();
        let weights = self.mix.weights(&awake);
        let voice = |(curve, errors): (usize, &Option<Grid>)| {
            let weights = weights.each_ref().map(|level| level[curve]);
            let heard = weights.iter().any(|w| *w >= WEIGHT_MIN);
            errors
                .filter(|_| heard)
                .map(|errors| CurveVoice { errors: errors.map(rounded), weights: weights.map(rounded) })
        };
        let voices = errors.iter().enumerate().map(voice).collect();
        let cell = Cell { h: self.h, voices, conformal: self.conformal };
        let learned = Learned { mix: self.mix, leads };
        Some(Verdict { cell, reference, learned, tallies: self.tallies })
    }
}

impl Cell {
    /// The same cell in which the reference alone speaks, as it is.
    pub(crate) fn of_reference(mut self, errors: &Grid) -> Self {
        self.voices.iter_mut().for_each(|v| *v = None);
        self.voices[0] = Some(CurveVoice { errors: errors.map(rounded), weights: [1.0; LEVELS.len()] });
        self.conformal = Conformal::default();
        self
    }
}

fn loss(said: &Grid, value: f64) -> f64 {
    SCORED.iter().map(|at| pinball(LEVELS[*at], said[*at], value)).sum::<f64>() / steps(SCORED.len())
}
