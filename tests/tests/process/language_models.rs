//! `tidegate backtest --model llm`: loads with tokens, by steps and request by request.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::written::{folder, run, write};

/// Few runs of few replicas.
const SHORT: [&str; 8] =
    ["--model", "llm", "--replicas", "1..6", "--policies", "tidegate,hpa", "--no-fronts", "--quiet"];

/// Eight hours of minutes; in the last three prompts are four times as long, and requests no more.
fn by_minutes() -> String {
    let mut text = "timestamp_s,value,prompt_tokens,output_tokens\n".to_owned();
    for minute in 0..480_i32 {
        let requests = 3 + minute % 3;
        let prompt = requests * if minute < 300 { 1000 } else { 4000 };
        writeln!(text, "{},{requests},{prompt},{}", minute * 60, requests * 150).expect("writing succeeds");
    }
    text
}

fn report(dir: &Path, file: &str, further: &[&str]) -> Value {
    let arguments = [&["backtest", file, "--output", "json"][..], &SHORT, further].concat();
    let ended = run(dir, &arguments);
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{further:?}");
    serde_json::from_str(&ended.output).expect("it is JSON")
}

fn of<'a>(report: &'a Value, policy: &str) -> &'a Value {
    let runs = report["runs"].as_array().expect("it has runs");
    runs.iter().find(|run| run["policy"] == policy && run["usual"] == true).expect("it ran")
}

#[test]
fn tokens_by_steps_decide_what_is_needed() {
    let dir = folder();
    let file = write(dir.path(), "tokens.csv", &by_minutes());
    let told = report(dir.path(), &file, &[]);
    let engine = &told["settings"]["engine"];
    assert_eq!(told["settings"]["model"], "llm");
    assert_eq!(
        (&engine["kv_tokens"], &engine["batch"], &engine["tpot_s"]),
        (&160_000.into(), &64.into(), &0.06.into())
    );
    let prompt = engine["prompt_tokens"].as_f64().expect("it is told");
    assert!((2100.0..2150.0).contains(&prompt), "five hours of 1000, three of 4000: {prompt}");
    assert!(told["settings"]["service_time_s"].is_null());
    // The oracle sees the prompts grow: it holds more than for the same requests of the usual size.
    let without = by_minutes()
        .lines()
        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(",") + "\n")
        .collect::<String>();
    let plain = write(dir.path(), "plain.csv", &without);
    let plain = report(dir.path(), &plain, &["--prompt-tokens", "1000", "--output-tokens", "150"]);
    let hours = |report: &Value| of(report, "oracle")["replica_hours"].as_f64().expect("a number");
    assert!(hours(&told) > 1.2 * hours(&plain), "{} and {}", hours(&told), hours(&plain));
    for run in told["runs"].as_array().expect("it has runs") {
        assert!(run["attained"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{run:#}");
    }
}

#[test]
fn requests_one_by_one_are_replayed_as_they_came() {
    let dir = folder();
    let mut text = "timestamp_s,prompt_tokens,output_tokens\n".to_owned();
    for request in 0..20_000_i32 {
        writeln!(text, "{},{},{}", f64::from(request) * 0.5, 500 + request % 700, 20 + request % 90)
            .expect("writing succeeds");
    }
    let file = write(dir.path(), "requests.csv", &text);
    let told = report(dir.path(), &file, &["--days", "0.03"]);
    // 43 minutes of two a second, to the end of the minute in which the last came.
    assert_eq!(told["load"]["step_s"], 60.0);
    let requests = of(&told, "tidegate")["requests"].as_u64().expect("a number");
    assert!((5000..=5170).contains(&requests), "{requests}");
    assert_eq!(of(&told, "hpa")["requests"], requests);
    let twice = report(dir.path(), &file, &["--days", "0.03", "--seed", "9"]);
    assert_eq!(of(&twice, "hpa")["requests"], requests, "no chance decides what arrives");
    let table = run(dir.path(), &[&["backtest", &file, "--days", "0.03"][..], &SHORT].concat());
    assert!(table.code == Some(0) && table.output.contains("With Tidegate"), "{}", table.output);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let dir = folder();
    let steps = write(dir.path(), "steps.csv", &by_minutes());
    let requests = "timestamp_s,prompt_tokens,output_tokens\n".to_owned()
        + &(0..4000).map(|k| format!("{k},100,10\n")).collect::<String>();
    let requests = write(dir.path(), "requests.csv", &requests);
    let half = write(dir.path(), "half.csv", "timestamp_s,value,prompt_tokens\n0,1,1\n60,1,1\n");
    let falling = write(dir.path(), "falling.csv", "timestamp_s,prompt_tokens,output_tokens\n9,1,1\n8,1,1\n");
    let cases: [(&[&str], &str); 9] = [
        (&[&requests, "--scale", "3"], "come as they came"),
        (&[&half], "prompt_tokens and output_tokens"),
        (&[&falling], "line 3"),
        (&[&steps, "--tpot", "20ms"], "--tpot"),
        (&[&steps, "--slo", "50ms"], "--slo"),
        (&[&steps, "--batch", "0"], "--batch"),
        (&[&steps, "--iteration-ms", "0"], "--iteration-ms"),
        (&[&steps, "--kv-tokens", "none"], "--kv-tokens"),
        (&[&steps, "--model", "gpt"], "--model"),
    ];
    for (arguments, said) in cases {
        let ended = run(dir.path(), &[&["backtest", "--model", "llm"], arguments].concat());
        assert_eq!((ended.code, ended.output.as_str()), (Some(64), ""), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(said), "{arguments:?}: {}", ended.errors);
    }
}
