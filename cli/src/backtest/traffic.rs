//! The load that is replayed: read from a file, Prometheus or the embedded history, brought to a regular step, split into what may be
//! learned from and what is scored. What is missing is said, and never zero.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_core::{Series, Timestamp};
use tidegate_sim::Request;

use super::args::{BacktestArgs, Model};
use super::{prometheus, recorded, tokens};
use crate::trace::{self, Point, Unit};
use crate::{Usage, clock};

/// History before the scored days: what `tidegate up` keeps by the minute.
pub(super) const HISTORY_MAX: Duration = Duration::from_secs(35 * DAY_S);
/// Days that are scored unless told otherwise.
const SCORED_DAYS: f64 = 2.0;
/// What is scored must hold a few start-ups and scale-downs.
const SCORED_MIN: Duration = Duration::from_secs(15 * 60);
/// Finer steps are averaged: arrivals within a second are drawn at random anyway.
const STEP_MIN: Duration = Duration::from_secs(1);
/// Coarser ones say nothing of the minutes in which sizes change.
const STEP_MAX: Duration = Duration::from_secs(3600);
/// A value holds until the next one's time, but for no more steps than this: a longer silence is a gap.
const HOLD_STEPS: u32 = 3;
/// What may be missing of the scored days. More would score what was made up.
const GAPS_MAX: f64 = 0.25;
const DAY_S: u64 = 86_400;

/// A load by regular steps.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    /// Where it comes from, for people.
    pub(crate) source: String,
    /// Requests per second; gaps are unknown.
    pub(crate) rates: Series,
    /// Of a language model, where it is told.
    pub(crate) tokens: Option<Tokens>,
    /// What a reader should know of it.
    pub(crate) notes: Vec<String>,
}

/// What requests are made of.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    /// Tokens per second, of prompts and of answers, by the steps of the rates.
    pub(crate) rates: [Series; 2],
    /// The requests themselves, where they are recorded one by one; else empty.
    pub(crate) requests: Vec<(Timestamp, Request)>,
}

/// A load, split.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) source: String,
    /// Requests per second before the scored time; gaps are unknown. May be empty.
    pub(crate) history: Series,
    /// Requests per second of the scored time; no gaps.
    pub(crate) scored: Series,
    /// Tokens per second, of prompts and of answers, before the scored time and in it.
    pub(crate) tokens: Option<[(Series, Series); 2]>,
    /// The requests themselves, where they are recorded one by one; else empty.
    pub(crate) requests: Vec<(Timestamp, Request)>,
    /// What the values were multiplied with.
    pub(crate) scale: f64,
    pub(crate) notes: Vec<String>,
}

/// Reads the load from where the command line says.
///
/// # Errors
/// When the source cannot be read, is malformed, or holds no load.
pub(crate) async fn read(args: &BacktestArgs) -> anyhow::Result<Traffic> {
    let model = args.service.model;
    if args.prometheus.prompt_query.is_some() && model == Model::Generic {
        return Err(Usage("--prompt-query and --output-query are for --model llm".into()).into());
    }
    if let Some(asked) = prometheus::Asked::new(&args.prometheus, args.unit)? {
        return prometheus::read(&asked, clock::now(), args.quiet).await;
    }
    let (data, workload) = (args.data.clone(), args.workload.clone());
    if let Some((data, workload)) = data.zip(workload) {
        return tokio::task::spawn_blocking(move || recorded::read(&data, &workload, model, clock::now()))
            .await?;
    }
    let (file, unit) = (args.file.clone().context("a file is needed")?, args.unit);
    let read = match model {
        Model::Generic => from_file,
        Model::Llm => tokens::from_file,
    };
    tokio::task::spawn_blocking(move || read(&file, unit)).await?
}

fn from_file(path: &Path, unit: Unit) -> anyhow::Result<Traffic> {
    let points = trace::read(path, unit)?;
    let usual = usual_gap(&points).context("a load needs at least two points")?;
    let rates = regular(&points, usual)?;
    Ok(Traffic { source: path.display().to_string(), rates, tokens: None, notes: Vec::new() })
}

/// The most usual distance between two points.
pub(super) fn usual_gap(points: &[Point]) -> Option<Duration> {
    let mut gaps: Vec<f64> =
        points.windows(2).map(|pair| pair[1].timestamp_s - pair[0].timestamp_s).collect();
    gaps.sort_by(f64::total_cmp);
    let usual = gaps.get(gaps.len() / 2).copied()?;
    Duration::try_from_secs_f64((usual * 1000.0).round() / 1000.0).ok()
}

/// The newest days of the points by regular steps, which are as long as the `usual` gap within bounds: means over time, each value
/// holding until the next.
pub(super) fn regular(points: &[Point], usual: Duration) -> anyhow::Result<Series> {
    let step = usual.clamp(STEP_MIN, STEP_MAX);
    let time =
        |s: f64| Timestamp::from_secs_f64(s).with_context(|| Usage(format!("{s} is no time in seconds")));
    let (first, last) = points.first().zip(points.last()).context("the load is empty")?;
    let hold_s = usual.max(step).as_secs_f64() * f64::from(HOLD_STEPS);
    let last_end = last.timestamp_s + usual.max(step).as_secs_f64();
    let end = time(last_end)?;
    // Room for the longest history and the longest scored time.
    let oldest = end.before(HISTORY_MAX * 3).floor_to(step);
    let start = time(first.timestamp_s)?.floor_to(step).max(oldest);
    let (start_s, step_s) = (start.as_secs_f64(), step.as_secs_f64());
    let mut sums = vec![(0.0, 0.0); steps_between(start, end, step)];
    let ends = points.iter().skip(1).map(|next| next.timestamp_s).chain([last_end]);
    for (point, until) in points.iter().zip(ends) {
        let until = until.min(point.timestamp_s + hold_s);
        spread(&mut sums, point.value, point.timestamp_s - start_s, until - start_s, step_s);
    }
    // A step of which less than half is known is a gap.
    let means = sums.into_iter().map(|(sum, known)| (known >= step_s / 2.0).then(|| sum / known));
    Ok(Series::from_values(start, step, means))
}

/// The same values by the steps of another series; unknown where this one has none.
pub(super) fn by_steps_of(series: &Series, other: &Series) -> Series {
    let values = (0..other.len()).map(|index| series.at(other.time(index)));
    Series::from_values(other.start(), other.step(), values)
}

/// Adds `value` to the steps between `from` and `to`, weighted with the time in each.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "steps are few enough for 2^53, and negative ones are cut off before"
)]
fn spread(sums: &mut [(f64, f64)], value: f64, from: f64, to: f64, step: f64) {
    let mut at = from.max(0.0);
    let mut index = (at / step) as usize;
    while at < to && index < sums.len() {
        let end = ((index + 1) as f64 * step).min(to);
        let part = (end - at).max(0.0);
        sums[index].0 += value * part;
        sums[index].1 += part;
        (at, index) = (end, index + 1);
    }
}

fn steps_between(from: Timestamp, to: Timestamp, step: Duration) -> usize {
    usize::try_from(to.since(from).as_millis().div_ceil(step.as_millis().max(1))).unwrap_or(usize::MAX)
}

impl Traffic {
    /// Splits off the last days, multiplies, and fills in what is missing of them.
    ///
    /// # Errors
    /// When there are not that many days, or there is no load in them.
    pub(crate) fn split(self, days: Option<f64>, factor: impl FnOnce(f64) -> f64) -> anyhow::Result<Split> {
        let Self { source, rates, tokens, mut notes } = self;
        if rates.known_len() == 0 {
            bail!("{source}: there is no value at all");
        }
        let step = rates.step();
        let first = scored_from(&rates, days).with_context(|| source.clone())?;
        let scored = &rates.values()[first..];
        let missing = scored.iter().filter(|value| value.is_none()).count();
        if share(missing, scored.len()) > GAPS_MAX {
            bail!(
                "{source}: {missing} of {} steps of the scored time have no value; at most a quarter may be missing",
                scored.len()
            );
        }
        if missing > 0 {
            notes.push(format!(
                "{missing} of {} steps of the scored time had no value and were filled in from their neighbours.",
                scored.len()
            ));
        }
        let rates_scored = filled(scored);
        let peak = peak(&rates_scored, step);
        if rates_scored.iter().all(|rate| *rate <= 0.0) {
            bail!("{source}: no request arrives in the scored time; there is nothing to scale");
        }
        let scale = factor(if peak > 0.0 { peak } else { rates_scored.iter().copied().fold(0.0, f64::max) });
        let (tokens, requests) = tokens.map(|tokens| (tokens.rates, tokens.requests)).unzip();
        let requests = requests.unwrap_or_default();
        if !requests.is_empty() && (scale - 1.0).abs() > 1e-9 {
            return Err(Usage(
                "--scale multiplies rates; requests recorded one by one come as they came".into(),
            )
            .into());
        }
        let longest = steps_between(Timestamp::EPOCH, Timestamp::EPOCH + HISTORY_MAX, step);
        let history_of = |series: &Series| scaled_part(series, first.saturating_sub(longest)..first, scale);
        let scored_of = |series: &Series| {
            let known = filled(&series.values()[first.min(series.len())..]);
            Series::from_values(series.time(first), step, known.into_iter().map(|rate| Some(rate * scale)))
        };
        let tokens = tokens.map(|tokens| tokens.map(|rates| (history_of(&rates), scored_of(&rates))));
        let history = history_of(&rates);
        if history.known_len() == 0 {
            notes.push("There is no history before the scored time: every policy starts without one.".into());
        }
        let scored = scored_of(&rates);
        Ok(Split { source, history, scored, tokens, requests, scale, notes })
    }
}

/// A part of a series, multiplied.
fn scaled_part(series: &Series, part: std::ops::Range<usize>, scale: f64) -> Series {
    let values = series.values()[part.clone()].iter().map(|rate| rate.map(|rate| rate * scale));
    Series::from_values(series.time(part.start), series.step(), values)
}

/// The first step that is scored.
fn scored_from(rates: &Series, days: Option<f64>) -> anyhow::Result<usize> {
    let step_s = rates.step().as_secs_f64();
    let known = rates.values().iter().position(Option::is_some).unwrap_or(0);
    let span_s = rates.end().since(rates.time(known)).as_secs_f64();
    let day_s = Duration::from_secs(DAY_S).as_secs_f64();
    let scored_s = match days {
        Some(days) if days * day_s > span_s + step_s => {
            return Err(Usage(format!("--days {days}: there are {:.2} days only", span_s / day_s)).into());
        }
        Some(days) => (days * day_s).min(span_s),
        None => (SCORED_DAYS * day_s).min(span_s / 3.0),
    };
    if scored_s < SCORED_MIN.as_secs_f64() {
        bail!(
            "{:.0} minutes of load leave {:.0} to score; a comparison needs {} at least (--days says how much is scored)",
            span_s / 60.0,
            scored_s / 60.0,
            SCORED_MIN.as_secs() / 60
        );
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and far below 2^53"
    )]
    let steps = (scored_s / step_s).round() as usize;
    // Whole minutes: that is how results are told.
    let whole = steps - steps % steps_of_minute(rates.step());
    Ok(rates.len().saturating_sub(whole.max(1)))
}

/// Gaps become the straight line between their neighbours; at an end, the value of the only one.
fn filled(values: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<(usize, f64)> = values.iter().enumerate().filter_map(|(k, v)| v.map(|v| (k, v))).collect();
    let mut next = 0;
    let at = |(k, value): (usize, &Option<f64>)| {
        if let Some(value) = value {
            return *value;
        }
        while known.get(next).is_some_and(|(place, _)| *place < k) {
            next += 1;
        }
        match (next.checked_sub(1).map(|before| known[before]), known.get(next)) {
            (Some((left, from)), Some((right, to))) => from + (to - from) * share(k - left, right - left),
            (Some((_, only)), None) => only,
            (None, Some((_, only))) => *only,
            (None, None) => 0.0,
        }
    };
    values.iter().enumerate().map(at).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of steps are far below 2^53")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The 0.99 quantile of the rates by the minute. A second's count is mostly chance.
pub(crate) fn peak(rates: &[f64], step: Duration) -> f64 {
    let mean = |rates: &[f64]| {
        let count = u32::try_from(rates.len()).unwrap_or(u32::MAX);
        rates.iter().sum::<f64>() / f64::from(count)
    };
    quantile(&rates.chunks_exact(steps_of_minute(step)).map(mean).collect::<Vec<f64>>(), 0.99)
}

/// Steps that make up a minute; of longer ones, one.
fn steps_of_minute(step: Duration) -> usize {
    let minute = Duration::from_secs(60).as_millis();
    usize::try_from(minute / step.as_millis().max(1)).unwrap_or(usize::MAX).max(1)
}

/// The value that a share `p` of the values do not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into the values"
)]
pub(crate) fn quantile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (p * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rows: &[(f64, f64)]) -> Vec<Point> {
        rows.iter().map(|&(timestamp_s, value)| Point { timestamp_s, value }).collect()
    }

    fn traffic(values: impl IntoIterator<Item = Option<f64>>) -> Traffic {
        let rates = Series::from_values(Timestamp::EPOCH, Duration::from_secs(60), values);
        Traffic { source: "load.csv".into(), rates, tokens: None, notes: Vec::new() }
    }

    #[test]
    fn irregular_points_are_averaged_over_time_and_a_long_silence_is_a_gap() {
        let series = regular(
            &points(&[(0.0, 6.0), (30.0, 2.0), (60.0, 4.0), (120.0, 8.0), (600.0, 1.0)]),
            Duration::from_secs(60),
        )
        .unwrap();
        let mut expected = vec![Some(4.0), Some(4.0), Some(8.0), Some(8.0), Some(8.0)];
        expected.extend([None; 5]);
        expected.push(Some(1.0));
        assert_eq!(series.values(), expected);
    }

    #[test]
    fn steps_are_the_usual_gap_within_bounds() {
        let every = |gap: f64| {
            let points = points(&[(0.0, 1.0), (gap, 1.0), (2.0 * gap, 1.0)]);
            regular(&points, usual_gap(&points).unwrap()).unwrap()
        };
        assert_eq!((every(300.0).step(), every(300.0).len()), (Duration::from_secs(300), 3));
        assert_eq!(every(0.01).step(), STEP_MIN);
        let days = every(86_400.0);
        assert_eq!((days.step(), days.known_len()), (STEP_MAX, 72), "a value holds for all of its day");
    }

    #[test]
    fn ten_years_are_cut_to_what_can_be_used() {
        let day = 86_400.0;
        let rows: Vec<_> = (0..3650).map(|k| (f64::from(k) * day, 1.0)).collect();
        let series = regular(&points(&rows), Duration::from_secs(86_400)).unwrap();
        assert!(series.len() <= 105 * 24 + 24, "{}", series.len());
        // Two points that are ages apart are no memory hog either.
        let far = regular(&points(&[(0.0, 1.0), (1.0, 1.0), (9e9, 1.0)]), STEP_MIN).unwrap();
        assert!(far.len() <= 106 * 86_400);
    }

    #[test]
    fn the_last_third_is_scored_unless_told_otherwise_and_never_more_than_two_days() {
        let split = |minutes: usize, days| traffic(vec![Some(2.0); minutes]).split(days, |_| 1.0);
        assert_eq!(split(300, None).unwrap().scored.len(), 100);
        assert_eq!(split(20 * 1440, None).unwrap().scored.len(), 2 * 1440);
        assert_eq!(split(20 * 1440, Some(3.0)).unwrap().scored.len(), 3 * 1440);
        assert_eq!(split(60 * 1440, Some(1.0)).unwrap().history.len(), 35 * 1440);
        let cold = split(1440, Some(1.0)).unwrap();
        assert!(cold.history.is_empty() && cold.notes[0].contains("no history"));
        assert!(split(1440, Some(2.0)).unwrap_err().downcast_ref::<Usage>().is_some());
        assert!(
            format!("{:#}", split(30, None).unwrap_err()).contains("load.csv: 30 minutes of load leave 10")
        );
    }

    #[test]
    fn gaps_are_filled_where_few_and_refused_where_many() {
        let mut values = vec![Some(2.0); 300];
        values[250] = None;
        values[251] = None;
        values[252] = Some(8.0);
        let split = traffic(values.clone()).split(None, |peak| peak).unwrap();
        assert_eq!(split.scale, 6.0);
        assert_eq!(split.scored.values()[50..53], [Some(24.0), Some(36.0), Some(48.0)]);
        assert!(split.notes[0].contains("2 of 100"), "{:?}", split.notes);
        values[210..].fill(None);
        let error = traffic(values).split(None, |_| 1.0).unwrap_err().to_string();
        assert!(error.contains("90 of 100") && error.contains("load.csv"), "{error}");
    }

    #[test]
    fn a_peak_is_of_a_minute() {
        let seconds: Vec<f64> = (0..6000).map(|k| if k % 60 == 0 { 600.0 } else { 0.0 }).collect();
        assert_eq!(peak(&seconds, STEP_MIN), 10.0);
        assert_eq!(peak(&seconds[..5941], STEP_MIN), 10.0, "a part of a minute is none");
        assert_eq!(peak(&seconds, Duration::from_secs(300)), 600.0);
    }

    #[test]
    fn nothing_and_only_zeros_are_named() {
        let of = |values: Vec<Option<f64>>| traffic(values).split(None, |_| 1.0).unwrap_err().to_string();
        assert!(of(vec![None; 300]).contains("no value at all"));
        assert!(of(vec![Some(0.0); 300]).contains("no request arrives"));
    }
}
