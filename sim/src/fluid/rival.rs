//! Other policies on the same arrivals: the Kubernetes HPA with its default settings, and Tidegate without forecasts.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_brain::{Brain, Event, Flow, History, Seen};
use tidegate_core::decide::HPA_TARGET_SHARE;
use tidegate_core::hpa::{self, HpaState};
use tidegate_core::{Policy, ServingPolicy, Timestamp, WorkloadId};

use crate::fluid::queue::Outcome;
use crate::fluid::service::{Service, Size};

/// Age of what an HPA sees through a metrics pipeline: scrape interval and adapter, as users report it.
const HPA_METRIC_AGE: Duration = Duration::from_secs(30);
/// Window of its metric.
const HPA_METRIC_WINDOW: Duration = Duration::from_secs(30);
/// Arrivals kept for it: age and window at ten looks a second.
const ARRIVALS_MAX: usize = 1024;

/// Which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RivalKind {
    /// The Kubernetes HPA: 80 % of a replica's capacity, sync every 15 s, 300 s of stabilisation, a metric 30 s old.
    Hpa,
    /// Tidegate with forecasting off.
    Reactive,
}

impl RivalKind {
    /// The word used in the API and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hpa => "hpa",
            Self::Reactive => "reactive",
        }
    }
}

/// What a policy has cost and missed since it began.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Replica-seconds, starting replicas included.
    pub replica_seconds: f64,
    /// Requests that ended.
    pub ended: f64,
    /// Of these, outside the objective.
    pub missed: f64,
}

impl Totals {
    /// Share missed; `None` while nothing ended.
    #[must_use]
    pub fn miss_fraction(&self) -> Option<f64> {
        (self.ended > 0.0).then(|| self.missed / self.ended)
    }
}

/// One policy at work on replayed arrivals.
#[derive(Debug, Clone)]
pub struct Rival {
    kind: RivalKind,
    policy: ServingPolicy,
    size: Size,
    totals: Totals,
    last: Option<Timestamp>,
    mind: Mind,
}

#[derive(Debug, Clone)]
enum Mind {
    Hpa { state: HpaState, arrivals: VecDeque<(Timestamp, f64)>, synced: Option<Timestamp> },
    Reactive(Box<Brain>),
}

impl Rival {
    /// A policy that starts with `ready` replicas.
    #[must_use]
    pub fn new(kind: RivalKind, id: &WorkloadId, policy: &ServingPolicy, ready: u32) -> Self {
        let mind = match kind {
            RivalKind::Hpa => {
                Mind::Hpa { state: HpaState::default(), arrivals: VecDeque::new(), synced: None }
            }
            RivalKind::Reactive => {
                let mut policy = policy.clone();
                policy.forecast.enabled = false;
                policy.mode = tidegate_core::Mode::Active;
                Mind::Reactive(Box::new(Brain::new(id.clone(), Policy::Serving(policy), History::default())))
            }
        };
        let size = Size::new(policy.replicas.clamp(ready));
        Self { kind, policy: policy.clone(), size, totals: Totals::default(), last: None, mind }
    }

    /// Which policy it is.
    #[must_use]
    pub const fn kind(&self) -> RivalKind {
        self.kind
    }

    /// Lets time pass up to `now`, in which `arrivals` came, on `service` as measured at this time.
    pub fn step(&mut self, now: Timestamp, arrivals: f64, service: &Service) {
        let last = self.last.replace(now).unwrap_or(now);
        let window = now.since(last);
        if window.is_zero() {
            return;
        }
        let step_s = window.as_secs_f64();
        let (started, outcome) = self.size.step(now, step_s, arrivals, service);
        self.totals.replica_seconds += f64::from(self.size.counts().held()) * step_s;
        self.totals.ended += outcome.ended();
        self.totals.missed += outcome.missed;
        let wanted = self.decide(now, window, arrivals, started, outcome, service);
        self.size.set(self.policy.replicas.clamp(wanted), now, service);
    }

    fn decide(
        &mut self,
        now: Timestamp,
        window: Duration,
        arrivals: f64,
        started: u32,
        outcome: Outcome,
        service: &Service,
    ) -> u32 {
        let counts = self.size.counts();
        match &mut self.mind {
            Mind::Hpa { state, arrivals: seen, synced } => {
                remember(seen, now, arrivals);
                if synced.is_some_and(|at| now.since(at) < hpa::SYNC_PERIOD) {
                    return counts.wanted;
                }
                *synced = Some(now);
                let look = hpa::Look {
                    total: delayed_rate(seen, now),
                    target: service.capacity_rps * HPA_TARGET_SHARE,
                    replicas: counts.wanted,
                };
                state.sync(hpa::recommend(look), counts.wanted, self.policy.replicas, now)
            }
            Mind::Reactive(brain) => {
                for _ in 0..started {
                    brain.ingest(Event::Started { at: now, start_up: service.lead });
                }
                let (ended, missed) = (Some(outcome.ended()), Some(outcome.missed));
                let flow = Some(Flow {
                    window,
                    age: Duration::ZERO,
                    arrivals,
                    completed: outcome.completed,
                    ended,
                    missed,
                    tokens: None,
                });
                let queued = Some(self.size.waiting());
                brain.ingest(Event::Seen(Seen {
                    at: now,
                    replicas: counts,
                    flow,
                    in_flight: None,
                    queued,
                    kv_utilisation: None,
                    lost: 0,
                    crash_loop: false,
                }));
                brain.tick(now, None).0.replicas
            }
        }
    }

    /// What it has cost and missed.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Its present size.
    #[must_use]
    pub const fn size(&self) -> &Size {
        &self.size
    }
}

fn remember(seen: &mut VecDeque<(Timestamp, f64)>, now: Timestamp, arrivals: f64) {
    seen.push_back((now, arrivals));
    let keep = HPA_METRIC_AGE + HPA_METRIC_WINDOW;
    while seen.len() > ARRIVALS_MAX || seen.front().is_some_and(|(at, _)| now.since(*at) >= keep) {
        seen.pop_front();
    }
}

/// The rate over the metric's window, as old as the pipeline makes it; `None` before it has filled.
fn delayed_rate(seen: &VecDeque<(Timestamp, f64)>, now: Timestamp) -> Option<f64> {
    let oldest = seen.front()?.0;
    if now.since(oldest) < HPA_METRIC_AGE + HPA_METRIC_WINDOW.mul_f64(0.9) {
        return None;
    }
    let arrived: f64 = seen.iter().filter(|(at, _)| now.since(*at) >= HPA_METRIC_AGE).map(|(_, n)| n).sum();
    Some(arrived / HPA_METRIC_WINDOW.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Service = Service {
        capacity_rps: 10.0,
        lead: Duration::from_secs(8),
        wait_max: Duration::from_millis(250),
        drop_after: Duration::from_secs(30),
    };

    fn run(kind: RivalKind, seconds: i64, rate: impl Fn(i64) -> f64) -> Rival {
        let text = r#"{"replicas":{"min":1,"max":20},"slo":{"latency":"400ms","target":0.99},"capacity":{"requestsPerSecond":10}}"#;
        let policy: ServingPolicy = serde_json::from_str(text).unwrap();
        let mut rival = Rival::new(kind, &WorkloadId::local("w").unwrap(), &policy, 1);
        for second in 0..seconds {
            rival.step(Timestamp::from_secs(second), rate(second), &SERVICE);
        }
        rival
    }

    #[test]
    fn a_steady_load_ends_at_the_size_each_formula_gives() {
        assert_eq!(run(RivalKind::Hpa, 600, |_| 40.0).size().counts().ready, 5, "40 / (10 × 0.8)");
        let reactive = run(RivalKind::Reactive, 600, |_| 38.0).size().counts().ready;
        assert!((4..=5).contains(&reactive), "{reactive}");
    }

    #[test]
    fn the_hpa_sees_a_step_later_than_a_reactive_tidegate() {
        let step = |second| if second < 300 { 8.0 } else { 60.0 };
        let (hpa, reactive) = (run(RivalKind::Hpa, 500, step), run(RivalKind::Reactive, 500, step));
        let (late, soon) = (hpa.totals().missed, reactive.totals().missed);
        assert!(late > 1.5 * soon && soon > 0.0, "hpa {late}, reactive {soon}");
    }

    #[test]
    fn costs_count_starting_replicas() {
        let rival = run(RivalKind::Hpa, 101, |_| 5.0);
        assert_eq!(rival.totals().replica_seconds, 100.0);
        assert_eq!(rival.totals().miss_fraction(), Some(0.0));
    }

    #[test]
    fn the_same_arrivals_give_the_same_totals() {
        let wave = |second: i64| 20.0 + f64::from(u32::try_from(second % 97).unwrap());
        let (a, b) = (run(RivalKind::Reactive, 400, wave), run(RivalKind::Reactive, 400, wave));
        assert_eq!(a.totals(), b.totals());
    }
}
