//! How `up` ends: asked to, it drains and leaves nothing; killed, the next start finds what it left.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tidegate_tests::servers::{Tidegate, http};
use tidegate_tests::waiting;

use super::written::{digits, folder, ready, serving, up_on, workload_until};

const LIMIT: Duration = Duration::from_secs(30);

fn gateway(it: &Value) -> Option<String> {
    (ready(it) > 0).then(|| Some(it["address"].as_str()?.to_owned())).flatten()
}

/// A request that takes about two seconds, under way at the gateway when this returns.
async fn slow_request(server: &mut Tidegate) -> tokio::task::JoinHandle<Option<u16>> {
    let address = workload_until(server, "chat", "a ready replica", LIMIT, gateway).await;
    let image = serde_json::json!({ "pixels": vec![0.5; 64] });
    let request = http().post(format!("{address}/predict")).json(&image);
    let sent = tokio::spawn(async move { request.send().await.ok().map(|answer| answer.status().as_u16()) });
    waiting::until("the request under way", LIMIT, async || {
        let series = server
            .get("/api/v1/workloads/local/process/chat/series?signal=in_flight_requests&step=1")
            .await?;
        let points = series["points"].as_array()?;
        points.iter().any(|point| point[1].as_f64() > Some(0.0)).then_some(())
    })
    .await;
    sent
}

async fn drains_when_told_by(signal: Signal) {
    let dir = folder();
    let mut other = serving("other", &["sh", "-c", "sleep 600 & sleep 600"]);
    other["process"]["startDeadline"] = "60s".into();
    let workloads = [digits(dir.path(), "chat", "4s"), other];
    let mut server = up_on(dir, &workloads).await;
    let sent = slow_request(&mut server).await;
    assert!(server.program().descendants().len() > 2, "the shell has a child");
    server.program().signal(signal);
    let answer = sent.await.expect("the request ends");
    assert_eq!(answer, Some(200), "the request under way was cut off");
    let status = server.program().wait(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.program().descendants(), Vec::<u32>::new(), "it left processes behind");
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}

#[tokio::test]
async fn it_drains_and_leaves_nothing_on_ctrl_c() {
    drains_when_told_by(Signal::SIGINT).await;
}

#[tokio::test]
async fn it_drains_and_leaves_nothing_on_term() {
    drains_when_told_by(Signal::SIGTERM).await;
}

/// Seconds of history in which replicas were ready.
async fn ready_seconds(server: &Tidegate) -> Option<usize> {
    let path = "/api/v1/workloads/local/process/chat/series?signal=replicas_ready&step=1";
    let series = server.get(path).await?;
    Some(series["points"].as_array()?.iter().filter(|point| point[1].as_f64() > Some(0.0)).count())
}

#[tokio::test]
async fn after_kill_the_next_start_finds_replicas_and_history() {
    let dir = folder();
    let mut workload = digits(dir.path(), "chat", "10ms");
    workload["serving"]["replicas"]["min"] = 2.into();
    // Its command line is another one at the next start, so it cannot be taken over.
    let other = |tag: &str| serving("other", &["sh", "-c", "exec sleep 600", tag]);
    let mut server = up_on(dir, &[workload.clone(), other("first")]).await;
    let both = |it: &Value| (ready(it) == 2).then_some(());
    workload_until(&mut server, "chat", "two ready replicas", LIMIT, both).await;
    let kept = waiting::until("ten seconds of history", LIMIT, async || {
        ready_seconds(&server).await.filter(|seconds| *seconds >= 10)
    })
    .await;
    server.kill();
    let orphans = server.processes();
    assert!(orphans.len() >= 2, "its replicas live on: {orphans:?}");
    let text = super::written::configuration(&[workload, other("second")]);
    super::written::write(server.dir(), "tidegate.yaml", &text);
    server.start_again(&[]).await;
    workload_until(&mut server, "chat", "two ready replicas again", LIMIT, both).await;
    let errors = server.program().errors();
    assert!(errors.contains("adopted=2"), "nothing was taken over: {errors}");
    let remembered = ready_seconds(&server).await.expect("it answers");
    // A kill may cost ten seconds of history, not more.
    assert!(remembered + 10 >= kept && remembered > 0, "{remembered} of {kept} seconds are left");
    let first = server.processes().into_iter().filter(|pid| command_line(*pid).contains("first"));
    assert_eq!(first.count(), 0, "what could not be taken over was not ended");
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}
