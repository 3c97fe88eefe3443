//! Errors seen so far, as an empirical distribution with a tail of its own. Not a density: a forecast needs quantiles.

use std::collections::VecDeque;

use tidegate_core::forecast::LEVELS;

use crate::grid::steps;

/// A value at each of [`LEVELS`].
pub(crate) type Grid = [f64; LEVELS.len()];

/// Fewest errors from which a distribution is read: the 95 % quantile is the largest of 20.
pub(crate) const ERRORS_MIN: usize = 20;
/// Share of the errors that the tail is fitted to.
const TAIL_SHARE: usize = 10;
/// Latest errors that count: enough for a 99 % quantile, few enough to follow a load that calms down.
const ERRORS_MAX: usize = 2000;

/// The latest errors, sorted as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Errors {
    sorted: Vec<f64>,
    order: VecDeque<f64>,
}

impl Errors {
    /// Takes in one error; one that is not finite is left out.
    pub(crate) fn insert(&mut self, error: f64) {
        if error.is_finite() {
            if self.order.len() == ERRORS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.sorted.remove(self.sorted.partition_point(|e| *e < oldest));
            }
            self.order.push_back(error);
            let at = self.sorted.partition_point(|e| *e < error);
            self.sorted.insert(at, error);
        }
    }

    /// Quantiles at [`LEVELS`]; `None` below [`ERRORS_MIN`] errors.
    pub(crate) fn quantiles(&self) -> Option<Grid> {
        (self.sorted.len() >= ERRORS_MIN).then(|| LEVELS.map(|level| self.quantile(level)))
    }

    /// The value that the next error stays below with probability `level`: the rank is `level · (n + 1)` (as split
    /// conformal prediction has it), and beyond the largest error an exponential tail of the upper tenth's mean excess.
    fn quantile(&self, level: f64) -> f64 {
        let n = self.sorted.len();
        let rank = level * steps(n + 1);
        if rank > steps(n) {
            return self.sorted[n - 1] + self.excess() * (rest(n) / (1.0 - level)).ln();
        }
        let rank = (rank - 1.0).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and n")]
        let below = rank.floor() as usize;
        let above = (below + 1).min(n - 1);
        self.sorted[below] + rank.fract() * (self.sorted[above] - self.sorted[below])
    }

    fn excess(&self) -> f64 {
        let tail = &self.sorted[self.sorted.len() - self.sorted.len() / TAIL_SHARE - 1..];
        tail.iter().map(|e| e - tail[0]).sum::<f64>() / steps(tail.len())
    }
}

/// The probability beyond the largest of `n` errors.
fn rest(n: usize) -> f64 {
    1.0 / steps(n + 1)
}

/// Loss of saying `forecast` for the quantile `level` when `value` came (Koenker and Bassett, 1978).
pub(crate) fn pinball(level: f64, forecast: f64, value: f64) -> f64 {
    let miss = value - forecast;
    (level * miss).max((level - 1.0) * miss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranks_and_goes_on_beyond_the_largest() {
        let mut errors = Errors::default();
        (1..=99u32).rev().for_each(|i| errors.insert(f64::from(i)));
        errors.insert(f64::NAN);
        let q = errors.quantiles().unwrap();
        assert!((q[3] - 50.0).abs() < 1e-9 && (q[7] - 95.0).abs() < 1e-9, "{q:?}");
        assert!(q[12] > 99.0 && q.is_sorted(), "{q:?}");
    }

    #[test]
    fn agrees_with_numpy() {
        // numpy.quantile([k * 7919 % 1000 / 1000 for k in range(1, 500)], levels up to 0.995, method="weibull"), numpy 2.4.6.
        let theirs = [0.049, 0.099, 0.251, 0.504, 0.753, 0.8, 0.9, 0.95, 0.976, 0.98, 0.987, 0.9945];
        let mut errors = Errors::default();
        (1..500u32).for_each(|k| errors.insert(f64::from(k * 7919 % 1000) / 1000.0));
        let ours = errors.quantiles().unwrap();
        assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-9), "{ours:?}");
    }

    #[test]
    fn few_errors_are_no_distribution_and_equal_ones_are_a_point() {
        let mut errors = Errors::default();
        (1..ERRORS_MIN).for_each(|_| errors.insert(2.0));
        assert_eq!(errors.quantiles(), None);
        errors.insert(2.0);
        assert_eq!(errors.quantiles(), Some([2.0; LEVELS.len()]));
    }

    #[test]
    fn pinball_weighs_the_two_sides() {
        assert!((pinball(0.9, 10.0, 12.0) - 1.8).abs() < 1e-12);
        assert!((pinball(0.9, 10.0, 8.0) - 0.2).abs() < 1e-12);
    }
}
