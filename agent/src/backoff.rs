//! How long to wait before something is tried again. Seeded, so that a test repeats; jittered, so that a fleet does not march in step.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Doublings after which the wait cannot grow any more, whatever the bounds.
const DOUBLINGS_MAX: u32 = 20;

/// Waits that double up to a bound, each between half and all of its size.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
    jitter: ChaCha8Rng,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, attempt: 0, jitter: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.min.saturating_mul(1 << self.attempt.min(DOUBLINGS_MAX)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        whole.mul_f64(self.jitter.random_range(0.5..=1.0))
    }

    /// How many waits there were since the last success.
    pub(crate) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Starts over after a success.
    pub(crate) const fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_over_after_a_success() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 8 * second, 7);
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        for (wait, whole) in waits.iter().zip([1, 2, 4, 8, 8, 8]) {
            assert!(*wait >= second * whole / 2 && *wait <= second * whole, "{wait:?} of {whole}");
        }
        assert!(waits.iter().all(|wait| *wait <= 8 * second));
        backoff.reset();
        assert!(backoff.next() <= second);
    }
}
