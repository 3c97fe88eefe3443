//! A schedule by the hour, as people make it from their dashboards: what the hour needed in the past, and a margin.

use std::time::Duration;

use tidegate_core::units::replicas_ceil;
use tidegate_core::{Series, Timestamp};

use crate::scaler::{Look, Pipeline, Scaler};

/// Hours of a day, and of a week.
const DAY: usize = 24;
const WEEK: usize = 7 * DAY;
/// The next hour's size is ordered this much before it begins.
const AHEAD: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

/// Sizes by the hour of the week or of the day (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    sizes: Vec<u32>,
}

impl Schedule {
    /// From the load in the past, in requests per second: for each hour its `quantile` (0 to 1) times `margin`, over what one replica
    /// carries. By the hour of the week where there are two weeks, else of the day. An hour that was never seen gets the highest
    /// of the others. `None` without any known value.
    #[must_use]
    pub fn from_history(history: &Series, quantile: f64, margin: f64, replica_rps: f64) -> Option<Self> {
        let length = HOUR.saturating_mul(u32::try_from(2 * WEEK).unwrap_or(u32::MAX));
        let hours = if history.end() - history.start() >= length { WEEK } else { DAY };
        let mut seen: Vec<Vec<f64>> = vec![Vec::new(); hours];
        for (index, value) in history.values().iter().enumerate() {
            seen[hour(history.time(index), hours)].extend(*value);
        }
        let sizes = seen.into_iter().map(|values| {
            at_quantile(values, quantile).map(|rate| replicas_ceil(rate * margin / replica_rps))
        });
        let sizes: Vec<Option<u32>> = sizes.collect();
        let highest = sizes.iter().flatten().copied().max()?;
        Some(Self { sizes: sizes.into_iter().map(|size| size.unwrap_or(highest)).collect() })
    }

    /// The size at a time.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> u32 {
        let size = |time| self.sizes[hour(time, self.sizes.len())];
        size(time).max(size(time + AHEAD))
    }
}

/// Which hour of a cycle of `hours`, counted from the epoch.
fn hour(time: Timestamp, hours: usize) -> usize {
    let index = time.as_millis().div_euclid(3_600_000);
    let cycle = i64::try_from(hours).unwrap_or(1);
    usize::try_from(index.rem_euclid(cycle)).unwrap_or(0)
}

/// The smallest value that at least this share does not exceed.
fn at_quantile(mut values: Vec<f64>, quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = replicas_ceil(quantile.clamp(0.0, 1.0) * values.len() as f64);
    values.get((rank.max(1) - 1) as usize).or(values.last()).copied()
}

impl Scaler for Schedule {
    fn pipeline(&self) -> Pipeline {
        Pipeline::from_secs(0, 60, 60)
    }

    fn decide(&mut self, look: &Look) -> u32 {
        self.at(look.now)
    }
}
