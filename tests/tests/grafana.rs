//! The dashboards fit Grafana's own typed schema, and read only metrics and labels that the catalogue has. Their queries run in the suite `prometheus`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tidegate_core::metrics::{Kind, Label, families};
use tidegate_tests::dashboards::{label_names, metric_names, queries, variable_metrics};
use tidegate_tests::repository::{files, root, text};
use tidegate_tests::servers::directory;

fn dashboards() -> Vec<PathBuf> {
    let found: Vec<_> = files().into_iter().filter(|path| path.starts_with("dashboards/grafana")).collect();
    assert!(!found.is_empty(), "there are no dashboards");
    found
}

/// Whether the schema takes the files, and what it says.
fn checked(paths: &[PathBuf]) -> (bool, String) {
    let program = directory("grafana-schema", "grafana").join("bin/grafana-schema");
    let output =
        Command::new(program).args(paths).current_dir(root()).output().expect("it was built by cargo xtask");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn broken_copy(dir: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let mut dashboard: Value =
        serde_json::from_str(&text(&dashboards()[0]).expect("it is text")).expect("it is JSON");
    change(&mut dashboard);
    let copy = dir.join("broken.json");
    std::fs::write(&copy, dashboard.to_string()).expect("the directory is writable");
    copy
}

#[test]
fn dashboards_fit_the_schema() {
    let (fits, said) = checked(&dashboards());
    assert!(fits, "{said}");
}

#[test]
fn the_schema_names_what_does_not_fit() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let misspelt = broken_copy(dir.path(), |dashboard| dashboard["panels"][0]["titel"] = "x".into());
    let (fits, said) = checked(&[misspelt]);
    assert!(!fits && said.contains("titel"), "{said}");
    let mistyped = broken_copy(dir.path(), |dashboard| dashboard["panels"][0]["title"] = 7.into());
    let (fits, said) = checked(&[mistyped]);
    assert!(!fits, "{said}");
}

#[test]
fn dashboards_and_alerts_read_only_metrics_of_the_catalogue() {
    let mut known = BTreeSet::new();
    for family in families() {
        known.insert(family.name.to_owned());
        if family.kind == Kind::Histogram {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", family.name)));
        }
    }
    let prefixes = [concat!("tidegate", "_"), "process_"];
    let mut read = BTreeSet::new();
    for path in dashboards() {
        let dashboard: Value = serde_json::from_str(&text(&path).expect("it is text")).expect("it is JSON");
        read.extend(queries(&dashboard).iter().flat_map(|query| metric_names(&query.expression, &prefixes)));
        read.extend(variable_metrics(&dashboard));
    }
    for path in files().iter().filter(|path| path.starts_with("alerts")) {
        read.extend(metric_names(&text(path).expect("it is text"), &prefixes));
    }
    let unknown: Vec<_> = read.difference(&known).collect();
    assert!(!read.is_empty() && unknown.is_empty(), "not in the catalogue: {unknown:?}");
}

#[test]
fn dashboards_match_only_labels_of_the_catalogue() {
    // What Prometheus itself adds to every series.
    let mut known = BTreeSet::from(["instance", "job"]);
    known.extend(Label::ALL.iter().map(|label| label.name()));
    let mut unknown = BTreeSet::new();
    for path in dashboards() {
        let dashboard: Value = serde_json::from_str(&text(&path).expect("it is text")).expect("it is JSON");
        for query in queries(&dashboard) {
            let labels = label_names(&query.expression).into_iter();
            unknown.extend(
                labels
                    .filter(|label| !known.contains(label.as_str()))
                    .map(|label| format!("{}: {label}", query.panel)),
            );
        }
    }
    assert!(unknown.is_empty(), "not in the catalogue: {unknown:?}");
}
