//! Rotation in every order on real files, against a model of what was written. The sink plays no part.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap as Map;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use tidegate_core::Timestamp;

use crate::logs::book::Mark;
use crate::logs::record::LogLine;

mod containers;

/// A tailer over a real folder, driven by hand, with all that it ever gave.
struct Bench {
    folder: tempfile::TempDir,
    sources: watch::Sender<Vec<LogSource>>,
    pods: Option<watch::Sender<PodTable>>,
    tailer: Option<Tailer>,
    records: Records,
    /// Every line given, by id; the count says how often.
    given: Map<EventId, (String, usize)>,
    /// The last document.
    last: serde_json::Value,
    unacknowledged: Vec<Vec<Mark>>,
    clock: Moment,
}

impl Bench {
    fn new(pattern: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = vec![folder.path().join("logs").join(pattern)];
        fs::create_dir(folder.path().join("logs")).unwrap();
        let sources =
            watch::Sender::new(vec![LogSource { paths, format: LogFormat::Raw, ..LogSource::default() }]);
        let records = Self::open(&folder);
        let clock = Moment { at: Timestamp::from_secs(1), steady: Duration::from_secs(1) };
        let mut bench = Self {
            folder,
            sources,
            pods: None,
            tailer: None,
            records,
            given: Map::new(),
            last: serde_json::Value::Null,
            unacknowledged: Vec::new(),
            clock,
        };
        bench.start();
        bench
    }

    fn open(folder: &tempfile::TempDir) -> Records {
        let book = Book::open(&folder.path().join("book.json")).unwrap();
        Records {
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new("test")),
            recent: Arc::new(Recent::new()),
        }
    }

    /// As after a crash: only what the checkpoint on disk says is known.
    fn start(&mut self) {
        self.records = Self::open(&self.folder);
        let limits = TailLimits { rescan: Duration::ZERO, grace: Duration::from_secs(5), files_max: 100 };
        let pods = self.pods.as_ref().map(watch::Sender::subscribe);
        let sources = self.sources.subscribe();
        self.tailer = Some(Tailer::new("host", limits, sources, pods, self.records.clone()));
        self.unacknowledged.clear();
    }

    fn stop(&mut self) {
        self.tailer = None;
    }

    fn step(&mut self) -> bool {
        let Some(tailer) = &mut self.tailer else { return false };
        self.clock.steady += Duration::from_millis(1);
        let step = tailer.step(self.clock);
        for entry in &step.entries {
            let document: serde_json::Value = serde_json::from_str(&entry.document).unwrap();
            let text = document["message"].as_str().unwrap().to_owned();
            let given = self.given.entry(entry.id).or_insert((text.clone(), 0));
            assert_eq!(given.0, text, "two lines have one id");
            given.1 += 1;
            self.last = document;
            self.unacknowledged.push(entry.marks.clone());
        }
        step.more || !step.entries.is_empty()
    }

    fn drain(&mut self) {
        for _ in 0..1000 {
            // Each file may wait for the one before it to be read to its end.
            if (0..32).all(|_| !self.step()) {
                return;
            }
        }
        panic!("the tailer does not come to rest");
    }

    /// Acknowledges some of what was given, in no order, and writes the checkpoint or not.
    fn acknowledge(&mut self, pick: u64, save: bool) {
        let (some, rest): (Vec<_>, Vec<_>) =
            self.unacknowledged.drain(..).enumerate().partition(|(n, _)| (pick >> (n % 61)) & 1 == 1);
        self.records.book.acknowledge(some.into_iter().rev().map(|(_, marks)| marks));
        self.unacknowledged = rest.into_iter().map(|(_, marks)| marks).collect();
        if save {
            self.records.book.save().unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.given.values().map(|(text, _)| text.as_str()).collect();
        texts.sort_unstable();
        texts
    }

    fn open_files(&self) -> usize {
        self.tailer.as_ref().map_or(0, |tailer| tailer.files.len())
    }
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_then_let_go() {
    let mut bench = Bench::new("app.log");
    bench.append("app.log", "one\ntw");
    bench.drain();
    fs::rename(bench.path("app.log"), bench.path("app.log.1")).unwrap();
    bench.append("app.log", "new\n");
    bench.append("app.log.1", "o\nlast without end");
    bench.drain();
    assert_eq!(bench.texts(), ["new", "one", "two"]);
    assert_eq!(bench.open_files(), 2);
    bench.clock.steady += Duration::from_secs(6);
    bench.drain();
    assert_eq!(bench.texts(), ["last without end", "new", "one", "two"]);
    assert_eq!(bench.open_files(), 1);
    bench.acknowledge(u64::MAX, true);
    assert_eq!(bench.records.book.pages().len(), 1);
}

#[test]
fn a_deleted_file_is_drained() {
    let mut bench = Bench::new("*.log");
    bench.append("app.log", "one\n");
    bench.step();
    let mut held = OpenOptions::new().append(true).open(bench.path("app.log")).unwrap();
    fs::remove_file(bench.path("app.log")).unwrap();
    held.write_all(b"two\n").unwrap();
    bench.append("app.log", "three\n");
    bench.drain();
    assert_eq!(bench.texts(), ["one", "three", "two"]);
}

#[test]
fn the_same_lines_after_a_truncation_are_other_lines() {
    let mut bench = Bench::new("app.log");
    for _ in 0..3 {
        bench.append("app.log", "started\nready\n");
        bench.drain();
        OpenOptions::new().write(true).open(bench.path("app.log")).unwrap().set_len(0).unwrap();
        bench.drain();
    }
    assert_eq!(bench.texts(), ["ready", "ready", "ready", "started", "started", "started"]);
}

#[test]
fn sources_may_change_while_running() {
    let mut bench = Bench::new("a.log");
    bench.append("a.log", "a\n");
    bench.append("b.log", "b\n");
    bench.drain();
    assert_eq!(bench.texts(), ["a"]);
    let paths = vec![bench.path("b.log")];
    bench.sources.send_replace(vec![LogSource { paths, format: LogFormat::Raw, ..LogSource::default() }]);
    bench.drain();
    bench.clock.steady += Duration::from_secs(6);
    bench.drain();
    assert_eq!((bench.texts(), bench.open_files()), (vec!["a", "b"], 1));
}

#[test]
fn recent_lines_and_counts_follow() {
    let mut bench = Bench::new("app.log");
    bench.append("app.log", "one\ntwo\n");
    bench.drain();
    let texts: Vec<String> = bench
        .records
        .recent
        .find(&Default::default())
        .iter()
        .map(|line: &Arc<LogLine>| line.text.clone())
        .collect();
    assert_eq!(texts, ["two", "one"]);
    let stats = bench.records.ledger.snapshot(None);
    assert_eq!((stats.read_total(), stats.buffered, stats.files), (2, 2, 1));
}

/// What happens to the files, and to the tailer.
#[derive(Debug, Clone)]
enum Act {
    Write {
        lines: usize,
        partial: bool,
    },
    Rename,
    CopyTruncate,
    /// The writer goes on between the copy and the truncation, and the tailer sees it.
    SlowCopyTruncate,
    Truncate,
    Recreate,
    Step,
    Acknowledge {
        pick: u64,
        save: bool,
    },
    /// Dies, something happens meanwhile, and it starts again.
    Restart(Box<Act>),
}

fn acts() -> impl Strategy<Value = Act> {
    let base = prop_oneof![
        6 => (1usize..6, any::<bool>()).prop_map(|(lines, partial)| Act::Write { lines, partial }),
        2 => Just(Act::Rename),
        2 => Just(Act::CopyTruncate),
    ];
    let alone = base.clone();
    prop_oneof![
        10 => base,
        1 => Just(Act::SlowCopyTruncate),
        1 => Just(Act::Truncate),
        1 => Just(Act::Recreate),
        4 => Just(Act::Step),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(pick, save)| Act::Acknowledge { pick, save }),
        1 => alone.prop_map(|act| Act::Restart(Box::new(act))),
    ]
}

/// The writer, and what it wrote in whole lines.
struct Writer {
    bench: Bench,
    expected: Vec<String>,
    partial: String,
    next: usize,
    rotations: usize,
    fresh: bool,
}

impl Writer {
    fn act(&mut self, act: &Act) {
        match act {
            Act::Write { lines, partial } => self.write(*lines, *partial),
            Act::Rename => self.rename(),
            Act::CopyTruncate => self.copy_truncate(false),
            Act::SlowCopyTruncate => self.copy_truncate(true),
            Act::Truncate => {
                self.complete();
                self.bench.drain();
                self.truncate();
            }
            Act::Recreate => {
                self.complete();
                self.bench.step();
                fs::remove_file(self.bench.path("app.log")).ok();
                self.fresh = true;
            }
            Act::Step => {
                self.bench.step();
            }
            Act::Acknowledge { pick, save } => self.bench.acknowledge(*pick, *save),
            Act::Restart(meanwhile) => {
                self.seen();
                // What a file starts with reaches the disk within a quarter of a second; a death before that is not played.
                self.bench.records.book.save().unwrap();
                self.bench.stop();
                self.act(meanwhile);
                self.bench.start();
            }
        }
    }

    fn write(&mut self, lines: usize, partial: bool) {
        let mut text = String::new();
        for n in 0..lines {
            self.next += 1;
            // The first line of a file is like no other, as with a timestamp; some of the others repeat.
            let repeats = n % 2 == 1 && !self.fresh;
            let line = if repeats { "tick".to_owned() } else { format!("line {}", self.next) };
            let whole = std::mem::take(&mut self.partial) + &line;
            text.push_str(&line);
            self.fresh = false;
            if partial && n + 1 == lines {
                self.partial = whole;
            } else {
                text.push('\n');
                self.expected.push(whole);
            }
        }
        self.bench.append("app.log", &text);
    }

    /// Ends the line that was begun.
    fn complete(&mut self) {
        if !self.partial.is_empty() {
            self.bench.append("app.log", "\n");
            self.expected.push(std::mem::take(&mut self.partial));
        }
    }

    /// A file must have been seen, and something of it read, before it loses its only name or its content.
    fn seen(&mut self) {
        if self.fresh && self.bench.tailer.is_some() {
            self.write(1, false);
        }
        self.complete();
        self.bench.drain();
    }

    fn shift(&mut self) {
        self.rotations += 1;
        for age in (1..self.rotations).rev() {
            let (from, to) = (self.bench.path(&format!("app.log.{age}")), format!("app.log.{}", age + 1));
            fs::rename(from, self.bench.path(&to)).ok();
        }
    }

    fn rename(&mut self) {
        self.seen();
        self.shift();
        fs::rename(self.bench.path("app.log"), self.bench.path("app.log.1")).ok();
        self.fresh = true;
    }

    fn copy_truncate(&mut self, slowly: bool) {
        self.seen();
        self.write(1, false);
        self.shift();
        fs::copy(self.bench.path("app.log"), self.bench.path("app.log.1")).ok();
        if slowly {
            self.write(2, false);
            self.bench.drain();
        }
        self.truncate();
    }

    fn truncate(&mut self) {
        if let Ok(file) = OpenOptions::new().write(true).open(self.bench.path("app.log")) {
            file.set_len(0).unwrap();
        }
        self.fresh = true;
    }
}

fn run(pattern: &str, script: &[Act]) -> Writer {
    let bench = Bench::new(pattern);
    let mut writer =
        Writer { bench, expected: Vec::new(), partial: String::new(), next: 0, rotations: 0, fresh: true };
    for act in script {
        writer.act(act);
    }
    writer.complete();
    writer.bench.drain();
    writer.bench.clock.steady += Duration::from_secs(6);
    writer.bench.drain();
    writer.expected.sort_unstable();
    writer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn rotation_loses_and_doubles_nothing(script in prop::collection::vec(acts(), 1..30), wide in any::<bool>()) {
        let writer = run(if wide { "app.log*" } else { "app.log" }, &script);
        prop_assert_eq!(writer.bench.texts(), writer.expected.iter().map(String::as_str).collect::<Vec<_>>());
        let restarted = script.iter().any(|act| matches!(act, Act::Restart(_)));
        if !restarted {
            prop_assert!(writer.bench.given.values().all(|(_, times)| *times == 1));
        }
    }
}
