//! Wrong configurations: all that is wrong is said at once, and nothing is started.

use serde_json::json;
use std::path::Path;

use super::written::{Ended, configuration, folder, run, serving, write};

/// Eight lines, with four faults: lines 1, 4, 6 and 7.
const WRONG: &str = "\
colour: blue
workloads:
  - name: chat
    proces: {command: [sh]}
    serving:
      replicas: {min: 1, max: many}
      slo: {latency: 30 parsecs, target: 0.99}
";

fn both(dir: &Path, file: &str) -> [Ended; 2] {
    [run(dir, &["check", "config", file]), run(dir, &["up", "--config", file, "--listen", "127.0.0.1:0"])]
}

#[test]
fn every_error_is_told_at_once_with_line_and_column() {
    let dir = folder();
    let file = write(dir.path(), "tidegate.yaml", WRONG);
    for ended in both(dir.path(), &file) {
        assert_eq!((ended.code, ended.output.as_str()), (Some(64), ""), "{}", ended.errors);
        assert!(ended.errors.contains("4 errors"), "{}", ended.errors);
        let places = [":1:1: /colour: unknown field", ":4:5: ", ":6:26: ", ":7:13: "];
        for place in places {
            assert!(ended.errors.contains(&format!("{file}{place}")), "no {place}: {}", ended.errors);
        }
        for expected in ["did you mean `process`?", "\"many\"", "length of time such as 250ms"] {
            assert!(ended.errors.contains(expected), "no {expected}: {}", ended.errors);
        }
    }
}

#[test]
fn what_is_no_yaml_and_what_is_not_there_are_told_with_their_place() {
    let dir = folder();
    let torn = write(dir.path(), "torn.yaml", "workloads: [\n  {name: a\n");
    for ended in both(dir.path(), &torn) {
        assert_eq!(ended.code, Some(64), "{}", ended.errors);
        assert!(ended.errors.contains("torn.yaml:"), "{}", ended.errors);
    }
    for ended in both(dir.path(), "absent.yaml") {
        assert_eq!(ended.code, Some(64), "{}", ended.errors);
        assert!(ended.errors.contains("absent.yaml"), "{}", ended.errors);
    }
    let nowhere = run(dir.path(), &["check", "config"]);
    assert_eq!(nowhere.code, Some(64));
    assert!(nowhere.errors.contains("/etc/tidegate/tidegate.yaml"), "{}", nowhere.errors);
}

#[test]
fn a_configuration_that_is_right_is_found_where_it_usually_lies() {
    let dir = folder();
    write(dir.path(), "tidegate.yaml", &configuration(&[serving("chat", &["sh"])]));
    let ended = run(dir.path(), &["check", "config"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    assert!(ended.output.contains("1 workloads managed"), "{}", ended.output);
}

#[test]
fn a_command_that_does_not_exist_is_named_before_anything_is_started() {
    let dir = folder();
    let workloads = [serving("fine", &["sh", "-c", "exit 1"]), serving("chat", &["no-such-server"])];
    let file = write(dir.path(), "tidegate.yaml", &configuration(&workloads));
    let ended = run(dir.path(), &["up", "--config", &file, "--listen", "127.0.0.1:0"]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(64), ""), "{}", ended.errors);
    assert!(ended.errors.contains("chat") && ended.errors.contains("no-such-server"), "{}", ended.errors);
    assert!(!dir.path().join("tidegate-data/logs/replicas").exists(), "a replica was started");
    // The file may be meant for another machine: its check warns and is content.
    let checked = run(dir.path(), &["check", "config", &file]);
    assert_eq!(checked.code, Some(0), "{}", checked.errors);
    let warned: Vec<_> = checked.output.lines().filter(|line| line.contains("warning")).collect();
    assert!(warned.len() == 1 && warned[0].contains("no-such-server"), "{}", checked.output);
}

#[test]
fn beyond_loopback_it_needs_tls_and_tokens() {
    let dir = folder();
    let listen = run(dir.path(), &["up", "--listen", "0.0.0.0:0"]);
    let file = write(dir.path(), "open.yaml", &json!({ "listen": "0.0.0.0:0" }).to_string());
    let configured = run(dir.path(), &["up", "--config", &file]);
    for ended in [listen, configured] {
        assert_eq!((ended.code, ended.output.as_str()), (Some(64), ""), "{}", ended.errors);
        for missing in ["beyond loopback", "`tls`", "`tokens`"] {
            assert!(ended.errors.contains(missing), "no {missing}: {}", ended.errors);
        }
    }
}
