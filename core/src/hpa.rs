//! What the Kubernetes HPA would do: its formula as a pure function. A baseline to compare with, never part of a plan.
//!
//! Source: `pkg/controller/podautoscaler` of Kubernetes (replica calculator and stabilisation without `behavior`), with its defaults.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::Bounds;
use crate::time::Timestamp;
use crate::units::replicas_ceil;

/// Ratio band within which the HPA changes nothing (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;
/// Window whose highest recommendation a scale-down takes (`--horizontal-pod-autoscaler-downscale-stabilization`).
const DOWN_WINDOW: Duration = Duration::from_secs(300);
/// Time between two looks (`--horizontal-pod-autoscaler-sync-period`).
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);
/// Recommendations kept, each below the one before; of more the second is left out.
const RECOMMENDATIONS_MAX: usize = 32;

/// One look of the HPA at a metric of `AverageValue` type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// The metric over all replicas, in any unit; `None`: the metric could not be read.
    pub total: Option<f64>,
    /// What one replica is to carry, in the same unit; above zero.
    pub target: f64,
    /// Replicas in the target's status.
    pub replicas: u32,
}

/// What the formula alone says for an `AverageValue` metric: within the tolerance the present size, else total / target, rounded up.
/// A metric that cannot be read keeps the present size.
#[must_use]
pub fn recommend(look: Look) -> u32 {
    let Some(total) = look.total.filter(|v| v.is_finite() && *v >= 0.0) else {
        return look.replicas;
    };
    if look.target <= 0.0 {
        return look.replicas;
    }
    if look.replicas > 0 {
        let ratio = total / (look.target * f64::from(look.replicas));
        if (ratio - 1.0).abs() <= TOLERANCE {
            return look.replicas;
        }
    }
    replicas_ceil(total / look.target)
}

/// The pods of a `Pods` or `Resource` metric, as the replica calculator groups them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PodLook {
    /// Sum of the metric over ready pods with a sample.
    pub total: f64,
    /// Ready pods with a sample.
    pub ready: u32,
    /// Pods that are not ready yet.
    pub unready: u32,
    /// Ready pods without a sample.
    pub missing: u32,
    /// What one pod is to carry; above zero.
    pub target: f64,
    /// What a missing pod is taken to carry on the way down: for a `Pods` metric the target, for a `Resource` metric the whole request,
    /// or the target where that is more.
    pub missing_carries: f64,
    /// The present size.
    pub replicas: u32,
}

/// The formula for per-pod metrics: missing pods damp towards the present size, unready pods count as idle on the way up.
#[must_use]
pub fn recommend_pods(look: PodLook) -> u32 {
    if look.ready == 0 || look.target <= 0.0 || !look.total.is_finite() {
        return look.replicas;
    }
    let ratio = look.total / f64::from(look.ready) / look.target;
    if look.missing == 0 && (look.unready == 0 || ratio <= 1.0) {
        let settled = (ratio - 1.0).abs() <= TOLERANCE;
        return if settled { look.replicas } else { replicas_ceil(ratio * f64::from(look.ready)) };
    }
    // At the target exactly there is no direction in which missing pods could damp: they are left out.
    if ratio == 1.0 {
        return look.replicas;
    }
    let unready = if ratio > 1.0 { look.unready } else { 0 };
    let assumed = if ratio < 1.0 { look.missing_carries * f64::from(look.missing) } else { 0.0 };
    let pods = f64::from(look.ready + look.missing + unready);
    let damped = (look.total + assumed) / pods / look.target;
    let turned = (ratio > 1.0 && damped < 1.0) || (ratio < 1.0 && damped > 1.0);
    if (damped - 1.0).abs() <= TOLERANCE || turned {
        return look.replicas;
    }
    let wanted = replicas_ceil(damped * pods);
    let contradicts = (damped < 1.0 && wanted > look.replicas) || (damped > 1.0 && wanted < look.replicas);
    if contradicts { look.replicas } else { wanted }
}

/// What the HPA remembers between looks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HpaState {
    /// Falling, the oldest first.
    recommendations: VecDeque<(Timestamp, u32)>,
}

impl HpaState {
    /// The size that the HPA would write now: the recommendation, limited upwards to max(2 × size, 4) a sync, downwards to
    /// the highest recommendation of the last five minutes, within `bounds`. Asking again at the same `now` changes nothing.
    pub fn sync(&mut self, recommended: u32, current: u32, bounds: Bounds, now: Timestamp) -> u32 {
        // What a later one is not below will never be the highest again; so the first is, and they are few.
        while self.recommendations.back().is_some_and(|(at, n)| *at == now || *n <= recommended) {
            self.recommendations.pop_back();
        }
        self.recommendations.push_back((now, recommended));
        if self.recommendations.len() > RECOMMENDATIONS_MAX {
            self.recommendations.remove(1);
        }
        while self.recommendations.front().is_some_and(|(at, _)| now.since(*at) > DOWN_WINDOW) {
            self.recommendations.pop_front();
        }
        let stabilised = self.recommendations.front().map_or(recommended, |(_, n)| *n);
        let up_limit = current.saturating_mul(2).max(4);
        bounds.clamp(stabilised.min(up_limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(total: f64, ready: u32, unready: u32, missing: u32, target: f64) -> u32 {
        recommend_pods(PodLook {
            total,
            ready,
            unready,
            missing,
            target,
            missing_carries: target,
            replicas: ready + unready + missing,
        })
    }

    #[test]
    fn stays_within_the_tolerance_and_rounds_up_beyond() {
        let look = |total, replicas| recommend(Look { total: Some(total), target: 10.0, replicas });
        assert_eq!(look(32.9, 3), 3);
        assert_eq!(look(33.1, 3), 4);
        assert_eq!(look(27.0, 3), 3);
        assert_eq!(look(20.0, 3), 2);
        assert_eq!(look(5.0, 0), 1);
    }

    #[test]
    fn a_metric_that_cannot_be_read_keeps_the_size() {
        assert_eq!(recommend(Look { total: None, target: 10.0, replicas: 7 }), 7);
        assert_eq!(recommend(Look { total: Some(f64::NAN), target: 10.0, replicas: 7 }), 7);
    }

    // Worked by hand from the documented rules.
    #[test]
    fn missing_and_unready_pods_damp() {
        assert_eq!(pods(60.0, 3, 0, 0, 10.0), 6);
        assert_eq!(
            pods(60.0, 3, 3, 0, 10.0),
            6,
            "unready pods count as idle: 60/6/10 = 1, so nothing changes"
        );
        assert_eq!(pods(90.0, 3, 1, 0, 10.0), 9);
        assert_eq!(
            pods(20.0, 4, 0, 1, 10.0),
            3,
            "the missing pod counts as full on the way down: 30/5/10 = 0.6"
        );
        assert_eq!(pods(9.0, 1, 0, 9, 10.0), 10, "one idle pod of ten moves nothing");
    }

    #[test]
    fn comes_down_only_to_the_highest_of_five_minutes() {
        let mut state = HpaState::default();
        let bounds = Bounds { min: 1, max: 20 };
        let at = Timestamp::from_secs;
        assert_eq!(state.sync(8, 2, bounds, at(0)), 4, "at most max(2n, 4) a sync");
        assert_eq!(state.sync(8, 4, bounds, at(15)), 8);
        assert_eq!(state.sync(2, 8, bounds, at(300)), 8);
        assert_eq!(state.sync(2, 8, bounds, at(316)), 2);
        assert_eq!(state.sync(50, 20, bounds, at(331)), 20);
    }
}
