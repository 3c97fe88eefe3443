//! The judge: walks through a trial in time order, for one horizon and one kind of target. Each curve's errors become its
//! distribution, the mix learns whom to follow, calibration learns how far to trust it, and each is scored. At every
//! origin only what had come true by then is known.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_core::Quantiles;
use tidegate_core::forecast::{LEVELS, Score};

use crate::aggregate::{Mix, average};
use crate::cell::{Cell, CurveVoice};
use crate::conformal::Conformal;
use crate::curve::Curve;
use crate::duel::Duel;
use crate::empirical::{Errors, Grid, pinball};
use crate::grid::steps;
use crate::history::History;
use crate::packed;
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
/// Changes that the last value's errors are taken from, at most; the cost of a fit grows with them.
const CHANGES_MAX: usize = 8000;
/// How fast the reference is calibrated, against the mix: its errors are its own and known at every step, so that it is
/// seldom wrong for long, and a correction that wanders costs more than it mends.
const REFERENCE_CALIBRATION: f64 = 0.5;
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
    chosen: Option<usize>,
    errors: Vec<Option<Grid>>,
}

/// What a judge found: how to speak, and the tallies of every curve and, last, of what would have been said.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) cell: Cell,
    /// The same horizon if the reference alone speaks.
    pub(crate) reference: Cell,
    /// What was learned about whom to follow, for the next horizon.
    pub(crate) learned: Learned,
    pub(crate) tallies: Vec<Tally>,
}

/// A forecast that waits for its value.
struct Waiting<'a> {
    origin: &'a Origin,
    said: Vec<Option<Grid>>,
    mixed: Option<Grid>,
    /// The reference, and the mix or the chosen curve, calibrated.
    calibrated: [Option<Grid>; 2],
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
    /// Each curve against the mix, and against the reference.
    duels: Vec<[Duel; 2]>,
    chosen: Option<usize>,
    /// Of the reference, and of the mix or the chosen curve.
    conformal: [Conformal; 2],
    settled: Option<usize>,
    /// The first step whose change is not yet among the errors of the last value, and the steps from one to the next.
    caught_up: usize,
    stride: usize,
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
    let mut judge = Judge {
        history,
        curves,
        h,
        place,
        target,
        errors: vec![Errors::default(); curves.len()],
        mix: Mix::new(curves.len()),
        duels: vec![Default::default(); curves.len()],
        chosen: None,
        conformal: Default::default(),
        settled: None,
        caught_up: 0,
        stride: history.end().div_ceil(CHANGES_MAX),
        fading: (0.0, 0.0),
        judged: 0,
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
    fn point(&self, origin: &Origin, curve: &Curve) -> Option<f64> {
        let points = origin.points[curve.model].as_ref()?;
        let point = match self.target {
            Target::Step => points.steps[self.place],
            Target::Max => points.maxima[self.place],
        };
        point.is_finite().then_some(point)
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

    fn speak(&self, origin: &'a Origin) -> Waiting<'a> {
        let errors: Vec<Option<Grid>> = self.errors.iter().map(Errors::quantiles).collect();
        let say = |(curve, errors): (&Curve, &Option<Grid>)| {
            let (point, errors) = (self.point(origin, curve)?, (*errors)?);
            Some(errors.map(|e| curve.spread.value(self.history, point, origin.volatility, e)))
        };
        let said: Vec<Option<Grid>> = self.curves.iter().zip(&errors).map(say).collect();
        let awake: Vec<bool> = said.iter().map(Option::is_some).collect();
        let mixed = average(&said, &self.mix.weights(&awake));
        let on_course =
            |c: &usize| origin.points[self.curves[*c].model].as_ref().is_some_and(|p| p.on_course);
        let chosen = self.chosen.filter(on_course);
        let best = chosen.and_then(|chosen| said[chosen]).or(mixed);
        let calibrate = |(said, conformal): (Option<Grid>, &Conformal)| {
            Some(*conformal.apply(&Quantiles::new(said?)?)?.values())
        };
        let calibrated = [(said[0], &self.conformal[0]), (best, &self.conformal[1])].map(calibrate);
        let spoken = calibrated[usize::from(chosen.is_some() || self.mix_leads())];
        Waiting { origin, said, mixed, calibrated, spoken }
    }

    fn mix_leads(&self) -> bool {
        self.judged >= JUDGED_MIN && self.fading.0 < GUARD_RATIO * self.fading.1
    }

    fn settle(&mut self, waiting: &Waiting<'_>) {
        let origin = waiting.origin;
        let Some(value) = self.target.actual(self.history, origin.at, self.h) else { return };
        for (at, curve) in self.curves.iter().enumerate().skip(1) {
            if let Some(point) = self.point(origin, curve) {
                let error = curve.spread.error(self.history, point, origin.volatility, value);
                self.errors[at].insert(error);
            }
        }
        let (Some(reference), Some(mixed), Some(spoken)) =
            (&waiting.said[0], &waiting.mixed, &waiting.spoken)
        else {
            return;
        };
        let losses = (loss(mixed, value), loss(reference, value));
        for (tally, said) in self.tallies.iter_mut().zip(&waiting.said) {
            said.iter().for_each(|said| tally.add(said, losses.1, value));
        }
        self.tallies[self.curves.len()].add(spoken, losses.1, value);
        self.mix.learn(&waiting.said, mixed, value);
        let apart = steps(origin.at - self.settled.replace(origin.at).unwrap_or(origin.at));
        let alone = (apart / steps(self.h)).min(1.0);
        let weights = [REFERENCE_CALIBRATION * alone, alone];
        for ((conformal, said), weight) in self.conformal.iter_mut().zip(&waiting.calibrated).zip(weights) {
            said.iter().for_each(|said| conformal.learn(said, value, weight));
        }
        self.fading.0 = self.fading.0 * GUARD_MEMORY + losses.0;
        self.fading.1 = self.fading.1 * GUARD_MEMORY + losses.1;
        self.judged += 1;
        self.compare(waiting, value, losses);
    }

    /// Lets every curve fight the mix and the reference, and chooses the one that clearly beats both.
    fn compare(&mut self, waiting: &Waiting<'_>, value: f64, losses: (f64, f64)) {
        for (duels, said) in self.duels.iter_mut().zip(&waiting.said) {
            let Some(own) = said.as_ref().map(|said| loss(said, value)) else { continue };
            duels[0].learn(waiting.origin.at, self.h, losses.0, own);
            duels[1].learn(waiting.origin.at, self.h, losses.1, own);
        }
        let share = |[mix, reference]: &[Duel; 2]| reference.won().and_then(|_| mix.won());
        let shares = self.duels.iter().map(share).enumerate().skip(1);
        let best = shares.filter_map(|(at, share)| Some((at, share?))).min_by(|a, b| a.1.total_cmp(&b.1));
        if self.chosen != best.map(|(at, _)| at) {
            self.chosen = best.map(|(at, _)| at);
            self.conformal[1] = Conformal::default();
        }
    }

    fn verdict(mut self, shorter: Option<&Learned>) -> Option<Verdict> {
        let mut errors: Vec<Option<Grid>> = self.errors.iter().map(Errors::quantiles).collect();
        let reference = errors.first().copied().flatten()?;
        let mut leads = self.mix_leads();
        if let Some(shorter) = shorter {
            leads |= self.mix.inherit(&shorter.mix, JUDGED_MIN) && shorter.leads;
            // What does not look at the present errs by as much at every horizon within a season.
            let lasting = self.curves.iter().map(Curve::is_seasonal);
            for ((errors, shorter), _) in errors.iter_mut().zip(&shorter.errors).zip(lasting).filter(|e| e.1)
            {
                *errors = errors.or(*shorter);
            }
            let agreed = |at: &usize| errors[*at].is_some() && self.duels[*at].iter().all(Duel::agrees);
            self.chosen = self.chosen.or(shorter.chosen.filter(agreed));
        }
        let awake: Vec<bool> =
            errors.iter().enumerate().map(|(i, e)| e.is_some() && (leads || i == 0)).collect();
        let weights = self.mix.weights(&awake);
        let voice = |(curve, errors): (usize, &Option<Grid>)| {
            let weights = weights.each_ref().map(|level| level[curve]);
            let heard = self.chosen == Some(curve) || weights.iter().any(|w| *w >= WEIGHT_MIN);
            errors.filter(|_| heard).map(|errors| CurveVoice {
                errors: errors.map(packed::narrowed),
                weights: weights.map(packed::narrowed),
            })
        };
        let voices = errors.iter().enumerate().map(voice).collect();
        let spoken = usize::from(leads || self.chosen.is_some());
        let cell = Cell { h: self.h, voices, chosen: self.chosen, conformal: self.conformal[spoken] };
        let reference = Cell::of_reference(self.h, self.curves.len(), &reference, self.conformal[0]);
        let learned = Learned { mix: self.mix, leads, chosen: self.chosen, errors };
        Some(Verdict { cell, reference, learned, tallies: self.tallies })
    }
}

fn loss(said: &Grid, value: f64) -> f64 {
    SCORED.iter().map(|at| pinball(LEVELS[*at], said[*at], value)).sum::<f64>() / steps(SCORED.len())
}
