//! Scores the predictor on a folder of traces by rolling origin, against the last value with residual quantiles.
//!
//! `TIDEGATE_TRACES=DIR cargo run --release -p tidegate-predictor --example score [--league] [SERIES…]`
//!
//! `--league` prints the league table at each series' last origin.
//! DIR holds `series.csv` (columns `series`, `kind`, `step_s`, `bucket_s`, `season_s`) and `<series>.csv.gz` (`timestamp_s,value`).
//! 50 origins lie evenly over the last third of each series; each is forecast by a predictor fitted to what lies before it.
//! The reference is rebuilt here, apart from the predictor: residual quantiles over the last seven days. *p* is the smallest of two-sided
//! binomial tests of the coverage of the 0.95 quantile, one for each horizon; where a value equals its quantile, as counts do, the share
//! that is due lies between those below and those not above. Of the shortest series the windows overlap, which makes *p* smaller than it is.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small non-negative counts")]

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_core::forecast::{Quantiles, Standing};
use tidegate_core::signals::Signal;
use tidegate_core::{Series, Timestamp};
use tidegate_predictor::{Predictor, PredictorConfig};

type Outcome<T> = Result<T, Box<dyn Error>>;

const LEVELS: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
const ORIGINS: usize = 50;
const WINDOW_S: usize = 7 * 86_400;
const DAY_S: u64 = 86_400;

struct Trace {
    name: String,
    bucket_s: usize,
    start_s: i64,
    values: Vec<f64>,
    seasonal: bool,
    horizons: [usize; 3],
}

#[derive(Default, Clone, Copy)]
struct Tally {
    own: f64,
    reference: f64,
    below: u32,
    covered: u32,
    count: u32,
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() -> Outcome<()> {
    let folder = std::env::var("TIDEGATE_TRACES")
        .map_err(|_| "TIDEGATE_TRACES is not set: name a folder of traces")?;
    let (flags, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let traces = load(Path::new(&folder), &wanted)?;
    println!(
        "| series | steps | pinball vs last value | by horizon | cov95 | p | window max | cov95 | p | fit, s | predict + observe, ms | kept, KB | in use |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut logs, mut all_max, mut least) = (Vec::new(), Vec::new(), [1.0f64; 2]);
    let mut members: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for trace in &traces {
        let (ratio, max, p, league) = score(trace, !flags.is_empty());
        least = [0, 1].map(|of| least[of].min(p[of]));
        for standing in league {
            // Two seasons make two seasonal models; the table has one line for both.
            let name = standing.model.split(" (").next().unwrap_or_default().to_owned();
            let loss = standing.score.map(|score| score.pinball_ratio.max(1e-3).ln());
            members.entry(name).or_default().extend(loss);
        }
        logs.push(ratio.ln());
        all_max.push(max.ln());
    }
    let mean = |logs: &[f64]| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    println!(
        "\ngeometric mean over {} series: {:.3}; window maximum {:.3}; smallest p {:.4} and {:.4}",
        logs.len(),
        mean(&logs),
        mean(&all_max),
        least[0],
        least[1],
    );
    println!(
        "\n| member alone, as judged in the last fit of each series | pinball vs last value, at the lead |\n|---|---|"
    );
    for (name, logs) in &members {
        println!("| {name} | {:.3} |", mean(logs));
    }
    Ok(())
}

fn load(folder: &Path, wanted: &[String]) -> Outcome<Vec<Trace>> {
    let manifest = std::fs::read_to_string(folder.join("series.csv"))?;
    let mut lines = manifest.lines();
    let header: HashMap<&str, usize> = lines.next().unwrap_or_default().split(',').zip(0..).collect();
    let mut traces = Vec::new();
    for line in lines {
        // The columns read here come before any that may hold a comma, except for quotes in the unit, which has none.
        let cells: Vec<&str> = line.split(',').collect();
        let cell =
            |name: &str| header.get(name).and_then(|at| cells.get(*at)).copied().ok_or("a column is missing");
        let name = cell("series")?.to_owned();
        if !wanted.is_empty() && !wanted.contains(&name) {
            continue;
        }
        let (step_s, bucket_s): (usize, usize) = (cell("step_s")?.parse()?, cell("bucket_s")?.parse()?);
        let mut text = String::new();
        let file = std::fs::File::open(folder.join(format!("{name}.csv.gz")))?;
        flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
        let mut rows = Vec::new();
        for row in text.lines().skip(1) {
            let mut cells = row.split(',');
            let mut next = || cells.next().ok_or("a row is too short");
            rows.push((next()?.parse::<f64>()?, next()?.parse::<f64>()?));
        }
        let size = (bucket_s / step_s).max(1);
        let values =
            rows.chunks_exact(size).map(|c| c.iter().map(|r| r.1).sum::<f64>() / size as f64).collect();
        let seconds = if bucket_s >= 60 { [300, 900, 3600] } else { [30, 60, 300] };
        let horizons = seconds.map(|h| ((h as f64 / bucket_s as f64 + 0.5) as usize).max(1));
        traces.push(Trace {
            name,
            bucket_s,
            start_s: rows.first().map_or(0, |r| r.0 as i64),
            values,
            seasonal: cell("season_s")? != "0",
            horizons,
        });
    }
    Ok(traces)
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
#[expect(clippy::disallowed_methods, reason = "measures how long a fit takes")]
fn score(trace: &Trace, show_league: bool) -> (f64, f64, [f64; 2], Vec<Standing>) {
    let n = trace.values.len();
    let [first, lead, longest] = trace.horizons;
    let config = PredictorConfig {
        step: Duration::from_secs(trace.bucket_s as u64),
        seasons: if trace.seasonal {
            [DAY_S, 7 * DAY_S].map(Duration::from_secs).to_vec()
        } else {
            Vec::new()
        },
        horizon_steps: longest.max(lead),
        lead_steps: lead.max(first),
        seed: 1,
    };
    let mut tallies = [[Tally::default(); 3]; 2];
    let (mut fit, mut speak, mut kept) = (Duration::ZERO, Duration::ZERO, 0);
    let mut league = Vec::new();
    let mut used: HashMap<String, u32> = HashMap::new();
    for origin in origins(n, longest) {
        let known = trace.values[..=origin].iter().map(|v| Some(*v));
        let series = Series::from_values(Timestamp::from_secs(trace.start_s), config.step, known);
        let began = Instant::now();
        let mut fitted = Predictor::new(config.clone()).fit(&series);
        fit += began.elapsed();
        let forecast =
            fitted.predict(Signal::RequestsPerSecond, fitted.end()).expect("long enough a history");
        *used.entry(forecast.model.clone()).or_default() += 1;
        kept = kept.max(fitted.size());
        for (at, h) in trace.horizons.into_iter().enumerate() {
            let window = &trace.values[(origin + 1).saturating_sub(WINDOW_S / trace.bucket_s)..=origin];
            let max = |from: usize, to: usize| trace.values[from..=to].iter().copied().fold(0.0, f64::max);
            tallies[0][at].add(
                &forecast.steps[h - 1],
                &reference(window, h, false),
                trace.values[origin + h],
            );
            let actual = max(origin + 1, origin + h);
            tallies[1][at].add(&forecast.window_max[h - 1], &reference(window, h, true), actual);
        }
        let began = Instant::now();
        league = fitted.league().to_vec();
        fitted.observe(Some(trace.values[origin + 1]));
        let _ = std::hint::black_box(fitted.predict(Signal::RequestsPerSecond, fitted.end()));
        speak += began.elapsed();
    }
    let floor = 1e-3 * trace.values.iter().sum::<f64>() / n as f64;
    let by_horizon = tallies.map(|t| t.map(|t| t.ratio(floor)));
    let [ratio, max] = by_horizon.map(|r| (r.iter().map(|r| r.ln()).sum::<f64>() / 3.0).exp());
    let coverage =
        tallies.map(|t| t.iter().map(|t| f64::from(t.covered) / f64::from(t.count)).sum::<f64>() / 3.0);
    let p = tallies.map(|t| t.iter().map(Tally::p).fold(1.0, f64::min));
    println!(
        "| {} | {n} | {ratio:.3} | {:.3?} | {:.3} | {:.4} | {max:.3} | {:.3} | {:.4} | {:.3} | {:.2} | {} | {used:?} |",
        trace.name,
        by_horizon[0],
        coverage[0],
        p[0],
        coverage[1],
        p[1],
        fit.as_secs_f64() / ORIGINS as f64,
        speak.as_secs_f64() * 1e3 / ORIGINS as f64,
        kept / 1024,
    );
    for standing in league.iter().filter(|_| show_league) {
        println!("    {:32} {:?}", standing.model, standing.score);
    }
    (ratio, max, p, league)
}

fn origins(n: usize, longest: usize) -> impl Iterator<Item = usize> {
    let (low, high) = ((n * 2).div_ceil(3), n - 1 - longest);
    (0..ORIGINS).map(move |i| low + (i * (high - low) + (ORIGINS - 1) / 2) / (ORIGINS - 1))
}

/// The last value with empirical residual quantiles, at [`LEVELS`].
fn reference(window: &[f64], h: usize, max: bool) -> [f64; 4] {
    let last = window[window.len() - 1];
    let came = |i: usize| match max {
        true => window[i + 1..=i + h].iter().copied().fold(0.0, f64::max),
        false => window[i + h],
    };
    let mut errors: Vec<f64> = (0..window.len() - h).map(|i| came(i) - window[i]).collect();
    errors.sort_by(f64::total_cmp);
    LEVELS.map(|level| {
        let rank = level * (errors.len() - 1) as f64;
        let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
        let error = errors[below] + rank.fract() * (errors[above] - errors[below]);
        // The median of a step is the last value itself, as the published reference has it.
        (last + if level == 0.5 && !max { 0.0 } else { error }).max(0.0)
    })
}

impl Tally {
    fn add(&mut self, said: &Quantiles, reference: &[f64; 4], value: f64) {
        let loss = |level: f64, q: f64| (level * (value - q)).max((level - 1.0) * (value - q)) / 4.0;
        self.own += LEVELS.iter().map(|l| loss(*l, said.quantile(*l))).sum::<f64>();
        self.reference += LEVELS.iter().zip(reference).map(|(l, q)| loss(*l, *q)).sum::<f64>();
        // A forecast holds six digits.
        let due = said.quantile(0.95);
        self.below += u32::from(value < due * (1.0 - 1e-4));
        self.covered += u32::from(value <= due * (1.0 + 1e-4));
        self.count += 1;
    }

    fn ratio(&self, floor: f64) -> f64 {
        let mean = |loss: f64| loss / f64::from(self.count) + floor;
        mean(self.own) / mean(self.reference)
    }

    /// Two-sided binomial test of the coverage.
    fn p(&self) -> f64 {
        let Self { below, covered, count, .. } = *self;
        let too_many = (count - covered).checked_sub(1).map_or(1.0, |k| 1.0 - at_most(k, count, 0.05));
        let too_few = at_most(count - below, count, 0.05);
        (2.0 * too_many.min(too_few)).min(1.0)
    }
}

/// Probability of at most `k` of `n` at `p`.
fn at_most(k: u32, n: u32, p: f64) -> f64 {
    let mut term = (f64::from(n) * (1.0 - p).ln()).exp();
    let mut sum = term;
    for i in 0..k {
        term *= f64::from(n - i) / f64::from(i + 1) * p / (1.0 - p);
        sum += term;
    }
    sum.min(1.0)
}
