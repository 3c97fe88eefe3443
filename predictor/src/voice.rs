//! The voice of a fitted predictor: paths of the models, spread by their errors, mixed and calibrated, at any horizon.

use tidegate_core::Quantiles;
use tidegate_core::forecast::{LEVELS, Standing};

use crate::aggregate::average;
use crate::cell::{Cell, CurveVoice};
use crate::config::PredictorConfig;
use crate::course;
use crate::curve::{Curve, Spread};
use crate::empirical::Grid;
use crate::grid::place;
use crate::history::History;
use crate::judge::{Tally, Target, Verdict, judge};
use crate::models::{Distributions, Fitted, Model, league};
use crate::trial::{self, running_max};

/// Name of the mix in the league table.
const MIX: &str = "mix";

/// Models, and how they are heard at each horizon of the grid.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Voice {
    models: Vec<Option<Fitted>>,
    curves: Vec<Curve>,
    courses: Vec<Option<f64>>,
    steps: Vec<Cell>,
    maxima: Vec<Cell>,
}

/// The paths of all models from one origin.
#[derive(Debug)]
pub(crate) struct Paths {
    /// By model: see [`crate::course`].
    on_course: Vec<bool>,
    steps: Vec<Option<Vec<f64>>>,
    maxima: Vec<Option<Vec<f64>>>,
    distributions: Vec<Option<Distributions>>,
}

impl Voice {
    /// Tries all models on a history; `None` while not even the last value can be judged. With it comes the league table.
    pub(crate) fn fit(history: &History, config: &PredictorConfig) -> (Option<Self>, Vec<Standing>) {
        let models = league(&config.season_steps(), config.horizon(), config.lead());
        let curves: Vec<Curve> = models.iter().map(Curve::of).collect();
        let trial = trial::run(history, &models, config);
        let verdicts = |target| {
            let mut verdicts: Vec<Verdict> = Vec::new();
            for place in 0..trial.grid.len() {
                let shorter = verdicts.last().map(|v| &v.learned);
                let Some(verdict) = judge(history, &trial, &curves, place, target, shorter) else { break };
                verdicts.push(verdict);
            }
            verdicts
        };
        let (steps, maxima) = (verdicts(Target::Step), verdicts(Target::Max));
        let at_lead = |verdicts: &[Verdict]| {
            verdicts.iter().find(|v| v.cell.h == config.lead()).map(|v| v.tallies.clone())
        };
        let tallies: Vec<Tally> = match (at_lead(&steps), at_lead(&maxima)) {
            (Some(a), Some(b)) => a.iter().zip(&b).map(|(a, b)| a.with(b)).collect(),
            _ => vec![Tally::default(); curves.len() + 1],
        };
        let table = standings(&models, &tallies);
        if steps.is_empty() || maxima.is_empty() {
            return (None, table.into_iter().map(|s| Standing { in_use: false, ..s }).collect());
        }
        let [steps, maxima] = [steps, maxima].map(|verdicts| verdicts.into_iter().map(|v| v.cell).collect());
        let mut voice = Self { models: trial.fitted, curves, courses: trial.courses, steps, maxima };
        voice.forget_the_unheard();
        voice.models.iter_mut().flatten().for_each(Fitted::slim);
        (Some(voice), table)
    }

    /// Drops the models that no cell hears.
    fn forget_the_unheard(&mut self) {
        for (at, model) in self.models.iter_mut().enumerate() {
            if !self.steps.iter().chain(&self.maxima).any(|cell| cell.hears(at)) {
                *model = None;
            }
        }
    }

    /// Bytes kept.
    pub(crate) fn size(&self) -> usize {
        let of_cell = |cell: &Cell| size_of::<Cell>() + cell.voices.capacity() * size_of::<CurveVoice>();
        let models = self.models.capacity() * size_of::<Option<Fitted>>();
        models
            + self.models.iter().flatten().map(Fitted::size).sum::<usize>()
            + self.curves.capacity() * size_of::<Curve>()
            + self.courses.capacity() * size_of::<Option<f64>>()
            + self.steps.iter().chain(&self.maxima).map(of_cell).sum::<usize>()
    }

    /// Steps of history that it reads back.
    pub(crate) fn reach(&self) -> usize {
        self.models.iter().flatten().map(Fitted::reach).max().unwrap_or(1)
    }

    /// Takes in the latest step.
    pub(crate) fn advance(&mut self, history: &History) {
        let latest = history.end().saturating_sub(1);
        self.models.iter_mut().flatten().for_each(|model| model.advance(history, latest));
    }

    /// Where the models think that the series goes from the latest step, which they have taken in.
    pub(crate) fn paths(&self, history: &History, horizon: usize) -> Option<Paths> {
        let origin = history.end().checked_sub(1)?;
        let path = |model: &Option<Fitted>| {
            let mut path = vec![0.0; horizon];
            model.as_ref()?.path(history, origin, &mut path);
            Some(path)
        };
        let steps: Vec<Option<Vec<f64>>> = self.models.iter().map(path).collect();
        let mut maxima = steps.clone();
        maxima.iter_mut().flatten().for_each(|path| running_max(path));
        let deviation = |model: &Option<Fitted>| model.as_ref().and_then(|m| m.deviation(history, origin));
        let courses = self.models.iter().zip(&self.courses);
        let on_course =
            courses.map(|(model, tolerance)| course::is_on(*tolerance, deviation(model))).collect();
        let distributions = |model: &Option<Fitted>| model.as_ref()?.distributions(history, origin);
        let distributions = self.models.iter().map(distributions).collect();
        Some(Paths { on_course, steps, maxima, distributions })
    }

    /// Horizons at which it was judged, and can learn more.
    pub(crate) fn judged(&self, target: Target) -> impl Iterator<Item = usize> {
        self.cells(target).iter().map(|cell| cell.h)
    }

    /// Learns the coverage of a forecast made `h` steps before its value came.
    pub(crate) fn learn(&mut self, target: Target, h: usize, said: &Grid, value: f64, weight: f64) {
        let cells = match target {
            Target::Step => &mut self.steps,
            Target::Max => &mut self.maxima,
        };
        if let Some(cell) = cells.iter_mut().find(|cell| cell.h == h) {
            cell.conformal.learn(said, value, weight);
        }
    }

    /// The distribution `h` steps ahead.
    pub(crate) fn speak(
        &self,
        history: &History,
        paths: &Paths,
        target: Target,
        h: usize,
    ) -> Option<Quantiles> {
        let (cells, paths_of) = match target {
            Target::Step => (&self.steps, &paths.steps),
            Target::Max => (&self.maxima, &paths.maxima),
        };
        let points: Vec<usize> = cells.iter().map(|cell| cell.h).collect();
        let place = place(&points, h)?;
        let (below, above) = (&cells[place.below], &cells[place.above]);
        let mut weights: [Vec<f64>; LEVELS.len()] = std::array::from_fn(|_| vec![0.0; self.curves.len()]);
        let mut said = vec![None; self.curves.len()];
        for (at, curve) in self.curves.iter().enumerate() {
            let stretch = if curve.is_seasonal { 1.0 } else { place.stretch };
            let parts = [below, above].map(|cell| cell.part(at, paths.on_course[at]));
            let Some((errors, shares)) = between(parts, place.share, stretch) else { continue };
            said[at] = if curve.spread == Spread::Own {
                paths.distributions[at].as_ref().and_then(|own| own.between(target, place))
            } else {
                let point = paths_of[at].as_ref().map(|path| path[h - 1]).filter(|z| z.is_finite());
                point.map(|point| errors.map(|e| curve.spread.value(history, point, e)))
            };
            weights.iter_mut().zip(shares).for_each(|(level, share)| level[at] = share);
        }
        let mixed = average(&said, &weights).and_then(Quantiles::new)?;
        below.conformal.between(&above.conformal, place.share).apply(&mixed)
    }

    fn cells(&self, target: Target) -> &[Cell] {
        match target {
            Target::Step => &self.steps,
            Target::Max => &self.maxima,
        }
    }
}

/// A curve's errors and weights between two cells. Where it is silent in one of them, it fades out towards that one.
fn between([below, above]: [Option<(Grid, Grid)>; 2], share: f64, stretch: f64) -> Option<(Grid, Grid)> {
    let (a, b) = (below.or(above)?.0, above.or(below)?.0);
    let weights = [below, above].map(|part| part.map_or([0.0; LEVELS.len()], |(_, weights)| weights));
    let lerp = |a: f64, b: f64| a + share * (b - a);
    let errors = std::array::from_fn(|i| lerp(a[i], b[i]) * stretch);
    Some((errors, std::array::from_fn(|i| lerp(weights[0][i], weights[1][i]))))
}

fn standings(models: &[Model], tallies: &[Tally]) -> Vec<Standing> {
    let names = models.iter().map(Model::name).chain([MIX.to_owned()]);
    let row = |(at, (model, tally)): (usize, (String, &Tally))| Standing {
        model,
        score: tally.score(),
        in_use: at == models.len(),
    };
    let mut table: Vec<Standing> = names.zip(tallies).enumerate().map(row).collect();
    let rank = |s: &Standing| s.score.map_or(f64::INFINITY, |s| s.pinball_ratio);
    table.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    table
}
