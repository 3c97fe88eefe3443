//! `cargo xtask test`: runs suites one after the other, each with what it needs prepared. A suite that cannot be run has failed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::processes::succeeds_within;
use crate::stopwatch::Stopwatch;
use crate::suites::{self, Kind, SUITES, Suite};
use crate::{cargo, packages, servers, workspace};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only what needs Rust alone (the suite `pure`)
    #[arg(long, conflicts_with = "suites")]
    quick: bool,
    /// Name the suites and what each needs, and run nothing
    #[arg(long)]
    list: bool,
    /// Run this suite; may be given more than once
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// Also what takes long: the image's builder stage compiles Tidegate anew
    #[arg(long)]
    full: bool,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// How a suite ended.
struct Outcome {
    suite: &'static Suite,
    result: Result<()>,
    watch_text: String,
}

/// Runs what the options ask for; whether every suite passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.list {
        SUITES.iter().for_each(|suite| println!("{}", described(suite)));
        return Ok(true);
    }
    let chosen = chosen(options)?;
    let mut outcomes = Vec::new();
    for suite in chosen {
        println!("== suite {}: {}", suite.name, suite.about);
        let watch = Stopwatch::start();
        let result = run_suite(suite, options);
        let outcome = Outcome { suite, result, watch_text: watch.to_string() };
        println!("{}\n", outcome.line());
        outcomes.push(outcome);
    }
    Ok(summary(&outcomes))
}

fn chosen(options: &Options) -> Result<Vec<&'static Suite>> {
    let names: Vec<&str> =
        if options.quick { vec!["pure"] } else { options.suites.iter().map(String::as_str).collect() };
    if names.is_empty() {
        return Ok(SUITES.iter().collect());
    }
    let known = || SUITES.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    let find = |name: &str| {
        suites::named(name).with_context(|| format!("no suite is called {name}; there are {}", known()))
    };
    names.into_iter().map(find).collect()
}

fn run_suite(suite: &Suite, options: &Options) -> Result<()> {
    packages::prepare(suite.packages)?;
    let mut command = cargo::command();
    // Always over the whole workspace: the features of shared dependencies are then the same and nothing is built twice.
    command.args(["test", "--workspace"]);
    for name in suite.servers {
        command.env(
            format!("TIDEGATE_SERVER_{}", name.to_uppercase().replace('-', "_")),
            servers::prepared(name)?,
        );
    }
    if suite.kind == Kind::FilesWithBinary {
        command.env("TIDEGATE_BIN", release_binary()?);
    }
    if options.full {
        command.env("TIDEGATE_TEST_FULL", "1");
    }
    select_targets(suite, &mut command)?;
    command.args(options.filter.as_deref());
    command.args(["--", &format!("--test-threads={}", suite.threads)]);
    let limit = Duration::from_secs(u64::from(suite.minutes_max) * 60);
    ensure!(succeeds_within(&mut command, limit)?, "tests failed");
    Ok(())
}

/// Tells cargo which test targets the suite has. All of them run, even when one fails.
fn select_targets(suite: &Suite, command: &mut Command) -> Result<()> {
    let of_tests = files_in(&workspace::root().join("tests/tests"))?;
    command.arg("--no-fail-fast");
    if suite.kind == Kind::Pure {
        command.args(["--lib", "--bins", "--test", "tidy"]);
        for target in other_targets()?.difference(&of_tests) {
            command.args(["--test", target]);
        }
        return Ok(());
    }
    let owned: Vec<_> = of_tests.iter().filter(|stem| suite.owns(stem)).collect();
    ensure!(!owned.is_empty(), "there is no file tests/tests/{}.rs", suite.name);
    for target in owned {
        command.args(["--test", target]);
    }
    Ok(())
}

/// Integration tests of the members other than `tests`.
fn other_targets() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let root = workspace::root();
    for entry in fs::read_dir(root).context("failed to read the checkout")?.flatten() {
        if entry.file_name() != "tests" && entry.path().join("Cargo.toml").is_file() {
            found.extend(files_in(&entry.path().join("tests"))?);
        }
    }
    Ok(found)
}

/// Stems of the `.rs` files of a directory; none if there is no such directory.
fn files_in(dir: &Path) -> Result<BTreeSet<String>> {
    if !dir.is_dir() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let paths = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "rs"));
    Ok(paths.filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned())).collect())
}

/// The release binary, as users build it. Cargo does nothing when it is there and fresh.
fn release_binary() -> Result<PathBuf> {
    let watch = Stopwatch::start();
    cargo::must_succeed(cargo::command().args(["build", "--release", "--package", "tidegate"]))?;
    println!("release binary ready ({watch})");
    Ok(workspace::target_dir()?.join("release/tidegate"))
}

fn described(suite: &Suite) -> String {
    let packages = suite.packages.iter().map(|p| p.debian);
    let tools: BTreeSet<_> = servers::SERVERS
        .iter()
        .filter(|s| suite.servers.contains(&s.name))
        .flat_map(|s| s.tools)
        .map(|t| format!("{t:?}").to_lowercase())
        .collect();
    let needs: Vec<_> =
        suite.servers.iter().copied().chain(packages).map(str::to_owned).chain(tools).collect();
    let needs = if needs.is_empty() { "Rust alone".to_owned() } else { needs.join(", ") };
    format!("{:<14} {} [{needs}]", suite.name, suite.about)
}

impl Outcome {
    fn line(&self) -> String {
        let name = self.suite.name;
        match &self.result {
            Ok(()) => format!("suite {name}: passed in {}", self.watch_text),
            Err(error) => format!("suite {name}: FAILED in {}: {error:#}", self.watch_text),
        }
    }
}

/// Prints one line per suite and the count as the last line; whether all passed.
fn summary(outcomes: &[Outcome]) -> bool {
    outcomes.iter().for_each(|outcome| println!("{}", outcome.line()));
    let passed = outcomes.iter().filter(|o| o.result.is_ok()).count();
    let failed = outcomes.len() - passed;
    println!("{passed} passed, {failed} failed");
    failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn options() -> Options {
        Options { quick: false, list: false, suites: Vec::new(), full: false, filter: None }
    }

    #[test]
    fn all_suites_run_unless_some_are_named() {
        assert_eq!(chosen(&options()).unwrap().len(), SUITES.len());
        let quick = chosen(&Options { quick: true, ..options() }).unwrap();
        assert_eq!(quick.iter().map(|s| s.name).collect::<Vec<_>>(), ["pure"]);
        let unknown = chosen(&Options { suites: vec!["fast".into()], ..options() });
        assert!(unknown.expect_err("there is none").to_string().contains("elasticsearch"));
    }

    #[test]
    fn one_failed_suite_fails_the_run() {
        let suite = suites::named("pure").unwrap();
        let outcome = |result| Outcome { suite, result, watch_text: "1.0 s".into() };
        assert!(summary(&[outcome(Ok(()))]));
        assert!(!summary(&[outcome(Ok(())), outcome(Err(anyhow!("no Go")))]));
        assert!(outcome(Err(anyhow!("no Go"))).line().contains("FAILED in 1.0 s: no Go"));
    }

    #[test]
    fn a_suite_without_a_file_is_refused() {
        let suite =
            Suite { name: "nothing_of_this_name", kind: Kind::Files, ..*suites::named("grafana").unwrap() };
        let error = select_targets(&suite, &mut Command::new("cargo")).expect_err("there is no such file");
        assert!(error.to_string().contains("tests/tests/nothing_of_this_name.rs"), "{error}");
    }
}
