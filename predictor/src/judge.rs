//! The judge: walks through a trial in time order, for one horizon and one kind of target. Each curve's errors become its
//! distribution, the mix learns whom to follow, calibration learns how far to trust it, and each is scored. At every
//! origin only what had come true by then is known.

use std::collections::VecDeque;

use tidegate_core::Quantiles;
use tidegate_core::forecast::{LEVELS, Score};

use crate::aggregate::{LEARNED_MIN, Mix, average};
use crate::cell::{Cell, CurveVoice};
use crate::conformal::Conformal;
use crate::curve::{Curve, Spread};
use crate::empirical::{Errors, Grid, pinball};
use crate::grid::steps;
use crate::history::History;
use crate::trial::{Origin, Trial};

/// Indices into [`LEVELS`] of 0.5, 0.9, 0.95 and 0.99, at which forecasts are scored.
const SCORED: [usize; 4] = [3, 6, 7, 10];
/// Index of 0.95.
const LEVEL_95: usize = 7;
/// Fewest judged origins before a score is given.
const JUDGED_MIN: u32 = LEARNED_MIN;
/// Changes that the last value's errors are taken from, at most; the cost of a fit grows with them.
const CHANGES_MAX: usize = 4000;
/// Weights below this are not worth the cost of a curve.
const WEIGHT_MIN: f64 = 0.005;

/// Share of the weight of those that would speak alone, under that of all.
const UNDER: f64 = 1e-6;

/// What is forecast `h` steps ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    errors: Vec<Option<Grid>>,
}

/// What a judge found: how to speak, and the tallies of every curve and, last, of what would have been said.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) cell: Cell,
    /// What was learned about whom to follow, for the next horizon.
    pub(crate) learned: Learned,
    pub(crate) tallies: Vec<Tally>,
}

/// A forecast that waits for its value.
struct Waiting<'a> {
    origin: &'a Origin,
    said: Vec<Option<Grid>>,
    /// The mix, calibrated.
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
    settled: Option<usize>,
    /// The first step whose change is not yet among the errors of the last value, and the steps from one to the next.
    caught_up: usize,
    stride: usize,
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
    let mut judge = Judge {
        history,
        curves,
        h,
        place,
        target,
        errors: vec![Errors::default(); curves.len()],
        mix: Mix::new(curves.len()),
        conformal: Conformal::default(),
        settled: None,
        caught_up: 0,
        stride: history.end().div_ceil(CHANGES_MAX),
        tallies: vec![Tally::default(); curves.len() + 1],
    };
    let mut waiting: VecDeque<Waiting<'_>> = VecDeque::new();
    for origin in &trial.origins {
        while waiting.front().is_some_and(|w| w.origin.at + h <= origin.at) {
            waiting.pop_front().into_iter().for_each(|w| judge.settle(&w));
        }
        judge.catch_up(origin.at);
        waiting.push_back(judge.speak(origin));
    }
    judge.catch_up(history.end() - 1);
    waiting.retain(|w| w.origin.at + h < history.end());
    waiting.iter().for_each(|w| judge.settle(w));
    judge.verdict(shorter)
}

impl<'a> Judge<'a> {
    fn point(&self, origin: &Origin, curve: usize) -> Option<f64> {
        let points = origin.points[curve].as_ref()?;
        let point = match self.target {
            Target::Step => points.steps[self.place],
            Target::Max => points.maxima[self.place],
        };
        point.is_finite().then_some(point)
    }

    fn own(&self, origin: &Origin, curve: usize) -> Option<Grid> {
        let said = origin.points[curve].as_ref()?.distributions.as_ref()?;
        said.of(self.target)[self.place]
    }

    /// The errors of the last value are known at every step, not only at the origins of the trial.
    fn catch_up(&mut self, now: usize) {
        let due = (self.caught_up..(now + 1).saturating_sub(self.h)).step_by(self.stride);
        for at in due {
            self.caught_up = at + self.stride;
            let came = self.target.actual(self.history, at, self.h);
            if let (Some(last), Some(came)) = (self.history.value(at), came) {
                self.errors[0].insert(came - last);
            }
        }
    }

    fn say(&self, origin: &Origin, at: usize) -> Option<Grid> {
        let curve = &self.curves[at];
        if curve.spread == Spread::Own {
            return self.own(origin, at);
        }
        let (point, errors) = (self.point(origin, at)?, self.errors[at].quantiles()?);
        Some(errors.map(|e| curve.spread.value(self.history, point, e)))
    }

    fn speak(&self, origin: &'a Origin) -> Waiting<'a> {
        let said: Vec<Option<Grid>> = (0..self.curves.len()).map(|at| self.say(origin, at)).collect();
        let on_course = |at: usize| origin.points[at].as_ref().is_some_and(|points| points.on_course);
        let awake: Vec<bool> =
            said.iter().enumerate().map(|(at, said)| said.is_some() && on_course(at)).collect();
        let mixed = average(&said, &self.mix.weights(&awake)).and_then(Quantiles::new);
        let spoken = mixed.and_then(|mixed| self.conformal.apply(&mixed)).map(|said| said.values());
        Waiting { origin, said, spoken }
    }

    fn settle(&mut self, waiting: &Waiting<'_>) {
        let origin = waiting.origin;
        let Some(value) = self.target.actual(self.history, origin.at, self.h) else { return };
        for (at, curve) in self.curves.iter().enumerate().skip(1) {
            if let Some(point) = self.point(origin, at) {
                self.errors[at].insert(curve.spread.error(self.history, point, value));
            }
        }
        let (Some(reference), Some(spoken)) = (&waiting.said[0], &waiting.spoken) else { return };
        let reference = loss(reference, value);
        for (tally, said) in self.tallies.iter_mut().zip(&waiting.said) {
            said.iter().for_each(|said| tally.add(said, reference, value));
        }
        self.tallies[self.curves.len()].add(spoken, reference, value);
        self.mix.learn(&waiting.said, value);
        let apart = steps(origin.at - self.settled.replace(origin.at).unwrap_or(origin.at));
        let alone = (apart / steps(self.h)).min(1.0);
        self.conformal.learn(spoken, value, alone);
    }

    fn verdict(mut self, shorter: Option<&Learned>) -> Option<Verdict> {
        let mut errors: Vec<Option<Grid>> = self.errors.iter().map(Errors::quantiles).collect();
        errors.first().copied().flatten()?;
        for ((errors, curve), tally) in errors.iter_mut().zip(self.curves).zip(&self.tallies) {
            if curve.spread == Spread::Own && tally.judged >= LEARNED_MIN {
                *errors = Some([0.0; LEVELS.len()]);
            }
        }
        if let Some(shorter) = shorter {
            self.mix.inherit(&shorter.mix);
            let curves = errors.iter_mut().zip(&shorter.errors).zip(self.curves);
            for ((errors, shorter), _) in curves.filter(|(_, curve)| curve.is_lasting()) {
                *errors = errors.or(*shorter);
            }
        }
        let awake: Vec<bool> = errors.iter().map(Option::is_some).collect();
        // Those that look at the present must be able to speak when the others are off their course.
        let present: Vec<bool> = awake.iter().zip(self.curves).map(|(a, c)| *a && !c.is_seasonal).collect();
        let (all, those) = (self.mix.weights(&awake), self.mix.weights(&present));
        let voice = |(curve, errors): (usize, &Option<Grid>)| {
            let weights: Grid = std::array::from_fn(|i| all[i][curve] + UNDER * those[i][curve]);
            let heard =
                weights.iter().any(|w| *w >= WEIGHT_MIN) || those.iter().any(|w| w[curve] >= WEIGHT_MIN);
            errors.filter(|_| heard).map(|errors| CurveVoice {
                curve,
                errors: errors.map(narrow),
                weights: weights.map(narrow),
            })
        };
        let mut voices: Vec<CurveVoice> = errors.iter().enumerate().filter_map(voice).collect();
        voices.shrink_to_fit();
        let cell = Cell { h: self.h, voices, conformal: self.conformal };
        let learned = Learned { mix: self.mix, errors };
        Some(Verdict { cell, learned, tallies: self.tallies })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

fn loss(said: &Grid, value: f64) -> f64 {
    SCORED.iter().map(|at| pinball(LEVELS[*at], said[*at], value)).sum::<f64>() / steps(SCORED.len())
}
