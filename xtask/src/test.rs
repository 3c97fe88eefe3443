//! `cargo xtask test`: runs suites one after the other, each with what it needs prepared. A suite that cannot be run has failed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::processes::succeeds_within;
use crate::stopwatch::Stopwatch;
use crate::suites::{self, Kind, SUITES, Suite};
use crate::{cargo, packages, servers, workspace};

/// The crate whose integration tests are the suites.
const SUITES_PACKAGE: &str = "tidegate-tests";

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
        command.env(servers::variable(name), servers::prepared(name)?);
    }
    if suite.kind == Kind::FilesWithBinary {
        command.env("TIDEGATE_BIN", release_binary()?);
    }
    if options.full {
        command.env("TIDEGATE_TEST_FULL", "1");
    }
    select_targets(suite, &workspace::targets(&workspace::metadata()?, "test"), &mut command)?;
    command.args(options.filter.as_deref());
    command.args(["--", &format!("--test-threads={}", suite.threads)]);
    let limit = Duration::from_secs(u64::from(suite.minutes_max) * 60);
    ensure!(succeeds_within(&mut command, limit)?, "tests failed");
    Ok(())
}

/// Tells cargo which test targets the suite has. All of them run, even when one fails.
fn select_targets(suite: &Suite, targets: &BTreeSet<(String, String)>, command: &mut Command) -> Result<()> {
    command.arg("--no-fail-fast");
    if suite.kind == Kind::Pure {
        command.args(["--lib", "--bins", "--test", "tidy"]);
    }
    let (of_tests, of_others): (Vec<_>, Vec<_>) =
        targets.iter().partition(|(package, _)| package == SUITES_PACKAGE);
    let chosen: BTreeSet<&str> = match suite.kind {
        Kind::Pure => of_others.iter().map(|(_, name)| name.as_str()).collect(),
        _ => of_tests.iter().map(|(_, name)| name.as_str()).filter(|name| suite.owns(name)).collect(),
    };
    ensure!(suite.kind == Kind::Pure || !chosen.is_empty(), "there is no file tests/tests/{}.rs", suite.name);
    for name in chosen {
        // Cargo picks targets by name over all packages: one of the same name elsewhere would run in the wrong suite.
        let is_clear = targets.iter().filter(|(_, other)| other == name).count() == 1;
        ensure!(is_clear, "two integration tests are called {name}: rename one");
        command.args(["--test", name]);
    }
    Ok(())
}

/// The release binary, as users build it. Cargo does nothing when it is there and fresh.
fn release_binary() -> Result<PathBuf> {
    let watch = Stopwatch::start();
    cargo::must_succeed(cargo::command().args(["build", "--release", "--package", "tidegate"]))?;
    println!("release binary ready ({watch})");
    Ok(workspace::target_dir(&workspace::metadata()?)?.join("release/tidegate"))
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

    fn selected(suite: &Suite, targets: &[(&str, &str)]) -> Result<String> {
        let targets =
            targets.iter().map(|(package, name)| ((*package).to_owned(), (*name).to_owned())).collect();
        let mut command = Command::new("cargo");
        select_targets(suite, &targets, &mut command)?;
        Ok(cargo::shown(&command))
    }

    #[test]
    fn each_target_runs_in_its_own_suite() {
        let targets = [
            ("tidegate-tests", "process"),
            ("tidegate-tests", "process_kill"),
            ("tidegate-tests", "tidy"),
            ("tidegate-agent", "tail"),
        ];
        let process = selected(suites::named("process").unwrap(), &targets).unwrap();
        assert_eq!(process, "cargo --no-fail-fast --test process --test process_kill");
        let pure = selected(suites::named("pure").unwrap(), &targets).unwrap();
        assert_eq!(pure, "cargo --no-fail-fast --lib --bins --test tidy --test tail");
    }

    #[test]
    fn a_suite_without_a_file_and_a_name_given_twice_are_refused() {
        let suite = suites::named("grafana").unwrap();
        let error = selected(suite, &[("tidegate-tests", "tidy")]).expect_err("it has no file");
        assert!(error.to_string().contains("tests/tests/grafana.rs"), "{error}");
        let twice = [("tidegate-tests", "grafana"), ("tidegate-agent", "grafana")];
        assert!(selected(suite, &twice).expect_err("it is not clear").to_string().contains("called grafana"));
    }
}
