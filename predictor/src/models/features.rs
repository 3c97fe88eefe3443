//! What the regression looks at: lags, rolling statistics, past seasons and the calendar, nearly all as changes against
//! the last value, so that a level it never saw does not mislead it. Nothing after the origin is read.

use crate::grid::steps;
use crate::history::History;

pub(super) const LAGS: [usize; 8] = [1, 2, 3, 5, 8, 13, 21, 34];
const MEAN_WINDOWS: [usize; 5] = [3, 6, 12, 30, 60];
const EXTREME_WINDOWS: [usize; 2] = [12, 36];
/// Windows of the size of one-step changes.
const VOLATILITY_WINDOWS: [usize; 2] = [12, 60];
/// Most past cycles whose change over the same steps is averaged.
const CYCLES_MAX: usize = 4;
/// Steps that past cycles may span, which bounds the history kept: a week of minutes.
const CYCLES_SPAN_MAX: usize = 10_080;
/// Steps that the longest rolling statistic reads.
const LONGEST_WINDOW: usize = 61;
/// Fourier pairs per season: the broad shape; past cycles carry the detail.
const HARMONICS: usize = 3;
/// A season is read in this many pieces at most: the value of one minute of yesterday is mostly noise.
const SEASON_PIECES: usize = 288;

/// Which features there are; fixed by a fit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Features {
    /// Seasons of which a full cycle lies before every row, in steps.
    seasons: Vec<usize>,
    /// Mean of the transform where it was fitted: how far the level is from home.
    home: f64,
}

impl Features {
    pub(crate) fn new(history: &History, upto: usize, seasons: &[usize]) -> Self {
        // Half of the rows at least must have a season behind them.
        let seasons = seasons.iter().copied().filter(|s| s * 2 <= upto).collect();
        Self { seasons, home: history.z_mean(0, upto - 1) }
    }

    /// The first origin that has all it needs behind it.
    pub(crate) fn first_origin(&self) -> usize {
        self.seasons.last().map_or(0, |s| *s).max(LAGS[0])
    }

    /// Steps it reads back from an origin for horizons up to `horizon`.
    pub(crate) fn reach(&self, horizon: usize) -> usize {
        let season = |s: &usize| (horizon.div_ceil(*s) + cycles(*s) - 1) * s + half(*s);
        // The volatility reads 60 steps and the one before them.
        self.seasons.iter().map(season).max().unwrap_or(0).max(LONGEST_WINDOW) + 1
    }

    /// Those of an origin, whatever the horizon.
    pub(crate) fn of_origin(&self, history: &History, origin: usize, row: &mut Vec<f64>) {
        let now = history.z(origin);
        let back = |steps: usize| origin.saturating_sub(steps);
        row.extend(LAGS.iter().map(|lag| history.z(back(*lag)) - now));
        row.extend(MEAN_WINDOWS.iter().map(|w| history.z_mean(back(w - 1), origin) - now));
        for window in EXTREME_WINDOWS {
            let zs = || (back(window - 1)..=origin).map(|t| history.z(t));
            row.push(zs().fold(f64::NEG_INFINITY, f64::max) - now);
            row.push(zs().fold(f64::INFINITY, f64::min) - now);
        }
        row.extend(VOLATILITY_WINDOWS.map(|w| history.volatility(back(w), origin)));
        row.push(now - self.home);
    }

    /// Those of an origin and a horizon.
    pub(crate) fn of_horizon(&self, history: &History, origin: usize, h: usize, row: &mut Vec<f64>) {
        let now = history.z(origin);
        for season in &self.seasons {
            let half = half(*season);
            // The latest cycle of which the target's step is already known.
            let ago = h.div_ceil(*season) * season;
            let change = |ago: usize| {
                let then = history.z_around(origin.checked_sub(ago)?, half, origin);
                Some((history.z_around(origin + h - ago, half, origin) - then, then))
            };
            let (latest, then) = change(ago).unwrap_or((0.0, now));
            let past: Vec<f64> = (0..cycles(*season))
                .filter_map(|cycle| change(ago + cycle * season))
                .map(|(change, _)| change)
                .collect();
            row.push(latest);
            row.push(past.iter().sum::<f64>() / steps(past.len().max(1)));
            row.push(then - now);
            let turn = steps(history.phase(origin + h, *season)) / steps(*season) * std::f64::consts::TAU;
            for harmonic in 1..=HARMONICS {
                let (sin, cos) = (turn * steps(harmonic)).sin_cos();
                row.extend([sin, cos]);
            }
        }
    }
}

pub(super) fn cycles(season: usize) -> usize {
    (CYCLES_SPAN_MAX / season).clamp(1, CYCLES_MAX)
}

pub(super) const fn half(season: usize) -> usize {
    season / SEASON_PIECES
}
