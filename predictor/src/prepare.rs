//! Before learning: what counts as unknown, and how far back the past still speaks of the present.
//! Not a judge of live readings; the caller's data-quality rules come first.

use tidegate_core::Series;

use crate::grid::steps;
use crate::history::History;

/// No demand is larger; beyond it a value is taken for an error and becomes a gap.
const VALUE_MAX: f64 = 1e18;
/// More runs of zeros than this are the workload's own habit, not outages.
const OUTAGES_MAX: usize = 4;
/// Above this share of zeros the series is not "otherwise positive".
const OUTAGE_SHARE_MAX: f64 = 0.1;
/// A load that comes this close to zero by itself (1 % quantile over median) may well reach it.
const NEAR_ZERO: f64 = 0.1;
/// Window of the level-shift test when no season is known, in steps.
const SHIFT_WINDOW: usize = 60;
/// Windows of the new level before it is believed; more than a weekend of days.
const SHIFT_WINDOWS_NEW: usize = 3;
/// Old level against new: the ratio from which it is another regime rather than growth.
const SHIFT_RATIO: f64 = 2.0;
/// How far windows of the new level may differ among each other.
const SHIFT_SPREAD: f64 = 1.35;

/// A history to learn from.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) history: History,
    /// Zeros are outages in this series.
    pub(crate) zero_is_outage: bool,
}

/// Cleans a series; `None` when nothing in it is known.
pub(crate) fn prepare(series: &Series, seasons: &[usize]) -> Option<Prepared> {
    let mut values: Vec<Option<f64>> = series.values().iter().map(|v| v.and_then(plausible)).collect();
    let zero_is_outage = zeros_are_outages(&values);
    if zero_is_outage {
        values.iter_mut().for_each(|v| *v = v.filter(|v| *v > 0.0));
    }
    let start = memory_start(&values, seasons);
    let offset = start + values[start..].iter().position(Option::is_some)?;
    let scale = mean_of_first_part(&values[offset..]);
    let step = series.step().as_millis().max(1);
    let since_epoch = u128::try_from(series.time(offset).as_millis()).unwrap_or(0) / step;
    let phase = u64::try_from(since_epoch).unwrap_or(0);
    let mut history = History::new(phase, scale);
    values[offset..].iter().for_each(|v| history.push(*v));
    Some(Prepared { history, zero_is_outage })
}

/// The value, when it can be a demand at all.
pub(crate) fn plausible(value: f64) -> Option<f64> {
    (0.0..=VALUE_MAX).contains(&value).then_some(value)
}

/// Only the first part, so that origins judged in the rest do not know it. 1 when all of it is zero.
fn mean_of_first_part(values: &[Option<f64>]) -> f64 {
    let part = &values[..(values.len() / 3).max(24).min(values.len())];
    let known = part.iter().flatten().count();
    let mean = part.iter().flatten().sum::<f64>() / steps(known.max(1));
    if mean > 0.0 { mean } else { 1.0 }
}

fn zeros_are_outages(values: &[Option<f64>]) -> bool {
    let mut positive: Vec<f64> = values.iter().flatten().copied().filter(|v| *v > 0.0).collect();
    let zeros = values.iter().flatten().count() - positive.len();
    if zeros == 0 || positive.len() < 24 || steps(zeros) > OUTAGE_SHARE_MAX * steps(positive.len()) {
        return false;
    }
    positive.sort_by(f64::total_cmp);
    let near_zero = positive[positive.len() / 100] < NEAR_ZERO * positive[positive.len() / 2];
    !near_zero && zero_runs(values) <= OUTAGES_MAX
}

fn zero_runs(values: &[Option<f64>]) -> usize {
    let known = values.iter().flatten();
    known.fold((0, false), |(runs, in_run), v| (runs + usize::from(*v == 0.0 && !in_run), *v == 0.0)).0
}

/// The step from which on the level is the present one; 0 when there was no lasting shift.
fn memory_start(values: &[Option<f64>], seasons: &[usize]) -> usize {
    let window = seasons.first().map_or(SHIFT_WINDOW, |season| SHIFT_WINDOW.max(*season));
    let medians: Vec<f64> = values.rchunks(window).filter(|w| w.len() == window).map_while(median).collect();
    let Some(now) = medians.first().copied().filter(|m| *m > 0.0) else { return 0 };
    let apart = |m: f64, ratio: f64| m * ratio < now || m > now * ratio;
    let new = medians.iter().take_while(|m| !apart(**m, SHIFT_SPREAD)).count();
    let old = medians.get(new..).unwrap_or_default();
    let shifted = new >= SHIFT_WINDOWS_NEW && !old.is_empty() && old.iter().all(|m| apart(*m, SHIFT_RATIO));
    if shifted { values.len() - new * window } else { 0 }
}

fn median(window: &[Option<f64>]) -> Option<f64> {
    let mut known: Vec<f64> = window.iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    known.get(known.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidegate_core::Timestamp;

    fn series(values: impl IntoIterator<Item = f64>) -> Series {
        Series::from_values(Timestamp::EPOCH, Duration::from_secs(60), values.into_iter().map(Some))
    }

    #[test]
    fn a_rare_run_of_zeros_is_a_gap_and_a_habit_is_not() {
        let busy = |i: usize| 50.0 + steps(i % 7);
        let outage =
            prepare(&series((0..400).map(|i| if (200..220).contains(&i) { 0.0 } else { busy(i) })), &[])
                .unwrap();
        assert_eq!((outage.zero_is_outage, outage.history.value(210)), (true, None));
        let habit = prepare(&series((0..400).map(|i| if i % 50 < 3 { 0.0 } else { busy(i) })), &[]).unwrap();
        assert_eq!((habit.zero_is_outage, habit.history.value(101)), (false, Some(0.0)));
    }

    #[test]
    fn a_lasting_level_shift_shortens_memory_and_a_short_one_does_not() {
        let step =
            |since: usize| series((0..1200).map(|i| if i < since { 10.0 } else { 50.0 } + steps(i % 5)));
        let learned = |since| prepare(&step(since), &[120]).unwrap().history.end();
        assert_eq!((learned(840), learned(1100)), (1200 - 840, 1200));
    }

    #[test]
    fn absurd_values_are_gaps() {
        let p = prepare(&series([-1.0, 5.0, 1e300, -0.5, 7.0]), &[]).unwrap();
        let values: Vec<_> = (0..p.history.end()).map(|t| p.history.value(t)).collect();
        assert_eq!(values, [Some(5.0), None, None, Some(7.0)]);
        assert!(prepare(&series([]), &[]).is_none() && prepare(&series([-1.0]), &[]).is_none());
    }
}
