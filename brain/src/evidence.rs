//! What came of the loads that a model foretold a replica would carry: a share of the foretold load that replicas really carry.
//! Arrivals are not independent, balancers are not ideal, and engines have limits that no mean shows.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::Timestamp;

use crate::capacity::{Bin, Bins, load_of};

/// Requests are late because of what arrived up to this many windows before they ended.
pub(crate) const CAUSE_WINDOWS: usize = 3;
/// Share of the foretold load that is taken to be carried where even the least has been too much.
const SHARE_MIN: f64 = 0.25;
/// Most that a model is taken to have understated.
const SHARE_MAX: f64 = 8.0;
/// A load this much above all that was seen is taken to make all late.
const ALL_LATE_BEYOND: f64 = 0.25;

/// Evidence on a model of capacity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    budget: f64,
    /// By load over what was foretold.
    carried: Bins,
    open: Open,
    /// Loads of the last windows, newest last.
    recent: VecDeque<f64>,
    /// The load that has made requests late or wait, while it does.
    trouble: Option<f64>,
}

/// Looks at one size, joined.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Open {
    ready: u32,
    seconds: f64,
    arrivals: f64,
    ended: f64,
    missed: f64,
}

/// One look: what arrived and ended in a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) window: Duration,
    pub(crate) ready: u32,
    pub(crate) arrivals: f64,
    pub(crate) ended: f64,
    pub(crate) missed: f64,
    pub(crate) queued: f64,
}

impl Evidence {
    /// The model is believed until something is seen. `budget`: share of requests that may miss.
    pub(crate) fn new(budget: f64) -> Self {
        Self {
            budget,
            carried: Bins::default(),
            open: Open::default(),
            recent: VecDeque::new(),
            trouble: None,
        }
    }

    /// The model is believed again as it was before anything was seen.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.budget);
    }

    /// Takes in a look, where a replica was foretold to carry `foretold` per second; `felt` is the time over which it feels a load.
    pub(crate) fn ingest(&mut self, at: Timestamp, seen: Carried, foretold: f64, felt: Duration) {
        if self.open.ready != seen.ready {
            self.open = Open { ready: seen.ready, ..Open::default() };
        }
        let open = &mut self.open;
        open.seconds += seen.window.as_secs_f64();
        open.arrivals += seen.arrivals;
        open.ended += seen.ended;
        open.missed += seen.missed;
        if open.seconds < felt.as_secs_f64() || seen.ready == 0 || foretold <= 0.0 {
            return;
        }
        let Open { seconds, arrivals, ended, missed, .. } = std::mem::take(open);
        open.ready = seen.ready;
        self.recent.push_back(arrivals / seconds / f64::from(seen.ready) / foretold);
        while self.recent.len() > CAUSE_WINDOWS {
            self.recent.pop_front();
        }
        let load = self.recent.iter().copied().fold(self.trouble.unwrap_or(0.0), f64::max);
        // What is late now, or waits, is so because of what arrived before it.
        self.trouble = (missed > 0.0 || seen.queued >= 1.0).then_some(load);
        self.carried.ingest(at, load, ended, missed);
    }

    /// Lateness by the load as a multiple of `carried`, a share of what was foretold.
    pub(crate) fn lateness(&self, carried: f64) -> Lateness {
        let mut points: Vec<(f64, f64)> = self
            .carried
            .curve()
            .iter()
            .map(|(bin, seen)| (load_of(*bin) / carried, seen.missed / seen.ended))
            .collect();
        // Up to what is believed to be carried, the budget is kept.
        if points.last().is_none_or(|(load, _)| *load < 1.0) {
            points.push((1.0, points.last().map_or(0.0, |(_, share)| *share)));
        }
        Lateness(points)
    }

    /// Shares of what is foretold that are carried: almost surely, and by the best estimate.
    pub(crate) fn shares(&self) -> [f64; 2] {
        let curve = self.carried.curve();
        let share = |limit: f64, missed: fn(&Bin) -> f64| {
            let fine = curve.iter().rposition(|(_, bin)| missed(bin) <= limit);
            let carried = fine.map_or(SHARE_MIN, |at| load_of(curve[at].0));
            // Where nothing between what was carried and the model's word speaks against the model, it is believed.
            let denied = curve.get(fine.map_or(0, |at| at + 1)).is_some_and(|(bin, _)| load_of(*bin) <= 1.0);
            if denied { carried } else { carried.max(1.0) }
        };
        let mid = share(self.budget, |bin| bin.missed / bin.ended);
        let low = share(2.0 * self.budget, |bin| (bin.missed + 1.0) / (bin.ended + 2.0));
        [low.min(mid), mid].map(|share| share.clamp(SHARE_MIN, SHARE_MAX))
    }
}

/// The share of requests that are late, by the load.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Lateness(Vec<(f64, f64)>);

impl Lateness {
    /// At this load; a load beyond all that was seen makes late ever more.
    pub(crate) fn share(&self, load: f64) -> f64 {
        let above = self.0.partition_point(|(at, _)| *at <= load);
        let (from, low) = above.checked_sub(1).map_or((0.0, 0.0), |at| self.0[at]);
        match self.0.get(above) {
            Some((to, high)) => low + (high - low) * (load - from) / (to - from),
            None => (low + (load / from.max(1e-9) - 1.0) / ALL_LATE_BEYOND).min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);
    const CALM: Carried =
        Carried { window: WINDOW, ready: 2, arrivals: 50.0, ended: 50.0, missed: 0.0, queued: 0.0 };

    fn at(k: usize) -> Timestamp {
        Timestamp::from_secs(5 * i64::try_from(k).unwrap())
    }

    #[test]
    fn a_model_that_keeps_its_word_is_believed() {
        let mut evidence = Evidence::new(0.01);
        for k in 0..400 {
            let arrivals = 50.0 + f64::from(u32::try_from(k % 7).unwrap()) * 6.0;
            evidence.ingest(at(k), Carried { arrivals, ended: arrivals, ..CALM }, 10.0, WINDOW);
        }
        let [low, mid] = evidence.shares();
        assert!((0.8..=1.2).contains(&mid) && low <= mid, "{:?}", evidence.shares());
    }

    #[test]
    fn lateness_is_laid_to_the_load_that_made_it_and_not_to_the_calm_after() {
        let mut evidence = Evidence::new(0.01);
        for k in 0..2000 {
            // A burst of 80 % of what was foretold is too much; its requests end late, in the windows after it.
            let seen = match k % 40 {
                0 => Carried { arrivals: 80.0, ended: 20.0, missed: 0.0, queued: 60.0, ..CALM },
                1 => Carried { arrivals: 5.0, ended: 30.0, missed: 30.0, queued: 30.0, ..CALM },
                2 => Carried { arrivals: 5.0, ended: 30.0, missed: 30.0, ..CALM },
                _ => Carried { arrivals: 40.0, ended: 40.0, ..CALM },
            };
            evidence.ingest(at(k), seen, 10.0, WINDOW);
        }
        let [low, mid] = evidence.shares();
        assert!((0.3..0.75).contains(&mid) && low > 0.3, "{:?}", evidence.shares());
    }

    #[test]
    fn where_the_least_is_too_much_there_is_still_an_answer() {
        let mut evidence = Evidence::new(0.01);
        for k in 0..2000 {
            let arrivals = [0.5, 5.0, 30.0, 90.0][k % 4];
            evidence.ingest(at(k), Carried { arrivals, missed: 50.0, ..CALM }, 10.0, WINDOW);
        }
        assert!(evidence.shares().into_iter().all(|share| share > 0.0 && share.is_finite()));
    }
}
