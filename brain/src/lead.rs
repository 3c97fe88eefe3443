//! The time from a decision to a ready replica, as seen; the policy's prior until enough starts have been seen.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_core::Lead;

/// Starts kept: older ones tell of other images and other nodes.
const STARTS_MAX: usize = 64;
/// Starts from which on the prior is not needed any more.
const STARTS_ENOUGH: usize = 3;
/// What was seen is stretched by this until then: a few starts do not show the slow ones.
const FEW_STRETCH: f64 = 1.5;

/// Start-up times seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeadTime {
    prior: Duration,
    seen: VecDeque<Duration>,
}

impl LeadTime {
    /// With the policy's prior.
    #[must_use]
    pub const fn new(prior: Duration) -> Self {
        Self { prior, seen: VecDeque::new() }
    }

    /// The prior has changed.
    pub const fn set_prior(&mut self, prior: Duration) {
        self.prior = prior;
    }

    /// Takes in one start.
    pub fn ingest(&mut self, start_up: Duration) {
        self.seen.push_back(start_up);
        if self.seen.len() > STARTS_MAX {
            self.seen.pop_front();
        }
    }

    /// The estimate in use.
    #[must_use]
    pub fn estimate(&self) -> Lead {
        let mut sorted: Vec<_> = self.seen.iter().copied().collect();
        sorted.sort_unstable();
        let starts = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        let (Some(p50), Some(p90)) = (at_share(&sorted, 0.5), at_share(&sorted, 0.9)) else {
            return Lead { p50: self.prior, p90: self.prior, starts };
        };
        if sorted.len() < STARTS_ENOUGH {
            return Lead { p50, p90: p90.mul_f64(FEW_STRETCH), starts };
        }
        Lead { p50, p90, starts }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "at most 64 entries"
)]
fn at_share(sorted: &[Duration], share: f64) -> Option<Duration> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_replaces_the_prior() {
        let mut lead = LeadTime::new(Duration::from_secs(60));
        assert_eq!(lead.estimate().p90, Duration::from_secs(60));
        lead.ingest(Duration::from_secs(8));
        assert_eq!(lead.estimate().p90, Duration::from_secs(12), "one start is stretched");
        for secs in [9, 10, 30] {
            lead.ingest(Duration::from_secs(secs));
        }
        let seen = lead.estimate();
        assert_eq!((seen.p50, seen.p90, seen.starts), (Duration::from_secs(9), Duration::from_secs(30), 4));
    }
}
