//! Faults that can be tried in the demo: each is named by a condition and by the reasons of decisions, and ends when cleared.

use serde_json::{Value, json};
use tidegate_tests::servers::Tidegate;
use tidegate_tests::waiting;

use super::demo::{LIMIT, SERVE, TRAIN, until_loaded};
use super::written::{codes, condition, folder, ready, workload_until, write};

const PATH: &str = "/api/v1/demo/faults";

async fn trigger(server: &Tidegate, name: &str, fault: &str) -> Value {
    let body = json!({ "workload": format!("local/process/{name}"), "fault": fault });
    let (status, answer) = server.post(PATH, None, &body).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

async fn decided_by(server: &Tidegate, name: &str, code: &str) -> Vec<Value> {
    waiting::until(&format!("a decision with {code}"), LIMIT, async || {
        let decisions = server.decisions(name).await;
        decisions.iter().any(|one| codes(one).contains(&code)).then_some(decisions)
    })
    .await
}

fn without(name: &str) -> impl Fn(&Value) -> Option<()> {
    move |it| condition(it, name).is_none().then_some(())
}

#[tokio::test]
async fn a_killed_replica_is_named_and_replaced() {
    let mut server = Tidegate::up(&["--demo"]).await;
    until_loaded(&mut server).await;
    let before = server.workload(SERVE).await.expect("it answers");
    trigger(&server, SERVE, "kill_replica").await;
    workload_until(&mut server, SERVE, "the loss", LIMIT, |it| condition(it, "replica_lost")).await;
    decided_by(&server, SERVE, "replica_lost").await;
    let again = |it: &Value| (ready(it) >= ready(&before)).then_some(());
    workload_until(&mut server, SERVE, "as many ready replicas as before", LIMIT, again).await;
    let (status, refused) = server.post(PATH, None, &json!({ "workload": "a/b/c", "fault": "clear" })).await;
    assert_eq!(status, 404, "{refused:#}");
    let (status, refused) = server.post(PATH, None, &json!({ "workload": "a/b/c", "fault": "flood" })).await;
    assert_eq!(status, 400, "{refused:#}");
}

#[tokio::test]
async fn without_metrics_the_size_is_held_and_said_to_be() {
    let mut server = Tidegate::up(&["--demo"]).await;
    until_loaded(&mut server).await;
    let answer = trigger(&server, SERVE, "stop_metrics").await;
    assert_eq!(answer["running"][0]["fault"], "stop_metrics", "{answer:#}");
    workload_until(&mut server, SERVE, "stale demand", LIMIT, |it| condition(it, "demand_stale")).await;
    let held = server.workload(SERVE).await.expect("it answers")["replicas"]["wanted"].clone();
    let decisions = decided_by(&server, SERVE, "demand_stale").await;
    let stale = decisions.iter().find(|one| codes(one).contains(&"demand_stale")).expect("it was found");
    assert_eq!(stale["from"], stale["to"], "the size is not held: {stale:#}");
    assert_eq!(held, stale["to"]);
    let answer = trigger(&server, SERVE, "clear").await;
    assert_eq!(answer["running"].as_array().map(Vec::len), Some(0), "{answer:#}");
    workload_until(&mut server, SERVE, "fresh demand", LIMIT, without("demand_stale")).await;
}

#[tokio::test]
async fn a_crash_loop_is_named_and_ends_when_cleared() {
    let mut server = Tidegate::up(&["--demo"]).await;
    until_loaded(&mut server).await;
    trigger(&server, SERVE, "crash_loop").await;
    // Before the loop is known, a replica that ended is replaced, and the load may ask for more: what counts is what comes after.
    let looping = |it: &Value| {
        let text = condition(it, "crash_loop")?;
        let failures: u64 = text.split(' ').next()?.parse().ok()?;
        Some((failures, it["replicas"]["wanted"].as_u64()?))
    };
    let (failures, size) = workload_until(&mut server, SERVE, "the crash loop", LIMIT, looping).await;
    let further = |it: &Value| looping(it).filter(|(n, _)| *n >= failures + 2);
    let (_, later) = workload_until(&mut server, SERVE, "two more failed starts", LIMIT, further).await;
    assert!(later <= size, "it was scaled out from {size} to {later}");
    trigger(&server, SERVE, "clear").await;
    workload_until(&mut server, SERVE, "a ready replica", LIMIT, |it| (ready(it) > 0).then_some(())).await;
    assert_eq!(server.interrupt().code(), Some(0), "{}", server.program().errors());
    assert_eq!(server.processes(), Vec::<u32>::new(), "it left processes behind");
}

/// A day with little load until a quarter of a minute after the start, when there is suddenly a lot of it: a demo without history
/// gives all free slots to training and then has to take some back.
fn sudden() -> String {
    // The demo begins at a fifth of the day; 144 seconds of the trace are one of the load.
    let jump_s = 86_400 / 5 + 15 * 144;
    let rows = (0..120).map(|row| row * 720);
    let values = rows.map(|at_s| format!("{at_s},{}\n", if at_s < jump_s { 5 } else { 100 }));
    "timestamp_s,value\n".to_owned() + &values.collect::<String>()
}

#[tokio::test]
async fn a_failed_checkpoint_is_named_in_the_decision_that_takes_workers_away() {
    let dir = folder();
    let trace = write(dir.path(), "sudden.csv", &sudden());
    let mut server = Tidegate::up_in(dir, &["--demo", "--cold", "--trace", &trace]).await;
    let full = |it: &Value| Some(ready(it)).filter(|n| *n > 4 && it["replicas"]["wanted"] == *n);
    let before = workload_until(&mut server, TRAIN, "workers in the free slots", LIMIT, full).await;
    trigger(&server, TRAIN, "fail_checkpoint").await;
    decided_by(&server, TRAIN, "pool_recall").await;
    workload_until(&mut server, TRAIN, "the failure", LIMIT, |it| condition(it, "checkpoint_failed")).await;
    decided_by(&server, TRAIN, "checkpoint_failed").await;
    trigger(&server, TRAIN, "clear").await;
    let fewer = |it: &Value| (ready(it) < before).then_some(());
    workload_until(&mut server, TRAIN, "fewer workers", LIMIT, fewer).await;
}
