//! What `tidegate up` takes when it watches the machine alone: memory, CPU, and how fast `/metrics` answers.
//!
//! `TIDEGATE_BIN=target/release/tidegate cargo run -p tidegate-tests --example idle -- [SECONDS]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::{Duration, Instant};

use tidegate_tests::servers::{Tidegate, http};

/// Scrapes taken for the percentile.
const SCRAPES: usize = 1000;

#[tokio::main]
async fn main() {
    let seconds: u64 = std::env::args().nth(1).map_or(600, |text| text.parse().expect("expected seconds"));
    let mut tidegate = Tidegate::up(&[]).await;
    // One for all: making one takes far longer than the answer.
    let client = http();
    let before = figure(&metrics(&client, &tidegate).await, "process_cpu_seconds_total");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let page = metrics(&client, &tidegate).await;
    let cpu = figure(&page, "process_cpu_seconds_total") - before;
    let memory = figure(&page, "process_resident_memory_bytes");
    let mut times: Vec<Duration> = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        let begun = now();
        metrics(&client, &tidegate).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!("resident memory: {:.1} MiB", memory / f64::from(1 << 20));
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    let share = cpu / seconds as f64;
    println!("CPU over {seconds} s: {:.1} mCPU", share * 1000.0);
    println!(
        "/metrics over {SCRAPES} scrapes: p50 {:?}, p99 {:?}",
        times[SCRAPES / 2],
        times[SCRAPES * 99 / 100]
    );
    assert!(tidegate.interrupt().success(), "it drains and ends with 0");
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}

async fn metrics(client: &reqwest::Client, tidegate: &Tidegate) -> String {
    let answer = client.get(format!("{}/metrics", tidegate.url())).send().await.expect("the API answers");
    answer.text().await.expect("a text")
}

fn figure(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} on the page"))
}
