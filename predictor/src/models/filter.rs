//! Exponential smoothing that is fitted once by `augurs` and then follows the series step by step.
//!
//! The library keeps a fitted model's parameters to itself. Its one-step fits ŷ and errors e obey an exact recurrence,
//! though: with D(t) = ŷ(t+1) − ŷ(t), ETS(A,Ad,N) is D(t) = φ·D(t−1) + (α + φβ)·e(t) − φα·e(t−1) (its ARIMA(1,1,2) form:
//! Hyndman et al., "Forecasting with Exponential Smoothing", 2008, ch. 11). The three factors are read from the fits by
//! least squares and carried forward; that they reproduce the fits is checked.

use augurs::ets::AutoETS;
use augurs::ets::model::TrendComponent;
use augurs::{Fit, Predict};

use super::least_squares::solve;
use crate::history::History;

/// Latest steps to fit: enough for three parameters, and the search's cost grows with it.
const WINDOW: usize = 400;
/// Largest miss of the recurrence, relative to the spread of the series, that rounding may explain.
const RECURRENCE_TOLERANCE: f64 = 1e-3;

/// Factors of the recurrence, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Filter {
    carry: f64,
    gain: f64,
    gain_before: f64,
    expected: f64,
    change: f64,
    error: f64,
    /// The first step not yet taken in.
    next: usize,
}

impl Filter {
    /// Fits the steps before `upto`.
    pub(crate) fn fit(history: &History, upto: usize) -> Option<Self> {
        let from = upto.saturating_sub(WINDOW);
        let y: Vec<f64> = (from..upto).map(|t| history.z(t)).collect();
        let spread = spread(&y);
        if spread < 1e-9 {
            return None; // Constant: the last value says all there is.
        }
        let fitted = AutoETS::new(1, "AZN").ok()?.fit(&y).ok()?;
        let mut fits = fitted.predict_in_sample(None).ok()?.point;
        fits.extend(fitted.predict(1, None).ok()?.point.first());
        if fits.len() != y.len() + 1 || fits.iter().any(|f| !f.is_finite()) {
            return None;
        }
        let trend = match (fitted.model().model_type().trend, fitted.model().damped()) {
            (TrendComponent::None, _) => Trend::None,
            (_, false) => Trend::Full,
            (_, true) => Trend::Damped,
        };
        Self::from_fits(&y, &fits, trend, upto).filter(|filter| filter.reproduces(&y, &fits, spread))
    }

    fn from_fits(y: &[f64], fits: &[f64], trend: Trend, next: usize) -> Option<Self> {
        let change = |t: usize| fits[t + 1] - fits[t];
        let error = |t: usize| y[t] - fits[t];
        let rows = (1..y.len()).map(|t| {
            let row = match trend {
                Trend::None => vec![error(t)],
                Trend::Full => vec![error(t), error(t - 1)],
                Trend::Damped => vec![error(t), error(t - 1), change(t - 1)],
            };
            (row, if matches!(trend, Trend::Full) { change(t) - change(t - 1) } else { change(t) })
        });
        let factors = solve(rows)?;
        let last = y.len() - 1;
        Some(Self {
            carry: match trend {
                Trend::None => 0.0,
                Trend::Full => 1.0,
                Trend::Damped => factors[2],
            },
            gain: factors[0],
            gain_before: factors.get(1).copied().unwrap_or(0.0),
            expected: fits[last + 1],
            change: change(last),
            error: error(last),
            next,
        })
    }

    fn reproduces(&self, y: &[f64], fits: &[f64], spread: f64) -> bool {
        let within = |t: &usize| {
            let (now, before) = (fits[t + 1] - fits[*t], fits[*t] - fits[t - 1]);
            let said = self.carry * before
                + self.gain * (y[*t] - fits[*t])
                + self.gain_before * (y[t - 1] - fits[t - 1]);
            (said - now).abs() < RECURRENCE_TOLERANCE * spread
        };
        (-1.0..=1.0).contains(&self.carry) && (1..y.len()).all(|t| within(&t))
    }

    /// Takes in the steps up to and including `to`; a gap says nothing new.
    pub(crate) fn advance(&mut self, history: &History, to: usize) {
        for t in self.next..=to {
            let error = history.value(t).map_or(0.0, |_| history.z(t) - self.expected);
            self.change = self.carry * self.change + self.gain * error + self.gain_before * self.error;
            self.expected += self.change;
            self.error = error;
        }
        self.next = self.next.max(to + 1);
    }

    /// Writes the forecasts after the last step taken in.
    pub(crate) fn path(&self, path: &mut [f64]) {
        let (mut expected, mut change) =
            (self.expected, self.carry * self.change + self.gain_before * self.error);
        for z in path {
            *z = expected;
            expected += change;
            change *= self.carry;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Trend {
    None,
    Full,
    Damped,
}

fn spread(y: &[f64]) -> f64 {
    let (min, max) = y.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    max - min
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A noisy slow wave, without any random source.
    fn wavy(t: u32) -> f64 {
        let t = f64::from(t);
        20.0 + 8.0 * (t / 30.0).sin() + 3.0 * (t * 1.7).sin() * (t * 0.31).cos()
    }

    #[test]
    fn follows_on_as_the_library_would_after_a_fit_on_more_data() {
        let mut history = History::new(0, 20.0);
        (0..300).for_each(|t| history.push(Some(wavy(t))));
        let filter = Filter::fit(&history, 300).unwrap();
        // The library's own path from the same fit: the recurrence must give it to rounding (histories hold 24 bits).
        let y: Vec<f64> = (0..300).map(|t| history.z(t)).collect();
        let theirs = AutoETS::new(1, "AZN").unwrap().fit(&y).unwrap().predict(20, None).unwrap().point;
        let mut ours = [0.0; 20];
        filter.path(&mut ours);
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 1e-4, "{ours:?} against {theirs:?}");
        }
    }

    #[test]
    fn simple_smoothing_matches_a_hand_worked_table() {
        // Level 10, α = 0.5: 14 → 12, 8 → 10, gap → 10, 11 → 10.5; flat ahead.
        let mut history = History::new(0, 1.0);
        [Some(14.0), Some(8.0), None, Some(11.0)]
            .into_iter()
            .for_each(|v| history.push(v.map(|v: f64| v.exp_m1())));
        let start = Filter {
            carry: 0.0,
            gain: 0.5,
            gain_before: 0.0,
            expected: 10.0,
            change: 0.0,
            error: 0.0,
            next: 0,
        };
        for (to, level) in [(0, 12.0), (1, 10.0), (2, 10.0), (3, 10.5)] {
            let mut filter = start.clone();
            filter.advance(&history, to);
            let mut path = [0.0; 3];
            filter.path(&mut path);
            // 24 bits of a transform near 14 leave an error of about 1e-6.
            path.iter().for_each(|z| assert!((z - level).abs() < 1e-4, "{z} is not {level}"));
        }
    }

    #[test]
    fn has_no_opinion_on_a_constant() {
        let mut history = History::new(0, 1.0);
        (0..100).for_each(|_| history.push(Some(5.0)));
        assert_eq!(Filter::fit(&history, 100), None);
    }
}
