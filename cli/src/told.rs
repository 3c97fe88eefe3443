//! What every round tells of a workload, here and in a cluster: decisions, forecasts and conditions as metrics, records and events.

use tidegate_actuator::control::Resized;
use tidegate_agent::export::Registry;
use tidegate_brain::Brain;
use tidegate_core::{Decision, Label, Metric, Timestamp, WorkloadId};
use tidegate_history::Store;
use tokio::sync::broadcast;

use crate::api::views::{ConditionChange, Event};
use crate::show;

/// Quantiles of the forecast shown as metrics.
const SHOWN_QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// Counts and records a decision.
pub(crate) fn decision(registry: &Registry, store: &Store, id: &WorkloadId, decision: &Decision) {
    let direction = match decision.to.cmp(&decision.from) {
        std::cmp::Ordering::Greater => "up",
        std::cmp::Ordering::Less => "down",
        std::cmp::Ordering::Equal => "hold",
    };
    let labels = [(Label::Workload, id.as_str()), (Label::Direction, direction)];
    registry.counter(Metric::Decisions, &labels).inc();
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
    let decision = Box::new(show::decision(decision));
    // Nobody need listen.
    drop(news.send(Event::Decision { workload: id.to_string(), decision }));
}

/// Tells of the share attained and of conditions that begin or end.
pub(crate) fn card(
    registry: &Registry,
    news: &broadcast::Sender<Event>,
    id: &WorkloadId,
    attained: Option<f64>,
    changes: Vec<ConditionChange>,
) {
    let misses = registry.gauge(Metric::SloMissRatio, &[(Label::Workload, id.as_str())]);
    misses.set(attained.map(|share| 1.0 - share));
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
    tracing::info!(workload = id, from, to, outcome, took_s, "training resized");
}

/// How old the demand is, and the forecast in use, as gauges.
pub(crate) fn forecast(registry: &Registry, brain: &Brain, now: Timestamp) {
    let demand = brain.observed(now).and_then(|observed| observed.demand);
    let age = registry.gauge(Metric::DemandAge, &[(Label::Workload, brain.id().as_str())]);
    age.set(demand.map(|demand| demand.age().as_secs_f64()));
    let (Some(forecast), Some(lead)) = (brain.forecast(), brain.lead()) else { return };
    let workload = (Label::Workload, brain.id().as_str());
    let signal = (Label::Signal, forecast.signal.name());
    for p in SHOWN_QUANTILES {
        let value = forecast.max_quantile(forecast.issued_at, lead.p90, p);
        let labels = [workload, signal, (Label::Quantile, &*p.to_string()), (Label::Horizon, "lead")];
        registry.gauge(Metric::Forecast, &labels).set(value);
    }
    let Some(score) = forecast.score else { return };
    let labels = [workload, signal, (Label::Model, forecast.model.as_str())];
    registry.gauge(Metric::ForecastScore, &labels).set(Some(score.pinball_ratio));
    let labels = [workload, signal, (Label::Quantile, "0.95")];
    registry.gauge(Metric::ForecastCoverage, &labels).set(Some(score.coverage95));
}
