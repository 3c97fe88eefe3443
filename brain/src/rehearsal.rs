//! The rehearsal: many stances, each played through the workload's own past, so that the one is taken that would have met the
//! objective at the least cost. What is a burst here, how long bursts cluster, whether the clock or a season announces them, and
//! how much headroom they are worth is thus a matter of this workload's record and not of a default.

mod stage;

use std::time::Duration;

use tidegate_core::{Bounds, Capacity, Lead, Quantiles, Rehearsed, Repertoire, Series, Stance};

use crate::evidence::Lateness;
use stage::Stage;

/// Longest past that is played: weekends belong to it, and older habits are other habits.
const PLAYED: Duration = Duration::from_secs(7 * 86_400);
/// Fewest steps that say anything.
pub(crate) const STEPS_MIN: usize = 30;
/// Multiples of the present demand. Its estimate leans to the high side, so that a little less may be enough.
const LEVELS: [f64; 11] = [0.9, 0.95, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0];
/// Multiples of the usual demand.
const USUALS: [f64; 10] = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0];
/// Multiples of the present demand beside a quantile of the peak.
const LEVELS_BESIDE_PEAK: [f64; 2] = [0.95, 1.1];
/// Quantiles of the peak.
const PEAKS: [f64; 15] =
    [0.3, 0.5, 0.65, 0.75, 0.85, 0.9, 0.93, 0.95, 0.965, 0.975, 0.985, 0.99, 0.995, 0.998, 0.999];
/// How the risk goes with what is at stake: see [`Stance::tilt`].
const TILTS: [f64; 3] = [0.0, 0.5, 1.0];
/// Multiples of the policy's hold.
const HOLDS: [f64; 5] = [1.0, 2.5, 5.0, 10.0, 20.0];

/// All that it takes to play the past.
#[derive(Debug, Clone)]
pub(crate) struct Rehearsal {
    pub(crate) capacity: Capacity,
    pub(crate) lead: Lead,
    pub(crate) bounds: Bounds,
    /// The policy's hold: the shortest that is tried.
    pub(crate) hold: Duration,
    /// Longest wait within the objective.
    pub(crate) wait_max: Duration,
    /// The time over which a load is felt: about as long as a request is served.
    pub(crate) felt: Duration,
    /// `None`: requests that are too many wait. Else all are served at once and slow each other down: how many are late, by the
    /// load over what is carried.
    pub(crate) lateness: Option<Lateness>,
    /// Requests that come at a time, so to speak; see [`crate::demand`].
    pub(crate) roughness: f64,
    /// Whether decisions look at the present demand and at what waits; else they go by the peak's forecast alone.
    pub(crate) reactive: bool,
}

/// What a rehearsal found.
#[derive(Debug, Clone)]
pub(crate) struct Findings {
    pub(crate) repertoire: Repertoire,
    /// The usual demand, requests per second.
    pub(crate) usual: f64,
}

impl Rehearsal {
    /// Plays every stance through the end of `series`; `peaks[k]` is what was said of the peak at the end of step `k`.
    /// `None` where the past is too short.
    pub(crate) fn run(&self, series: &Series, peaks: &[Option<Quantiles>]) -> Option<Findings> {
        if series.known_len() < STEPS_MIN {
            return None;
        }
        let usual = usual(series);
        let stage = Stage::new(self, series, PLAYED);
        let mut played = Vec::new();
        let (levels, beside_peak): (&[f64], &[f64]) =
            if self.reactive { (&LEVELS, &LEVELS_BESIDE_PEAK) } else { (&[], &[0.0]) };
        for (level, usual_share) in levels.iter().flat_map(|level| USUALS.map(|usual| (*level, usual))) {
            let stance = Stance { level, usual: usual_share, peak: None, tilt: 0.0, hold: Duration::ZERO };
            let needs = stage.needs(|tick| level * stage.level(tick) + usual_share * usual);
            played.extend(self.hold_each(stance, &stage, &needs));
        }
        if peaks.iter().any(Option::is_some) {
            let risks = PEAKS.iter().flat_map(|p| TILTS.map(|tilt| (*p, tilt)));
            for (p, tilt) in risks {
                let of = Stance { level: 1.0, usual: 0.0, peak: Some(p), tilt, hold: Duration::ZERO };
                let provided =
                    |said: &Option<Quantiles>| said.as_ref().and_then(|said| of.provided_peak(said, usual));
                let said: Vec<f64> = peaks.iter().map(|said| provided(said).unwrap_or(0.0)).collect();
                for level in beside_peak.iter().copied() {
                    let needs = stage.needs(|tick| {
                        let step = stage.step_before(tick);
                        let peak = step.and_then(|step| said.get(step)).copied().unwrap_or(0.0);
                        (level * stage.level(tick)).max(peak)
                    });
                    played.extend(self.hold_each(Stance { level, ..of }, &stage, &needs));
                }
            }
        }
        Some(Findings { repertoire: Repertoire::new(played), usual })
    }

    fn hold_each<'a>(
        &'a self,
        stance: Stance,
        stage: &'a Stage<'_>,
        needs: &'a [u32],
    ) -> impl Iterator<Item = Rehearsed> + 'a {
        HOLDS.iter().map(move |times| {
            let hold = self.hold.mul_f64(*times);
            stage.play(Stance { hold, ..stance }, needs)
        })
    }
}

/// The median of what is known.
pub(crate) fn usual(series: &Series) -> f64 {
    let mut known: Vec<f64> = series.values().iter().flatten().copied().collect();
    known.sort_by(f64::total_cmp);
    known.get(known.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::{CapacitySource, Timestamp};

    fn rehearsal() -> Rehearsal {
        Rehearsal {
            capacity: Capacity {
                low: 8.0,
                mid: 8.0,
                high: 8.0,
                spare: 3.0,
                source: CapacitySource::Measured,
            },
            lead: Lead { p50: Duration::from_secs(90), p90: Duration::from_secs(140), starts: 9 },
            bounds: Bounds { min: 1, max: 64 },
            hold: Duration::from_secs(120),
            wait_max: Duration::from_millis(1400),
            felt: Duration::ZERO,
            lateness: None,
            roughness: 1.0,
            reactive: true,
        }
    }

    fn series(value: impl Fn(u32) -> f64, steps: u32) -> Series {
        Series::from_values(Timestamp::EPOCH, Duration::from_secs(60), (0..steps).map(|t| Some(value(t))))
    }

    fn chosen(value: impl Fn(u32) -> f64) -> Rehearsed {
        let findings = rehearsal().run(&series(value, 3000), &[]).unwrap();
        *findings.repertoire.choose(0.007).unwrap()
    }

    #[test]
    fn a_calm_load_is_given_little_and_one_that_jumps_much() {
        let calm = chosen(|t| 60.0 + 20.0 * (f64::from(t) / 400.0).sin());
        let wild = chosen(|t| if t * 7919 % 97 < 3 { 120.0 } else { 60.0 });
        assert!(calm.missed <= 0.007 && wild.missed <= 0.007, "{calm:?} {wild:?}");
        assert!(calm.replicas < 11.0, "60 req/s need 8: {calm:?}");
        assert!(wild.replicas > 1.5 * calm.replicas, "{wild:?}");
    }

    #[test]
    fn a_short_past_has_nothing_to_say() {
        assert!(rehearsal().run(&series(|_| 5.0, 20), &[]).is_none());
        assert!(rehearsal().run(&Series::new(Timestamp::EPOCH, Duration::from_secs(60)), &[]).is_none());
    }

    #[test]
    fn the_front_costs_more_where_it_misses_less() {
        let bursts = |t| f64::from(t % 83) + if t % 701 < 4 { 90.0 } else { 0.0 };
        let findings = rehearsal().run(&series(bursts, 3000), &[]).unwrap();
        let front = findings.repertoire.front();
        assert!(front.len() > 3);
        assert!(front.is_sorted_by(|a, b| a.cost() <= b.cost() && a.missed > b.missed), "{front:?}");
    }
}
