//! Alerts by webhook: always with a token, bounded in what they do.

use std::time::Duration;

use serde_json::{Value, json};

use super::written::{codes, folder, serving, up_on, workload_until};

const PATH: &str = "/api/v1/alerts";
/// A round lasts a second; the machine may be busy.
const ROUNDS: Duration = Duration::from_secs(10);

fn alert(status: &str, name: &str) -> Value {
    let alert = json!({
        "status": status,
        "labels": { "alertname": name },
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": format!("of-{name}"),
    });
    json!({ "version": "4", "receiver": "tidegate", "status": status, "alerts": [alert] })
}

/// A replica that never takes requests, and a rule for one alert.
fn workload() -> Value {
    let mut workload = serving("chat", &["sh", "-c", "exec sleep 600"]);
    workload["process"]["startDeadline"] = "60s".into();
    // Without requests its demand is known to be none.
    workload["gateway"] = json!({ "listen": "127.0.0.1:0" });
    workload["serving"]["capacity"] = json!({ "requestsPerSecond": 10 });
    workload["serving"]["alerts"] = json!([{ "match": { "alertname": "Slow" }, "floor": 3, "ttl": "5m" }]);
    workload
}

fn wanted(n: u64) -> impl Fn(&Value) -> Option<()> {
    move |workload| (workload["replicas"]["wanted"] == n).then_some(())
}

#[tokio::test]
async fn without_the_right_token_an_alert_is_refused() {
    let server = up_on(folder(), &[workload()]).await;
    for token in [None, Some("wrong"), Some("tg_0000000000000000000000000000000000000000")] {
        let (status, problem) = server.post(PATH, token, &alert("firing", "Slow")).await;
        assert_eq!(status, 401, "{token:?}: {problem:#}");
        assert!(problem["title"].is_string(), "{problem:#}");
    }
    let token = server.token();
    let (status, problem) = server.post(PATH, Some(&token), &json!({ "version": "4" })).await;
    assert_eq!(status, 400, "{problem:#}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("alerts")), "{problem:#}");
}

#[tokio::test]
async fn an_alert_raises_the_floor_and_its_end_takes_it_back() {
    let mut server = up_on(folder(), &[workload()]).await;
    let token = server.token();
    workload_until(&mut server, "chat", "one replica", ROUNDS, wanted(1)).await;
    let (status, report) = server.post(PATH, Some(&token), &alert("firing", "Slow")).await;
    assert_eq!((status, report["results"][0]["outcome"].as_str()), (200, Some("raised")), "{report:#}");
    workload_until(&mut server, "chat", "the floor of 3", ROUNDS, wanted(3)).await;
    let decisions = server.decisions("chat").await;
    assert!(codes(&decisions[0]).contains(&"alert_boost"), "{:#}", decisions[0]);
    let (_, again) = server.post(PATH, Some(&token), &alert("firing", "Slow")).await;
    assert_eq!(again["results"][0]["outcome"], "repeated", "{again:#}");
    let (_, unknown) = server.post(PATH, Some(&token), &alert("firing", "Unheard")).await;
    assert_eq!(unknown["results"][0]["outcome"], "no_rule", "{unknown:#}");
    let (_, ended) = server.post(PATH, Some(&token), &alert("resolved", "Slow")).await;
    assert_eq!(ended["results"][0]["outcome"], "resolved", "{ended:#}");
    workload_until(&mut server, "chat", "one replica again", ROUNDS, wanted(1)).await;
}
