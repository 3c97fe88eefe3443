//! Days of the demo, several at a time: what Tidegate missed and cost with and without forecasts, and the rivals replayed beside it.
//!
//! `TIDEGATE_BIN=target/release/tidegate cargo run -p tidegate-tests --example demo_days -- [DAYS] [SEED…]`. A day lasts ten minutes. The runs go
//! side by side: eight replicas' waits take little of the machine, but do not compile beside it.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::time::Duration;

use serde_json::Value;
use tidegate_tests::servers::Tidegate;

/// Length of a day at the demo's usual speed.
const DAY: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().expect("expected whole numbers: days, then seeds"));
    let days = numbers.next().unwrap_or(2);
    let mut seeds: Vec<u64> = numbers.collect();
    if seeds.is_empty() {
        seeds = vec![1, 2, 3];
    }
    println!(
        "| seed | policy | requests | missed | replica-hours | training steps | goodput lost |\n|---|---|---|---|---|---|---|"
    );
    let with = seeds.iter().map(|seed| run(*seed, days, true));
    let without = seeds.iter().map(|seed| run(*seed, days, false));
    for row in futures::future::join_all(with.chain(without)).await.into_iter().flatten() {
        println!("{row}");
    }
}

async fn run(seed: u64, days: u64, forecast: bool) -> Vec<String> {
    let seed = seed.to_string();
    let mut arguments = vec!["--demo", "--seed", &seed];
    if !forecast {
        arguments.push("--no-forecast");
    }
    let mut tidegate = Tidegate::up(&arguments).await;
    tokio::time::sleep(DAY * u32::try_from(days).expect("a few days")).await;
    let about = tidegate.get("/api/v1/about").await.expect("the API answers");
    let from =
        about["rivals_since"].as_str().or(about["started_at"].as_str()).expect("it has started").to_owned();
    let summary = tidegate.get(&format!("/api/v1/summary?from={from}")).await.expect("the API answers");
    let name = if forecast { "tidegate" } else { "tidegate --no-forecast" };
    let mut rows = vec![own(&seed, name, &summary)];
    let rivals = about["rivals"].as_array().map_or(&[][..], Vec::as_slice);
    rows.extend(
        rivals.iter().filter(|r| r["policy"] != "tidegate" && forecast).map(|rival| replayed(&seed, rival)),
    );
    assert!(tidegate.interrupt().success(), "it drains and ends with 0");
    rows
}

fn own(seed: &str, name: &str, summary: &Value) -> String {
    let of = |role: &str| {
        summary["workloads"].as_array().and_then(|all| all.iter().find(|w| w["role"] == role)).cloned()
    };
    let (serving, training) = (of("serving").unwrap_or_default(), of("training").unwrap_or_default());
    format!(
        "| {seed} | {name} | {} | {} | {} | {} | {} |",
        serving["requests"],
        percent(&serving["slo_miss_fraction"]),
        number(&serving["replica_hours"]),
        training["steps"],
        percent(&training["goodput_lost_fraction"]),
    )
}

fn replayed(seed: &str, rival: &Value) -> String {
    let name = rival["policy"].as_str().unwrap_or("?");
    let (missed, hours) = (percent(&rival["slo_miss_fraction"]), number(&rival["replica_hours"]));
    format!("| {seed} | {name}, replayed | | {missed} | {hours} | | |")
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or("–".into(), |share| format!("{:.2} %", share * 100.0))
}

fn number(value: &Value) -> String {
    value.as_f64().map_or("–".into(), |n| format!("{n:.2}"))
}
