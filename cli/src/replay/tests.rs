//! Conversations: what a simulator may say, and what is answered.

mod partners;

use serde_json::{Value, json};

use super::run;

fn init(rows: Value) -> Value {
    json!({
        "type": "init", "protocol": 1, "tick_s": 5, "start_time": 600_000.0,
        "workload": {
            "name": "chat", "role": "serving", "replicas": { "min": 1, "max": 64, "current": 3 },
            "replica": { "max_concurrency": 4 }, "slo": { "kind": "latency", "latency_s": 2.0 },
            "attainment_target": 0.99, "start_up_hint_s": null,
        },
        "history": { "step_s": 60, "columns": ["t", "arrivals"], "rows": rows },
    })
}

fn tick(t: f64, arrivals: u32, ready: u32) -> Value {
    json!({
        "type": "tick", "t": t, "window_s": 5, "age_s": 2, "arrivals": arrivals, "completed": arrivals, "dropped": 0, "slo_miss": 0,
        "replicas": { "desired": ready, "ready": ready, "starting": 0, "draining": 0 },
        "in_flight": f64::from(arrivals) / 10.0, "queued": 0.0, "latency_s": { "p50": 0.4 },
    })
}

fn talk(lines: impl IntoIterator<Item = Value>) -> (anyhow::Result<()>, Vec<Value>) {
    let input: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    raw(&input)
}

fn raw(input: &str) -> (anyhow::Result<()>, Vec<Value>) {
    let mut output = Vec::new();
    let ended = run(input.as_bytes(), &mut output);
    let said = String::from_utf8(output).unwrap();
    (ended, said.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn each_tick_gets_one_plan_with_reasons() {
    let ready =
        json!({ "type": "event", "event": "replica_ready", "t": 600_090.0, "start_up_s": 90.0, "new": 1 });
    let ticks = (1..60).map(|k| tick(600_000.0 + 5.0 * f64::from(k), 150, 5));
    let (ended, said) =
        talk([init(json!([])), ready].into_iter().chain(ticks).chain([json!({ "type": "end" })]));
    ended.unwrap();
    assert_eq!(said[0], json!({ "type": "ready" }));
    assert_eq!(said.len(), 60);
    let last = &said[59];
    assert_eq!((last["type"].as_str(), last["t"].as_f64()), (Some("plan"), Some(600_295.0)));
    // Half a second each, four at a time: 30 req/s keep four replicas and a little busy.
    assert!((4..=6).contains(&last["replicas"].as_u64().unwrap()), "{last}");
    assert!(last["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()));
}

#[test]
fn the_same_conversation_gives_the_same_plans() {
    let rows: Vec<Value> = (0..3000).map(|k| json!([420_000 + k * 60, 1200 + k * 7919 % 997])).collect();
    let conversation = || {
        let ticks = (1..40).map(|k| tick(600_000.0 + 5.0 * f64::from(k), 100 + k, 5));
        talk([init(json!(rows))].into_iter().chain(ticks)).1
    };
    assert_eq!(conversation(), conversation());
}

#[test]
fn an_unknown_version_and_a_first_line_that_is_no_init_are_refused() {
    let mut other = init(json!([]));
    other["protocol"] = json!(2);
    let (ended, said) = talk([other]);
    assert!(ended.unwrap_err().to_string().contains("protocol 2"));
    assert!(said.is_empty());
    for wrong in ["", "{}", "tick\n", "{\"type\":\"end\"}\n"] {
        let (ended, said) = raw(wrong);
        assert!(ended.is_err() && said.is_empty(), "{wrong}");
    }
}

#[test]
fn whatever_the_partner_does_a_tick_gets_a_plan_or_the_conversation_ends() {
    let mut back = tick(599_000.0, 10, 2);
    back["arrivals"] = Value::Null;
    let mut blind = tick(600_010.0, 10, 2);
    for field in ["window_s", "age_s", "arrivals", "completed", "dropped", "slo_miss", "in_flight", "queued"]
    {
        blind[field] = Value::Null;
    }
    let twice = tick(600_010.0, 10, 2);
    let rows =
        json!([[599_000, 5], [598_000, 7], [599_000, 5], [null, 3], [599_060, -4], [599_120, null], []]);
    let (ended, said) = talk([
        init(rows),
        tick(600_005.0, 10, 2),
        back,
        blind,
        twice.clone(),
        twice,
        json!({ "type": "end" }),
    ]);
    ended.unwrap();
    assert_eq!(said.len(), 6);
    assert!(said[1..].iter().all(|plan| plan["replicas"].is_u64()));
    let (ended, said) = raw(&format!(
        "{}\n{}\nnonsense\n{}\n",
        init(json!([])),
        tick(600_005.0, 1, 1),
        tick(600_010.0, 1, 1)
    ));
    ended.unwrap();
    assert_eq!(said.len(), 2, "a line that is none of the protocol's is the end");
}
