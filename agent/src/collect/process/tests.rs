//! Process groups read from a made-up `/proc`.

use super::*;
use std::time::Duration;
use tidegate_core::{Sample, Timestamp};

struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new(uptime_seconds: u64) -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        machine.write("uptime", &format!("{uptime_seconds}.00 1.00\n"));
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join("proc").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn process(&self, pid: u32, group: u32, cpu_ticks: u64, started_ticks: u64, kib: u64) {
        let stat = format!(
            "{pid} (a b) S 1 {group} {group} 0 -1 0 0 0 0 0 {cpu_ticks} 0 50 50 20 0 1 0 {started_ticks} 0 0\n"
        );
        self.write(&format!("{pid}/stat"), &stat);
        self.write(&format!("{pid}/status"), &format!("Name:\ta b\nVmRSS:\t{kib} kB\n"));
    }

    fn end(&self, pid: u32) {
        std::fs::remove_dir_all(self.root.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn source(&self, leaders: &[u32]) -> ProcessSource {
        let group = ProcessGroup { workload: WorkloadId::local("chat").unwrap(), leaders: leaders.to_vec() };
        ProcessSource::new(self.root.path().to_owned(), Arc::new(move || vec![group.clone()]))
    }
}

fn moment(seconds: u64) -> Moment {
    Moment { at: Timestamp::from_secs(0), steady: Duration::from_secs(seconds) }
}

fn value(samples: &[Sample], signal: Signal) -> Option<f64> {
    samples.iter().find(|sample| sample.signal == signal).map(|sample| sample.value)
}

#[test]
fn counts_a_leader_with_its_group() {
    let machine = Machine::new(1000);
    machine.process(10, 10, 500, 100, 1000);
    machine.process(11, 10, 100, 110, 2000);
    machine.process(99, 99, 900, 110, 4000);
    let mut source = machine.source(&[10]);
    let first = source.read(moment(0)).samples;
    assert_eq!(value(&first, Signal::MemoryBytes), Some(3000.0 * 1024.0));
    assert_eq!(value(&first, Signal::CpuCores), None, "one reading has no rate");
    machine.process(10, 10, 700, 100, 1000);
    machine.process(11, 10, 200, 110, 2000);
    let second = source.read(moment(2)).samples;
    assert_eq!(value(&second, Signal::CpuCores), Some(1.5));
}

#[test]
fn an_id_given_to_another_process_is_not_the_old_one() {
    let machine = Machine::new(1000);
    machine.process(10, 10, 5000, 100, 1000);
    let mut source = machine.source(&[10]);
    source.read(moment(0));
    machine.process(10, 10, 100, 100_050, 1000);
    let second = source.read(moment(2)).samples;
    assert_eq!(
        value(&second, Signal::CpuCores),
        Some(0.5),
        "it began after the first reading: all of its time counts"
    );
}

#[test]
fn an_older_process_that_joins_is_not_counted_at_once() {
    let machine = Machine::new(1000);
    machine.process(10, 10, 0, 100, 1000);
    machine.process(20, 20, 40_000, 100, 1000);
    let mut source = machine.source(&[10]);
    source.read(moment(0));
    machine.process(10, 10, 200, 100, 1000);
    machine.process(20, 10, 40_100, 100, 1000);
    let second = source.read(moment(2)).samples;
    assert_eq!(value(&second, Signal::CpuCores), Some(1.0));
}

#[test]
fn a_process_that_vanished_is_no_error_and_no_zero() {
    let machine = Machine::new(1000);
    machine.process(10, 10, 500, 100, 1000);
    let mut source = machine.source(&[10]);
    source.read(moment(0));
    machine.end(10);
    let second = source.read(moment(2));
    assert_eq!(second.failure, None);
    assert!(second.samples.is_empty());
}
