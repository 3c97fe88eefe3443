//! `tidegate up --demo`: what a newcomer sees within the first half minute, and its variants.

use std::time::Duration;

use serde_json::Value;
use tidegate_tests::servers::{Tidegate, http};
use tidegate_tests::waiting;

use super::written::{codes, condition, ready, run, workload_until};

pub(crate) const SERVE: &str = "digits-serve";
pub(crate) const TRAIN: &str = "digits-train";
/// Replicas are ready within 15 s of their start; the machine may be busy with other tests.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

fn demand(workload: &Value) -> Option<f64> {
    workload["demand"][0]["value"].as_f64().filter(|value| *value > 0.0)
}

/// Waits until the sample service takes load.
pub(crate) async fn until_loaded(server: &mut Tidegate) {
    let loaded = |it: &Value| (ready(it) > 0).then(|| demand(it)).flatten();
    workload_until(server, SERVE, "a ready replica under load", LIMIT, loaded).await;
}

/// Whether some decision has all these codes, in this order.
fn in_order(decisions: &[Value], wanted: &[&str]) -> bool {
    decisions.iter().any(|decision| {
        let all = codes(decision);
        let places: Vec<_> = wanted.iter().map(|code| all.iter().position(|other| other == code)).collect();
        places.iter().all(Option::is_some) && places.is_sorted()
    })
}

#[tokio::test]
async fn serving_and_training_work_and_everything_is_told() {
    let mut server = Tidegate::up(&["--demo", "--speed", "144"]).await;
    let about = server.get("/api/v1/about").await.expect("it answers");
    assert_eq!((about["demo"].as_bool(), about["day_s"].as_f64()), (Some(true), Some(600.0)), "{about:#}");
    assert_eq!(about["history_preloaded"]["days"], 2.0, "{about:#}");
    until_loaded(&mut server).await;
    let path = "/api/v1/workloads/local/process/digits-serve/forecast";
    waiting::until("a forecast of the load", LIMIT, async || {
        let forecast = server.get(path).await?;
        forecast["quantiles"]["0.5"].as_array()?.iter().find(|value| value.as_f64() > Some(10.0)).map(|_| ())
    })
    .await;
    waiting::until("a decision by what is seen and what is forecast", LIMIT, async || {
        let decisions = server.decisions(SERVE).await;
        // Which of the two the load is provided for by is settled by the rehearsal.
        let told = |last| in_order(&decisions, &["demand_seen", "reactive", last]);
        (told("predicted") || told("forecast_does_not_pay")).then_some(())
    })
    .await;
    let steps = async |server: &Tidegate| {
        let summary = server.get("/api/v1/summary").await?;
        let rows = summary["workloads"].as_array()?.clone();
        let row = |name: &str| rows.iter().find(|row| row["workload"].as_str() == Some(name)).cloned();
        Some((row("local/process/digits-serve")?, row("local/process/digits-train")?))
    };
    let (serving, _) = waiting::until("steps and requests in the summary", LIMIT, async || {
        let (serving, training) = steps(&server).await?;
        let told = training["steps"].as_u64() > Some(10) && serving["requests"].as_u64() > Some(50);
        told.then_some((serving, training))
    })
    .await;
    assert!(serving["requests"].as_u64() < Some(5000), "preloaded load counts as served: {serving:#}");
    assert!(
        serving["replica_hours"].as_f64() > Some(0.0) && serving["slo_miss_fraction"].is_f64(),
        "{serving:#}"
    );
    for (name, class) in [(SERVE, "access"), (TRAIN, "training_step")] {
        waiting::until("its log lines", LIMIT, async || {
            let query = format!("/api/v1/logs?workload=local/process/{name}&class={class}&limit=1");
            server.get(&query).await?["logs"].as_array()?.first().map(|_| ())
        })
        .await;
    }
    let document = server.get("/api/v1/openapi.json").await.expect("it answers");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document:#}");
    assert!(document["paths"]["/api/v1/demo/faults"]["post"].is_object());
    let page = http().get(server.url()).send().await.expect("it answers").text().await.expect("it is text");
    assert!(page.contains("<html") && !page.contains("src=\"http"), "{page}");
    let explained = run(server.dir(), &["explain", SERVE, "--server", server.url()]);
    assert!(explained.code == Some(0) && explained.output.contains("reactive"), "{}", explained.output);
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}

#[tokio::test]
async fn cold_there_is_no_history_and_no_forecast_at_first() {
    let mut server = Tidegate::up(&["--demo", "--cold"]).await;
    let about = server.get("/api/v1/about").await.expect("it answers");
    assert!(about["history_preloaded"].is_null(), "{about:#}");
    let text =
        workload_until(&mut server, SERVE, "its condition", LIMIT, |it| condition(it, "no_forecast")).await;
    assert!(!text.is_empty());
    let path = "/api/v1/workloads/local/process/digits-serve/forecast";
    let forecast = server.get(path).await.expect("it answers");
    assert!(forecast["model"].is_null(), "{forecast:#}");
    until_loaded(&mut server).await;
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
}

#[tokio::test]
async fn without_forecast_it_sizes_by_what_is_seen() {
    let mut server = Tidegate::up(&["--demo", "--no-forecast"]).await;
    until_loaded(&mut server).await;
    let decisions = waiting::until("a decision by what is seen", LIMIT, async || {
        let decisions = server.decisions(SERVE).await;
        in_order(&decisions, &["reactive", "forecast_off"]).then_some(decisions)
    })
    .await;
    assert!(decisions.iter().all(|one| !codes(one).contains(&"predicted")), "{decisions:#?}");
}

#[tokio::test]
async fn by_scraped_signals_alone_demand_is_known_too() {
    let mut server = Tidegate::up(&["--demo", "--signals", "scrape"]).await;
    let rate = workload_until(&mut server, SERVE, "demand", LIMIT, demand).await;
    assert!(rate < 200.0, "{rate} requests per second are more than are sent");
    waiting::until("a decision on it", LIMIT, async || {
        in_order(&server.decisions(SERVE).await, &["demand_seen", "reactive"]).then_some(())
    })
    .await;
}
