//! Shipping to a sink that answers by script. Real servers and their faults are in the tests of the whole path.

use super::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::logs::book::{LastLine, Page, Pending};
use crate::logs::identity::{EventId, Inode, Life, Namer, Print};

/// A sink that answers as its script says, then stores everything.
#[derive(Debug, Default)]
struct Scripted {
    script: Mutex<VecDeque<Answer>>,
    stored: Mutex<Vec<EventId>>,
    requests: Mutex<Vec<usize>>,
    away: AtomicBool,
}

#[derive(Debug)]
enum Answer {
    Each(fn(usize) -> Outcome),
    Fail(Failure),
}

impl Sink for Scripted {
    async fn store(&self, batch: &[Entry], _uncertain: bool) -> Result<Vec<Outcome>, Failure> {
        self.requests.lock().unwrap().push(batch.len());
        if self.away.load(Ordering::SeqCst) {
            return Err(Failure::new(Cause::Connect));
        }
        let answer = self.script.lock().unwrap().pop_front();
        let outcomes: Vec<Outcome> = match answer {
            Some(Answer::Fail(failure)) => return Err(failure),
            Some(Answer::Each(outcome)) => (0..batch.len()).map(outcome).collect(),
            None => vec![Outcome::Stored; batch.len()],
        };
        let stored = batch.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Stored);
        self.stored.lock().unwrap().extend(stored.map(|(entry, _)| entry.id));
        Ok(outcomes)
    }
}

struct Bench {
    folder: tempfile::TempDir,
    shipper: Shipper<Scripted>,
    life: Life,
}

impl Bench {
    fn new(script: impl IntoIterator<Item = Answer>, limits: ShipLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::open(&folder.path().join("book.json")).unwrap();
        let life = Life { inode: Inode { device: 1, number: 1 }, born_ns: 0, generation: 0 };
        book.begin(Page {
            inode: life.inode,
            life: life.clone(),
            born_ns: None,
            path: "/a.log".into(),
            head_bytes: 0,
            head: Print::of(b""),
            offset: 0,
            last: None,
            newest: None,
        });
        let sink = Scripted { script: Mutex::new(script.into_iter().collect()), ..Scripted::default() };
        let shipper = Shipper {
            sink: Arc::new(sink),
            limits,
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new("test")),
            dead: Arc::new(DeadLetters::new(folder.path().join("dead.ndjson"), "test")),
        };
        Self { folder, shipper, life }
    }

    fn entries(&self, range: std::ops::Range<u64>) -> Vec<Entry> {
        let key = self.life.key();
        self.shipper.ledger.read(None, range.end - range.start);
        let entry = |n: u64| {
            let id = Namer::new("host", key).id(n, b"x");
            let line = LastLine { start: n, bytes: 1, id };
            let mark = self
                .shipper
                .book
                .read(key, Pending { line, end: n + 1, read_at: Duration::ZERO, done: None });
            Entry { id, document: format!(r#"{{"n":{n}}}"#), marks: vec![mark], resumed: false }
        };
        range.map(entry).collect()
    }

    async fn ship(&self, count: u64) {
        let (sender, receiver) = mpsc::channel(1);
        let shipping = tokio::spawn(self.shipper.clone().run(receiver));
        for start in (0..count).step_by(10) {
            sender.send(self.entries(start..(start + 10).min(count))).await.unwrap();
        }
        drop(sender);
        shipping.await.unwrap();
    }

    fn stored(&self) -> usize {
        self.shipper.sink.stored.lock().unwrap().len()
    }

    fn requests(&self) -> Vec<usize> {
        self.shipper.sink.requests.lock().unwrap().clone()
    }
}

fn one_at_a_time() -> ShipLimits {
    ShipLimits { batch_lines: 10, in_flight: 1, ..at_once() }
}

/// Bounds as by default, but without long waits.
fn at_once() -> ShipLimits {
    let (backoff_min, backoff_max) = (Duration::from_millis(1), Duration::from_millis(4));
    ShipLimits { flush: Duration::from_millis(20), backoff_min, backoff_max, ..ShipLimits::default() }
}

#[tokio::test]
async fn only_the_lines_that_ask_for_it_are_sent_again() {
    let third = |n: usize| if n.is_multiple_of(3) { Outcome::Again(Cause::TooMany) } else { Outcome::Stored };
    let bench = Bench::new([Answer::Each(third), Answer::Each(third)], one_at_a_time());
    bench.ship(10).await;
    assert_eq!(bench.requests(), [10, 4, 2]);
    let stats = bench.shipper.ledger.snapshot(None);
    assert_eq!((stats.shipped, stats.buffered, stats.retries["too_many"]), (10, 0, 6));
    assert_eq!(bench.shipper.book.pages()[0].offset, 10);
}

#[tokio::test]
async fn a_refused_line_is_a_dead_letter_and_is_acknowledged() {
    let fourth = |n: usize| {
        if n == 3 {
            Outcome::Refused { cause: Cause::Invalid, reason: "bad".to_owned() }
        } else {
            Outcome::Stored
        }
    };
    let bench = Bench::new([Answer::Each(fourth)], one_at_a_time());
    bench.ship(10).await;
    let stats = bench.shipper.ledger.snapshot(None);
    assert_eq!(
        (stats.read_total(), stats.shipped, stats.dead_lettered["invalid"], stats.buffered),
        (10, 9, 1, 0)
    );
    let letter = std::fs::read_to_string(bench.folder.path().join("dead.ndjson")).unwrap();
    let letter: serde_json::Value = serde_json::from_str(&letter).unwrap();
    assert_eq!((letter["cause"].as_str(), letter["reason"].as_str()), (Some("invalid"), Some("bad")));
    assert_eq!(letter["document"]["n"], 3);
    assert_eq!(bench.shipper.book.pages()[0].offset, 10);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_halved_down_to_the_line_that_is() {
    let large = || Answer::Fail(Failure { split: true, ..Failure::new(Cause::TooLarge) });
    let bench = Bench::new([large(), large(), large(), large()], one_at_a_time());
    bench.ship(8).await;
    assert_eq!(bench.requests(), [8, 4, 2, 1, 1, 2, 4]);
    let stats = bench.shipper.ledger.snapshot(None);
    assert_eq!((bench.stored(), stats.dead_lettered["too_large"], stats.buffered), (7, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_is_left_alone_for_as_long_but_not_beyond_the_bound() {
    let busy = |secs| {
        let retry_after = Some(Duration::from_secs(secs));
        Answer::Fail(Failure { retry_after, ..Failure::new(Cause::TooMany) })
    };
    let limits = ShipLimits { backoff_max: Duration::from_secs(9), ..one_at_a_time() };
    let bench = Bench::new([busy(7), busy(3600)], limits);
    let begun = Instant::now();
    bench.ship(10).await;
    let took = begun.elapsed();
    assert!((16.0..17.0).contains(&took.as_secs_f64()), "7 s as asked and 9 s as bounded: {took:?}");
    assert_eq!(bench.requests(), [10, 10, 10]);
}

#[tokio::test]
async fn an_outage_is_waited_for_with_bounded_memory() {
    let bench = Bench::new([], ShipLimits { batch_lines: 10, in_flight: 2, ..at_once() });
    bench.shipper.sink.away.store(true, Ordering::SeqCst);
    let (sender, receiver) = mpsc::channel(1);
    let shipping = tokio::spawn(bench.shipper.clone().run(receiver));
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_millis(300), sender.reserve())
        .await
        .is_ok_and(|slot| slot.is_ok())
    {
        sender.send(bench.entries(taken * 10..taken * 10 + 10)).await.unwrap();
        taken += 1;
        assert!(taken < 20, "the shipper takes more than it can hold");
    }
    assert_eq!(bench.stored(), 0);
    bench.shipper.sink.away.store(false, Ordering::SeqCst);
    drop(sender);
    shipping.await.unwrap();
    assert_eq!(bench.stored() as u64, taken * 10);
    let stats = bench.shipper.ledger.snapshot(None);
    assert_eq!((stats.shipped, stats.buffered), (taken * 10, 0));
    assert!(stats.retries["connect"] > 10);
}

#[tokio::test]
async fn a_line_waits_for_its_batch_no_longer_than_the_flush_interval() {
    let flush = Duration::from_millis(150);
    let bench = Bench::new([], ShipLimits { flush, ..ShipLimits::default() });
    let (sender, receiver) = mpsc::channel(1);
    let shipping = tokio::spawn(bench.shipper.clone().run(receiver));
    let sent = Instant::now();
    sender.send(bench.entries(0..1)).await.unwrap();
    let arrived = tokio::time::timeout(Duration::from_secs(30), async {
        while bench.stored() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    arrived.await.unwrap();
    assert!(sent.elapsed() >= flush, "it did not wait for its batch");
    drop(sender);
    shipping.await.unwrap();
}

#[test]
fn a_line_longer_than_a_batch_goes_alone() {
    let bench = Bench::new([], ShipLimits::default());
    let limits = ShipLimits { batch_bytes: 20, ..ShipLimits::default() };
    let mut entries = bench.entries(0..4);
    entries[2].document = "x".repeat(100);
    let mut waiting = Waiting { entries: VecDeque::new(), bytes: 0, since: None };
    waiting.entries.extend(entries);
    waiting.bytes = waiting.entries.iter().map(|entry| entry.document.len()).sum();
    let sizes: Vec<usize> =
        std::iter::from_fn(|| Some(waiting.take(&limits).len()).filter(|n| *n > 0)).collect();
    assert_eq!((sizes, waiting.bytes), (vec![2, 1, 1], 0));
}
