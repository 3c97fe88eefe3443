//! Elastic net on lags and the calendar, of the change against the last value: one linear model per horizon of the grid.
//!
//! Predicting the change and not the level keeps near-constant and regime-changing series from going wrong by factors.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_elasticnet::ElasticNet;
use ndarray::{Array1, Array2};

use super::features::Features;
use super::least_squares::{cholesky, forward};
use crate::grid::{place, steps};
use crate::history::History;

/// Rows per fit: beyond, neighbours overlap so much that they add cost and little knowledge.
const ROWS_MAX: usize = 1000;
/// Rows per feature below which a fit would learn the noise.
const ROWS_PER_FEATURE_MIN: usize = 2;
/// Share of the absolute penalty; the rest is quadratic, which shares weight among like features.
const L1_RATIO: f64 = 0.1;
/// Penalty at one row per feature, in units of the target's variance; it falls with the square root of the rows.
const PENALTY: f64 = 0.05;
/// A row counts half when this share of the history came after it.
const HALF_LIFE_SHARE: f64 = 0.5;
/// Added to the diagonal of the correlations, so that like features leave them positive definite.
const JITTER: f64 = 1e-6;
/// Largest number of sweeps of the solver; a few dozen do.
const SWEEPS_MAX: u32 = 500;

/// One linear model per horizon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Regression {
    features: Features,
    horizons: Vec<usize>,
    lines: Vec<Line>,
}

/// Intercept, weights, and the range of changes seen: a line is not followed beyond it.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    intercept: f64,
    weights: Vec<f32>,
    range: (f64, f64),
}

/// Weighted sums from which a line follows.
struct Sums {
    weight: f64,
    x: Vec<f64>,
    xx: Vec<Vec<f64>>,
    y: f64,
    yy: f64,
    xy: Vec<f64>,
    rows: usize,
    range: (f64, f64),
}

impl Regression {
    pub(crate) fn fit(history: &History, upto: usize, seasons: &[usize], grid: &[usize]) -> Option<Self> {
        let features = Features::new(history, upto, seasons);
        let first = features.first_origin();
        let stride = upto.saturating_sub(first).div_ceil(ROWS_MAX).max(1);
        let origins: Vec<usize> =
            (first..upto).step_by(stride).filter(|o| history.value(*o).is_some()).collect();
        let base: Vec<Vec<f64>> = origins
            .iter()
            .map(|origin| {
                let mut row = Vec::new();
                features.of_origin(history, *origin, &mut row);
                row
            })
            .collect();
        let fit_one = |h: &usize| {
            let mut sums: Option<Sums> = None;
            for (origin, base) in origins.iter().zip(&base).take_while(|(origin, _)| *origin + h < upto) {
                let Some(target) =
                    history.value(origin + h).map(|_| history.z(origin + h) - history.z(*origin))
                else {
                    continue;
                };
                let mut row = base.clone();
                features.of_horizon(history, *origin, *h, &mut row);
                let weight = 0.5f64.powf(steps(upto - origin) / (HALF_LIFE_SHARE * steps(upto)));
                sums.get_or_insert_with(|| Sums::new(row.len())).add(&row, target, weight);
            }
            sums?.line()
        };
        // Horizons that have too few rows are left out; the path is level beyond the last.
        let (horizons, lines): (Vec<usize>, Vec<Line>) =
            grid.iter().map_while(|h| Some((*h, fit_one(h)?))).unzip();
        (!lines.is_empty()).then_some(Self { features, horizons, lines })
    }

    pub(crate) fn path(&self, history: &History, origin: usize, path: &mut [f64]) {
        let now = history.z(origin);
        let mut base = Vec::new();
        self.features.of_origin(history, origin, &mut base);
        let changes: Vec<f64> = self
            .horizons
            .iter()
            .zip(&self.lines)
            .map(|(h, line)| {
                let mut row = base.clone();
                self.features.of_horizon(history, origin, *h, &mut row);
                line.at(&row)
            })
            .collect();
        for (ahead, z) in path.iter_mut().enumerate() {
            let place = place(&self.horizons, ahead + 1);
            let change =
                place.map_or(0.0, |p| changes[p.below] + p.share * (changes[p.above] - changes[p.below]));
            *z = (now + change).max(0.0);
        }
    }

    /// Bytes kept.
    pub(crate) fn size(&self) -> usize {
        let of_line = |line: &Line| size_of::<Line>() + line.weights.capacity() * size_of::<f32>();
        self.horizons.capacity() * size_of::<usize>() + self.lines.iter().map(of_line).sum::<usize>()
    }

    pub(crate) fn reach(&self) -> usize {
        self.features.reach(self.horizons.last().copied().unwrap_or(1))
    }
}

impl Line {
    fn at(&self, row: &[f64]) -> f64 {
        let sum: f64 = self.weights.iter().zip(row).map(|(w, x)| f64::from(*w) * x).sum();
        (self.intercept + sum).clamp(self.range.0, self.range.1)
    }
}

impl Sums {
    fn new(features: usize) -> Self {
        Self {
            weight: 0.0,
            x: vec![0.0; features],
            xx: vec![vec![0.0; features]; features],
            y: 0.0,
            yy: 0.0,
            xy: vec![0.0; features],
            rows: 0,
            range: (f64::INFINITY, f64::NEG_INFINITY),
        }
    }

    fn add(&mut self, row: &[f64], target: f64, weight: f64) {
        self.weight += weight;
        self.y += weight * target;
        self.yy += weight * target * target;
        self.rows += 1;
        self.range = (self.range.0.min(target), self.range.1.max(target));
        for (i, x) in row.iter().enumerate() {
            let x = weight * x;
            self.x[i] += x;
            self.xy[i] += x * target;
            // The lower triangle is all that the factorisation reads.
            self.xx[i][..=i].iter_mut().zip(row).for_each(|(sum, other)| *sum += x * other);
        }
    }

    /// Solves the elastic net on the sums alone: with the correlations C = L·Lᵀ and c those with the target, the loss
    /// |y − X·w|² / 2n of n standardised rows equals that of the few rows √p·Lᵀ with targets √p·L⁻¹·c, up to a constant.
    fn line(&self) -> Option<Line> {
        let p = self.x.len();
        if self.rows < ROWS_PER_FEATURE_MIN * p {
            return None;
        }
        let mean: Vec<f64> = self.x.iter().map(|x| x / self.weight).collect();
        let covariance = |i: usize, j: usize| self.xx[i.max(j)][i.min(j)] / self.weight - mean[i] * mean[j];
        let scale: Vec<f64> = (0..p).map(|i| deviation(covariance(i, i), mean[i])).collect();
        let y_mean = self.y / self.weight;
        let y_scale = deviation(self.yy / self.weight - y_mean * y_mean, y_mean);
        let correlation = |i: usize, j: usize| match (scale[i] * scale[j], i == j) {
            (s, true) if s > 0.0 => 1.0 + JITTER,
            (_, true) => 1.0,
            (s, false) if s > 0.0 => covariance(i, j) / s,
            (_, false) => 0.0,
        };
        let correlations: Vec<Vec<f64>> =
            (0..p).map(|i| (0..p).map(|j| correlation(i, j)).collect()).collect();
        let with_target: Vec<f64> = (0..p)
            .map(|i| self.xy[i] / self.weight - mean[i] * y_mean)
            .zip(&scale)
            .map(|(c, s)| if s * y_scale > 0.0 { c / (s * y_scale) } else { 0.0 })
            .collect();
        let lower = cholesky(&correlations)?;
        let standard = elastic_net(&lower, &forward(&lower, &with_target), steps(self.rows) / steps(p))?;
        let weights: Vec<f64> =
            standard.iter().zip(&scale).map(|(w, s)| if *s > 0.0 { w * y_scale / s } else { 0.0 }).collect();
        let intercept = y_mean - weights.iter().zip(&mean).map(|(w, m)| w * m).sum::<f64>();
        let line =
            Line { intercept, weights: weights.iter().map(|w| narrow(*w)).collect(), range: self.range };
        (intercept.is_finite() && line.weights.iter().all(|w| w.is_finite())).then_some(line)
    }
}

fn elastic_net(lower: &[Vec<f64>], target: &[f64], rows_per_feature: f64) -> Option<Vec<f64>> {
    let p = target.len();
    let unit = steps(p).sqrt();
    let records = Array2::from_shape_fn((p, p), |(i, j)| if j >= i { unit * lower[j][i] } else { 0.0 });
    let targets: Array1<f64> = target.iter().map(|t| unit * t).collect();
    let fitted = ElasticNet::params()
        .penalty(PENALTY / rows_per_feature.sqrt())
        .l1_ratio(L1_RATIO)
        .with_intercept(false)
        .max_iterations(SWEEPS_MAX)
        .fit(&Dataset::new(records, targets))
        .ok()?;
    Some(fitted.hyperplane().to_vec())
}

/// Standard deviation; 0 when it drowns in the rounding of the mean.
fn deviation(variance: f64, mean: f64) -> f64 {
    if variance > 1e-12 * mean * mean && variance > 1e-20 { variance.sqrt() } else { 0.0 }
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits of a weight are enough")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_few_rows_have_the_solution_of_the_many() {
        // y = 3a − 2b + 1 on a 20 × 20 lattice, worked with nearly no penalty: the weights come back.
        let mut sums = Sums::new(2);
        for i in 0..400u32 {
            let (a, b) = (f64::from(i % 20), f64::from(i / 20));
            sums.add(&[a, b], 3.0 * a - 2.0 * b + 1.0, 1.0);
        }
        let line = sums.line().unwrap();
        // The penalty at 200 rows per feature is 0.0035 of a standard deviation: within 1 %.
        assert!((line.weights[0] - 3.0).abs() < 0.03 && (line.weights[1] + 2.0).abs() < 0.03, "{line:?}");
        assert!((line.at(&[4.0, 2.0]) - 9.0).abs() < 0.3);
    }

    #[test]
    fn agrees_with_scikit_learn() {
        // ElasticNet(alpha=0.05/sqrt(400/4), l1_ratio=0.1, fit_intercept=False, tol=1e-12) of scikit-learn 1.9.1 on the columns and
        // the target below, standardised by numpy's mean and std; its coefficients put back to the columns' units.
        let theirs = [1.504_579, -1.495_769, 0.490_920, 0.494_271];
        let part = |i: u32, factor: u32, modulus: u32| f64::from(i * factor % modulus) / f64::from(modulus);
        let mut sums = Sums::new(4);
        for i in 0..400 {
            let [a, b, c] = [part(i, 7, 23), part(i, 13, 17), part(i, 5, 29).powi(2)];
            let y = 2.0 * a - 1.5 * b + 0.5 * c + 0.3 * part(i, 31, 37) - 0.4;
            sums.add(&[a, b, c, a + 0.1 * part(i, 11, 19)], y, 1.0);
        }
        let line = sums.line().unwrap();
        // The solver stops at a relative change of 1e-4, and like columns share a weight in many ways.
        for (ours, theirs) in line.weights.iter().zip(theirs) {
            assert!((f64::from(*ours) - theirs).abs() < 0.02, "{:?} against {theirs:?}", line.weights);
        }
        assert!((line.intercept + 0.276_084).abs() < 0.01, "{}", line.intercept);
    }

    #[test]
    fn learns_that_a_spike_falls_back() {
        let mut history = History::new(0, 10.0);
        (0..600u32).for_each(|t| history.push(Some(if t % 7 == 0 { 40.0 } else { 10.0 })));
        let model = Regression::fit(&history, 596, &[], &[1, 2, 3]).unwrap();
        let mut path = [0.0; 3];
        model.path(&history, 595, &mut path); // 595 is a spike
        path.iter().for_each(|z| assert!((history.backward(*z) - 10.0).abs() < 2.0, "{path:?}"));
        assert_eq!(Regression::fit(&history, 20, &[], &[1]), None);
    }
}
