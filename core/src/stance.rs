//! How a workload is provided for: which headroom stands beside the load seen, and for how long it stays. Learned by rehearsing
//! many stances on the workload's own past; see `tidegate-brain`. What is asked of it here is pure arithmetic.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::forecast::Quantiles;

/// One way to provide for a load: `level · present + usual · usual demand`, or the quantile of the peak to come where that is more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stance {
    /// Multiple of the present demand that is provided for. A little below 1 where the estimate of the present, which leans to the
    /// high side, has been more than enough.
    pub level: f64,
    /// Multiple of the usual demand that is added: standing headroom.
    pub usual: f64,
    /// Quantile of the peak until a replica ordered now could be ready; `None`: the peak's forecast does not pay here.
    pub peak: Option<f64>,
    /// How much more is risked when there is little to lose, and less when there is much: the share risked goes with this power of
    /// the usual demand over the peak's median. 0: the same at all times; 1: the same number of requests.
    pub tilt: f64,
    /// A smaller size must have been enough for this long before it is taken.
    pub hold: Duration,
}

/// Bounds of a tilted quantile: below the first a peak is no forecast of one, beyond the last nothing was ever seen.
const TILTED: [f64; 2] = [0.3, 0.9995];

impl Stance {
    /// The demand to provide for by this forecast of the peak; `None` where the stance does not look at it.
    #[must_use]
    pub fn provided_peak(&self, peak: &Quantiles, usual: f64) -> Option<f64> {
        let p = self.peak?;
        let ratio = usual / peak.quantile(0.5).max(f64::MIN_POSITIVE);
        let risked = (1.0 - p) * ratio.clamp(1e-3, 1e3).powf(self.tilt);
        let tilted = if self.tilt == 0.0 { p } else { (1.0 - risked).clamp(TILTED[0], TILTED[1]) };
        Some(peak.quantile(tilted))
    }
}

/// A stance, and what came of it in the rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// Which.
    pub stance: Stance,
    /// Mean replicas held, starting ones included.
    pub replicas: f64,
    /// Changes of the size per hour.
    pub actions_per_hour: f64,
    /// Share of requests that missed the objective.
    pub missed: f64,
}

/// What a change of the size costs, in replica-hours: a replica that starts for nothing, and the nerves of whoever watches.
const ACTION_COST: f64 = 0.02;

/// Where no stance keeps the objective, one that misses this many times what the safest does is taken if it is cheaper: what could
/// not be helped at any cost is no reason for every cost.
const ABOUT_AS_SAFE: f64 = 1.15;

impl Rehearsed {
    /// Replicas, with changes of the size at their price.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.replicas + ACTION_COST * self.actions_per_hour
    }
}

/// The stances of which none is beaten by another in both cost and misses, dearest last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Repertoire(Vec<Rehearsed>);

impl Repertoire {
    /// Keeps the front of what was rehearsed. What is not finite is left out.
    #[must_use]
    pub fn new(mut rehearsed: Vec<Rehearsed>) -> Self {
        let cost = Rehearsed::cost;
        rehearsed.retain(|one| one.replicas.is_finite() && one.missed.is_finite());
        rehearsed.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(a.missed.total_cmp(&b.missed)));
        let mut least = f64::INFINITY;
        rehearsed.retain(|one| {
            let better = one.missed < least;
            least = least.min(one.missed);
            better
        });
        Self(rehearsed)
    }

    /// The cheapest stance that missed at most this share; where none did, the cheapest that is about as safe as the safest.
    /// `None`: nothing was rehearsed.
    #[must_use]
    pub fn choose(&self, missed_max: f64) -> Option<&Rehearsed> {
        let least = self.0.last()?.missed;
        self.0.iter().find(|one| one.missed <= missed_max.max(least * ABOUT_AS_SAFE))
    }

    /// All of them, cheapest first.
    #[must_use]
    pub fn front(&self) -> &[Rehearsed] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::LEVELS;

    fn one(level: f64, replicas: f64, missed: f64) -> Rehearsed {
        let stance = Stance { level, usual: 0.0, peak: None, tilt: 0.0, hold: Duration::ZERO };
        Rehearsed { stance, replicas, actions_per_hour: 0.0, missed }
    }

    #[test]
    fn a_tilt_risks_more_when_little_is_at_stake() {
        let peak = |scale: f64| Quantiles::new(LEVELS.map(|level| level * scale)).unwrap();
        let stance = Stance { level: 1.0, usual: 0.0, peak: Some(0.9), tilt: 1.0, hold: Duration::ZERO };
        let share = |scale: f64| stance.provided_peak(&peak(scale), 50.0).unwrap() / scale;
        assert!((share(100.0) - 0.9).abs() < 1e-9, "the usual demand is the median of the first");
        assert!(share(50.0) < 0.85 && share(200.0) > 0.93, "{} {}", share(50.0), share(200.0));
        assert_eq!(Stance { peak: None, ..stance }.provided_peak(&peak(1.0), 50.0), None);
        let level = Stance { tilt: 0.0, ..stance }.provided_peak(&peak(0.0), 0.0);
        assert_eq!(level, Some(0.0), "nothing is no reason to fail");
    }

    #[test]
    fn only_what_nothing_beats_is_kept_and_the_cheapest_that_does_is_chosen() {
        let all = vec![
            one(1.0, 4.0, 0.05),
            one(1.2, 5.0, 0.02),
            one(1.3, 5.5, 0.03),
            one(2.0, 9.0, 0.001),
            one(9.0, f64::NAN, 0.0),
        ];
        let repertoire = Repertoire::new(all);
        assert_eq!(repertoire.front().len(), 3);
        let level = |missed| repertoire.choose(missed).unwrap().stance.level;
        assert_eq!((level(0.1), level(0.02), level(0.01), level(0.0)), (1.0, 1.2, 2.0, 2.0));
        assert_eq!(Repertoire::default().choose(0.5), None);
    }
}
