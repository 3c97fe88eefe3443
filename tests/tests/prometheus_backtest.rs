//! `tidegate backtest --prometheus` against a real Prometheus that holds a recorded load: whole, guarded, and asked wrongly.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_tests::servers::{PROMETHEUS_PASSWORD, PROMETHEUS_USER, Prometheus, binary};

/// The load begins at 2023-11-14T22:00:00Z and is recorded each half minute for nine days: more than fits into one answer.
const START: i64 = 1_699_999_200;
const STEP: i64 = 30;
const STEPS: i64 = 9 * 2880;

/// A counter that rises by 3 requests a second, from the noon of each day on by 9; one of 200 tokens each, on the last day of 800; and a
/// gauge that is NaN for a while.
fn recorded() -> String {
    let mut text = String::from("# TYPE requests counter\n");
    for (pod, share) in [("a", 1), ("b", 2)] {
        let mut count = 0;
        for k in 0..STEPS {
            count += STEP * share * if k % 2880 < 1440 { 1 } else { 3 };
            writeln!(text, "requests_total{{pod=\"{pod}\"}} {count} {}", START + k * STEP)
                .expect("writing to a string succeeds");
        }
    }
    text.push_str("# TYPE tokens counter\n");
    let mut count = 0;
    for k in 0..STEPS {
        let each = if k < STEPS - 2880 { 200 } else { 800 };
        count += STEP * each * if k % 2880 < 1440 { 3 } else { 9 };
        writeln!(text, "tokens_total {count} {}", START + k * STEP).expect("writing to a string succeeds");
    }
    text.push_str("# TYPE odd gauge\n");
    for k in 0..STEPS {
        writeln!(text, "odd {} {}", if k == STEPS - 200 { "NaN" } else { "-1" }, START + k * STEP)
            .expect("writing to a string succeeds");
    }
    text + "# EOF\n"
}

fn backtest(server: &Prometheus, query: &str, further: &[&str]) -> Output {
    let fixed = ["backtest", "--prometheus", server.url(), "--query", query, "--output", "json"];
    // The last answers to the end of what was recorded: 2023-11-23T22:00:00Z.
    let range = ["--from", "2023-11-14T22:00:00Z", "--to", "2023-11-23T21:59:30Z", "--step", "30s"];
    let few = ["--policies", "static", "--no-fronts", "--days", "1"];
    Command::new(binary())
        .args(fixed)
        .args(range)
        .args(few)
        .args(further)
        .output()
        .expect("the binary was built")
}

fn report(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn refused(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    errors
}

#[tokio::test]
async fn a_recorded_load_comes_whole_in_several_pieces() {
    let server = Prometheus::recorded(&recorded(), false).await;
    let report = report(&backtest(&server, "sum(rate(requests_total[1m]))", &[]));
    let load = &report["load"];
    assert_eq!(load["step_s"], 30.0);
    assert_eq!(load["to"], "2023-11-23T21:59:30.000Z");
    // The first value lacks a predecessor, and describes the step before its time.
    assert_eq!(load["history_from"], "2023-11-14T22:00:00.000Z");
    let peak = load["peak_rps"].as_f64().expect("it is known");
    assert!((peak - 9.0).abs() < 0.01, "{load:#}");
    let mean = load["mean_rps"].as_f64().expect("it is known");
    assert!((mean - 6.0).abs() < 0.1, "{load:#}");
    assert_eq!(report["notes"].as_array().map(Vec::len), Some(0), "{report:#}");
}

#[tokio::test]
async fn a_language_models_tokens_are_asked_for_beside_its_requests() {
    let server = Prometheus::recorded(&recorded(), false).await;
    let (requests, tokens) = ("sum(rate(requests_total[1m]))", "rate(tokens_total[1m])");
    let of_tokens =
        ["--model", "llm", "--prompt-query", tokens, "--output-query", "rate(tokens_total[1m]) / 10"];
    let engine = report(&backtest(&server, requests, &of_tokens))["settings"]["engine"].clone();
    // Of nine days alike but for their prompts, eight with 200 tokens and one with 800.
    let mean = |field: &str| engine[field].as_f64().expect("it is known");
    assert!((mean("prompt_tokens") - 266.7).abs() < 3.0, "{engine:#}");
    assert!((mean("output_tokens") - 26.67).abs() < 0.3, "{engine:#}");
    let said = |prompt: &str, code| {
        let wrong = ["--model", "llm", "--prompt-query", prompt, "--output-query", tokens];
        refused(&backtest(&server, requests, &wrong), code)
    };
    assert!(said("rate(", 1).contains("--prompt-query"), "it says which of them is wrong");
    assert!(said("rate(requests_total[1m])", 64).contains("--prompt-query"));
    let alone = ["--model", "llm", "--prompt-query", tokens];
    assert!(refused(&backtest(&server, requests, &alone), 64).contains("--output-query"));
    assert!(refused(&backtest(&server, requests, &of_tokens[2..]), 64).contains("--model llm"));
}

#[tokio::test]
async fn what_prometheus_refuses_or_cannot_give_is_said() {
    let server = Prometheus::recorded(&recorded(), false).await;
    let said = |query: &str, code| refused(&backtest(&server, query, &[]), code);
    assert!(said("sum(rate(", 1).contains("parse error"));
    assert!(said("rate(requests_total[1m])", 64).contains("{pod=\"a\"}, {pod=\"b\"}"));
    assert!(said("nothing_of_this_name", 1).contains("gives nothing from 2023-11-14"));
    assert!(said("odd", 64).contains("gives -1"));
    let mostly = report(&backtest(&server, "abs(odd)", &[]));
    let notes = mostly["notes"].to_string();
    assert!(notes.contains("1 values of the query are NaN") && notes.contains("filled in"), "{notes}");
    assert!(said("odd / 0 * 0", 1).contains("are NaN or infinite"));
}

#[tokio::test]
async fn a_guarded_server_wants_its_authority_and_its_user() {
    let server = Prometheus::recorded(&recorded(), true).await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("the directory is writable");
        text_of(&path)
    };
    let (right, wrong) = (write("right", &format!("{PROMETHEUS_PASSWORD}\n")), write("wrong", "guess"));
    let ca = text_of(&server.ca());
    let query = "sum(rate(requests_total[1m]))";
    let ask = |further: &[&str]| backtest(&server, query, further);
    let user = ["--user", PROMETHEUS_USER, "--password-file"];
    report(&ask(&[&["--ca-file", &ca], &user[..], &[&right]].concat()));
    let denied = refused(&ask(&[&["--ca-file", &ca], &user[..], &[&wrong]].concat()), 1);
    assert!(denied.contains("401 Unauthorized") && !denied.contains("guess"), "{denied}");
    assert!(refused(&ask(&["--ca-file", &ca]), 1).contains("--password-file"));
    let unknown = refused(&ask(&[&user[..], &[&right]].concat()), 1);
    assert!(unknown.contains("failed to ask"), "{unknown}");
}

fn text_of(path: &Path) -> String {
    path.to_str().expect("the path is UTF-8").to_owned()
}
