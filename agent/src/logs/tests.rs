//! The whole path against a server that fails in every way it can, and through kills at random points.

mod server;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::server::{Faults, FaultyServer};
use super::elasticsearch::{STREAM, Verdict, check, install};
use super::pushed::{PushedBy, PushedLine};
use super::*;
use tidegate_core::{Field, WorkloadId};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// So small that files are finished, and deleted, all the time.
const SPOOL: SpoolLimits = SpoolLimits { bytes_max: 1 << 20, file_bytes: 1 };

struct Setup {
    folder: tempfile::TempDir,
    sources: watch::Sender<Vec<LogSource>>,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = LogSource {
            workload: Some(WorkloadId::local("chat").unwrap()),
            replica: Some("chat-0".to_owned()),
            paths: vec![folder.path().join("*.log*")],
            format: LogFormat::Auto,
        };
        Self { folder, sources: watch::Sender::new(vec![source]) }
    }

    async fn start(&self, sink: SinkConfig) -> LogHandle {
        let ship = ShipLimits {
            batch_lines: 50,
            flush: Duration::from_millis(20),
            backoff_min: Duration::from_millis(2),
            backoff_max: Duration::from_millis(20),
            in_flight: 3,
            ..ShipLimits::default()
        };
        let tail = TailLimits { rescan: Duration::from_millis(50), ..TailLimits::default() };
        let state_dir = self.folder.path().join("state");
        let sources = self.sources.subscribe();
        let config = LogConfig {
            host: "node-a".to_owned(),
            sources,
            pods: None,
            sink,
            state_dir,
            tail,
            ship,
            spool: Some(SPOOL),
        };
        let started = tokio::time::timeout(PATIENCE, async {
            loop {
                // One that was killed may still be at its last write.
                match LogPipeline::start(config.clone()) {
                    Err(StartError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                    started => return started,
                }
            }
        });
        started.await.expect("the folder comes free").unwrap()
    }

    fn write(&self, range: std::ops::Range<usize>) {
        let mut file =
            OpenOptions::new().create(true).append(true).open(self.folder.path().join("a.log")).unwrap();
        let lines: String = range.map(|n| format!("{{\"level\":\"info\",\"msg\":\"line {n}\"}}\n")).collect();
        file.write_all(lines.as_bytes()).unwrap();
    }

    fn rotate(&self, n: usize) {
        let name = |name: &str| self.folder.path().join(name);
        std::fs::rename(name("a.log"), name(&format!("a.log.{n}"))).unwrap();
    }
}

fn server_config(server: &FaultyServer) -> ElasticsearchConfig {
    ElasticsearchConfig { timeout: Duration::from_millis(300), ..ElasticsearchConfig::new(server.url()) }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

fn messages(server: &FaultyServer) -> Vec<usize> {
    let mut numbers: Vec<usize> = server
        .documents()
        .iter()
        .map(|document| document[Field::Message.name()].as_str().unwrap()["line ".len()..].parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_stored_once_by_a_server_that_fails_in_every_way() {
    let server = FaultyServer::start(7, Faults::every()).await;
    let setup = Setup::new();
    let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    for part in 0..20 {
        setup.write(part * 100..part * 100 + 100);
        if part % 7 == 3 {
            until("the lines before the rotation", || handle.stats().read_total() >= 1).await;
            setup.rotate(part);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("all lines shipped", || handle.stats().shipped == 2000).await;
    let stats = handle.stats();
    assert_eq!((stats.read_total(), stats.buffered, stats.dead_lettered_total()), (2000, 0, 0));
    assert_eq!((stats.lag, stats.sink), (None, "elasticsearch"));
    assert!(stats.retries.len() > 3, "{:?}", stats.retries);
    assert_eq!(messages(&server), (0..2000).collect::<Vec<_>>());
    assert_eq!(handle.shutdown(PATIENCE).await, Drained { left: 0 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_stored_once_through_kills_at_random_points() {
    let server = FaultyServer::start(11, Faults::every()).await;
    let setup = Setup::new();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for round in 0..12 {
        setup.write(round * 100..round * 100 + 100);
        let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        drop(handle);
        if round % 4 == 2 {
            setup.rotate(round);
        }
    }
    server.heal();
    let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    until("all lines stored", || server.documents().len() == 1200).await;
    until("all lines acknowledged", || handle.stats().buffered == 0).await;
    assert_eq!(messages(&server), (0..1200).collect::<Vec<_>>());
    handle.shutdown(PATIENCE).await;
    let again = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    setup.write(1200..1201);
    until("the new line", || again.stats().shipped >= 1).await;
    assert_eq!(again.stats().read_total(), 1, "acknowledged lines are read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_not_stored_twice_when_the_stream_rolls_over_behind_a_lost_answer() {
    let server = FaultyServer::start(5, Faults::none()).await;
    let setup = Setup::new();
    let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    setup.write(0..100);
    until("the first lines", || handle.stats().shipped == 100).await;
    server.lose_next_answer_and_roll_over();
    setup.write(100..140);
    until("the lines with the lost answer", || handle.stats().shipped == 140).await;
    assert_eq!(server.documents().len(), 140);
    assert_eq!(messages(&server), (0..140).collect::<Vec<_>>());
    handle.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_an_earlier_run_are_not_stored_twice_when_the_stream_rolled_over_meanwhile() {
    let server = FaultyServer::start(5, Faults::none()).await;
    let setup = Setup::new();
    setup.write(0..60);
    server.lose_next_answer_and_roll_over();
    let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    until("the lost answer", || server.documents().len() >= 50).await;
    drop(handle);
    let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    until("all lines acknowledged", || handle.stats().shipped == 60).await;
    assert_eq!(messages(&server), (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_with_the_server_away_ends_in_its_bound_and_says_what_is_left() {
    let setup = Setup::new();
    setup.write(0..10);
    let nobody = ElasticsearchConfig::new("http://127.0.0.1:9");
    let handle = setup.start(SinkConfig::Elasticsearch(nobody)).await;
    until("the lines", || handle.stats().buffered == 10).await;
    assert!(handle.stats().lag.is_some());
    assert_eq!(handle.shutdown(Duration::from_millis(100)).await, Drained { left: 10 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_sink_has_every_line_once_through_kills() {
    let setup = Setup::new();
    let files = NdjsonConfig { file_bytes_max: 20_000, ..NdjsonConfig::new(setup.folder.path().join("out")) };
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for round in 0..6 {
        setup.write(round * 50..round * 50 + 50);
        let handle = setup.start(SinkConfig::Ndjson(files.clone())).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        drop(handle);
    }
    let handle = setup.start(SinkConfig::Ndjson(files.clone())).await;
    until("all lines written", || written(&files.folder).len() >= 300).await;
    assert_eq!(handle.shutdown(PATIENCE).await.left, 0);
    assert_eq!(written(&files.folder), (0..300).map(|n| format!("line {n}")).collect());
    let lines: usize =
        std::fs::read_dir(&files.folder).unwrap().map(|file| lines_of(&file.unwrap().path()).len()).sum();
    assert_eq!(lines, 300);
}

fn written(folder: &Path) -> BTreeSet<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.flat_map(|file| lines_of(&file.path())).collect()
}

fn lines_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let message = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(document[Field::Message.name()].as_str()?.to_owned())
    };
    text.lines().filter_map(message).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installing_twice_changes_nothing_the_second_time() {
    let server = FaultyServer::start(1, Faults::none()).await;
    let config = server_config(&server);
    let before = check(&config).await.unwrap();
    assert!(before.passed() && before.findings.iter().any(|finding| finding.text.contains("not installed")));
    assert!(install(&config).await.unwrap().changed());
    let second = install(&config).await.unwrap();
    assert!(second.passed() && !second.changed(), "{second:?}");
    let after = check(&config).await.unwrap();
    assert!(after.findings.iter().all(|finding| finding.verdict == Verdict::Right), "{after:?}");
    assert!(server.templates().iter().any(|(_, body)| body["index_patterns"][0] == STREAM));
}

#[tokio::test]
async fn a_server_that_is_away_is_a_finding_and_not_an_error() {
    let report = check(&ElasticsearchConfig::new("http://127.0.0.1:9")).await.unwrap();
    assert!(!report.passed());
    assert_eq!(report.findings[0].subject, "server");
}

/// Records of requests of twenty, as they are every time the request comes.
fn pushed(range: std::ops::Range<u64>) -> impl Iterator<Item = PushedLine> {
    range.map(|n| PushedLine {
        id: Some(EventId::pushed(&(n / 20).to_le_bytes(), n)),
        by: PushedBy { service: Some("chat".to_owned()), ..PushedBy::default() },
        at: Some(tidegate_core::Timestamp::from_millis(1_769_846_400_000)),
        body: format!("line {n}"),
        ..PushedLine::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_stored_once_though_it_comes_again_and_through_kills() {
    let server = FaultyServer::start(13, Faults::every()).await;
    let setup = Setup::new();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for round in 0..8 {
        let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
        let spool = handle.spool().expect("it is asked for");
        for request in 0..5 {
            let first = round * 100 + request * 20;
            spool.append(pushed(first..first + 20)).unwrap();
            // The sender did not get its answer.
            let again = first.saturating_sub(20);
            spool.append(pushed(again..again + 20)).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        drop(handle);
    }
    server.heal();
    let handle = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    until("all records stored", || server.documents().len() >= 800).await;
    until("all records shipped, and off the disk", || handle.stats().spooled == Some(0)).await;
    assert_eq!(messages(&server), (0..800).collect::<Vec<_>>());
    let workload = Field::Workload.name();
    let id = WorkloadId::local("chat").unwrap();
    assert!(
        server.documents().iter().all(|document| document[workload] == id.as_str()),
        "by the service's name"
    );
    assert_eq!(handle.shutdown(PATIENCE).await, Drained { left: 0 });
    let again = setup.start(SinkConfig::Elasticsearch(server_config(&server))).await;
    again.spool().unwrap().append(pushed(800..801)).unwrap();
    until("the new record", || again.stats().shipped >= 1).await;
    assert_eq!(again.stats().read_total(), 1, "acknowledged records are read again");
}
