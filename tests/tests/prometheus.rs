//! The Prometheus that the suite runs against is the real one, and the alert rules pass `promtool`: syntax, then the firing and silent cases.

use std::time::Duration;

use tidegate_tests::repository::{files, root};
use tidegate_tests::servers::{Prometheus, promtool};
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
