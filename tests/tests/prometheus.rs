//! The Prometheus that the suite runs against is the real one, and the alert rules pass `promtool`: syntax, then the firing and silent cases.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::repository::{files, root, text};
use tidegate_tests::servers::{Prometheus, http, promtool};
use tidegate_tests::waiting;

fn promtool_on(arguments: &[&str], folder: &str) {
    let of_folder = files()
        .into_iter()
        .filter(|path| path.starts_with(folder) && path.extension().is_some_and(|e| e == "yaml"));
    let paths: Vec<String> = of_folder.map(|path| path.display().to_string()).collect();
    assert!(!paths.is_empty(), "there are no files in {folder}");
    let all: Vec<&str> = arguments.iter().copied().chain(paths.iter().map(String::as_str)).collect();
    let output = promtool(&all, root());
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn alert_rules_are_valid() {
    promtool_on(&["check", "rules", "--lint=all", "--lint-fatal"], "alerts/rules");
}

#[test]
fn the_plain_scrape_configuration_is_valid() {
    promtool_on(&["check", "config"], "deploy/prometheus");
}

#[test]
fn alert_rules_fire_and_keep_silent_as_told() {
    promtool_on(&["test", "rules"], "alerts/tests");
}

#[tokio::test]
async fn the_server_scrapes_and_refuses_nonsense() {
    let rules = vec![root().join("alerts/rules/tidegate.yaml")];
    let first = Prometheus::start(&[], &rules).await;
    let target = first.url().trim_start_matches("http://").to_owned();
    let second = Prometheus::start(&[target], &[]).await;
    waiting::until("a scraped target", Duration::from_secs(30), async || {
        let found = second.query("up == 1").await.expect("the query is valid");
        (found.len() == 1).then_some(())
    })
    .await;
    let refused = second.query("sum by (").await.expect_err("it is no expression");
    assert!(refused.contains("parse error"), "{refused}");
}

/// The rules as Prometheus has understood them.
async fn rules(server: &Prometheus) -> Vec<Value> {
    let answer =
        http().get(format!("{}/api/v1/rules", server.url())).send().await.expect("Prometheus answers");
    let body: Value = answer.json().await.expect("Prometheus answers in JSON");
    let groups = body["data"]["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
}

#[tokio::test]
async fn every_alert_says_what_it_means_and_is_tested_both_ways() {
    let server = Prometheus::start(&[], &[root().join("alerts/rules/tidegate.yaml")]).await;
    let rules = rules(&server).await;
    assert!(!rules.is_empty(), "Prometheus read no rules");
    for rule in rules {
        let name = rule["name"].as_str().expect("a rule has a name");
        assert!(
            matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning" | "info")),
            "{name}: severity"
        );
        assert!(rule["duration"].as_f64().is_some_and(|seconds| seconds > 0.0), "{name}: for");
        for annotation in ["summary", "description"] {
            assert!(
                rule["annotations"][annotation].as_str().is_some_and(|text| text.ends_with('.')),
                "{name}: {annotation}"
            );
        }
        let runbook = rule["annotations"]["runbook_url"].as_str().expect("a rule has a runbook");
        let runbook = text(Path::new(runbook)).unwrap_or_else(|| panic!("{name}: there is no {runbook}"));
        for section in ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"] {
            assert!(runbook.contains(section), "{name}: its runbook lacks `{section}`");
        }
        let cases = text(Path::new(&format!("alerts/tests/{name}.yaml"))).expect("it has test cases");
        assert!(
            cases.contains("exp_labels:") && cases.contains("name: keeps silent"),
            "{name}: one firing, one silent case"
        );
    }
}
