//! The whole way: `tidegate check elasticsearch` sets the server up, `tidegate up --demo` ships to it, and a server that goes away and
//! comes back costs no line.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tidegate_tests::servers::{Account, Elasticsearch, Tidegate, binary};
use tidegate_tests::waiting::until;

const LIMIT: Duration = Duration::from_secs(180);
const STREAM: &str = "logs-tidegate-default";

/// Runs `check elasticsearch`; gives its success and all that it said.
fn check(server: &Elasticsearch, password: &str) -> (bool, String) {
    let mut command = Command::new(binary());
    command.args([
        "check",
        "elasticsearch",
        "--url",
        &server.url(),
        "--user",
        Account::ADMIN.user,
        "--password-file",
        password,
    ]);
    let output = command.output().expect("the binary runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// Lines written and found by id, and lines that wait, as the API tells.
async fn figures(tidegate: &Tidegate) -> Option<(u64, u64, u64)> {
    let about = tidegate.get("/api/v1/about").await?;
    let elasticsearch = &about["elasticsearch"];
    Some((
        elasticsearch["written"].as_u64()?,
        elasticsearch["indexed"].as_u64()?,
        about["sinks"][0]["buffered"].as_u64()?,
    ))
}

async fn documents(server: &Elasticsearch) -> u64 {
    let refreshed = server.request(Method::POST, &format!("{STREAM}/_refresh"), Account::ADMIN).send().await;
    assert!(refreshed.expect("Elasticsearch answers").status().is_success());
    let answer = server.request(Method::GET, &format!("{STREAM}/_count"), Account::ADMIN).send().await;
    let answer: Value = answer.expect("Elasticsearch answers").json().await.expect("JSON");
    answer["count"].as_u64().expect("a count")
}

/// Ids that stand more than once: two documents with one event id.
async fn doubled(server: &Elasticsearch) -> u64 {
    let body = json!({ "size": 0, "aggs": { "ids": { "terms": { "field": "event.id", "min_doc_count": 2, "size": 10 } } } });
    let answer =
        server.request(Method::POST, &format!("{STREAM}/_search"), Account::ADMIN).json(&body).send().await;
    let answer: Value = answer.expect("Elasticsearch answers").json().await.expect("JSON");
    answer["aggregations"]["ids"]["buckets"].as_array().expect("buckets").len() as u64
}

#[tokio::test]
async fn the_demo_ships_every_line_once_though_the_server_goes_away() {
    let mut server = Elasticsearch::start().await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let password = dir.path().join("password");
    std::fs::write(&password, Account::ADMIN.password).expect("a file can be written");
    let password = password.to_str().expect("a plain path").to_owned();

    let (done, said) = check(&server, &password);
    assert!(done && said.contains("installed"), "{said}");
    let (done, said) = check(&server, &password);
    assert!(done && said.contains("nothing was changed"), "{said}");
    std::fs::write(dir.path().join("wrong"), "guessed").expect("a file can be written");
    let (done, said) = check(&server, dir.path().join("wrong").to_str().expect("a plain path"));
    assert!(!done && !said.contains("guessed"), "a wrong password fails, and is never shown: {said}");

    let url = server.url();
    let options = [
        "--demo",
        "--cold",
        "--elasticsearch",
        &url,
        "--elasticsearch-user",
        Account::ADMIN.user,
        "--elasticsearch-password-file",
        &password,
    ];
    let mut tidegate = Tidegate::up(&options).await;
    until("a hundred lines to be found by their ids", LIMIT, async || {
        figures(&tidegate).await.filter(|(written, found, _)| *written >= 100 && written == found)
    })
    .await;

    server.stop();
    until("lines to wait for the server", LIMIT, async || {
        figures(&tidegate).await.filter(|(.., waiting)| *waiting > 100)
    })
    .await;
    server.start_again().await;
    until("the lines to be shipped", LIMIT, async || {
        figures(&tidegate)
            .await
            .filter(|(written, found, waiting)| *waiting < 100 && *written > 0 && written == found)
    })
    .await;

    let about = tidegate.get("/api/v1/about").await.expect("the API answers");
    assert_eq!(about["sinks"][0]["dead_lettered"], 0, "{about}");
    assert!(tidegate.interrupt().success(), "it drains and ends with 0");
    let said = tidegate.program().errors();
    assert!(said.contains("log path stopped left=0"), "nothing is left to ship: {said}");
    assert!(documents(&server).await > 100);
    assert_eq!(doubled(&server).await, 0);
}
