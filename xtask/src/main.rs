//! `cargo xtask`: the commands that newcomers and CI run. It prepares and calls tools; it knows nothing of what Tidegate does.
#![expect(clippy::print_stdout, reason = "this program talks to people on its standard output")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cargo;
mod docs;
mod install;
mod lint;
mod packages;
mod processes;
mod sbom;
mod servers;
mod stopwatch;
mod suites;
mod test;
mod tools;
mod workspace;

/// Builds, checks and tests Tidegate.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check format, lints, dependencies and documentation; warnings are errors
    Lint(lint::Options),
    /// Run the test suites, preparing the programs that they need
    Test(test::Options),
    /// Build or install the real servers that the suites run against
    Servers(servers::Options),
    /// List the benchmarks, or run those named
    Bench(bench::Options),
    /// Build the API documentation
    Docs(docs::Options),
    /// Write the bill of materials of the release binary: every crate that is in it or builds it
    Sbom(sbom::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Lint(options) => lint::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Servers(options) => servers::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Docs(options) => docs::run(&options),
        Command::Sbom(options) => sbom::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
