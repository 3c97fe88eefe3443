//! The repository held against its own rules: arrows between crates, purity, layout, names, links. The rules are in `tidegate_tests::tidy`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_tests::repository::{files, root, text};
use tidegate_tests::tidy::{arrows, layout, links, names, pins, places, purity};

/// Crates that touch nothing outside.
const PURE: [&str; 4] = ["core/src", "predictor/src", "brain/src", "sim/src"];
/// Where metric and field names stand.
const CATALOGUE: [&str; 3] = ["core/src/fields", "core/src/metrics", "core/src/signals"];

fn sources(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let has_one =
        |path: &PathBuf| path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e));
    let read: Vec<_> =
        files().into_iter().filter(has_one).filter_map(|path| Some((path.clone(), text(&path)?))).collect();
    assert!(!read.is_empty(), "there are no files of {extensions:?}: the check would check nothing");
    read
}

/// Fails with every problem of every file, not only the first.
fn assert_none(problems: impl Iterator<Item = (PathBuf, Vec<String>)>) {
    let lines: Vec<String> = problems
        .flat_map(|(path, found)| found.into_iter().map(move |f| format!("{}: {f}", path.display())))
        .collect();
    assert!(lines.is_empty(), "{} problems:\n{}", lines.len(), lines.join("\n"));
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo can be run");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

#[test]
fn arrows_point_towards_core() {
    let arrows = arrows::arrows(&metadata());
    assert!(arrows.contains_key("tidegate-core"), "the members were not read");
    assert_eq!(arrows::forbidden(&arrows), Vec::<String>::new());
}

#[test]
fn pure_crates_touch_nothing_outside() {
    let is_test = |path: &Path| path.file_name().is_some_and(|name| name == "tests.rs");
    let pure = sources(&["rs"])
        .into_iter()
        .filter(|(path, _)| PURE.iter().any(|p| path.starts_with(p)) && !is_test(path));
    assert_none(pure.map(|(path, source)| (path, purity::impurities(&source))));
}

#[test]
fn files_are_named_begun_and_bounded() {
    assert_none(sources(&["rs", "go"]).into_iter().map(|(path, source)| {
        let found = layout::problems(&path, &source);
        (path, found)
    }));
}

#[test]
fn metric_names_stand_in_the_catalogue_alone() {
    let crates: Vec<String> = arrows::arrows(&metadata()).into_keys().collect();
    let in_catalogue =
        |path: &Path| CATALOGUE.iter().any(|c| path.to_str().is_some_and(|p| p.starts_with(c)));
    let others = sources(&["rs"]).into_iter().filter(|(path, _)| !in_catalogue(path));
    assert_none(others.map(|(path, source)| (path, names::metric_literals(&source, &crates))));
}

#[test]
fn no_test_is_ignored() {
    assert_none(sources(&["rs"]).into_iter().map(|(path, source)| (path, names::ignored_tests(&source))));
}

#[test]
fn types_say_what_they_are_and_nothing_is_left_to_do() {
    assert_none(sources(&["rs"]).into_iter().map(|(path, source)| (path, names::empty_names(&source))));
}

#[test]
fn links_in_documents_lead_somewhere() {
    let read = |path: &Path| match root().join(path) {
        full if full.is_dir() => Some(String::new()),
        full if full.is_file() => Some(text(path).unwrap_or_default()),
        _ => None,
    };
    assert_none(sources(&["md"]).into_iter().map(|(path, markdown)| {
        let found = links::broken(&path, &markdown, read);
        (path, found)
    }));
}

#[test]
fn what_workflows_take_from_others_is_fixed() {
    let workflows = sources(&["yml"]).into_iter().filter(|(path, _)| path.starts_with(".github/workflows"));
    let found: Vec<_> = workflows.map(|(path, workflow)| (path, pins::unpinned(&workflow))).collect();
    assert!(!found.is_empty(), "there is a workflow of releases");
    assert_none(found.into_iter());
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let all = files().into_iter().filter_map(|path| Some((path.clone(), text(&path)?)));
    assert_none(all.map(|(path, text)| (path, places::machine_paths(&text))));
}
