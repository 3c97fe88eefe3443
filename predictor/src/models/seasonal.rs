//! Seasonal naive: a step is as the same step of the latest season that is known.

use serde::{Deserialize, Serialize};

use crate::history::History;

/// The season it repeats, in steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seasonal {
    pub(crate) season: usize,
}

impl Seasonal {
    pub(crate) fn path(&self, history: &History, origin: usize, path: &mut [f64]) {
        for (ahead, z) in path.iter_mut().enumerate() {
            // Repeats the last season for as long as it takes, so that nothing after `origin` is read.
            *z = history.z((origin + 1 + ahead % self.season).saturating_sub(self.season));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_the_last_season_and_never_reads_beyond_the_origin() {
        let mut history = History::new(0, 1.0, 100);
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0].into_iter().for_each(|v| history.push(Some(v)));
        let mut path = [0.0; 7];
        Seasonal { season: 3 }.path(&history, 5, &mut path);
        let values = path.map(|z| history.backward(z).round());
        assert_eq!(values, [4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 4.0]);
    }
}
