//! What may come beyond the largest demand known, for a strict objective with a short past: few windows say nothing of what happens
//! once in many. The tail is taken to go on as its largest values do: Hill's estimate of its index (Hill 1975, *A simple general
//! approach to inference about the tail of a distribution*), extrapolated after Weissman (1978, *Estimation of parameters and large
//! quantiles based on the k largest observations*).

/// Windows of a lead time that a past needs before it is believed. An objective whose budget is larger than one in so many does not
/// ask for more than what was seen: what comes so seldom may miss.
pub(crate) const WINDOWS: usize = 200;
/// With fewer windows there is no tail to speak of.
const WINDOWS_MIN: usize = 10;
/// The tail: one window in so many, but at least some.
const TAIL_SHARE: usize = 10;
const TAIL_MIN: usize = 5;
/// Nothing is expected beyond so many times the largest demand known.
const BEYOND_MAX: f64 = 2.0;

/// Whether an objective with this budget of misses asks for more than what a short past has seen.
pub(crate) fn is_strict(budget: f64) -> bool {
    budget * WINDOWS as f64 <= 1.0 + 1e-9
}

/// Demand whose odds of being exceeded within one window are the budget, by the largest demand of each window so far, in any order. `None`
/// where the past is not short, or so short that it has no tail.
pub(crate) fn beyond(mut maxima: Vec<f64>, budget: f64) -> Option<f64> {
    let n = maxima.len();
    if !is_strict(budget) || !(WINDOWS_MIN..WINDOWS).contains(&n) {
        return None;
    }
    maxima.sort_by(|a, b| b.total_cmp(a));
    let tail = (n / TAIL_SHARE).max(TAIL_MIN);
    let (largest, base) = (maxima[0], maxima[tail]);
    if base <= 0.0 {
        return None;
    }
    let index = maxima[..tail].iter().map(|value| (value / base).ln()).sum::<f64>() / tail as f64;
    let odds = 1.0 / budget.max(f64::MIN_POSITIVE) / (n as f64 + 1.0);
    Some(largest * odds.max(1.0).powf(index).min(BEYOND_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of a Pareto law with this index, evenly spread.
    fn pareto(n: usize, index: f64) -> Vec<f64> {
        (1..=n).map(|i| (i as f64 / (n as f64 + 1.0)).powf(-index)).collect()
    }

    #[test]
    fn a_tail_goes_on_as_it_began() {
        let budget = 1.0 / 1000.0;
        let truth = f64::powf(budget, -0.2);
        let guess = beyond(pareto(150, 0.2), budget).expect("a strict objective, a short past");
        assert!((guess / truth - 1.0).abs() < 0.15, "{guess:.2} for {truth:.2}");
        let steady = beyond(vec![40.0; 50], budget);
        assert_eq!(steady, Some(40.0), "nothing has ever stood out");
    }

    #[test]
    fn stricter_objectives_and_shorter_pasts_ask_for_more_but_not_without_end() {
        let at = |n, budget| beyond(pareto(n, 0.1), budget).expect("strict and short") / pareto(n, 0.1)[0];
        assert!(at(100, 0.001) > at(100, 0.005) && at(40, 0.001) > at(160, 0.001));
        let wild = beyond(pareto(20, 3.0), 1e-9).expect("strict and short");
        assert!((wild / pareto(20, 3.0)[0] - BEYOND_MAX).abs() < 1e-9);
        assert_eq!(beyond(pareto(20, 3.0), 0.0).map(f64::is_finite), Some(true));
    }

    #[test]
    fn ordinary_objectives_long_pasts_and_silence_ask_for_nothing() {
        assert_eq!(beyond(pareto(50, 0.2), 0.01), None);
        assert_eq!(beyond(pareto(WINDOWS, 0.2), 0.001), None);
        assert_eq!(beyond(pareto(WINDOWS_MIN - 1, 0.2), 0.001), None);
        assert_eq!(beyond(vec![0.0; 50], 0.001), None);
        assert!(is_strict(0.005) && is_strict(1.0 - 0.995) && !is_strict(0.01));
    }
}
