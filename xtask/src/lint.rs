//! `cargo xtask lint`: what must hold before a test is worth running. Each check runs even if one before it failed.

use anyhow::Result;
use clap::ValueEnum;

use crate::servers;
use crate::stopwatch::Stopwatch;
use crate::{cargo, docs, workspace};

/// Options of `cargo xtask lint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these checks
    #[arg(value_enum)]
    checks: Vec<Check>,
    /// Rewrite what can be rewritten (format) instead of complaining
    #[arg(long)]
    fix: bool,
}

/// One check.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Check {
    /// `rustfmt`
    Format,
    /// `clippy` on every target, warnings as errors
    Clippy,
    /// `cargo deny`: bans, licences and sources of the dependencies
    Deny,
    /// `rustdoc`, warnings as errors
    Docs,
}

/// Runs the checks that were asked for, or all; whether all passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let checks = if options.checks.is_empty() { Check::value_variants() } else { &options.checks };
    let mut failed = Vec::new();
    for check in checks {
        let watch = Stopwatch::start();
        let passed = check.run(options.fix)?;
        println!("lint {}: {} in {watch}", check.name(), if passed { "passed" } else { "FAILED" });
        if !passed {
            failed.push(check.name());
        }
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

impl Check {
    fn name(self) -> String {
        self.to_possible_value().expect("no check is hidden").get_name().to_owned()
    }

    fn run(self, fix: bool) -> Result<bool> {
        match self {
            Self::Format => format(fix),
            Self::Clippy => clippy(),
            Self::Deny => deny(),
            Self::Docs => docs::run(&docs::Options::default()),
        }
    }
}

fn format(fix: bool) -> Result<bool> {
    let mut command = cargo::command();
    command.args(["fmt", "--all"]);
    if !fix {
        command.arg("--check");
    }
    cargo::succeeds(&mut command)
}

fn clippy() -> Result<bool> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    cargo::succeeds(cargo::command().args(arguments))
}

fn deny() -> Result<bool> {
    let program = servers::prepared("cargo-deny")?.join("bin/cargo-deny");
    let mut command = std::process::Command::new(program);
    command.current_dir(workspace::root());
    // Advisories come from a database on the network and change under an unchanged commit: they are not part of lint.
    command.args(["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    cargo::succeeds(&mut command)
}
