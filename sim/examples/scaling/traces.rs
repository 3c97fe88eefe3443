//! Traces as loads: `series.csv` (columns `series`, `kind`, `unit`, `step_s`) and `<series>.csv.gz` (`timestamp_s,value`).

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Poisson};
use tidegate_core::{Bounds, Series, Timestamp};
use tidegate_sim::{Generic, Load, Service, Sizes, StartUp, World};

use crate::Outcome;

const DAY: Duration = Duration::from_secs(86_400);
/// Days before the scored ones that a scaler is told of.
const HISTORY_DAYS: u32 = 7;
const MINUTE: Duration = Duration::from_secs(60);
/// Simulated before anything is scored.
const WARM_UP: Duration = Duration::from_secs(1800);
/// Replicas, fully used, for the largest mean of five minutes.
const PEAK_REPLICAS: f64 = 24.0;
const BOUNDS: Bounds = Bounds { min: 1, max: 64 };
/// Longest step of a trace that is chosen by itself: bursts within a step are lost.
const STEP_S_MAX: u64 = 300;
const SEED: u64 = 1;

/// A workload to be scaled, and what is known of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) world: World,
    /// Requests per second by minute, up to the start of the simulation: counts, as somebody would have made them.
    pub(crate) history: Series,
}

/// Those named, or where none is: the long ones of requests that are fine enough.
pub(crate) fn load(folder: &Path, wanted: &[String], days: u32) -> Outcome<Vec<Scene>> {
    let manifest = folder.join("series.csv");
    let manifest = fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
    let mut lines = manifest.lines();
    let header: HashMap<&str, usize> = lines.next().unwrap_or_default().split(',').zip(0..).collect();
    let mut scenes = Vec::new();
    for line in lines {
        // The columns read here come before any that may hold a comma.
        let cells: Vec<&str> = line.split(',').collect();
        let cell =
            |name: &str| header.get(name).and_then(|at| cells.get(*at)).copied().ok_or("a column is missing");
        let (name, step_s) = (cell("series")?, cell("step_s")?.parse::<u64>()?);
        let is_usual = cell("kind")? == "long" && cell("unit")?.starts_with("req/") && step_s <= STEP_S_MAX;
        let is_wanted = if wanted.is_empty() { is_usual } else { wanted.iter().any(|wanted| wanted == name) };
        if is_wanted {
            let rates = read(&folder.join(format!("{name}.csv.gz")), Duration::from_secs(step_s))?;
            let scene = scene(name, &rates, days);
            scenes.push(scene.ok_or_else(|| format!("{name} has no {days} days to be scored"))?);
        }
    }
    if scenes.is_empty() {
        return Err("no trace of that folder is meant".into());
    }
    Ok(scenes)
}

fn read(path: &Path, step: Duration) -> Outcome<Series> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?;
    let mut points = Vec::new();
    for row in text.lines().skip(1) {
        let mut cells = row.split(',');
        let mut next = || cells.next().ok_or("a row is too short");
        let (at, value): (f64, f64) = (next()?.parse()?, next()?.parse()?);
        points.push((Timestamp::EPOCH + Duration::try_from_secs_f64(at)?, value));
    }
    Series::from_points(&points, step).ok_or_else(|| format!("{} has no values", path.display()).into())
}

/// Scores the first days, a week after the beginning, or later, that have at least the trace's mean.
fn scene(name: &str, raw: &Series, days: u32) -> Option<Scene> {
    let start = scored_start(raw, days)?;
    let end = start + DAY * days;
    let service = Service::Generic(Generic::default());
    let from = start.before(DAY * HISTORY_DAYS).max(raw.start());
    let scale = PEAK_REPLICAS * service.full_rps(Sizes::default()) / peak(raw, from, end)?;
    let rates = raw.values().iter().map(|value| value.map(|value| value * scale));
    let load = Load::rate(&Series::from_values(raw.start(), raw.step(), rates), Sizes::default());
    let begin = start.before(WARM_UP);
    let first_rate = load.rate_at(begin);
    let mut world = World {
        load,
        service,
        drop_after: Duration::from_secs(30),
        retries: None,
        start_up: StartUp::MODEL,
        bounds: BOUNDS,
        replicas: BOUNDS.max,
        start: begin,
        warm_up: WARM_UP,
        end,
        faults: Vec::new(),
        seed: SEED,
    };
    let per_replica = world.service.full_rps(Sizes::default());
    world.replicas = (1..BOUNDS.max).find(|n| f64::from(*n) * per_replica > first_rate)? + 1;
    let history = counted(&world.load, from, begin);
    Some(Scene { name: name.to_owned(), world, history })
}

fn scored_start(raw: &Series, days: u32) -> Option<Timestamp> {
    let per_day = usize::try_from(DAY.as_millis() / raw.step().as_millis().max(1)).ok()?;
    let mean = |values: &[Option<f64>]| {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        (known.len() * 10 > values.len() * 9).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let known: Vec<f64> = raw.values().iter().flatten().copied().collect();
    let usual = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let length = per_day * usize::try_from(days).ok()?;
    let week = per_day * usize::try_from(HISTORY_DAYS).ok()?;
    let mut starts = (week..).step_by(per_day).take_while(|start| start + length <= raw.len());
    let start =
        starts.find(|start| mean(&raw.values()[*start..start + length]).is_some_and(|mean| mean >= usual))?;
    Some(raw.time(start))
}

/// The largest mean of five minutes, or of a step where that is longer.
fn peak(raw: &Series, from: Timestamp, end: Timestamp) -> Option<f64> {
    let joined =
        usize::try_from((Duration::from_secs(300).as_millis() / raw.step().as_millis()).max(1)).ok()?;
    let within = |index: &usize| from <= raw.time(*index) && raw.time(*index) < end;
    let values: Vec<f64> = (0..raw.len()).filter(within).map(|i| raw.get(i).unwrap_or(0.0)).collect();
    let means = values.chunks_exact(joined).map(|chunk| chunk.iter().sum::<f64>() / joined as f64);
    means.reduce(f64::max).filter(|peak| *peak > 0.0)
}

/// Requests per second by minute, with the chance that requests have in coming.
fn counted(load: &Load, from: Timestamp, until: Timestamp) -> Series {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut series = Series::new(from, MINUTE);
    while series.end() < until {
        let expected = load.rate_at(series.end() + MINUTE / 2) * MINUTE.as_secs_f64();
        let counted = Poisson::new(expected).map_or(0.0, |count| count.sample(&mut rng));
        series.push(Some(counted / MINUTE.as_secs_f64()));
    }
    series
}
