//! The shapes that others rely on, field by field.

use serde_json::{Value, json};
use tidegate_core::{Signal, Timestamp};

use super::Service;
use super::fake::{Fake, SERVE, TRAIN};
use crate::api::views::ForecastView;

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect()
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<Timestamp>().is_ok())
}

const WORKLOAD: [&str; 8] = ["id", "role", "mode", "replicas", "demand", "slo", "bottleneck", "conditions"];

#[tokio::test]
async fn workloads_have_the_fields_promised() {
    let service = Service::start(Fake::new(true)).await;
    let all = service.json("/api/v1/workloads").await;
    assert_eq!(fields(&all), ["workloads"]);
    let serve = &all["workloads"][0];
    assert_eq!(fields(serve), WORKLOAD);
    assert_eq!((&serve["id"], &serve["role"]), (&json!(SERVE), &json!("serving")));
    assert_eq!(fields(&serve["replicas"]), ["wanted", "ready", "starting"]);
    assert_eq!(fields(&serve["demand"][0]), ["signal", "value", "unit", "age_s"]);
    assert_eq!(fields(&serve["slo"]), ["attained", "target"]);
    // What is unknown is null, not left out and not zero.
    assert_eq!(all["workloads"][1]["slo"], json!({ "attained": null, "target": null }));
    assert_eq!(all["workloads"][1]["bottleneck"], Value::Null);
}

#[tokio::test]
async fn one_workload_is_the_same_object_with_more() {
    let service = Service::start(Fake::new(true)).await;
    for path in [SERVE.to_owned(), SERVE.replace('/', "%2F")] {
        let one = service.json(&format!("/api/v1/workloads/{path}")).await;
        assert_eq!(fields(&one)[..8], WORKLOAD);
        for more in ["policy", "capacity", "lead_time", "league"] {
            assert!(one.get(more).is_some(), "{more}");
        }
        assert_eq!(fields(&one["capacity"]), ["low", "mid", "high", "unit", "source", "variant"]);
        assert_eq!(fields(&one["lead_time"]), ["p50_s", "p90_s", "starts"]);
        let row = ["signal", "model", "pinball", "pinball_ratio", "coverage95", "origins", "in_use"];
        assert_eq!(fields(&one["league"][0]), row);
    }
    assert_eq!(service.json(&format!("/api/v1/workloads/{TRAIN}")).await["capacity"], Value::Null);
}

#[tokio::test]
async fn a_forecast_is_a_grid_of_quantiles() {
    let service = Service::start(Fake::new(true)).await;
    let path = format!("/api/v1/workloads/{SERVE}/forecast?signal={}", Signal::RequestsPerSecond.name());
    let forecast = service.json(&path).await;
    let expected = [
        "signal",
        "unit",
        "issued_at",
        "start",
        "step_s",
        "model",
        "quantiles",
        "window_max",
        "score",
        "coverage",
    ];
    assert_eq!(fields(&forecast), expected);
    assert!(is_time(&forecast["issued_at"]) && is_time(&forecast["start"]));
    assert_eq!((&forecast["unit"], &forecast["step_s"]), (&json!("req/s"), &json!(5.0)));
    for level in ["0.05", "0.5", "0.95", "0.99"] {
        assert_eq!(forecast["quantiles"][level].as_array().unwrap().len(), 48, "{level}");
        assert_eq!(forecast["window_max"][level].as_array().unwrap().len(), 48, "{level}");
    }
    assert_eq!(fields(&forecast["score"]), ["pinball", "pinball_ratio", "origins"]);
    assert_eq!(forecast["coverage"], json!({ "0.95": 0.947 }));
}

#[tokio::test]
async fn no_opinion_is_null_and_not_zero() {
    let service = Service::start(Fake::new(true)).await;
    let forecast = service.json(&format!("/api/v1/workloads/{TRAIN}/forecast")).await;
    assert_eq!(forecast, json!(ForecastView::none(Signal::RequestsPerSecond)));
    assert_eq!((&forecast["model"], &forecast["quantiles"]), (&Value::Null, &json!({})));
}

#[tokio::test]
async fn a_series_is_pairs_with_null_for_a_gap() {
    let service = Service::start(Fake::new(true)).await;
    let range = "from=2026-01-01T00:00:00Z&to=2026-01-01T00:10:00Z&step=5";
    let signal = Signal::RequestsPerSecond.name();
    let series = service.json(&format!("/api/v1/workloads/{SERVE}/series?signal={signal}&{range}")).await;
    assert_eq!(fields(&series), ["signal", "unit", "points"]);
    let points = series["points"].as_array().unwrap();
    assert_eq!(points.len(), 120);
    assert_eq!(points[0][0], "2026-01-01T00:00:00.000Z");
    assert!(points[0][1].is_f64());
    assert!(points.iter().any(|point| point[1].is_null()));
    let signal = Signal::CpuBusyRatio.name();
    let node = service.json(&format!("/api/v1/node/series?signal={signal}")).await;
    assert_eq!((&node["signal"], &node["unit"]), (&json!(signal), &json!("ratio")));
}

#[tokio::test]
async fn decisions_come_newest_first_with_their_reasons() {
    let service = Service::start(Fake::new(true)).await;
    let answer = service.json(&format!("/api/v1/workloads/{SERVE}/decisions?limit=5")).await;
    assert_eq!(fields(&answer), ["decisions"]);
    let all = answer["decisions"].as_array().unwrap();
    assert_eq!(all.len(), 5);
    assert!(all.windows(2).all(|pair| pair[0]["at"].as_str() > pair[1]["at"].as_str()));
    assert_eq!(fields(&all[0]), ["at", "from", "to", "reasons", "baseline", "inputs"]);
    assert_eq!(fields(&all[0]["reasons"][0]), ["code", "text", "values"]);
    assert!(all[0]["reasons"][0]["values"]["demand_rps"].is_f64());
    assert!(all[0]["baseline"]["hpa"].is_u64());
    assert!(all[0]["inputs"].is_object());
}

#[tokio::test]
async fn the_summary_tells_what_each_workload_did() {
    let service = Service::start(Fake::new(true)).await;
    let summary = service.json("/api/v1/summary").await;
    assert!(is_time(&summary["from"]) && is_time(&summary["to"]));
    let span = |at: &Value| at.as_str().unwrap().parse::<Timestamp>().unwrap();
    // A day of load lasts ten minutes here.
    assert_eq!(span(&summary["to"]).since(span(&summary["from"])).as_secs(), 600);
    let serve = &summary["workloads"][0];
    for field in ["requests", "slo_miss_fraction", "replica_hours", "decisions", "forecast_score"] {
        assert!(serve[field].is_number(), "{field}");
    }
    let train = &summary["workloads"][1];
    assert!(
        train["steps"].is_u64()
            && train["goodput_lost_s"].is_number()
            && train["goodput_lost_fraction"].is_number()
    );
    assert_eq!(train["requests"], Value::Null);
}

#[tokio::test]
async fn logs_have_the_fields_promised() {
    let service = Service::start(Fake::new(true)).await;
    let logs = service.json("/api/v1/logs?limit=7").await;
    let all = logs["logs"].as_array().unwrap();
    assert_eq!(all.len(), 7);
    assert_eq!(fields(&all[0]), ["at", "workload", "level", "class", "text"]);
    assert!(all.windows(2).all(|pair| pair[0]["at"].as_str() >= pair[1]["at"].as_str()));
}

#[tokio::test]
async fn about_tells_of_pool_rivals_and_sinks() {
    let service = Service::start(Fake::new(true)).await;
    let about = service.json("/api/v1/about").await;
    assert_eq!(
        (&about["demo"], &about["speed"], &about["day_s"]),
        (&json!(true), &json!(144.0), &json!(600.0))
    );
    assert_eq!(fields(&about["history_preloaded"]), ["days", "text"]);
    assert_eq!(fields(&about["rivals"][0]), ["policy", "workload", "replica_hours", "slo_miss_fraction"]);
    assert_eq!(fields(&about["elasticsearch"]), ["url", "written", "indexed"]);
    let pool = service.json("/api/v1/pool").await;
    assert_eq!(fields(&pool), ["slots", "held", "free", "notes"]);
    assert_eq!(fields(&pool["held"][0]), ["workload", "role", "slots"]);
    let node = service.json("/api/v1/node").await;
    assert_eq!(fields(&node["readings"][0]), ["signal", "unit", "part", "value", "age_s"]);
}

#[tokio::test]
async fn a_fault_is_tried_and_cleared() {
    let service = Service::start(Fake::new(true)).await;
    let send = async |fault: &str| {
        let request = service.client.post(service.url("/api/v1/demo/faults"));
        let response = request.json(&json!({ "workload": TRAIN, "fault": fault })).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json::<Value>().await.unwrap()
    };
    let running = send("fail_checkpoint").await["running"].clone();
    assert_eq!((&running[0]["workload"], &running[0]["fault"]), (&json!(TRAIN), &json!("fail_checkpoint")));
    assert!(is_time(&running[0]["since"]));
    assert_eq!(service.json("/api/v1/demo/faults").await["running"], running);
    assert_eq!(send("clear").await["running"], json!([]));
    let unknown = service.client.post(service.url("/api/v1/demo/faults"));
    let unknown =
        unknown.json(&json!({ "workload": "local/process/x", "fault": "clear" })).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
}

#[tokio::test]
async fn faults_are_of_the_demo_alone() {
    let service = Service::start(Fake::new(false)).await;
    assert_eq!(service.get("/api/v1/demo/faults").await.status(), 404);
    let sent = service.client.post(service.url("/api/v1/demo/faults"));
    assert_eq!(
        sent.json(&json!({ "workload": SERVE, "fault": "clear" })).send().await.unwrap().status(),
        404
    );
}
