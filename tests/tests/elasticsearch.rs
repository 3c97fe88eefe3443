//! The Elasticsearch that the suite runs against is the real one: its security holds, and what was written outlives a restart.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_tests::servers::{Account, Elasticsearch};

async fn status(request: reqwest::RequestBuilder) -> StatusCode {
    request.send().await.expect("Elasticsearch answers").status()
}

#[tokio::test]
async fn the_server_keeps_its_doors_and_its_data() {
    let mut server = Elasticsearch::start().await;

    let wrong = Account { password: "guessed", ..Account::ADMIN };
    assert_eq!(status(server.request(Method::GET, "_nodes", wrong)).await, StatusCode::UNAUTHORIZED);
    let version: Value = server
        .request(Method::GET, "_nodes", Account::ADMIN)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let node = version["nodes"].as_object().and_then(|nodes| nodes.values().next()).expect("one node");
    assert!(node["version"].as_str().is_some_and(|v| v.starts_with("8.")), "{}", node["version"]);

    let shipper = Account::SHIPPER;
    let document = json!({ "@timestamp": "2026-01-01T00:00:00Z", "message": "hello" });
    let create = |path: &str| server.request(Method::PUT, path, shipper).json(&document);
    assert_eq!(status(create("logs-tidegate/_create/1")).await, StatusCode::CREATED);
    assert_eq!(status(create("logs-tidegate/_create/1")).await, StatusCode::CONFLICT);
    assert_eq!(status(create("metrics-x/_create/1")).await, StatusCode::FORBIDDEN);
    assert_eq!(status(server.request(Method::GET, "_cluster/state", shipper)).await, StatusCode::FORBIDDEN);

    server.pause();
    let hanging = server
        .request(Method::GET, "logs-tidegate/_doc/1", shipper)
        .timeout(Duration::from_secs(2))
        .send()
        .await;
    assert!(hanging.expect_err("a paused server does not answer").is_timeout());
    server.resume();
    assert_eq!(status(server.request(Method::GET, "logs-tidegate/_doc/1", shipper)).await, StatusCode::OK);

    server.stop();
    assert!(
        server.request(Method::GET, "", shipper).send().await.is_err(),
        "a stopped server does not answer"
    );
    server.start_again().await;
    assert_eq!(status(server.request(Method::GET, "logs-tidegate/_doc/1", shipper)).await, StatusCode::OK);
}
