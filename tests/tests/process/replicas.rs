//! Replicas that fail: one that never becomes ready, one that crashes in a loop, one that is killed from outside.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tidegate_tests::servers::{Program, http};
use tidegate_tests::waiting;

use super::written::{codes, command, condition, digits, folder, ready, serving, up_on, workload_until};

const LIMIT: Duration = Duration::from_secs(30);
/// New reasons for the same size are recorded every 30 s at most.
const RECORDED: Duration = Duration::from_secs(45);

/// When each start of a command that writes `date +%s%N` to this file was, in seconds.
fn starts(file: &Path) -> Vec<f64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse::<f64>().ok()).map(|nanoseconds| nanoseconds / 1e9).collect()
}

#[tokio::test]
async fn a_replica_that_is_never_ready_is_killed_and_tried_again_ever_later() {
    let dir = folder();
    let file = dir.path().join("starts");
    // Deaf to TERM, so that only KILL ends it.
    let script = format!("trap '' TERM; date +%s%N >> {}; sleep 600 & wait; sleep 600", file.display());
    let mut workload = serving("deaf", &["sh", "-c", &script]);
    workload["process"]["startDeadline"] = "1s".into();
    workload["process"]["stopGrace"] = "500ms".into();
    let mut server = up_on(dir, &[workload]).await;
    let text =
        workload_until(&mut server, "deaf", "its condition", LIMIT, |it| condition(it, "never_ready")).await;
    assert!(text.contains("deadline"), "{text}");
    let all =
        waiting::until("four starts", LIMIT, async || Some(starts(&file)).filter(|all| all.len() >= 4)).await;
    let gaps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] >= 1.0 && gaps[1] > gaps[0] && gaps[2] > gaps[1], "no back-off in {gaps:?}");
    let detail = server.workload("deaf").await.expect("it answers");
    assert_eq!(ready(&detail), 0, "{detail:#}");
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}

#[tokio::test]
async fn a_crash_loop_is_told_backs_off_and_is_not_scaled_out() {
    let dir = folder();
    let file = dir.path().join("starts");
    let script = format!("date +%s%N >> {}; echo cannot load the weights >&2; exit 3", file.display());
    let mut workload = serving("chat", &["sh", "-c", &script]);
    workload["gateway"] = json!({ "listen": "127.0.0.1:0", "queue": 4, "waitMax": "500ms" });
    workload["serving"]["capacity"] = json!({ "requestsPerSecond": 2, "concurrency": 2 });
    let mut server = up_on(dir, &[workload]).await;
    let address = |it: &Value| Some(it["address"].as_str()?.to_owned());
    let gateway = workload_until(&mut server, "chat", "the gateway's address", LIMIT, address).await;
    let text =
        workload_until(&mut server, "chat", "its condition", LIMIT, |it| condition(it, "crash_loop")).await;
    assert!(text.contains("starts in a row failed"), "{text}");
    // Far more than one replica carries: a size that follows demand alone would go to 4.
    let said = folder();
    let mut load = command(server.dir(), &["load", &gateway, "--rate", "30"]);
    let _load = Program::start("load", &mut load, said.path());
    let all =
        waiting::until("six starts", LIMIT, async || Some(starts(&file)).filter(|all| all.len() >= 6)).await;
    let (first, last) = (all[1] - all[0], all[5] - all[4]);
    assert!(last > 2.0 * first && last >= 4.0, "no back-off in {all:?}");
    let seen = |it: &Value| it["demand"][0]["value"].as_f64().filter(|demand| *demand > 4.0);
    workload_until(&mut server, "chat", "more demand than one replica carries", LIMIT, seen).await;
    let decisions = waiting::until("a decision that names the loop", RECORDED, async || {
        let decisions = server.decisions("chat").await;
        decisions.iter().any(|one| codes(one).contains(&"crash_loop")).then_some(decisions)
    })
    .await;
    assert!(decisions.iter().all(|one| one["to"].as_u64() <= Some(1)), "it was scaled out: {decisions:#?}");
    let logs = server.get("/api/v1/logs?q=weights").await.expect("it answers");
    assert!(logs["logs"][0]["text"].as_str().is_some_and(|text| text.contains("cannot load")), "{logs:#}");
    let refused = http().get(&gateway).send().await.expect("the gateway answers");
    assert_eq!(refused.status().as_u16(), 503);
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
}

#[tokio::test]
async fn a_replica_that_is_killed_from_outside_is_replaced() {
    let dir = folder();
    let mut workload = digits(dir.path(), "chat", "10ms");
    workload["serving"]["replicas"]["min"] = 2.into();
    let mut server = up_on(dir, &[workload]).await;
    let both = |it: &Value| (ready(it) == 2).then_some(());
    workload_until(&mut server, "chat", "two ready replicas", LIMIT, both).await;
    let before = server.program().descendants();
    let victim = i32::try_from(before[0]).expect("process ids are small");
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("it runs");
    let lost = |it: &Value| condition(it, "replica_lost");
    let text = workload_until(&mut server, "chat", "the loss", LIMIT, lost).await;
    assert!(text.contains('1'), "{text}");
    workload_until(&mut server, "chat", "two ready replicas again", LIMIT, both).await;
    waiting::until("another process in its place", LIMIT, async || {
        let now = server.program().descendants();
        (now.len() == 2 && now != before).then_some(())
    })
    .await;
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}
