//! Seasonal naive: a step is as the same step of the latest season that is known.

use crate::history::History;

/// Steps over which the present is compared with the last season: one alone may be chance.
const COURSE_STEPS: usize = 3;

/// The season it repeats, in steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seasonal {
    pub(crate) season: usize,
}

impl Seasonal {
    /// How far the last steps up to `origin` lie from what it said of them; `None` in the first season.
    pub(crate) fn deviation(&self, history: &History, origin: usize) -> Option<f64> {
        let from = (origin + 1).checked_sub(COURSE_STEPS + self.season)?;
        let then = history.z_mean(from, from + COURSE_STEPS - 1);
        Some((history.z_mean(origin + 1 - COURSE_STEPS, origin) - then).abs())
    }

    /// Steps of history that it reads back from an origin.
    pub(crate) const fn reach(&self) -> usize {
        self.season + COURSE_STEPS
    }

    /// Writes NaN for steps whose last season lies before the history.
    pub(crate) fn path(&self, history: &History, origin: usize, path: &mut [f64]) {
        for (ahead, z) in path.iter_mut().enumerate() {
            // Repeats the last season for as long as it takes, so that nothing after `origin` is read.
            let then = (origin + 1 + ahead % self.season).checked_sub(self.season);
            *z = then.map_or(f64::NAN, |t| history.z(t));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_the_last_season_and_never_reads_beyond_the_origin() {
        let mut history = History::new(0, 1.0);
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0].into_iter().for_each(|v| history.push(Some(v)));
        let mut path = [0.0; 7];
        Seasonal { season: 3 }.path(&history, 5, &mut path);
        let values = path.map(|z| history.backward(z).round());
        assert_eq!(values, [4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 4.0]);
    }
}
