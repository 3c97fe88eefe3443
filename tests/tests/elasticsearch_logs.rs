//! Log lines reach a real Elasticsearch once each: through an outage in the middle, and through a rollover.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tidegate_agent::logs::elasticsearch::{Auth, ElasticsearchConfig, STREAM, check, install};
use tidegate_agent::logs::{
    LogConfig, LogFormat, LogHandle, LogPipeline, LogSource, ShipLimits, SinkConfig, TailLimits,
};
use tidegate_core::{Field, WorkloadId};
use tidegate_tests::servers::{Account, Elasticsearch};
use tidegate_tests::waiting;
use tokio::sync::watch;

/// Lines of the test: enough for a dozen batches before and after the outage.
const LINES: usize = 20_000;
/// How long shipping may take on a busy machine, the server's start not counted.
const SHIPPING_LIMIT: Duration = Duration::from_secs(120);

fn config(server: &Elasticsearch, account: Account, dir: &Path) -> ElasticsearchConfig {
    let password_file = dir.join(account.user);
    fs::write(&password_file, account.password).expect("the directory is writable");
    ElasticsearchConfig {
        auth: Auth::Basic { user: account.user.to_owned(), password_file },
        timeout: Duration::from_secs(5),
        ca_file: server.ca_file().map(Path::to_owned),
        ..ElasticsearchConfig::new(server.url())
    }
}

fn start(sources: &watch::Sender<Vec<LogSource>>, sink: ElasticsearchConfig, dir: &Path) -> LogHandle {
    let config = LogConfig {
        host: "node-a".to_owned(),
        sources: sources.subscribe(),
        pods: None,
        sink: SinkConfig::Elasticsearch(sink),
        state_dir: dir.join("state"),
        tail: TailLimits::default(),
        ship: ShipLimits { backoff_max: Duration::from_secs(1), ..ShipLimits::default() },
        spool: None,
    };
    LogPipeline::start(config).expect("the configuration is right")
}

fn write(dir: &Path, range: std::ops::Range<usize>) {
    let mut lines = String::new();
    for n in range {
        writeln!(lines, r#"{{"level":"info","msg":"line {n}","method":"POST","path":"/predict","status":200,"extra":{n}}}"#)
            .expect("writing to a string cannot fail");
    }
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("a.log"))
        .expect("the directory is writable");
    file.write_all(lines.as_bytes()).expect("the directory is writable");
}

async fn ask(server: &Elasticsearch, method: Method, path: &str, body: Value) -> Value {
    let request = server.request(method, path, Account::ADMIN);
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = request.send().await.expect("Elasticsearch answers");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().await.expect("the answer is JSON")
}

/// Number and id of every document, by walking the stream in the order of the offsets.
async fn documents(server: &Elasticsearch) -> Vec<(String, String)> {
    ask(server, Method::POST, &format!("{STREAM}/_refresh"), Value::Null).await;
    let mut found = Vec::new();
    let mut after = json!([-1]);
    loop {
        let order = json!([{ Field::FileOffset.name(): "asc" }]);
        let query =
            json!({ "size": 5000, "sort": order, "search_after": after, "query": { "match_all": {} } });
        let answer = ask(server, Method::POST, &format!("{STREAM}/_search"), query).await;
        let hits = answer["hits"]["hits"].as_array().expect("a search has hits").clone();
        let Some(last) = hits.last() else { return found };
        after = last["sort"].clone();
        for hit in &hits {
            let source = &hit["_source"];
            assert_eq!(source[Field::EventId.name()], hit["_id"], "a document bears its own id");
            let text = |value: &Value| value.as_str().expect("it is text").to_owned();
            found.push((text(&source[Field::Message.name()]), text(&hit["_id"])));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_is_in_the_index_once_through_an_outage_and_a_rollover() {
    let mut server = Elasticsearch::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");

    let admin = config(&server, Account::ADMIN, dir.path());
    let first = install(&admin).await.expect("the configuration is right");
    assert!(first.passed() && first.changed(), "{first:?}");
    let second = install(&admin).await.expect("the configuration is right");
    assert!(second.passed() && !second.changed(), "{second:?}");

    let shipper = config(&server, Account::SHIPPER, dir.path());
    let source = LogSource {
        workload: WorkloadId::local("chat").ok(),
        replica: None,
        paths: vec![dir.path().join("*.log")],
        format: LogFormat::Auto,
    };
    let sources = watch::Sender::new(vec![source]);
    let logs = start(&sources, shipper.clone(), dir.path());

    write(dir.path(), 0..LINES / 2);
    let shipped = async |least: u64| {
        let probe = async || (logs.stats().shipped >= least).then_some(());
        waiting::until("lines to be shipped", SHIPPING_LIMIT, probe).await;
    };
    shipped(1).await;
    server.stop();
    write(dir.path(), LINES / 2..LINES);
    let failing = async || (logs.stats().retries.values().sum::<u64>() > 0).then_some(());
    waiting::until("a failed request", SHIPPING_LIMIT, failing).await;
    server.start_again().await;
    shipped(LINES as u64).await;
    ask(&server, Method::POST, &format!("{STREAM}/_rollover"), Value::Null).await;
    write(dir.path(), LINES..LINES + 100);
    shipped(LINES as u64 + 100).await;

    let stats = logs.stats();
    assert_eq!((stats.read_total(), stats.buffered, stats.dead_lettered_total()), (LINES as u64 + 100, 0, 0));
    let found = documents(&server).await;
    assert_eq!(found.len(), LINES + 100);
    let messages: BTreeSet<&str> = found.iter().map(|(message, _)| message.as_str()).collect();
    let ids: BTreeSet<&str> = found.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!((messages.len(), ids.len()), (LINES + 100, LINES + 100));
    assert_eq!(logs.shutdown(Duration::from_secs(10)).await.left, 0);
}

/// As after a death between the server's storing and the checkpoint: everything is sent again, into another backing index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_sent_again_after_a_restart_and_a_rollover_are_not_stored_again() {
    let server = Elasticsearch::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    install(&config(&server, Account::ADMIN, dir.path())).await.expect("the configuration is right");
    let shipper = config(&server, Account::SHIPPER, dir.path());
    let source = LogSource { paths: vec![dir.path().join("*.log")], ..LogSource::default() };
    let sources = watch::Sender::new(vec![source]);

    let checkpoint = dir.path().join("state/logs-checkpoint.json");
    let logs = start(&sources, shipper.clone(), dir.path());
    write(dir.path(), 0..3000);
    let read = async || (logs.stats().shipped == 3000).then_some(());
    waiting::until("lines to be shipped", SHIPPING_LIMIT, read).await;
    assert_eq!(logs.shutdown(Duration::from_secs(10)).await.left, 0);
    let mut saved: Value =
        serde_json::from_slice(&fs::read(&checkpoint).expect("a checkpoint")).expect("JSON");
    saved["files"][0]["offset"] = json!(0);
    saved["files"][0]["last"] = Value::Null;
    fs::write(&checkpoint, saved.to_string()).expect("the directory is writable");
    ask(&server, Method::POST, &format!("{STREAM}/_rollover"), Value::Null).await;

    let logs = start(&sources, shipper, dir.path());
    let again = async || (logs.stats().shipped == 3000).then_some(());
    waiting::until("lines to be acknowledged again", SHIPPING_LIMIT, again).await;
    assert_eq!(documents(&server).await.len(), 3000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_names_what_an_account_lacks() {
    let server = Elasticsearch::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let shipper = config(&server, Account::SHIPPER, dir.path());
    let report = check(&shipper).await.expect("the configuration is right");
    let lacks = |right: &str| report.findings.iter().any(|finding| finding.text.contains(right));
    assert!(report.passed(), "an account that may only write is enough to ship: {report:?}");
    assert!(lacks("monitor") && lacks("manage_index_templates"), "{report:?}");
    assert!(!install(&shipper).await.expect("the configuration is right").passed(), "it may install nothing");

    let admin =
        check(&config(&server, Account::ADMIN, dir.path())).await.expect("the configuration is right");
    assert!(admin.passed(), "{admin:?}");

    let wrong = config(&server, Account { password: "guessed", ..Account::ADMIN }, dir.path());
    let refused = check(&wrong).await.expect("the configuration is right");
    assert!(!refused.passed());
    assert!(!format!("{refused:?}").contains("guessed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_only_the_named_authority_is_trusted() {
    let server = Elasticsearch::start_with_tls().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let admin = config(&server, Account::ADMIN, dir.path());
    let installed = install(&admin).await.expect("the configuration is right");
    assert!(installed.passed() && installed.changed(), "{installed:?}");

    let system = ElasticsearchConfig { ca_file: None, ..admin.clone() };
    assert!(
        !check(&system).await.expect("the configuration is right").passed(),
        "nobody else vouches for it"
    );
    let plain = ElasticsearchConfig { url: server.url().replace("https", "http"), ..admin };
    assert!(!check(&plain).await.expect("the configuration is right").passed(), "there is no way around TLS");

    let shipper = config(&server, Account::SHIPPER, dir.path());
    let source = LogSource { paths: vec![dir.path().join("*.log")], ..LogSource::default() };
    let sources = watch::Sender::new(vec![source]);
    let logs = start(&sources, shipper, dir.path());
    write(dir.path(), 0..500);
    let shipped = async || (logs.stats().shipped == 500).then_some(());
    waiting::until("lines to be shipped", SHIPPING_LIMIT, shipped).await;
    assert_eq!(documents(&server).await.len(), 500);
    assert_eq!(logs.shutdown(Duration::from_secs(10)).await.left, 0);
}
