//! Seeded randomness: streams from a seed, and values that depend on nothing but a seed and a place.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// The generator of every stream: named, so that a seed gives the same stream in every release.
pub(crate) type Stream = Xoshiro256PlusPlus;

/// Scrambles one word into another; neighbouring inputs give unrelated outputs (the finaliser of `SplitMix64`).
const fn scramble(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A seed for the place `place` under `seed`.
pub(crate) const fn mix(seed: u64, place: u64) -> u64 {
    scramble(scramble(seed) ^ place)
}

/// The stream of `seed`.
pub(crate) fn stream(seed: u64) -> Stream {
    Stream::seed_from_u64(seed)
}

/// A uniform value in (0, 1) that depends on `seed` and `place` alone.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
pub(crate) fn uniform(seed: u64, place: u64) -> f64 {
    ((mix(seed, place) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// A standard normal value that depends on `seed` and `place` alone.
pub(crate) fn normal(seed: u64, place: u64) -> f64 {
    let radius = (-2.0 * uniform(seed, place).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(!seed, place)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_value_and_places_spread_as_they_should() {
        assert_eq!(uniform(1, 2).to_bits(), uniform(1, 2).to_bits());
        let values: Vec<f64> = (0..20_000).map(|place| normal(7, place)).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
