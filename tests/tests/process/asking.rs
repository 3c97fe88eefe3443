//! Commands that ask a running Tidegate or send it load: `explain`, `logs`, `load`.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tidegate_tests::servers::{Program, Tidegate};
use tidegate_tests::waiting;

use super::written::{command, digits, folder, ready, run, up_on, workload_until};

const LIMIT: Duration = Duration::from_secs(30);

async fn server() -> (Tidegate, String) {
    let dir = folder();
    let workload = digits(dir.path(), "chat", "10ms");
    let mut server = up_on(dir, &[workload]).await;
    let address = |it: &Value| (ready(it) > 0).then(|| Some(it["address"].as_str()?.to_owned())).flatten();
    let gateway = workload_until(&mut server, "chat", "a ready replica", LIMIT, address).await;
    (server, format!("{gateway}/predict"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn load_is_sent_counted_and_seen() {
    let (server, url) = server().await;
    let arguments = ["load", &url, "--body", "digits", "--rate", "40", "--for", "4s", "--output", "json"];
    let ended = run(server.dir(), &arguments);
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    let report = json(&ended.output);
    let (due, ok) = (report["due"].as_u64().unwrap_or(0), report["ok"].as_u64().unwrap_or(0));
    assert!(due > 80 && ok + 5 >= due, "{report:#}");
    // Demand is what the load was, within noise and the edges of the look.
    waiting::until("the demand", LIMIT, async || {
        let series =
            server.get("/api/v1/workloads/local/process/chat/series?signal=requests_per_second").await?;
        let points = series["points"].as_array()?.iter().filter_map(|point| point[1].as_f64());
        (points.fold(0.0, f64::max) > 20.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn load_that_is_interrupted_prints_its_summary_and_exits_130() {
    let (server, url) = server().await;
    let arguments = ["load", &url, "--body", "digits", "--rate", "20", "--for", "10m", "--output", "json"];
    let said = folder();
    let mut load = Program::start("load", &mut command(server.dir(), &arguments), said.path());
    waiting::until("requests", LIMIT, async || {
        let logs = server.get("/api/v1/logs?class=access&limit=1").await?;
        logs["logs"].as_array()?.first().map(|_| ())
    })
    .await;
    load.signal(Signal::SIGINT);
    let status = load.wait(LIMIT).expect("it ends when interrupted");
    assert_eq!(status.code(), Some(130), "{}", load.errors());
    assert!(json(&load.output())["ok"].as_u64() > Some(0), "{}", load.output());
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_address() {
    let dir = folder();
    let nowhere = format!("http://127.0.0.1:{}", tidegate_tests::servers::free_port());
    let commands: [&[&str]; 3] = [
        &["explain", "chat", "--server", &nowhere],
        &["logs", "--server", &nowhere],
        &["load", &nowhere, "--rate", "20", "--for", "1s"],
    ];
    for arguments in commands {
        let ended = run(dir.path(), arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(&nowhere), "{arguments:?}: {}", ended.errors);
    }
}

#[tokio::test]
async fn explain_tells_the_same_reasons_as_the_api_in_every_output() {
    let (server, _) = server().await;
    let explain = |name: &str, further: &[&str]| {
        run(server.dir(), &[&["explain", name, "--server", server.url()], further].concat())
    };
    let decisions = server.decisions("chat").await;
    let reason = decisions[0]["reasons"][0]["text"].as_str().expect("a decision has reasons").to_owned();
    let table = explain("chat", &["--last", "500"]);
    assert_eq!(table.code, Some(0), "{}", table.errors);
    assert!(
        table.output.contains("local/process/chat") && table.output.contains(&reason),
        "{}",
        table.output
    );
    let as_json = json(&explain("local/process/chat", &["--last", "500", "--output", "json"]).output);
    assert!(as_json["decisions"].as_array().is_some_and(|all| all.len() >= decisions.len()), "{as_json:#}");
    let csv = explain("chat", &["--output", "csv"]).output;
    assert!(csv.starts_with("at,from,to,step,code,text\n"), "{csv}");
    let unknown = explain("chatt", &[]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.errors.contains("local/process/chat"),
        "it does not say which there are: {}",
        unknown.errors
    );
}

#[tokio::test]
async fn logs_are_shown_and_filtered() {
    let (server, url) = server().await;
    let load = run(server.dir(), &["load", &url, "--body", "digits", "--rate", "20", "--for", "1s"]);
    assert_eq!(load.code, Some(0), "{}", load.errors);
    let logs = |further: &[&str]| run(server.dir(), &[&["logs", "--server", server.url()], further].concat());
    let filtered = ["--workload", "chat", "--class", "access", "--limit", "5", "--output", "json"];
    let lines = waiting::until("lines of access", LIMIT, async || {
        let found = json(&logs(&filtered).output)["logs"].as_array()?.clone();
        (found.len() == 5).then_some(found)
    })
    .await;
    assert!(lines.iter().all(|line| line["class"] == "access" && line["workload"] == "local/process/chat"));
    let csv = logs(&["--limit", "1", "--output", "csv"]).output;
    assert!(csv.starts_with("at,workload,level,class,text\n"), "{csv}");
    assert!(logs(&[]).output.contains("access"));
    let unknown = logs(&["--class", "gossip"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.errors.contains("gossip"), "{}", unknown.errors);
}
