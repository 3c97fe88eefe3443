//! What every round tells of a workload, here and in a cluster: decisions, forecasts and conditions as metrics, records and events.

use tidegate_actuator::control::Resized;
use tidegate_agent::export::{Gauge, Registry};
use tidegate_brain::Brain;
use tidegate_core::{Decision, Label, Metric, Policy, Signal, Timestamp, WorkloadId};
use tidegate_history::Store;
use tokio::sync::broadcast;

use crate::api::views::{ConditionChange, Event};
use crate::show;

/// Quantiles of the forecast shown as metrics.
const SHOWN_QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// Counts a decision.
pub(crate) fn decision(registry: &Registry, id: &WorkloadId, decision: &Decision) {
    let direction = match decision.to.cmp(&decision.from) {
        std::cmp::Ordering::Greater => "up",
        std::cmp::Ordering::Less => "down",
        std::cmp::Ordering::Equal => "hold",
    };
    let labels = [(Label::Workload, id.as_str()), (Label::Direction, direction)];
    registry.counter(Metric::Decisions, &labels).inc();
}

/// Records a decision in the history.
pub(crate) fn record(store: &Store, id: &WorkloadId, decision: &Decision) {
    let text = serde_json::to_vec(decision).expect("a decision is plain data");
    if let Err(error) = store.append_record(&format!("decisions/{id}"), decision.at, &text) {
        tracing::warn!(workload = %id, %error, "a decision could not be recorded");
    }
}

/// Tells listeners and the log of a decision.
pub(crate) fn decision_news(news: &broadcast::Sender<Event>, id: &WorkloadId, decision: &Decision) {
    if decision.from != decision.to {
        let reasons: Vec<_> = decision.reasons.iter().map(|reason| reason.text.as_str()).collect();
        tracing::info!(
            workload = %id,
            from = decision.from,
            to = decision.to,
            reasons = reasons.join("; "),
            "decided"
        );
    }
    if news.receiver_count() == 0 {
        return;
    }
    let decision = Box::new(show::decision(decision));
    // Whoever listened may be gone.
    drop(news.send(Event::Decision { workload: id.to_string(), decision }));
}

/// Tells of conditions that begin or end.
pub(crate) fn conditions(
    registry: &Registry,
    news: &broadcast::Sender<Event>,
    id: &WorkloadId,
    changes: Vec<ConditionChange>,
) {
    for change in changes {
        let labels = [(Label::Workload, id.as_str()), (Label::Condition, change.condition.name.as_str())];
        registry.gauge(Metric::WorkloadCondition, &labels).set(change.holds.then_some(1.0));
        tracing::info!(
            workload = %id,
            condition = change.condition.name,
            holds = change.holds,
            text = change.condition.text,
            "condition changed"
        );
        // Nobody need listen.
        drop(news.send(Event::Condition(Box::new(change))));
    }
}

/// Counts and logs a training job's resize that has ended.
pub(crate) fn resized(registry: &Registry, resized: &Resized) {
    let id = resized.workload.as_str();
    let labels = [(Label::Workload, id), (Label::Outcome, resized.outcome.as_str())];
    registry.counter(Metric::Resizes, &labels).inc();
    let took_s = resized.took.as_secs_f64();
    registry.gauge(Metric::ResizeSeconds, &[(Label::Workload, id)]).set(Some(took_s));
    let (from, to, outcome) = (resized.from, resized.to, resized.outcome.as_str());
    match &resized.checkpoint_failure {
        None => tracing::info!(workload = id, from, to, outcome, took_s, "training resized"),
        Some(why) => {
            tracing::warn!(workload = id, from, to, outcome, took_s, why, "training has no checkpoint");
        }
    }
}

/// What stands on the metrics page of one workload in every round. Handles are looked up once.
#[derive(Debug)]
pub(crate) struct Shown {
    target: Gauge,
    misses: Gauge,
    demand_age: Gauge,
    forecast: [Gauge; 3],
    coverage: Gauge,
    /// By the model in use.
    score: Option<(String, Gauge)>,
}

impl Shown {
    pub(crate) fn new(registry: &Registry, id: &WorkloadId) -> Self {
        let workload = (Label::Workload, id.as_str());
        let signal = (Label::Signal, Signal::RequestsPerSecond.name());
        let forecast = |p: f64| {
            let labels = [workload, signal, (Label::Quantile, &*p.to_string()), (Label::Horizon, "lead")];
            registry.gauge(Metric::Forecast, &labels)
        };
        Self {
            target: registry.gauge(Metric::SloTarget, &[workload]),
            misses: registry.gauge(Metric::SloMissRatio, &[workload]),
            demand_age: registry.gauge(Metric::DemandAge, &[workload]),
            forecast: SHOWN_QUANTILES.map(forecast),
            coverage: registry
                .gauge(Metric::ForecastCoverage, &[workload, signal, (Label::Quantile, "0.95")]),
            score: None,
        }
    }

    /// Sets them to what is known now; `attained`: share of the requests of the last hour that were in time.
    pub(crate) fn tell(&mut self, registry: &Registry, brain: &Brain, attained: Option<f64>, now: Timestamp) {
        let Policy::Serving(policy) = brain.policy() else { return };
        self.target.set(Some(policy.slo.target.get()));
        self.misses.set(attained.map(|share| 1.0 - share));
        let demand = brain.observed(now).and_then(|observed| observed.demand);
        self.demand_age.set(demand.map(|demand| demand.age().as_secs_f64()));
        let forecast = brain.forecast();
        let until = brain.lead().map(|lead| lead.p90);
        for (gauge, p) in self.forecast.iter().zip(SHOWN_QUANTILES) {
            let shown = forecast.zip(until);
            gauge
                .set(shown.and_then(|(forecast, until)| forecast.max_quantile(forecast.issued_at, until, p)));
        }
        let scored = forecast.and_then(|forecast| Some((forecast.model.as_str(), forecast.score?)));
        self.coverage.set(scored.map(|(_, score)| score.coverage95));
        if self.score.as_ref().map(|(model, _)| model.as_str()) != scored.map(|(model, _)| model) {
            // The model before has no score of the present.
            self.score.take().into_iter().for_each(|(_, gauge)| gauge.set(None));
            self.score = scored.map(|(model, _)| {
                let signal = (Label::Signal, Signal::RequestsPerSecond.name());
                let labels = [(Label::Workload, brain.id().as_str()), signal, (Label::Model, model)];
                (model.to_owned(), registry.gauge(Metric::ForecastScore, &labels))
            });
        }
        if let Some(((_, gauge), (_, score))) = self.score.as_ref().zip(scored) {
            gauge.set(Some(score.pinball_ratio));
        }
    }
}
