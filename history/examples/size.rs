//! How small and how fast the store is on real load: bytes of chunks and of the database file per sample, and milliseconds to read 30 days of
//! minutes. The bars are for chunks where each trace comes at its own step, and for the whole file where a sample comes every five seconds.
//!
//! Reads every `*.csv.gz` (columns `timestamp_s,value`) of the directory that `TIDEGATE_TRACES` names:
//! `TIDEGATE_TRACES=DIR cargo run --release -p tidegate-history --example size`.
#![expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "it prints measurements; times are whole seconds"
)]

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use tidegate_core::{Sample, Signal, Subject, Timestamp};
use tidegate_history::{Aggregate, Store, StoreOptions};

/// The bars of the design.
const BYTES_PER_SAMPLE_MAX: f64 = 2.0;
const READ_MAX: Duration = Duration::from_millis(5);
/// Length of the series that is read.
const DAYS_30: i64 = 30 * 86_400;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Some(dir) = std::env::var_os("TIDEGATE_TRACES").map(PathBuf::from) else {
        return Err("TIDEGATE_TRACES is not set: name the directory that holds the traces".into());
    };
    let traces = read_traces(&dir)?;
    if traces.is_empty() {
        return Err(format!("no *.csv.gz in {}", dir.display()).into());
    }
    println!("{:28} {:>9} {:>9} {:>9} {:>9}", "trace", "samples", "chunks B", "file B", "chunks/n");
    for trace in &traces {
        live(&trace.0, std::slice::from_ref(trace))?;
    }
    let per_sample = live("all in one store", &traces)?;
    let dense = dense(&traces)?;
    let read = read_30_days(&traces)?;
    let met = per_sample <= BYTES_PER_SAMPLE_MAX && dense <= BYTES_PER_SAMPLE_MAX && read <= READ_MAX;
    println!("bars {}", if met { "met" } else { "MISSED" });
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Trace = (String, Vec<(i64, f64)>);

fn read_traces(dir: &Path) -> Result<Vec<Trace>, Box<dyn Error>> {
    let mut traces = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".csv.gz"));
        let Some(name) = name else { continue };
        let mut rows = csv::Reader::from_reader(GzDecoder::new(File::open(&path)?));
        let points = rows.records().map(|row| {
            let row = row?;
            Ok((row[0].parse::<f64>()?.floor() as i64, row[1].parse()?))
        });
        traces.push((name.to_owned(), points.collect::<Result<_, Box<dyn Error>>>()?));
    }
    traces.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(traces)
}

fn sample(name: &str, at: i64, value: f64) -> Sample {
    let subject = Subject::NodePart(name.to_owned());
    Sample { subject, signal: Signal::RequestsPerSecond, at: Timestamp::from_secs(at), value }
}

/// Lives through the traces as a running store does, day by day, all ending at the same time; gives the bytes of the file per sample.
fn live(name: &str, traces: &[Trace]) -> Result<f64, Box<dyn Error>> {
    const DAY: i64 = 86_400;
    let dir = tempfile::tempdir()?;
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), Timestamp::EPOCH)?;
    let last = |points: &[(i64, f64)]| points.last().map_or(0, |point| point.0);
    let mut count = 0;
    let (mut chunks, days) = (0, 60);
    for day in 0..=days {
        for (name, points) in traces {
            let shift = days * DAY - last(points);
            let today = points.iter().filter(|(at, _)| (at + shift).div_euclid(DAY) == day);
            let samples: Vec<Sample> = today.map(|(at, value)| sample(name, at + shift, *value)).collect();
            count += samples.len();
            assert_eq!(store.append(&samples).stored, samples.len());
        }
        store.checkpoint()?;
        loop {
            let done = store.maintain(Timestamp::from_secs((day + 1).min(days) * DAY))?;
            chunks = done.chunk_bytes;
            if done.chunks_expired == 0 {
                break;
            }
        }
    }
    let file = fs::metadata(store.path().expect("it is on disk"))?.len();
    println!("{name:28} {count:>9} {chunks:>9} {file:>9} {:>9.2}", ratio(chunks, count));
    Ok(ratio(chunks, count))
}

/// A sample every five seconds for a week, as collectors give them: each trace's values with the readings between on a straight line.
fn dense(traces: &[Trace]) -> Result<f64, Box<dyn Error>> {
    const WEEK: i64 = 7 * 86_400;
    let dir = tempfile::tempdir()?;
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), Timestamp::EPOCH)?;
    let mut count = 0;
    for (name, points) in traces.iter().filter(|(_, points)| points.len() > 5000) {
        let first = points[0].0;
        let mut samples = Vec::new();
        for pair in points.windows(2).take_while(|pair| pair[1].0 - first < WEEK) {
            let ((from, low), (to, high)) = (pair[0], pair[1]);
            for at in (from..to).step_by(5) {
                let share = (at - from) as f64 / (to - from) as f64;
                samples.push(sample(name, at - first, low + (high - low) * share));
            }
        }
        count += samples.len();
        assert_eq!(store.append(&samples).stored, samples.len());
        store.checkpoint()?;
        while store.maintain(Timestamp::from_secs(WEEK))?.chunks_expired > 0 {}
    }
    let bytes = fs::metadata(store.path().expect("it is on disk"))?.len();
    let per_sample = ratio(bytes, count);
    println!("{:28} {count:>9} {bytes:>9} {per_sample:>9.2}", "a week at 5 s, file");
    Ok(per_sample)
}

/// Fills 30 days of minutes, four samples each, from the longest trace, and reads them back.
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn read_30_days(traces: &[Trace]) -> Result<Duration, Box<dyn Error>> {
    let (_, points) = traces.iter().max_by_key(|(_, points)| points.len()).expect("there is a trace");
    let dir = tempfile::tempdir()?;
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), Timestamp::EPOCH)?;
    let values = points.iter().map(|point| point.1).cycle();
    let samples: Vec<Sample> =
        (0..DAYS_30).step_by(15).zip(values).map(|(at, value)| sample("read", at, value)).collect();
    assert_eq!(store.append(&samples).stored, samples.len());
    store.checkpoint()?;
    let (to, minute) = (Timestamp::from_secs(DAYS_30), Duration::from_secs(60));
    let subject = Subject::NodePart("read".to_owned());
    let mut median = Vec::new();
    for aggregate in [Aggregate::Mean, Aggregate::Max] {
        let mut times: Vec<Duration> = (0..51)
            .map(|_| {
                let begun = Instant::now();
                let series =
                    store.read(&subject, Signal::RequestsPerSecond, Timestamp::EPOCH, to, minute, aggregate);
                let time = begun.elapsed();
                assert_eq!(series.expect("it was just written").known_len(), 43_200);
                time
            })
            .collect();
        times.sort();
        println!(
            "30 days of minutes, {aggregate:?}: median {:?}, slowest {:?} of {}",
            times[25],
            times[50],
            times.len()
        );
        median.push(times[25]);
    }
    Ok(median.into_iter().max().expect("two were measured"))
}

fn ratio(bytes: u64, samples: usize) -> f64 {
    bytes as f64 / samples as f64
}
