//! What the forest looks at, nearly all as changes against the last value. Nothing after the origin is read.

use crate::grid::steps;
use crate::history::History;
use crate::models::features::{LAGS, cycles, half};

/// Windows, rising, and whether their extremes are looked at beside their means.
const WINDOWS: [(usize, bool); 6] = [(3, true), (6, false), (12, true), (30, true), (60, false), (144, true)];
/// Windows of the size of one-step changes.
const CHANGES: [usize; 3] = [6, 12, 60];
/// Which features there are; fixed by a fit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Features {
    seasons: Vec<usize>,
    /// Mean of the transform where it was fitted: how far the level is from home.
    home: f64,
}

impl Features {
    pub(super) fn new(history: &History, upto: usize, seasons: &[usize]) -> Self {
        let seasons = seasons.iter().copied().filter(|s| s * 2 <= upto).collect();
        Self { seasons, home: history.z_mean(0, upto - 1) }
    }

    /// The first origin that is worth learning from.
    pub(super) fn first_origin(&self, upto: usize) -> usize {
        self.seasons.first().map_or(12, |s| *s).min(upto / 10)
    }

    /// Steps it reads back from an origin for horizons up to `horizon`.
    pub(super) fn reach(&self, horizon: usize) -> usize {
        let season = |s: &usize| (horizon.div_ceil(*s) + cycles(*s) - 1) * s + half(*s);
        self.seasons.iter().map(season).max().unwrap_or(0).max(WINDOWS[WINDOWS.len() - 1].0) + 1
    }

    /// Those of an origin, whatever the horizon.
    pub(super) fn of_origin(&self, history: &History, origin: usize, row: &mut Vec<f32>) {
        let now = history.z(origin);
        let back = |steps: usize| origin.saturating_sub(steps);
        for lag in LAGS {
            push(row, history.z(back(lag)) - now);
        }
        let (mut upto, mut sum, mut low, mut high) = (0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        for (window, extremes) in WINDOWS {
            for ago in upto..window {
                let z = history.z(back(ago));
                sum += z;
                low = f64::min(low, z);
                high = f64::max(high, z);
            }
            upto = window;
            push(row, sum / steps(window) - now);
            if extremes {
                push(row, low - now);
                push(row, high - now);
            }
        }
        for window in CHANGES {
            push(row, history.volatility(back(window), origin));
        }
        push(row, now - self.home);
    }

    /// Those of an origin and a horizon.
    pub(super) fn of_horizon(&self, history: &History, origin: usize, h: usize, row: &mut Vec<f32>) {
        let now = history.z(origin);
        for season in &self.seasons {
            let half = half(*season);
            // The latest cycle of which the target's step is already known.
            let ago = h.div_ceil(*season) * season;
            let cycle = |cycle: usize| {
                let ago = ago + cycle * season;
                let then = history.z_around(origin.checked_sub(ago)?, half, origin);
                let came = history.z_around(origin + h - ago, half, origin);
                Some((came, came - then))
            };
            let past: Vec<(f64, f64)> = (0..cycles(*season)).map_while(cycle).collect();
            let count = steps(past.len().max(1));
            let (came, change) = past.first().copied().unwrap_or((now, 0.0));
            push(row, change);
            push(row, came - now);
            push(row, past.iter().map(|p| p.1).sum::<f64>() / count);
            push(
                row,
                if past.is_empty() { 0.0 } else { past.iter().map(|p| p.0).sum::<f64>() / count - now },
            );
            push(row, past.iter().map(|p| p.1).fold(change, f64::max));
            push(row, steps(history.phase(origin + h, *season)) / steps(*season));
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough to split by")]
fn push(row: &mut Vec<f32>, value: f64) {
    row.push(value as f32);
}
