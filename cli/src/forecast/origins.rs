//! `tidegate forecast --origins FILE --series DIR`: forecasts from many origins of many series, for others to score. Each uses what lies
//! at or before its origin in its own series, and nothing else: neither another series nor which other origins are asked.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tidegate_core::{Series, Signal, Timestamp};
use tidegate_predictor::{Predictor, PredictorConfig};

use crate::{Usage, clock, output};

/// Levels that are scored.
const SCORED: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
/// Most steps ahead that can be asked for.
const STEP_MAX: usize = 2000;

/// A line of the file of origins.
#[derive(Debug, Clone, Deserialize)]
struct Asked {
    series: String,
    /// Index of the last bucket that may be used.
    origin: usize,
    bucket_s: f64,
    /// Steps ahead, as in `1;3;12`.
    steps: String,
}

/// A row of a series: its index is its place.
#[derive(Debug, Deserialize)]
struct Bucket {
    index: usize,
    timestamp_s: f64,
    value: f64,
}

/// Forecasts from all origins, in their order, as CSV on stdout.
pub(super) fn run(origins: &Path, folder: &Path, seasons: &[Duration]) -> anyhow::Result<()> {
    let asked = read_origins(origins)?;
    let bar = output::progress(u64::try_from(asked.len()).unwrap_or(u64::MAX), "origins", false);
    let answers: Vec<Mutex<Option<anyhow::Result<String>>>> =
        asked.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((one, answer)) = at(&asked, &answers, next.fetch_add(1, Ordering::Relaxed)) {
                    *answer.lock().expect("no holder panics") = Some(forecast(one, folder, seasons));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut text = b"series,origin,horizon_step,q50,q90,q95,q99,seconds\n".to_vec();
    for answer in answers {
        let rows = answer.into_inner().expect("no holder panics").expect("every origin was taken");
        text.write_all(rows?.as_bytes()).expect("writing to memory cannot fail");
    }
    output::say(String::from_utf8(text).expect("it was written from text").trim_end())
}

fn at<'a, A, B>(asked: &'a [A], answers: &'a [B], place: usize) -> Option<(&'a A, &'a B)> {
    asked.get(place).zip(answers.get(place))
}

fn read_origins(path: &Path) -> anyhow::Result<Vec<Asked>> {
    let file =
        File::open(path).map_err(|error| Usage(format!("failed to read {}: {error}", path.display())))?;
    let mut asked = Vec::new();
    for row in csv::Reader::from_reader(file).deserialize() {
        let row: Asked = row.map_err(|error| Usage(format!("{}: {error}", path.display())))?;
        if row.series.contains(['/', '\\']) || row.series.starts_with('.') {
            return Err(Usage(format!("{}: {:?} is no name of a series", path.display(), row.series)).into());
        }
        asked.push(row);
    }
    Ok(asked)
}

/// The rows of one origin.
fn forecast(asked: &Asked, folder: &Path, seasons: &[Duration]) -> anyhow::Result<String> {
    let begun = clock::monotonic();
    let steps = steps(&asked.steps).with_context(|| format!("`steps` of {}", asked.series))?;
    let furthest = steps.iter().copied().max().unwrap_or(1);
    let series = read_series(&folder.join(format!("{}.csv", asked.series)), asked)?;
    let usual = PredictorConfig::default();
    let seasons = if seasons.is_empty() { usual.seasons } else { seasons.to_vec() };
    let config = PredictorConfig {
        step: series.step(),
        seasons,
        horizon_steps: furthest,
        lead_steps: furthest,
        seed: 0,
    };
    let fitted = Predictor::new(config).fit(&series);
    let Some(forecast) = fitted.predict(Signal::RequestsPerSecond, series.end()) else {
        bail!("{} has too little before {} for an opinion", asked.series, asked.origin);
    };
    let seconds = begun.elapsed().as_secs_f64();
    let row = |step: &usize| {
        let said = SCORED.map(|level| format!("{}", forecast.steps[step - 1].quantile(level))).join(",");
        format!("{},{},{step},{said},{seconds:.4}\n", asked.series, asked.origin)
    };
    Ok(steps.iter().map(row).collect())
}

fn steps(text: &str) -> anyhow::Result<Vec<usize>> {
    let step = |part: &str| part.trim().parse::<usize>().ok().filter(|step| (1..=STEP_MAX).contains(step));
    let steps: Option<Vec<usize>> = text.split(';').map(step).collect();
    steps
        .filter(|steps| !steps.is_empty())
        .with_context(|| format!("expected numbers from 1 to {STEP_MAX} with `;` between, got {text:?}"))
}

/// The series up to its origin. Not a row beyond it is looked at.
fn read_series(path: &PathBuf, asked: &Asked) -> anyhow::Result<Series> {
    let step = Duration::try_from_secs_f64(asked.bucket_s).ok();
    let step = step.filter(|step| *step >= Duration::from_millis(1)).with_context(|| {
        format!("expected a `bucket_s` of a millisecond or more, got {} for {}", asked.bucket_s, asked.series)
    })?;
    let file =
        File::open(path).map_err(|error| Usage(format!("failed to read {}: {error}", path.display())))?;
    let mut points = Vec::new();
    for row in csv::Reader::from_reader(file).deserialize() {
        let bucket: Bucket = row.with_context(|| format!("{}", path.display()))?;
        if bucket.index > asked.origin {
            break;
        }
        let at = Timestamp::from_secs_f64(bucket.timestamp_s).context("a time is out of range")?;
        points.push((at, bucket.value));
    }
    Series::from_points(&points, step)
        .with_context(|| format!("{} is empty, or spans too many steps", path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(rows: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "index,timestamp_s,value\n".to_owned();
        for k in 0..rows {
            text += &format!("{k},{},{}\n", k * 300, 40 + k * 7919 % 23);
        }
        std::fs::write(folder.path().join("a.csv"), text).unwrap();
        folder
    }

    #[test]
    fn what_lies_beyond_the_origin_changes_nothing() {
        let asked = Asked { series: "a".into(), origin: 399, bucket_s: 300.0, steps: "1;3;12".into() };
        let without_time = |rows: String| -> Vec<String> {
            rows.lines().map(|row| row.rsplit_once(',').unwrap().0.to_owned()).collect()
        };
        let cut = without_time(forecast(&asked, written(400).path(), &[]).unwrap());
        let whole = without_time(forecast(&asked, written(900).path(), &[]).unwrap());
        assert_eq!(cut, whole);
        assert_eq!(cut.len(), 3);
        let first: Vec<f64> = cut[0].split(',').skip(3).map(|value| value.parse().unwrap()).collect();
        assert!(first.is_sorted() && first[0] > 0.0, "{first:?}");
    }

    #[test]
    fn wrong_steps_and_names_are_refused() {
        for wrong in ["", "0", "1;;2", "1;-3", "9999"] {
            assert!(steps(wrong).is_err(), "{wrong}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("origins.csv");
        std::fs::write(&file, "series,origin,bucket_s,steps\n../etc/passwd,1,300,1\n").unwrap();
        assert!(read_origins(&file).unwrap_err().to_string().contains("no name"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_origins_and_buckets_get_an_answer_or_a_reason(
            rows in prop::collection::vec(number(), 0..12),
            buckets in prop::collection::vec((number(), number()), 0..90),
            raw in prop::option::weighted(0.2, any::<String>()),
        ) {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("origins.csv");
            let mut text = "series,origin,bucket_s,steps\n".to_owned();
            for row in rows.chunks_exact(3) {
                text += &format!("a,{},{},{}\n", row[0], row[1], row[2]);
            }
            text += raw.as_deref().unwrap_or_default();
            std::fs::write(&file, text)?;
            let mut series = "index,timestamp_s,value\n".to_owned();
            for (index, (time, value)) in buckets.iter().enumerate() {
                // Most times as they should be, so that some are long enough.
                let time = if time.len() < 3 { (index * 60).to_string() } else { time.clone() };
                series += &format!("{index},{time},{value}\n");
            }
            std::fs::write(folder.path().join("a.csv"), series)?;
            match read_origins(&file) {
                Ok(asked) => for asked in asked {
                    match forecast(&asked, folder.path(), &[]) {
                        Ok(rows) => prop_assert_eq!(rows.lines().count(), asked.steps.split(';').count()),
                        Err(error) => prop_assert_ne!(format!("{error:#}"), ""),
                    }
                },
                Err(error) => prop_assert!(error.to_string().contains("origins.csv"), "{error}"),
            }
        }
    }

    /// A number as text, now and then one that is none, or none that anybody expects.
    fn number() -> impl Strategy<Value = String> {
        let odd = [
            "",
            "NaN",
            "-1",
            "1e300",
            "1e-9",
            "5e-324",
            "inf",
            "99999999999999999999",
            "1;2",
            "x",
            "\"",
            "0",
        ];
        prop_oneof![
            12 => (1u32..90).prop_map(|n| n.to_string()),
            1 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        ]
    }
}
