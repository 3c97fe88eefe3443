//! `tidegate forecast`: quantiles of the next hours of a series in a file.

mod origins;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tidegate_core::{Forecast, LEVELS, Series, Signal, Timestamp};
use tidegate_predictor::{FittedPredictor, Predictor, PredictorConfig};

use crate::args::{ForecastArgs, Output};
use crate::{Usage, output, trace};

/// Levels in the table for people.
const SHOWN: [f64; 5] = [0.05, 0.5, 0.9, 0.95, 0.99];
/// Most rows of the table for people; of a longer forecast every so many steps are shown.
const TABLE_ROWS_MAX: usize = 24;
/// Most steps of a forecast.
const STEPS_MAX: usize = 2000;
/// Size of a chart in the terminal.
const PLOT_COLUMNS: usize = 96;
const PLOT_ROWS: usize = 16;

pub(crate) fn run(args: &ForecastArgs) -> anyhow::Result<()> {
    if let Some((origins, folder)) = args.origins.as_ref().zip(args.series.as_ref()) {
        let seasons: Vec<_> = args.season.iter().map(|season| season.get()).collect();
        return origins::run(origins, folder, &seasons);
    }
    let file = args.file.as_ref().context("a file is needed")?;
    let points = trace::read(file, args.unit)?;
    let series = series_of(&points, args)?;
    let fitted = predictor(args, series.step())?.fit(&series);
    let Some(forecast) = fitted.predict(Signal::RequestsPerSecond, series.end()) else {
        bail!(
            "no model has an opinion: {} known steps of {} s are too few",
            series.known_len(),
            series.step().as_secs_f64()
        );
    };
    if args.plot {
        output::say(&plot(&series, &forecast))?;
    }
    if let Some(file) = &args.html {
        std::fs::write(file, html(&series, &forecast))
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    print(args.output, &fitted, &forecast)
}

fn series_of(points: &[trace::Point], args: &ForecastArgs) -> anyhow::Result<Series> {
    let step = match args.step {
        Some(step) => step.get(),
        None => usual_step(points).context("the usual distance of two points is no length of time")?,
    };
    if step < Duration::from_millis(1) {
        return Err(Usage(format!("a step must be at least a millisecond, got {step:?}; see --step")).into());
    }
    let at = |point: &trace::Point| Timestamp::from_secs_f64(point.timestamp_s).map(|at| (at, point.value));
    let points: Vec<_> = points.iter().filter_map(at).collect();
    Series::from_points(&points, step).context("the series is empty, or spans too many steps")
}

/// The most usual distance between two points.
fn usual_step(points: &[trace::Point]) -> Option<Duration> {
    let mut gaps: Vec<f64> =
        points.windows(2).map(|pair| pair[1].timestamp_s - pair[0].timestamp_s).collect();
    gaps.sort_by(f64::total_cmp);
    gaps.get(gaps.len() / 2).and_then(|gap| Duration::try_from_secs_f64(*gap).ok())
}

fn predictor(args: &ForecastArgs, step: Duration) -> anyhow::Result<Predictor> {
    let steps = |span: Duration| {
        usize::try_from(span.as_millis().div_ceil(step.as_millis().max(1))).unwrap_or(usize::MAX)
    };
    let horizon_steps = steps(args.horizon.get());
    if horizon_steps == 0 || horizon_steps > STEPS_MAX {
        return Err(Usage(format!(
            "--horizon must be from 1 to {STEPS_MAX} steps of {} s",
            step.as_secs_f64()
        ))
        .into());
    }
    let usual = PredictorConfig::default();
    let given: Vec<_> = args.season.iter().map(|season| season.get()).collect();
    let seasons = if given.is_empty() { usual.seasons } else { given };
    let lead_steps = steps(args.lead.get()).clamp(1, horizon_steps);
    Ok(Predictor::new(PredictorConfig { step, seasons, horizon_steps, lead_steps, seed: 0 }))
}

fn print(how: Output, fitted: &FittedPredictor, forecast: &Forecast) -> anyhow::Result<()> {
    let time = |k: usize| forecast.start + forecast.step.saturating_mul(u32::try_from(k).unwrap_or(u32::MAX));
    let levels: &[f64] = if how == Output::Csv { &LEVELS } else { &SHOWN };
    let mut header = vec!["start".to_owned()];
    header.extend(levels.iter().map(|level| format!("q{level}")));
    header.push("max_q0.95".into());
    // People read two dozen rows; programs take them all.
    let every = forecast.steps.len().div_ceil(TABLE_ROWS_MAX).max(1);
    let rows: Vec<Vec<String>> = forecast
        .steps
        .iter()
        .zip(&forecast.window_max)
        .enumerate()
        .filter(|(k, _)| how != Output::Table || k.is_multiple_of(every))
        .map(|(k, (step, max))| {
            let mut row = vec![time(k).to_string()];
            row.extend(levels.iter().map(|level| output::number(step.quantile(*level))));
            row.push(output::number(max.quantile(0.95)));
            row
        })
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let value = json!({ "forecast": forecast, "levels": LEVELS, "league": fitted.league() });
    output::print(how, &header, &rows, &value)?;
    match how {
        Output::Table => output::say(&league(fitted)),
        Output::Json | Output::Csv => Ok(()),
    }
}

fn league(fitted: &FittedPredictor) -> String {
    let mut text = "models by pinball loss at the lead time, against the last value:".to_owned();
    for standing in fitted.league() {
        let mark = if standing.in_use { "→" } else { " " };
        let score = standing.score.map_or_else(
            || "no opinion".to_owned(),
            |s| {
                format!(
                    "{:.3} ×, 0.95 quantile covers {:.3}, {} origins",
                    s.pinball_ratio, s.coverage95, s.origins
                )
            },
        );
        write!(text, "\n {mark} {:<32} {score}", standing.model).expect("writing to a string cannot fail");
    }
    text
}

/// The last values (`•`), the median (`─`) and the 0.05 to 0.95 band (`░`), with as much past as future.
fn plot(series: &Series, forecast: &Forecast) -> String {
    let future = forecast.steps.len();
    let past = series.len().min(future * 2);
    let columns = PLOT_COLUMNS.min(past + future);
    let total = past + future;
    let top = (series.values()[series.len() - past..].iter().flatten().copied())
        .chain(forecast.steps.iter().map(|step| step.quantile(0.95)))
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut cells = vec![vec![' '; columns]; PLOT_ROWS];
    let row = |value: f64| {
        let share = (value / top).clamp(0.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a row of the chart"
        )]
        let row = ((1.0 - share) * (PLOT_ROWS - 1) as f64).round() as usize;
        row
    };
    for k in 0..total {
        let column = (k * columns / total).min(columns - 1);
        if k < past {
            if let Some(value) = series.get(series.len() - past + k) {
                cells[row(value)][column] = '•';
            }
            continue;
        }
        let step = &forecast.steps[k - past];
        for line in &mut cells[row(step.quantile(0.95))..=row(step.quantile(0.05))] {
            if line[column] == ' ' {
                line[column] = '░';
            }
        }
        cells[row(step.quantile(0.5))][column] = '─';
    }
    let lines: Vec<String> = cells.iter().map(|line| line.iter().collect()).collect();
    format!(
        "{top:>10.1} ┐\n{}\n{:>10} ┘ {} past and {} coming steps of {} s",
        lines.join("\n"),
        0,
        past,
        future,
        forecast.step.as_secs_f64()
    )
}

/// One page with the chart, its script inside: opens anywhere, without a network.
fn html(series: &Series, forecast: &Forecast) -> String {
    use plotly::common::{Fill, Line, Mode};
    use plotly::{Layout, Plot, Scatter};
    let future: Vec<String> = (0..forecast.steps.len())
        .map(|k| {
            (forecast.start + forecast.step.saturating_mul(u32::try_from(k).unwrap_or(u32::MAX))).to_string()
        })
        .collect();
    let past = series.len().min(forecast.steps.len() * 4);
    let first = series.len() - past;
    let seen: Vec<String> = (first..series.len()).map(|k| series.time(k).to_string()).collect();
    let values: Vec<Option<f64>> = series.values()[first..].to_vec();
    let at = |p: f64| -> Vec<f64> { forecast.steps.iter().map(|step| step.quantile(p)).collect() };
    let mut chart = Plot::new();
    chart.add_trace(Scatter::new(seen, values).mode(Mode::Lines).name("seen"));
    chart.add_trace(
        Scatter::new(future.clone(), at(0.05)).mode(Mode::Lines).name("0.05").line(Line::new().width(0.5)),
    );
    chart.add_trace(
        Scatter::new(future.clone(), at(0.95))
            .mode(Mode::Lines)
            .name("0.95")
            .fill(Fill::ToNextY)
            .line(Line::new().width(0.5)),
    );
    chart.add_trace(
        Scatter::new(future, at(0.5)).mode(Mode::Lines).name(format!("median, {}", forecast.model)),
    );
    chart.set_layout(Layout::new().title("Forecast"));
    chart.to_html()
}
