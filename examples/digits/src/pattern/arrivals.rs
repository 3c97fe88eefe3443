//! Single arrivals of a pattern: a Poisson process whose rate follows it. Pure: it says when, and waits for nothing.

use rand::RngExt;

use super::Pattern;
use crate::seeds::{self, Stream};

/// The rate counts as constant for this long: short against anything that a pattern does at the speeds in use.
const STEP_S: f64 = 0.02;
/// How far one look reaches: where nothing arrives, the caller is given back control this often.
const LOOK_S: f64 = 1.0;

/// What comes next, in seconds since the start of the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// A request.
    Arrival(f64),
    /// Nothing up to here.
    Quiet(f64),
}

/// The arrivals, one after the other.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pattern: Pattern,
    rng: Stream,
    now: f64,
    /// Expected arrivals still to pass until the next one.
    left: f64,
}

impl Arrivals {
    /// Arrivals of `pattern` from `start_s` on.
    #[must_use]
    pub fn new(pattern: Pattern, seed: u64, start_s: f64) -> Self {
        let mut rng = seeds::stream(seed);
        let left = exponential(&mut rng);
        Self { pattern, rng, now: start_s, left }
    }

    /// The next arrival, or the end of the look when there is none within it.
    pub fn advance(&mut self) -> Next {
        let end = self.now + LOOK_S;
        while self.now < end {
            let expected = self.pattern.rate_at(self.now + STEP_S / 2.0) * STEP_S;
            if expected >= self.left {
                self.now += STEP_S * self.left / expected;
                self.left = exponential(&mut self.rng);
                return Next::Arrival(self.now);
            }
            self.left -= expected;
            self.now += STEP_S;
        }
        Next::Quiet(self.now)
    }
}

/// A draw from the exponential distribution of mean 1.
fn exponential(rng: &mut Stream) -> f64 {
    let uniform: f64 = rng.random();
    // 1 - u lies in (0, 1], so its logarithm is finite.
    -(1.0 - uniform).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::DailyPattern;
    use std::time::Duration;

    fn until(arrivals: &mut Arrivals, end: f64) -> Vec<f64> {
        let mut times = Vec::new();
        loop {
            match arrivals.advance() {
                Next::Arrival(t) if t < end => times.push(t),
                Next::Quiet(t) if t < end => {}
                _ => return times,
            }
        }
    }

    #[test]
    fn as_many_arrive_as_the_pattern_says_at_random_distances() {
        let times = until(&mut Arrivals::new(Pattern::Steady(50.0), 1, 10.0), 210.0);
        assert!((9_400..=10_600).contains(&times.len()), "{} arrivals, 10000 expected", times.len());
        assert!(times.is_sorted() && times[0] >= 10.0);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let long = gaps.iter().filter(|gap| **gap > 0.02).count();
        let share = f64::from(u32::try_from(long).unwrap()) / f64::from(u32::try_from(gaps.len()).unwrap());
        // Memoryless gaps are longer than their mean with probability 1/e.
        assert!((share - 0.368).abs() < 0.03, "{share}");
    }

    #[test]
    fn arrivals_follow_a_rate_that_changes_and_a_seed_repeats_them() {
        let day = DailyPattern {
            noise: 0.0,
            ..DailyPattern::new(0.0, 100.0, Duration::from_secs(240), 1).unwrap()
        };
        let day = Pattern::Daily(DailyPattern { burst: 1.0, ..day });
        let times = until(&mut Arrivals::new(day.clone(), 1, 0.0), 240.0);
        let between = |from: f64, to: f64| times.iter().filter(|t| (from..to).contains(*t)).count();
        assert!(between(105.0, 115.0) > 850, "{}", between(105.0, 115.0));
        assert!(between(32.0, 38.0) < 10, "{}", between(32.0, 38.0));
        assert_eq!(times, until(&mut Arrivals::new(day, 1, 0.0), 240.0));
    }

    #[test]
    fn silence_gives_control_back() {
        let mut arrivals = Arrivals::new(Pattern::Steady(0.0), 1, 0.0);
        assert!(matches!(arrivals.advance(), Next::Quiet(t) if (1.0..1.1).contains(&t)));
    }
}
