//! Series from files: `tidegate forecast`, and traces that are not what they should be.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::written::{folder, run, write};

/// Four days of ten minutes each, a hump a day: enough for every model to have an opinion.
fn series() -> String {
    let mut text = "timestamp_s,value\n".to_owned();
    for step in 0..4 * 144_i32 {
        let of_day = step % 144;
        let value = 20 + (72 - (of_day - 72).abs()) + step * 7 % 5;
        writeln!(text, "{},{value}", step * 600).expect("writing to a string succeeds");
    }
    text
}

fn forecast(dir: &Path, further: &[&str]) -> String {
    let file = dir.join("load.csv").to_str().expect("the path is UTF-8").to_owned();
    let ended = run(dir, &[&["forecast", &file, "--season", "1d"], further].concat());
    assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{further:?}");
    ended.output
}

#[test]
fn every_output_holds_the_same_forecast() {
    let dir = folder();
    write(dir.path(), "load.csv", &series());
    let csv = forecast(dir.path(), &["--output", "csv"]);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0].first().copied(), Some("start"));
    assert_eq!(rows.len(), 13, "two hours of ten minutes and a header: {csv}");
    let median = rows[0].iter().position(|name| *name == "q0.5").expect("it has a median");
    let upper = rows[0].iter().position(|name| *name == "q0.95").expect("it has an upper quantile");
    for row in &rows[1..] {
        let number = |at: usize| row[at].parse::<f64>().expect("a number");
        assert!(number(median) <= number(upper), "{row:?}");
    }
    let json: Value = serde_json::from_str(&forecast(dir.path(), &["--output", "json"])).expect("it is JSON");
    assert_eq!(json["forecast"]["steps"].as_array().map(Vec::len), Some(12), "{json:#}");
    assert!(json["league"].as_array().is_some_and(|league| league.len() > 2), "{json:#}");
    let table = forecast(dir.path(), &["--plot"]);
    assert!(table.contains("models by pinball loss") && table.contains('→'), "{table}");
    assert!(table.contains('•') && table.contains('─'), "it has no plot: {table}");
}

#[test]
fn a_gzipped_file_is_read_as_it_is() {
    let dir = folder();
    write(dir.path(), "load.csv", &series());
    let plain = forecast(dir.path(), &["--output", "csv"]);
    let packed = Command::new("gzip").arg(dir.path().join("load.csv")).status().expect("gzip is there");
    assert!(packed.success());
    let ended = run(dir.path(), &["forecast", "load.csv.gz", "--season", "1d", "--output", "csv"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert_eq!(ended.output, plain);
}

#[test]
fn a_page_with_the_chart_needs_no_network() {
    let dir = folder();
    write(dir.path(), "load.csv", &series());
    forecast(dir.path(), &["--html", "forecast.html"]);
    let page = std::fs::read_to_string(dir.path().join("forecast.html")).expect("it wrote the page");
    assert!(page.contains("median"));
    assert!(page.contains("<script") && !page.contains("<script src") && !page.contains("<link"));
}

#[test]
fn a_malformed_trace_is_refused_with_the_line() {
    let dir = folder();
    let cases = [
        ("header.csv", "time,load\n1,2\n", "line 1"),
        ("number.csv", "timestamp_s,value\n0,1\n60,many\n", "line 3"),
        ("order.csv", "timestamp_s,value\n0,1\n60,2\n60,3\n", "line 4"),
        ("negative.csv", "timestamp_s,value\n0,1\n60,-2\n", "line 3"),
        ("columns.csv", "timestamp_s,value\n0,1,2\n", "line 2"),
        ("empty.csv", "", "line 1"),
    ];
    for (name, text, line) in cases {
        let file = write(dir.path(), name, text);
        let commands: [&[&str]; 4] = [
            &["forecast", &file],
            &["backtest", &file],
            &["load", "http://127.0.0.1:9/", "--trace", &file],
            &["up", "--demo", "--listen", "127.0.0.1:0", "--trace", &file],
        ];
        for arguments in commands {
            let ended = run(dir.path(), arguments);
            assert_eq!(
                (ended.code, ended.output.as_str()),
                (Some(64), ""),
                "{arguments:?}: {}",
                ended.errors
            );
            assert!(ended.errors.contains(name) && ended.errors.contains(line), "{}", ended.errors);
        }
    }
    let absent = run(dir.path(), &["forecast", "absent.csv"]);
    assert_eq!(absent.code, Some(64));
    assert!(absent.errors.contains("absent.csv"), "{}", absent.errors);
}

#[test]
fn a_series_that_is_too_short_gets_no_opinion_and_no_zeros() {
    let dir = folder();
    let file = write(dir.path(), "short.csv", "timestamp_s,value\n0,1\n60,2\n120,3\n");
    let ended = run(dir.path(), &["forecast", &file, "--output", "csv"]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(1), ""), "{}", ended.errors);
    assert!(ended.errors.contains("no model has an opinion"), "{}", ended.errors);
}

#[test]
fn an_odd_series_gets_a_forecast_or_a_reason() {
    let dir = folder();
    let rows = |count: i64, step: i64, value: &dyn Fn(i64) -> i64| {
        (0..count).fold("timestamp_s,value\n".to_owned(), |mut text, k| {
            writeln!(text, "{},{}", k * step, value(k)).expect("writing to a string succeeds");
            text
        })
    };
    let bell = |hour: i64| 20 + 8 * (12 - (hour - 12).abs());
    // Local days in UTC: from the twentieth day on all comes an hour sooner.
    let summer = |k: i64| bell((k / 6 + i64::from(k > 20 * 144)) % 24);
    let irregular = rows(500, 60, &|k| k % 9).replace("\n600,", "\n617,").replace("\n720,", "\n699,");
    let cases: [(&str, String, i32, &str); 9] = [
        ("constant.csv", rows(400, 60, &|_| 7), 0, "start"),
        ("zero.csv", rows(400, 60, &|_| 0), 0, "start"),
        ("irregular.csv", irregular, 0, "start"),
        ("ten_years.csv", rows(3650, 86_400, &|k| 50 + k % 7), 0, "start"),
        ("summer_time.csv", rows(30 * 144, 600, &summer), 0, "start"),
        ("one.csv", "timestamp_s,value\n0,1\n".into(), 64, "two rows or more, got 1"),
        ("infinite.csv", "timestamp_s,value\n0,1\n60,inf\n".into(), 64, "line 3"),
        ("ages.csv", "timestamp_s,value\n0,1\n1e300,2\n".into(), 1, "no length of time"),
        ("instants.csv", "timestamp_s,value\n0,1\n1e-9,2\n2e-9,2\n".into(), 64, "at least a millisecond"),
    ];
    for (name, text, code, said) in cases {
        let file = write(dir.path(), name, &text);
        let horizon = if name == "ten_years.csv" { "2d" } else { "2h" };
        let ended = run(dir.path(), &["forecast", &file, "--horizon", horizon, "--output", "csv"]);
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.errors);
        assert!(format!("{}{}", ended.output, ended.errors).contains(said), "{name}: {}", ended.errors);
    }
}
