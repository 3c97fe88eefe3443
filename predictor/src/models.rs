//! The league: point forecasts on the transformed scale. How far reality strays from them is learned apart, from their
//! errors at origins that they had not seen, and never from a model's own idea of its error.

mod features;
mod filter;
mod forest;
mod least_squares;
mod regression;
mod seasonal;

use crate::curve::Spread;
use crate::grid::grid;
use crate::history::History;
use filter::Filter;
pub(crate) use forest::Distributions;
use forest::Forest;
use regression::Regression;
use seasonal::Seasonal;

/// Fewest steps from which a model with parameters is fitted.
const FIT_STEPS_MIN: usize = 48;
/// Seasons beyond this many are ignored: each costs memory and features, and a day and a week are what load follows.
const SEASONS_MAX: usize = 3;
/// Longest season in steps: a week of minutes. A longer one would not fit in the memory that a series may take.
const SEASON_STEPS_MAX: usize = 10_080;

/// A model that has seen nothing yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Model {
    /// Tomorrow is as now. Needs no fit.
    LastValue,
    /// As one season ago. Needs no fit.
    SeasonalNaive { season: usize },
    /// Exponential smoothing, error and damped trend additive.
    Smoothing,
    /// Elastic net on lags and the calendar, of the change against the last value, one per horizon of the grid.
    Regression { seasons: Vec<usize>, grid: Vec<usize> },
    /// Trees on lags and the calendar, of the change against the last value; speaks with a distribution of its own.
    Forest { seasons: Vec<usize>, grid: Vec<usize> },
}

/// A model that has learned from a history and follows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fitted {
    LastValue,
    SeasonalNaive(Seasonal),
    Smoothing(Filter),
    Regression(Regression),
    Forest(Forest),
}

/// All models for a series with these seasons; the last value first.
pub(crate) fn league(seasons: &[usize], horizon: usize, lead: usize) -> Vec<Model> {
    let fitting = seasons.iter().copied().filter(|s| *s <= SEASON_STEPS_MAX);
    let seasons: Vec<usize> = fitting.take(SEASONS_MAX).collect();
    let mut models = vec![Model::LastValue];
    models.extend(seasons.iter().map(|season| Model::SeasonalNaive { season: *season }));
    models.push(Model::Smoothing);
    models.push(Model::Regression { seasons: seasons.clone(), grid: grid(horizon, lead) });
    models.push(Model::Forest { seasons, grid: grid(horizon, lead) });
    models
}

impl Model {
    /// Name in the league table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::LastValue => "last value".to_owned(),
            Self::SeasonalNaive { season } => format!("seasonal naive ({season} steps)"),
            Self::Smoothing => "exponential smoothing".to_owned(),
            Self::Regression { .. } => "regression".to_owned(),
            Self::Forest { .. } => "quantile forest".to_owned(),
        }
    }

    /// Learns from the steps before `upto` alone; `None`: too short a history, no opinion.
    pub(crate) fn fit(&self, history: &History, upto: usize) -> Option<Fitted> {
        match self {
            Self::LastValue => (upto > 0).then_some(Fitted::LastValue),
            Self::SeasonalNaive { season } => {
                (upto > 0).then_some(Fitted::SeasonalNaive(Seasonal { season: *season }))
            }
            _ if upto < FIT_STEPS_MIN => None,
            Self::Smoothing => Filter::fit(history, upto).map(Fitted::Smoothing),
            Self::Regression { seasons, grid } => {
                Regression::fit(history, upto, seasons, grid).map(Fitted::Regression)
            }
            Self::Forest { seasons, grid } => Forest::fit(history, upto, seasons, grid).map(Fitted::Forest),
        }
    }

    /// How its errors are spread around its point.
    pub(crate) const fn spread(&self) -> Spread {
        match self {
            Self::LastValue => Spread::Plain,
            Self::Forest { .. } => Spread::Own,
            _ => Spread::Relative,
        }
    }

    /// Whether it repeats a season and does not look at the present.
    pub(crate) const fn is_seasonal(&self) -> bool {
        matches!(self, Self::SeasonalNaive { .. })
    }

    /// Whether a fit learns parameters, so that it may only be judged on what came after.
    pub(crate) const fn has_parameters(&self) -> bool {
        !matches!(self, Self::LastValue | Self::SeasonalNaive { .. })
    }
}

impl Fitted {
    /// Takes in the steps up to and including `to`. Steps already taken in are left alone.
    pub(crate) fn advance(&mut self, history: &History, to: usize) {
        match self {
            Self::Smoothing(filter) => filter.advance(history, to),
            Self::LastValue | Self::SeasonalNaive(_) | Self::Regression(_) | Self::Forest(_) => {}
        }
    }

    /// How far the present strays from what a model said that does not look at it; `None` for those that do.
    pub(crate) fn deviation(&self, history: &History, origin: usize) -> Option<f64> {
        match self {
            Self::SeasonalNaive(seasonal) => seasonal.deviation(history, origin),
            _ => None,
        }
    }

    /// Writes the forecasts of the steps after `origin` into `path`, from what is known at `origin`; NaN: no opinion.
    pub(crate) fn path(&self, history: &History, origin: usize, path: &mut [f64]) {
        match self {
            Self::LastValue => path.fill(history.z(origin)),
            Self::SeasonalNaive(seasonal) => seasonal.path(history, origin, path),
            Self::Smoothing(filter) => filter.path(path),
            Self::Regression(regression) => regression.path(history, origin, path),
            // It has distributions and no point.
            Self::Forest(_) => path.fill(f64::NAN),
        }
    }

    /// The distributions at the horizons of the grid, of a model that has its own; others are points with learned errors.
    pub(crate) fn distributions(&self, history: &History, origin: usize) -> Option<Distributions> {
        match self {
            Self::Forest(forest) => Some(forest.distributions(history, origin)),
            _ => None,
        }
    }

    /// Drops what was kept only to be quick in a trial.
    pub(crate) fn slim(&mut self) {
        if let Self::Forest(forest) = self {
            forest.slim();
        }
    }

    /// Bytes kept beside the value itself.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::LastValue | Self::SeasonalNaive(_) | Self::Smoothing(_) => 0,
            Self::Regression(regression) => regression.size(),
            Self::Forest(forest) => forest.size(),
        }
    }

    /// Steps of history that it reads back from an origin.
    pub(crate) fn reach(&self) -> usize {
        match self {
            Self::LastValue | Self::Smoothing(_) => 1,
            Self::SeasonalNaive(seasonal) => seasonal.reach(),
            Self::Regression(regression) => regression.reach(),
            Self::Forest(forest) => forest.reach(),
        }
    }
}
