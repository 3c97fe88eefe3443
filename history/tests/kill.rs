//! A process that writes is killed at random moments; what it had flushed must be there, and right. Not a test of power loss.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_core::{Histogram, Sample, Signal, Subject, Timestamp};
use tidegate_history::{Aggregate, Store, StoreOptions};

/// The directory that a child of this test writes to; without it the child's test does nothing.
const DIR: &str = "TIDEGATE_TEST_KILL_DIR";
/// Rounds of killing, each going on where the last one ended.
const ROUNDS: u64 = 8;
/// Seconds of samples between two flushes, as a caller has them.
const FLUSH_SECONDS: i64 = 5;
/// The bar: most seconds of samples that may be lost.
const LOST_SECONDS_MAX: i64 = 10;
const SIGNALS: [Signal; 3] = [Signal::RequestsPerSecond, Signal::CpuCores, Signal::Queued];

/// The value that second `at` of a signal has: known to the writer and to the check.
fn value(at: i64, signal: usize) -> f64 {
    ((at * 7919 + signal as i64 * 104_729).rem_euclid(10_007)) as f64 / 8.0
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL; the error of a child that has ended already says nothing.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Writes as fast as it can, a simulated second at a time, and says each second it has begun and each flush that returned.
#[test]
fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let (store, _) = Store::open(dir, StoreOptions::default(), Timestamp::EPOCH).unwrap();
    let first =
        store.latest(&Subject::Node, SIGNALS[0]).unwrap().map_or(0, |(at, _)| at.as_millis() / 1000 + 1);
    for at in first.. {
        say('a', at);
        let samples: Vec<Sample> = SIGNALS
            .iter()
            .enumerate()
            .map(|(index, signal)| {
                Sample::new(Subject::Node, *signal, Timestamp::from_secs(at), value(at, index)).unwrap()
            })
            .collect();
        assert_eq!(store.append(&samples).stored, SIGNALS.len());
        let mut seen = Histogram::default();
        seen.observe(1.0);
        assert_eq!(
            store
                .append_histogram(&Subject::Node, Signal::LatencyP95, Timestamp::from_secs(at), &seen)
                .stored,
            1
        );
        if at % FLUSH_SECONDS == FLUSH_SECONDS - 1 {
            store.flush(Timestamp::from_secs(at)).unwrap();
            say('f', at);
        }
        if at % 60 == 59 {
            store.maintain(Timestamp::from_secs(at)).unwrap();
        }
    }
}

fn say(what: char, at: i64) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{what} {at}").unwrap();
}

/// Runs a writer and kills it after `lines` lines and some microseconds; gives the last second begun and the last flush that returned.
fn kill_a_writer(dir: &Path, lines: u64, micros: u64) -> (i64, i64) {
    let mut child = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut out = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let (mut begun, mut flushed) = (-1, -1);
    let mut note = |line: String| match line.split_once(' ') {
        Some(("a", at)) => begun = at.parse().unwrap_or(begun),
        Some(("f", at)) => flushed = at.parse().unwrap_or(flushed),
        _ => panic!("the writer failed: {line}"),
    };
    for _ in 0..lines {
        note(out.next().expect("the writer writes until it is killed").unwrap());
    }
    // Not a wait for anything: it only moves the kill to any point within a flush.
    std::thread::sleep(Duration::from_micros(micros));
    drop(child);
    out.map_while(Result::ok).for_each(|line| {
        // The last line may be torn.
        if line.len() > 2 {
            note(line);
        }
    });
    (begun, flushed)
}

fn check(store: &Store, begun: i64, flushed: i64) -> i64 {
    let last = store.latest(&Subject::Node, SIGNALS[0]).unwrap().map_or(-1, |(at, _)| at.as_millis() / 1000);
    assert!(last >= flushed, "flushed to {flushed}, found {last}");
    assert!(begun - last <= LOST_SECONDS_MAX, "begun {begun}, found {last}");
    for (index, signal) in SIGNALS.into_iter().enumerate() {
        let wanted: Vec<f64> = (0..=last).map(|at| value(at, index)).collect();
        for step in [1, 10, 60, 300] {
            check_steps(store, signal, &wanted, step);
        }
    }
    let (from, to) = (Timestamp::EPOCH, Timestamp::from_secs(last + 1));
    let latency = store.read_histogram(&Subject::Node, Signal::LatencyP95, from, to).unwrap();
    assert_eq!(i64::try_from(latency.count()).unwrap(), last + 1, "histograms are lost or doubled");
    last
}

/// Every figure of every step equals what the model says, nothing lost within and nothing twice.
fn check_steps(store: &Store, signal: Signal, wanted: &[f64], step: usize) {
    let (from, to) = (Timestamp::EPOCH, Timestamp::from_secs(wanted.len() as i64));
    let read = |aggregate| {
        store.read(&Subject::Node, signal, from, to, Duration::from_secs(step as u64), aggregate).unwrap()
    };
    let (counts, sums, maxs) = (read(Aggregate::Count), read(Aggregate::Sum), read(Aggregate::Max));
    for (index, part) in wanted.chunks(step).enumerate() {
        assert_eq!(counts.get(index), Some(part.len() as f64), "{} step {step} index {index}", signal.name());
        assert_eq!(sums.get(index), Some(part.iter().sum()), "{} step {step} index {index}", signal.name());
        assert_eq!(maxs.get(index), part.iter().copied().reduce(f64::max));
    }
}

#[test]
fn a_kill_loses_at_most_ten_seconds_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut seed = u64::from(std::process::id()) ^ 0x9e37_79b9_7f4a_7c15;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut last = -1;
    for round in 0..ROUNDS {
        let (begun, flushed) = kill_a_writer(dir.path(), 1 + random(900), random(20_000));
        let (store, opened) = Store::open(dir.path(), StoreOptions::default(), Timestamp::EPOCH).unwrap();
        assert_eq!((opened.moved_aside, opened.damaged), (None, 0), "round {round}");
        last = check(&store, begun, flushed.max(last));
    }
    assert!(last > 300, "the rounds went past a checkpoint: {last}");
}
