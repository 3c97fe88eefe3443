//! `tidegate backtest`: what it prints, and loads that are not what they should be.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tidegate_tests::servers::{Program, Tidegate};
use tidegate_tests::waiting;

use super::written::{command, folder, run, write};

const HEADER: &str = "timestamp_s,value\n";
/// Few and short runs: what is printed of them is the matter here, not what they come to.
const SHORT: [&str; 4] = ["--days", "0.05", "--policies", "tidegate,hpa,static"];

/// A hundred steps of ten minutes each; a hump a day.
fn load() -> String {
    let mut text = HEADER.to_owned();
    for step in 0..100_i32 {
        let value = 6 + (72 - (step % 144 - 72).abs()) / 4 + step * 7 % 3;
        writeln!(text, "{},{value}", step * 600).expect("writing to a string succeeds");
    }
    text
}

/// Runs it on the short load and gives what it printed.
fn backtest(dir: &Path, further: &[&str]) -> String {
    let file = write(dir, "load.csv", &load());
    let ended = run(dir, &[&["backtest", &file][..], &SHORT, further].concat());
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{further:?}");
    ended.output
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

#[test]
fn every_output_holds_the_same_comparison() {
    let dir = folder();
    let further = ["--price", "2.5", "--hpa-target", "0.6"];
    let report = json(&backtest(dir.path(), &[&further[..], &["--output", "json"]].concat()));
    let runs = report["runs"].as_array().expect("it has runs");
    let usual: Vec<&Value> = runs.iter().filter(|run| run["usual"] == true).collect();
    let policies: Vec<&str> = usual.iter().filter_map(|run| run["policy"].as_str()).collect();
    assert_eq!(policies, ["tidegate", "hpa", "static", "oracle"]);
    assert_eq!(usual[1]["setting"], 0.6);
    assert!(runs.iter().filter(|run| run["policy"] == "hpa").count() > 3, "it has a front");
    for run in runs {
        let number = |name: &str| run[name].as_f64().unwrap_or_else(|| panic!("{name} of {run:#}"));
        assert!((number("attained") - (1.0 - number("missed") / number("requests"))).abs() < 1e-9, "{run:#}");
        assert!((number("cost") - 2.5 * number("replica_hours")).abs() < 1e-6, "{run:#}");
        assert_eq!(run["kept"].as_bool(), Some(number("attained") >= 0.99), "{run:#}");
        assert_eq!(run["requests"], runs[0]["requests"], "the same requests meet every policy");
    }
    let minutes = report["timeline"]["arrivals_rps"].as_array().map(Vec::len);
    assert_eq!(minutes, Some(70), "0.05 days are 7 steps of ten minutes");

    let csv = backtest(dir.path(), &[&further[..], &["--output", "csv"]].concat());
    assert_eq!(csv.lines().count(), runs.len() + 1, "{csv}");
    assert!(csv.starts_with("policy,setting,usual,requests,missed,attained,kept,replica_hours"), "{csv}");

    let table = backtest(dir.path(), &further);
    let sentence = report["summary"].as_str().expect("it has a summary");
    assert!(table.contains(sentence) && sentence.starts_with("With Tidegate, "), "{table}");
    assert!(table.contains("HPA, target 60 %") && table.contains("cost"), "{table}");
    assert!(table.contains("The cheapest setting that kept the target"), "{table}");
}

#[test]
fn the_same_seed_gives_the_same_report_on_any_number_of_cores() {
    let dir = folder();
    let with = |seed: &str, jobs: &str| {
        let further = ["--no-fronts", "--output", "json", "--seed", seed, "--jobs", jobs];
        backtest(dir.path(), &further)
    };
    let first = with("7", "1");
    assert_eq!(with("7", "3"), first);
    assert_ne!(with("8", "3"), first);
}

#[test]
fn the_page_needs_no_network_and_holds_the_figures() {
    let dir = folder();
    backtest(dir.path(), &["--html", "report.html", "--no-fronts"]);
    let page = std::fs::read_to_string(dir.path().join("report.html")).expect("it wrote the page");
    assert!(page.contains("<script") && !page.contains("<script src") && !page.contains("<link"));
    assert!(page.contains("\"summary\":\"With Tidegate") && page.contains("plotly.js v"));
    for part in ["style", "report", "plotly", "script"] {
        assert!(!page.contains(&format!("{{{{{part}}}}}")), "{part} is missing");
    }
}

/// A file, the status it ends with, and what is said.
type Case<'a> = (&'a str, String, i32, &'a str);

fn rows(count: i64, step: i64, value: impl Fn(i64) -> String) -> String {
    (0..count)
        .map(|k| format!("{},{}\n", k * step, value(k)))
        .fold(HEADER.to_owned(), |text, row| text + &row)
}

#[test]
fn a_load_that_is_none_is_refused_with_its_reason() {
    let dir = folder();
    // Local times around the end of summer time: an hour comes twice.
    let twice = rows(600, 60, |_| "5".into()) + "32460,5\n";
    let hole = rows(100, 60, |_| "5".into())
        + &(0..10).map(|k| format!("{},5\n", 40_000 + k * 60)).collect::<String>();
    let cases: [Case<'_>; 10] = [
        ("empty.csv", String::new(), 64, "line 1"),
        ("headed.csv", HEADER.into(), 64, "two rows or more, got 0"),
        ("one.csv", format!("{HEADER}0,5\n"), 64, "two rows or more, got 1"),
        ("unsorted.csv", format!("{HEADER}60,5\n0,5\n"), 64, "line 3"),
        ("twice.csv", twice, 64, "line 602"),
        ("negative.csv", format!("{HEADER}0,5\n60,-5\n"), 64, "line 3"),
        ("infinite.csv", format!("{HEADER}0,5\n60,inf\n"), 64, "line 3"),
        ("short.csv", rows(20, 60, |_| "5".into()), 1, "20 minutes of load leave 7 to score"),
        ("zero.csv", rows(600, 60, |_| "0".into()), 1, "no request arrives"),
        ("hole.csv", hole, 1, "at most a quarter"),
    ];
    for (name, text, code, said) in cases {
        let file = write(dir.path(), name, &text);
        let ended = run(dir.path(), &["backtest", &file]);
        assert_eq!((ended.code, ended.output.as_str()), (Some(code), ""), "{name}: {}", ended.errors);
        assert!(ended.errors.contains(name) && ended.errors.contains(said), "{name}: {}", ended.errors);
    }
}

#[test]
fn an_odd_load_has_a_sound_result() {
    let dir = folder();
    let irregular =
        rows(500, 60, |k| (k % 9 + 1).to_string()).replace("\n600,", "\n617,").replace("\n720,", "\n699,");
    let cases = [
        ("constant.csv", rows(500, 60, |_| "5".into())),
        ("irregular.csv", irregular),
        // Ten years of days, of which the last five weeks can be learned from.
        ("ten_years.csv", rows(3650, 86_400, |_| "2".into())),
        // Seconds, with nothing but one burst.
        ("burst.csv", rows(7200, 1, |k| if (4000..4060).contains(&k) { "40".into() } else { "0".into() })),
    ];
    for (name, text) in cases {
        let file = write(dir.path(), name, &text);
        let few = ["--policies", "tidegate,hpa", "--no-fronts", "--days", "0.05", "--output", "json"];
        let ended = run(dir.path(), &[&["backtest", &file][..], &few].concat());
        assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{name}");
        let report = json(&ended.output);
        for run in report["runs"].as_array().expect("it has runs") {
            assert!(
                run["attained"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
                "{name}: {run:#}"
            );
            assert!(run["replica_hours"].as_f64().is_some_and(|hours| hours > 0.0), "{name}: {run:#}");
        }
    }
}

#[test]
fn wrong_usage_exits_64_and_names_what_is_wrong() {
    let dir = folder();
    let file = write(dir.path(), "load.csv", &load());
    let cases: [(&[&str], &str); 16] = [
        (&[], "<FILE|--prometheus <URL>|--data <DIR>>"),
        (&[&file, "--data", ".", "--workload", "x"], "cannot be used with"),
        (&["--prometheus", "http://127.0.0.1:9"], "--query"),
        (&["--prometheus", "127.0.0.1:9", "--query", "x"], "wrong --prometheus"),
        (&["--prometheus", "http://127.0.0.1:9", "--query", "x", "--from", "soon"], "soon"),
        (&["--prometheus", "http://127.0.0.1:9", "--query", "x", "--from", "9000d"], "longer --step"),
        (&["--prometheus", "http://127.0.0.1:9", "--query", "x", "--token-file", "absent"], "absent"),
        (&["--prometheus", "https://127.0.0.1:9", "--query", "x", "--ca-file", &file], "no certificate"),
        (&["--data", ".", "--workload", "x"], "no history"),
        (&[&file, "--days", "5"], "0.69 days only"),
        (&[&file, "--days", "0"], "--days"),
        (&[&file, "--replicas", "8..2"], "MIN..MAX"),
        (&[&file, "--target", "1.2"], "0.9999"),
        (&[&file, "--policies", "hpa,vpa"], "vpa"),
        (&[&file, "--service-time", "3s"], "--slo"),
        (&[&file, "--hpa-target", "70"], "0.05 to 1"),
    ];
    for (arguments, said) in cases {
        let ended = run(dir.path(), &[&["backtest"], arguments].concat());
        assert_eq!((ended.code, ended.output.as_str()), (Some(64), ""), "{arguments:?}: {}", ended.errors);
        assert!(ended.errors.contains(said), "{arguments:?}: {}", ended.errors);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 1, "nothing was made: {left:?}");
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    let dir = folder();
    let ended = run(dir.path(), &["backtest", "--prometheus", "http://127.0.0.1:9", "--query", "x"]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""), "{}", ended.errors);
    assert!(ended.errors.contains("failed to ask http://127.0.0.1:9/"), "{}", ended.errors);
}

#[tokio::test]
async fn the_history_of_a_demo_is_a_load() {
    let mut server = Tidegate::up(&["--demo", "--speed", "4"]).await;
    let data = server.data().to_str().expect("the path is UTF-8").to_owned();
    let dir = folder();
    let arguments =
        ["backtest", "--data", &data, "--workload", "digits-serve", "--no-fronts", "--output", "json"];
    let few = ["--policies", "hpa", "--days", "0.05"];
    let busy = run(dir.path(), &[&arguments[..], &few].concat());
    assert_eq!(busy.code, Some(1), "{}", busy.errors);
    assert!(
        busy.errors.contains("stop that one first") && busy.errors.contains("in use by process"),
        "{}",
        busy.errors
    );
    assert_eq!(server.interrupt().code(), Some(0));
    let ended = run(dir.path(), &[&arguments[..], &few].concat());
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""));
    let report = json(&ended.output);
    assert!(
        report["source"].as_str().is_some_and(|source| source.contains("local/process/digits-serve")),
        "{report:#}"
    );
    assert!(report["load"]["requests"].as_u64().is_some_and(|requests| requests > 0), "{report:#}");
}

#[tokio::test]
async fn it_ends_when_it_is_interrupted_amid_the_work() {
    let dir = folder();
    // Tens of millions of requests each run: minutes of work.
    let file = write(dir.path(), "load.csv", &rows(3 * 1440, 60, |_| "400".into()));
    let arguments = ["--log", "debug", "backtest", &file];
    let mut program = Program::start("backtest", &mut command(dir.path(), &arguments), dir.path());
    waiting::until("the work to begin", Duration::from_secs(20), async || {
        program.errors().contains("simulating").then_some(())
    })
    .await;
    program.signal(Signal::SIGINT);
    let ended = program.wait(Duration::from_secs(5)).expect("it ends when interrupted");
    assert_eq!(ended.code(), Some(130), "{}", program.errors());
    assert_eq!(program.output(), "");
}
