//! A made-up day: a steep morning, a dip at noon, a fall in the evening, slow noise, and one burst that nothing announces.

use std::time::Duration;

use super::PatternError;
use crate::seeds;

/// The curve of a day: hour, and level between the base (0) and the peak (1). From one to the next it goes smoothly, without overshoot.
const CURVE: [(f64, f64); 11] = [
    (0.0, 0.10),
    (3.5, 0.0),
    (6.5, 0.06),
    (8.5, 0.80),
    (11.0, 1.0),
    (12.75, 0.70),
    (14.5, 0.97),
    (17.0, 0.82),
    (19.5, 0.50),
    (22.0, 0.22),
    (24.0, 0.10),
];
/// Slots of a day in which the noise has a value of its own: five minutes of a real day.
const SLOTS: f64 = 288.0;
/// How much of a slot's noise the next slot keeps: it wanders over about an hour.
const PERSISTENCE: f64 = 0.92;
/// Slots that the noise remembers; what is older weighs less than 2 %.
const MEMORY: u32 = 48;
/// Length of the burst, as a share of the day.
const BURST_SHARE: f64 = 0.03;
/// Part of the burst in which it rises, and in which it falls.
const BURST_FLANK: f64 = 0.1;
/// Noise and burst of a pattern that says nothing else.
const NOISE: f64 = 0.06;
const BURST: f64 = 2.0;

/// The pattern. Time 0 is a midnight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DailyPattern {
    /// Requests per second in the small hours.
    pub base_rps: f64,
    /// Requests per second at the peak, noise and burst aside.
    pub peak_rps: f64,
    /// Length of a day.
    pub day: Duration,
    /// Standard deviation of the noise, as a share of the rate; 0 for none.
    pub noise: f64,
    /// Factor on the rate during the burst; 1 for none.
    pub burst: f64,
    /// Seed of noise and bursts.
    pub seed: u64,
}

impl DailyPattern {
    /// A pattern with the usual noise and burst.
    ///
    /// # Errors
    /// When the rates are not finite and positive with the peak at or above the base, or the day is shorter than a second.
    pub fn new(base_rps: f64, peak_rps: f64, day: Duration, seed: u64) -> Result<Self, PatternError> {
        if !(base_rps.is_finite() && peak_rps.is_finite() && 0.0 <= base_rps && base_rps <= peak_rps) {
            return Err(PatternError(
                "rates that are finite and not negative, the peak at or above the base",
            ));
        }
        if day < Duration::from_secs(1) {
            return Err(PatternError("a day of at least a second"));
        }
        Ok(Self { base_rps, peak_rps, day, noise: NOISE, burst: BURST, seed })
    }

    pub(super) fn rate_at(&self, t: f64) -> f64 {
        let days = t / self.day.as_secs_f64();
        let (day, phase) = (days.floor(), days - days.floor());
        let rate = self.base_rps + (self.peak_rps - self.base_rps) * level(phase * 24.0);
        rate * self.noise_factor(days * SLOTS) * self.burst_factor(day, phase)
    }

    /// When the burst of day `day` starts and ends, as parts of that day.
    #[must_use]
    pub fn burst_of(&self, day: f64) -> (f64, f64) {
        let start = seeds::uniform(seeds::mix(self.seed, 1), day.to_bits()) * (1.0 - BURST_SHARE);
        (start, start + BURST_SHARE)
    }

    fn burst_factor(&self, day: f64, phase: f64) -> f64 {
        let (start, end) = self.burst_of(day);
        let part = (phase - start) / (end - start);
        let height = (part.min(1.0 - part) / BURST_FLANK).clamp(0.0, 1.0);
        1.0 + (self.burst - 1.0) * height
    }

    /// Lognormal with mean 1, between the values of the two slots around.
    fn noise_factor(&self, slots: f64) -> f64 {
        let (slot, part) = (slots.floor(), slots - slots.floor());
        let wandering = (1.0 - part) * self.wandering(slot) + part * self.wandering(slot + 1.0);
        (self.noise * wandering - self.noise * self.noise / 2.0).exp()
    }

    /// An autoregressive walk of standard deviation 1, cut off so that a slot's value needs no walk from the start.
    fn wandering(&self, slot: f64) -> f64 {
        let seed = seeds::mix(self.seed, 2);
        let (mut sum, mut weight) = (0.0, (1.0 - PERSISTENCE * PERSISTENCE).sqrt());
        for back in 0..MEMORY {
            sum += weight * seeds::normal(seed, (slot - f64::from(back)).to_bits());
            weight *= PERSISTENCE;
        }
        sum
    }
}

/// The curve at `hour`, 0 to 24.
fn level(hour: f64) -> f64 {
    let after = CURVE.partition_point(|(at, _)| *at <= hour).clamp(1, CURVE.len() - 1);
    let ((from, low), (to, high)) = (CURVE[after - 1], CURVE[after]);
    let part = ((hour - from) / (to - from)).clamp(0.0, 1.0);
    low + (high - low) * part * part * (3.0 - 2.0 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(600);

    fn pattern(seed: u64) -> DailyPattern {
        DailyPattern::new(10.0, 80.0, DAY, seed).unwrap()
    }

    fn at_hour(pattern: &DailyPattern, hour: f64) -> f64 {
        pattern.rate_at(hour / 24.0 * DAY.as_secs_f64())
    }

    #[test]
    fn the_day_has_its_shape() {
        let calm = DailyPattern { noise: 0.0, burst: 1.0, ..pattern(1) };
        assert!((at_hour(&calm, 3.5) - 10.0).abs() < 1e-9);
        assert!((at_hour(&calm, 11.0) - 80.0).abs() < 1e-9);
        assert!(at_hour(&calm, 8.5) - at_hour(&calm, 6.5) > 45.0, "a steep morning");
        assert!(at_hour(&calm, 12.75) < 0.8 * at_hour(&calm, 11.0), "a dip at noon");
        assert!(at_hour(&calm, 22.0) < 0.4 * at_hour(&calm, 14.5), "a fall in the evening");
        assert!((at_hour(&calm, 23.999) - at_hour(&calm, 24.001)).abs() < 0.1, "no jump at midnight");
    }

    #[test]
    fn each_day_has_one_burst_at_a_place_of_its_own() {
        let bursting = DailyPattern { noise: 0.0, ..pattern(5) };
        let calm = DailyPattern { burst: 1.0, ..bursting };
        let mut starts = Vec::new();
        for day in [-2.0, -1.0, 0.0, 1.0] {
            let slots: Vec<f64> = (0..6000).map(|slot| (day + f64::from(slot) / 6000.0) * 600.0).collect();
            let high = slots.iter().filter(|t| bursting.rate_at(**t) > 1.9 * calm.rate_at(**t)).count();
            assert!((140..=180).contains(&high), "{high} of 6000 slots are in a burst");
            starts.push(bursting.burst_of(day).0.to_bits());
        }
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts.len(), 4);
    }

    #[test]
    fn noise_is_slow_of_the_size_asked_for_and_a_function_of_seed_and_time() {
        let noisy = DailyPattern { base_rps: 50.0, peak_rps: 50.0, burst: 1.0, noise: 0.1, ..pattern(9) };
        let ratios: Vec<f64> =
            (0..20_000).map(|slot| noisy.rate_at(f64::from(slot) * 600.0 / 288.0) / 50.0).collect();
        let mean = ratios.iter().sum::<f64>() / 20_000.0;
        let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / 20_000.0;
        let next = ratios.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>() / 20_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() - 0.1).abs() < 0.02, "{}", variance.sqrt());
        assert!(next / variance > 0.85, "{}", next / variance);
        assert_eq!(noisy.rate_at(123.4).to_bits(), noisy.rate_at(123.4).to_bits());
        assert_ne!(
            noisy.rate_at(123.4).to_bits(),
            DailyPattern { seed: 10, ..noisy }.rate_at(123.4).to_bits()
        );
    }

    #[test]
    fn rates_that_are_no_rates_are_refused() {
        for (base, peak) in [(-1.0, 5.0), (5.0, 4.0), (f64::NAN, 5.0), (1.0, f64::INFINITY)] {
            assert!(DailyPattern::new(base, peak, DAY, 1).is_err());
        }
        assert!(DailyPattern::new(1.0, 2.0, Duration::ZERO, 1).is_err());
    }
}
