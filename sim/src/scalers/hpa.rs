//! The Kubernetes Horizontal Pod Autoscaler v2 without `behavior`, on a per-pod metric. The formula is `core`'s.

use tidegate_core::Bounds;
use tidegate_core::hpa::{HpaState, PodLook, SYNC_PERIOD, recommend_pods};

use crate::scaler::{Figures, Look, Pipeline, Scaler};

/// What a pod reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Requests per second. Pods that are ready only since the window have no sample.
    Requests,
    /// Requests in it and, by an equal share, those that wait. Pods that are ready only since the window have no sample.
    Concurrency,
    /// Requests being served, as a resource metric such as CPU: pods that are ready only since the window count as not ready yet.
    Utilisation,
}

impl Metric {
    /// The figure over all replicas.
    pub(crate) fn total(self, figures: &Figures) -> f64 {
        match self {
            Self::Requests => figures.arrivals_rps(),
            Self::Concurrency => figures.in_flight + figures.queued,
            Self::Utilisation => figures.in_flight,
        }
    }
}

/// An HPA: looks every 15 s at a metric that is 30 s old, as users report of scrape interval and adapter together.
#[derive(Debug, Clone)]
pub struct Hpa {
    metric: Metric,
    target: f64,
    bounds: Bounds,
    state: HpaState,
}

impl Hpa {
    /// `target`: what one replica is to carry, in the metric's unit.
    #[must_use]
    pub fn new(metric: Metric, target: f64, bounds: Bounds) -> Self {
        Self { metric, target, bounds, state: HpaState::default() }
    }

    fn recommend(&self, look: &Look, figures: &Figures) -> Option<u32> {
        // Before the mean, replicas that were there for a part of the window count for that part.
        let mean = self.metric.total(figures) / figures.ready;
        let fresh = look.fresh.min(look.replicas.ready);
        let ready = look.replicas.ready - fresh;
        let (unready, missing) = match self.metric {
            Metric::Utilisation => (look.replicas.starting + fresh, 0),
            Metric::Requests | Metric::Concurrency => (look.replicas.starting, fresh),
        };
        let total = mean * f64::from(ready);
        let replicas = look.replicas.wanted;
        total.is_finite().then(|| {
            let (target, missing_carries) = (self.target, self.target);
            recommend_pods(PodLook { total, ready, unready, missing, target, missing_carries, replicas })
        })
    }
}

impl Scaler for Hpa {
    fn pipeline(&self) -> Pipeline {
        Pipeline::from_secs(30, 30, SYNC_PERIOD.as_secs())
    }

    fn decide(&mut self, look: &Look) -> u32 {
        let recommended = look.figures.as_ref().and_then(|figures| self.recommend(look, figures));
        // A metric that cannot be read is an error: nothing is changed, and nothing is remembered.
        recommended.map_or(look.replicas.wanted, |recommended| {
            self.state.sync(recommended, look.replicas.wanted, self.bounds, look.now)
        })
    }
}
