//! What holds for every route: problems, headers, bounds, the page and its files, events, the document.

use futures::StreamExt;
use serde_json::{Value, json};
use tidegate_core::Signal;

use super::Service;
use super::fake::{Fake, SERVE, decision};
use crate::api::Backend;
use crate::api::router;
use crate::api::views::Event;

async fn problem(response: reqwest::Response, status: u16) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], "about:blank");
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    body
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let service = Service::start(Fake::new(true)).await;
    problem(service.get("/api/v1/nothing").await, 404).await;
    problem(service.get("/api/v1/workloads/local/process/nobody").await, 404).await;
    problem(service.get("/api/v1/workloads/local/process/nobody/decisions").await, 404).await;
    problem(service.get("/api/v1/workloads/chat").await, 404).await;
    problem(service.get("/assets/nothing.js").await, 404).await;
    let wrong = service.client.delete(service.url("/api/v1/about")).send().await.unwrap();
    assert!(wrong.headers()["allow"].to_str().unwrap().contains("GET"));
    problem(wrong, 405).await;
    let wrong = service.client.post(service.url(&format!("/api/v1/workloads/{SERVE}"))).send().await.unwrap();
    problem(wrong, 405).await;
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let service = Service::start(Fake::new(true)).await;
    let names = |body: &Value| -> Vec<String> {
        body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["parameter"].as_str().unwrap().to_owned())
            .collect()
    };
    let series = format!("/api/v1/workloads/{SERVE}/series");
    let body =
        problem(service.get(&format!("{series}?signal=nope&from=yesterday&step=-1&x=1")).await, 400).await;
    assert_eq!(names(&body), ["x", "signal", "from", "step"]);
    assert_eq!(names(&problem(service.get(&series).await, 400).await), ["signal"]);
    // A signal of the machine is none of a workload.
    assert_eq!(
        names(&problem(service.get(&format!("{series}?signal={}", Signal::Load1.name())).await, 400).await),
        ["signal"]
    );
    let body = problem(service.get("/api/v1/logs?level=loud&limit=0&workload=X").await, 400).await;
    assert_eq!(names(&body), ["workload", "level", "limit"]);
    problem(service.get("/api/v1/summary?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z").await, 400)
        .await;
    problem(service.get("/api/v1/about?verbose=1").await, 400).await;
}

#[tokio::test]
async fn a_filter_of_logs_arrives_whole() {
    let service = Service::start(Fake::new(true)).await;
    service
        .json(&format!("/api/v1/logs?workload={SERVE}&class=traceback&level=error&q=63%20Pixels&limit=3"))
        .await;
    let asked = service.fake.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.workload.unwrap().as_str(), SERVE);
    assert_eq!((asked.class.as_deref(), asked.level.as_deref()), (Some("traceback"), Some("error")));
    assert_eq!((asked.text.as_deref(), asked.limit), (Some("63 Pixels"), 3));
}

#[tokio::test]
async fn a_body_is_bounded_and_must_be_json() {
    let service = Service::start(Fake::new(true)).await;
    let send = |kind: &'static str, body: String| {
        let request = service.client.post(service.url("/api/v1/demo/faults"));
        request.header("content-type", kind).body(body).send()
    };
    problem(send("application/json", " ".repeat((1 << 20) + 1)).await.unwrap(), 413).await;
    problem(send("text/plain", "{}".into()).await.unwrap(), 415).await;
    problem(send("application/json", "{".into()).await.unwrap(), 400).await;
    problem(
        send("application/json", json!({"workload": SERVE, "fault": "earthquake"}).to_string())
            .await
            .unwrap(),
        400,
    )
    .await;
    let more = json!({"workload": SERVE, "fault": "clear", "when": "now"}).to_string();
    problem(send("application/json", more).await.unwrap(), 400).await;
}

#[tokio::test]
async fn the_page_and_its_files_come_from_the_binary_and_are_kept() {
    let service = Service::start(Fake::new(true)).await;
    let page = service.get("/").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';") && policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    let html = page.text().await.unwrap();
    let files: Vec<_> =
        html.split("\"/assets/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files.into_iter().chain(["signals.js", "plotly.js"]) {
        let url = service.url(&format!("/assets/{file}"));
        let first = service.client.get(&url).send().await.unwrap();
        assert_eq!(first.status(), 200, "{file}");
        let etag = first.headers()["etag"].clone();
        let again = service.client.get(&url).header("if-none-match", etag).send().await.unwrap();
        assert_eq!(again.status(), 304, "{file}");
    }
}

#[tokio::test]
async fn the_chart_library_travels_packed() {
    let service = Service::start(Fake::new(true)).await;
    let plain = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
    let packed = plain
        .get(service.url("/assets/plotly.js"))
        .header("accept-encoding", "br, gzip;q=0.9")
        .send()
        .await
        .unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.bytes().await.unwrap().len();
    let whole =
        plain.get(service.url("/assets/plotly.js")).send().await.unwrap().bytes().await.unwrap().len();
    assert!(packed * 3 < whole, "{packed} of {whole}");
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for() {
    let service = Service::start(Fake::new(true)).await;
    let kind = |response: &reqwest::Response| response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind(&service.get("/metrics").await).starts_with("text/plain; version=0.0.4"));
    let open = service
        .client
        .get(service.url("/metrics"))
        .header("accept", "application/openmetrics-text")
        .send()
        .await;
    assert!(kind(&open.unwrap()).starts_with("application/openmetrics-text"));
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let service = Service::start(Fake::new(true)).await;
    assert_eq!(service.get("/readyz").await.status(), 200);
    let mut idle = Fake::new(false);
    idle.empty = true;
    let service = Service::start(idle).await;
    assert_eq!(service.get("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(problem(service.get("/readyz").await, 503).await["detail"], "no workload is ready");
}

/// The next event of this name: its data.
async fn next(
    stream: &mut (impl StreamExt<Item = reqwest::Result<bytes::Bytes>> + Unpin),
    seen: &mut String,
    name: &str,
) -> Value {
    let wait = async {
        loop {
            if let Some(at) = seen.find("\n\n") {
                let block: String = seen.drain(..at + 2).collect();
                if block.starts_with(&format!("event: {name}\n")) {
                    let data = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
                    return serde_json::from_str(data).unwrap();
                }
                continue;
            }
            seen.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap()
}

#[tokio::test]
async fn events_tell_what_happens() {
    let service = Service::start(Fake::new(true)).await;
    let response = service.get("/api/v1/events").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut stream, mut seen) = (response.bytes_stream(), String::new());
    next(&mut stream, &mut seen, "hello").await;
    service.fake.tick();
    let workload = next(&mut stream, &mut seen, "workload").await;
    assert_eq!(workload["id"], SERVE);
    let told = decision(service.fake.now());
    service.fake.tell(Event::Decision { workload: SERVE.into(), decision: Box::new(told.clone()) });
    loop {
        let heard = next(&mut stream, &mut seen, "decision").await;
        if heard["at"] == json!(told.at) {
            assert_eq!((&heard["workload"], &heard["to"]), (&json!(SERVE), &json!(told.to)));
            break;
        }
    }
    let line =
        service.fake.logs(&crate::api::LogFilter { limit: 1, ..Default::default() }).unwrap().remove(0);
    service.fake.tell(Event::LogClass(Box::new(line.clone())));
    assert_eq!(next(&mut stream, &mut seen, "log_class").await, json!(line));
}

#[tokio::test]
async fn a_listener_that_falls_behind_is_told_so() {
    let service = Service::start(Fake::new(true)).await;
    let response = service.get("/api/v1/events").await;
    // Far more than the channel holds, at once: the stream's task cannot keep up while this one does not yield.
    for _ in 0..400 {
        service.fake.tick();
    }
    let (mut stream, mut seen) = (response.bytes_stream(), String::new());
    let missed = next(&mut stream, &mut seen, "lagged").await;
    assert!(missed["missed"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn events_end_when_the_service_stops() {
    let service = Service::start(Fake::new(true)).await;
    let mut stream = service.get("/api/v1/events").await.bytes_stream();
    drop(service);
    let drained = async { while stream.next().await.is_some_and(|chunk| chunk.is_ok()) {} };
    tokio::time::timeout(std::time::Duration::from_secs(4), drained).await.unwrap();
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_describes_every_route() {
    let service = Service::start(Fake::new(true)).await;
    let document = service.json("/api/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document, serde_json::to_value(router::document()).unwrap());
    let paths = document["paths"].as_object().unwrap();
    let expected = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/workloads",
        "/api/v1/workloads/{id}",
        "/api/v1/workloads/{id}/forecast",
        "/api/v1/workloads/{id}/series",
        "/api/v1/workloads/{id}/decisions",
        "/api/v1/summary",
        "/api/v1/logs",
        "/api/v1/events",
        "/api/v1/alerts",
        "/api/v1/about",
        "/api/v1/pool",
        "/api/v1/node",
        "/api/v1/node/series",
        "/api/v1/demo/faults",
        "/api/v1/openapi.json",
    ];
    let described: Vec<_> = paths.keys().map(String::as_str).collect();
    assert!(expected.iter().all(|path| described.contains(path)), "{described:?}");
    assert_eq!(described.len(), expected.len(), "{described:?}");
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let url = service.url(&path.replace("{id}", SERVE));
            let sent =
                service.client.request(method.to_uppercase().parse().unwrap(), url).send().await.unwrap();
            assert!(
                ![404, 405].contains(&sent.status().as_u16()),
                "{method} {path} is described but not served"
            );
            assert!(operation["responses"]["200"].is_object(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_reference_in_the_document_leads_somewhere() {
    let document = serde_json::to_value(router::document()).unwrap();
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    let pointer = target.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}
