//! KEDA: activation and fallback around an HPA on an external metric. Source: `pkg/scaling/executor/scale_scaledobjects.go` and
//! `pkg/fallback/fallback.go` of kedacore/keda.

use std::time::Duration;

use tidegate_core::hpa::{HpaState, Look as HpaLook, SYNC_PERIOD, recommend};
use tidegate_core::policy::ScheduleFloor;
use tidegate_core::{Bounds, Timestamp};

use crate::scaler::{Look, Pipeline, Scaler};
use crate::scalers::Metric;

/// Time between two checks of whether a trigger is active.
const POLLING_INTERVAL: Duration = Duration::from_secs(30);

/// What to report when the trigger fails again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// Failures in a row after which it is used: more than this many.
    pub failure_threshold: u32,
    /// The size that is then asked for.
    pub replicas: u32,
}

/// Settings; the default is upstream's, but for the target.
#[derive(Debug, Clone, PartialEq)]
pub struct KedaSettings {
    /// What the trigger measures, over all replicas.
    pub metric: Metric,
    /// What one replica is to carry (`AverageValue`).
    pub target: f64,
    /// The trigger is active while its value is above this.
    pub activation: f64,
    /// `minReplicaCount` and `maxReplicaCount`. The HPA beneath never goes below one.
    pub bounds: Bounds,
    /// Time without activity after which a workload with `min: 0` goes to none.
    pub cooldown: Duration,
    /// What is reported while the trigger fails; absent: an error, at which nothing is changed.
    pub fallback: Option<Fallback>,
    /// A cron trigger beside it: the size that it asks for while it holds.
    pub cron: Vec<ScheduleFloor>,
}

impl KedaSettings {
    /// Upstream's defaults for this metric, target and bounds.
    #[must_use]
    pub const fn new(metric: Metric, target: f64, bounds: Bounds) -> Self {
        Self {
            metric,
            target,
            activation: 0.0,
            bounds,
            cooldown: Duration::from_secs(300),
            fallback: None,
            cron: Vec::new(),
        }
    }
}

/// One check of the triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Now.
    pub now: Timestamp,
    /// Whether a trigger is active.
    pub is_active: bool,
    /// Whether a trigger could not be read.
    pub is_failing: bool,
    /// The present size.
    pub replicas: u32,
    /// When a trigger was last seen active.
    pub last_active: Option<Timestamp>,
}

/// The size that activation sets by itself, past the HPA; `None`: it leaves the size alone.
#[must_use]
pub fn activation(settings: &KedaSettings, check: Check) -> Option<u32> {
    let min = settings.bounds.min;
    if check.is_active {
        return (check.replicas == 0).then_some(min.max(1));
    }
    if check.is_failing {
        return None;
    }
    let has_cooled = check.last_active.is_none_or(|at| at + settings.cooldown < check.now);
    if check.replicas > 0 && min == 0 {
        return has_cooled.then_some(0);
    }
    (check.replicas < min).then_some(min)
}

/// The value that the HPA is given: the trigger's, or what makes the fallback's size of it; `None`: an error.
/// `failures` are those in a row, this look included.
#[must_use]
pub fn reported(settings: &KedaSettings, value: Option<f64>, failures: u32) -> Option<f64> {
    let fallback = settings.fallback.filter(|fallback| failures > fallback.failure_threshold);
    value.or_else(|| fallback.map(|fallback| settings.target * f64::from(fallback.replicas)))
}

/// KEDA at work: a check every 30 s, the HPA beneath every 15 s, both on a metric that is 30 s old.
#[derive(Debug, Clone)]
pub struct Keda {
    settings: KedaSettings,
    hpa: HpaState,
    failures: u32,
    last_active: Option<Timestamp>,
    checked: Option<Timestamp>,
}

impl Keda {
    /// One with these settings.
    #[must_use]
    pub fn new(settings: KedaSettings) -> Self {
        Self { settings, hpa: HpaState::default(), failures: 0, last_active: None, checked: None }
    }

    fn cron(&self, now: Timestamp) -> Option<u32> {
        self.settings.cron.iter().filter(|floor| floor.covers(now)).map(|floor| floor.min).max()
    }

    fn check(&mut self, look: &Look, value: Option<f64>) -> Option<u32> {
        if self.checked.is_some_and(|at| look.now.since(at) < POLLING_INTERVAL) {
            return None;
        }
        self.checked = Some(look.now);
        let is_active =
            value.is_some_and(|value| value > self.settings.activation) || self.cron(look.now).is_some();
        let check = Check {
            now: look.now,
            is_active,
            is_failing: value.is_none(),
            replicas: look.replicas.wanted,
            last_active: self.last_active,
        };
        if is_active {
            self.last_active = Some(look.now);
        }
        activation(&self.settings, check)
    }

    fn hpa(&mut self, look: &Look, value: Option<f64>) -> u32 {
        let replicas = look.replicas.wanted;
        let target = self.settings.target;
        let by_metric = reported(&self.settings, value, self.failures)
            .map(|total| recommend(HpaLook { total: Some(total), target, replicas }));
        // A trigger outside its hours reports nothing wanted; the other then decides alone.
        let by_cron = self
            .cron(look.now)
            .map(|wanted| recommend(HpaLook { total: Some(f64::from(wanted)), target: 1.0, replicas }));
        let recommended = match (by_metric, by_cron) {
            (Some(metric), cron) => metric.max(cron.unwrap_or(0)),
            // With a metric that failed the HPA goes up, but not down.
            (None, Some(cron)) if cron > replicas => cron,
            (None, _) => return replicas,
        };
        let bounds = Bounds { min: self.settings.bounds.min.max(1), max: self.settings.bounds.max };
        self.hpa.sync(recommended, replicas, bounds, look.now)
    }
}

impl Scaler for Keda {
    fn pipeline(&self) -> Pipeline {
        Pipeline::from_secs(30, 30, SYNC_PERIOD.as_secs())
    }

    fn decide(&mut self, look: &Look) -> u32 {
        let value =
            look.figures.map(|figures| self.settings.metric.total(&figures)).filter(|v| v.is_finite());
        self.failures = if value.is_some() { 0 } else { self.failures.saturating_add(1) };
        if let Some(wanted) = self.check(look, value) {
            return wanted;
        }
        // At none the HPA is switched off: only activation brings the workload back.
        if look.replicas.wanted == 0 { 0 } else { self.hpa(look, value) }
    }
}
