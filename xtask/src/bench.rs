//! `cargo xtask bench`: lists the benchmarks, or runs those named. What they measure stands in their own files.

use anyhow::{Context, Result};

use crate::{cargo, workspace};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Benchmarks to run; without any, they are listed
    names: Vec<String>,
}

/// Lists or runs.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let benches = workspace::targets(&workspace::metadata()?, "bench");
    if options.names.is_empty() {
        for (package, name) in &benches {
            println!("{name}  ({package})");
        }
        println!("{} benchmarks; run one with `cargo xtask bench NAME`", benches.len());
        return Ok(true);
    }
    let mut passed = true;
    for name in &options.names {
        let found = benches.iter().find(|(_, bench)| bench == name);
        let (package, _) = found
            .with_context(|| format!("no benchmark is called {name}; `cargo xtask bench` lists them"))?;
        passed &= cargo::succeeds(cargo::command().args(["bench", "--package", package, "--bench", name]))?;
    }
    Ok(passed)
}
