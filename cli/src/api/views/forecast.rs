//! Shapes of what was and of what is expected: series and forecasts.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_core::{Forecast, LEVELS, Quantiles, Signal, Timestamp};
use utoipa::ToSchema;

/// A forecast as a grid of quantiles. All but `signal` and `unit` are `null` or empty while no model has an opinion.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ForecastView {
    /// Name in the catalogue of signals.
    pub(crate) signal: String,
    pub(crate) unit: String,
    /// When it was made; nothing later was used.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) issued_at: Option<Timestamp>,
    /// Start of the first step.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) start: Option<Timestamp>,
    /// Length of a step; entry `k` covers `[start + k·step_s, +step_s)`.
    pub(crate) step_s: Option<f64>,
    /// Name of the model that made it.
    pub(crate) model: Option<String>,
    /// Level of a quantile → its value in each step.
    #[schema(example = json!({"0.5": [11.0, 12.5], "0.95": [14.0, 16.0]}))]
    pub(crate) quantiles: BTreeMap<String, Vec<f64>>,
    /// Level of a quantile → that of the largest value of steps `0..=k`.
    pub(crate) window_max: BTreeMap<String, Vec<f64>>,
    /// How well the model did lately.
    pub(crate) score: Option<ForecastScore>,
    /// Level of a quantile → share of values that were at or below it.
    pub(crate) coverage: BTreeMap<String, f64>,
}

/// How well a model did at origins that it had not seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct ForecastScore {
    /// Mean pinball loss, in the signal's unit.
    pub(crate) pinball: f64,
    /// Loss against that of the last value with residual quantiles; below 1 is better.
    pub(crate) pinball_ratio: f64,
    /// Forecasts judged.
    pub(crate) origins: u32,
}

impl ForecastView {
    /// The shape of "no model has an opinion".
    pub(crate) fn none(signal: Signal) -> Self {
        Self {
            signal: signal.name().to_owned(),
            unit: signal.unit().symbol().to_owned(),
            issued_at: None,
            start: None,
            step_s: None,
            model: None,
            quantiles: BTreeMap::new(),
            window_max: BTreeMap::new(),
            score: None,
            coverage: BTreeMap::new(),
        }
    }
}

impl From<&Forecast> for ForecastView {
    fn from(forecast: &Forecast) -> Self {
        let score = forecast.score;
        Self {
            issued_at: Some(forecast.issued_at),
            start: Some(forecast.start),
            step_s: Some(forecast.step.as_secs_f64()),
            model: Some(forecast.model.clone()),
            quantiles: by_level(&forecast.steps),
            window_max: by_level(&forecast.window_max),
            score: score.map(|s| ForecastScore {
                pinball: s.pinball,
                pinball_ratio: s.pinball_ratio,
                origins: s.origins,
            }),
            coverage: score.map(|s| ("0.95".to_owned(), s.coverage95)).into_iter().collect(),
            ..Self::none(forecast.signal)
        }
    }
}

fn by_level(steps: &[Quantiles]) -> BTreeMap<String, Vec<f64>> {
    let column = |i: usize| steps.iter().map(|q| q.values()[i]).collect();
    LEVELS.iter().enumerate().map(|(i, level)| (level.to_string(), column(i))).collect()
}

/// What a signal was.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct SeriesView {
    /// Name in the catalogue of signals.
    pub(crate) signal: String,
    pub(crate) unit: String,
    /// Start of a step, and the mean over it or `null`; in order of time.
    #[schema(value_type = Vec<Vec<serde_json::Value>>, example = json!([["2026-01-31T08:00:00Z", 12.5], ["2026-01-31T08:01:00Z", null]]))]
    pub(crate) points: Vec<Point>,
}

/// Start of a step, and the mean over it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Point(pub(crate) Timestamp, pub(crate) Option<f64>);
