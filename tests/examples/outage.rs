//! What becomes of `tidegate up --demo` while its Elasticsearch is stopped, and after: memory, CPU, lines that wait, time to catch up,
//! and whether every line is there once.
//!
//! `cargo xtask bench outage [SECONDS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tidegate_tests::servers::{Account, Elasticsearch, Tidegate, binary};
use tidegate_tests::waiting::until;

const LIMIT: Duration = Duration::from_secs(180);
/// How long it runs before the server goes away.
const BEFORE: Duration = Duration::from_secs(60);
const STREAM: &str = "logs-tidegate-default";

#[tokio::main]
async fn main() {
    let seconds: u64 = std::env::args().nth(1).map_or(300, |text| text.parse().expect("expected seconds"));
    let mut server = Elasticsearch::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let password = dir.path().join("password");
    std::fs::write(&password, Account::ADMIN.password).expect("a file can be written");
    let password = password.to_str().expect("a plain path");
    let url = server.url();
    let user = Account::ADMIN.user;
    let mut check = Command::new(binary());
    check.args(["check", "elasticsearch", "--url", &url, "--user", user, "--password-file", password]);
    assert!(check.output().expect("the binary runs").status.success(), "the server cannot be set up");
    let options = [
        "--demo",
        "--elasticsearch",
        &url,
        "--elasticsearch-user",
        user,
        "--elasticsearch-password-file",
        password,
    ];
    let mut tidegate = Tidegate::up(&options).await;
    println!("| | resident, MiB | CPU, mCPU | lines that wait |\n|---|---|---|---|");
    row("before", &tidegate, BEFORE).await;
    server.stop();
    row(&format!("stopped for {seconds} s"), &tidegate, Duration::from_secs(seconds)).await;
    server.start_again().await;
    let begun = now();
    until("the lines to be shipped", LIMIT, async || (waiting(&tidegate).await? < 50).then_some(())).await;
    println!("\ncaught up {:.1} s after the server was back", begun.elapsed().as_secs_f64());
    assert!(tidegate.interrupt().success(), "it drains and ends with 0");
    let said = tidegate.program().errors();
    assert!(said.contains("log path stopped left=0"), "lines are left: {said}");
    let (stored, doubled) = (documents(&server).await, doubled(&server).await);
    println!("{stored} lines stored, {doubled} of them twice");
}

/// Lets a time pass, and prints what it took.
async fn row(name: &str, tidegate: &Tidegate, time: Duration) {
    let before = figure(&tidegate.metrics().await, "process_cpu_seconds_total");
    tokio::time::sleep(time).await;
    let page = tidegate.metrics().await;
    let cpu = (figure(&page, "process_cpu_seconds_total") - before) / time.as_secs_f64() * 1000.0;
    let memory = figure(&page, "process_resident_memory_bytes") / f64::from(1 << 20);
    let waiting = waiting(tidegate).await.map_or("–".to_owned(), |n| n.to_string());
    println!("| {name} | {memory:.1} | {cpu:.0} | {waiting} |");
}

async fn waiting(tidegate: &Tidegate) -> Option<u64> {
    tidegate.get("/api/v1/about").await?["sinks"][0]["buffered"].as_u64()
}

async fn documents(server: &Elasticsearch) -> u64 {
    ask(server, Method::POST, "_refresh", Value::Null).await;
    ask(server, Method::GET, "_count", Value::Null).await["count"].as_u64().expect("a count")
}

async fn doubled(server: &Elasticsearch) -> usize {
    let ids = json!({ "terms": { "field": "event.id", "min_doc_count": 2, "size": 1000 } });
    let answer = ask(server, Method::POST, "_search", json!({ "size": 0, "aggs": { "ids": ids } })).await;
    answer["aggregations"]["ids"]["buckets"].as_array().map_or(0, Vec::len)
}

async fn ask(server: &Elasticsearch, method: Method, what: &str, body: Value) -> Value {
    let request = server.request(method, &format!("{STREAM}/{what}"), Account::ADMIN);
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send().await.expect("Elasticsearch answers").json().await.expect("JSON")
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}

fn figure(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} on the page"))
}
