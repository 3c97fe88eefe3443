//! `cargo xtask bench`: lists the benchmarks, or runs those named. What they measure stands in their own files.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Benchmarks to run; without any, they are listed
    names: Vec<String>,
}

/// Lists or runs.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let benches = benches(&metadata()?);
    if options.names.is_empty() {
        for (name, package) in &benches {
            println!("{name}  ({package})");
        }
        println!("{} benchmarks; run one with `cargo xtask bench NAME`", benches.len());
        return Ok(true);
    }
    let mut passed = true;
    for name in &options.names {
        let package = benches.get(name);
        ensure!(package.is_some(), "no benchmark is called {name}; `cargo xtask bench` lists them");
        let package = package.expect("just checked");
        passed &= cargo::succeeds(cargo::command().args(["bench", "-p", package, "--bench", name]))?;
    }
    Ok(passed)
}

fn metadata() -> Result<serde_json::Value> {
    let output = cargo::command()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("failed to run cargo metadata")?;
    serde_json::from_slice(&output.stdout).context("cargo metadata did not answer in JSON")
}

/// Benchmark → package.
fn benches(metadata: &serde_json::Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let targets = package["targets"].as_array().into_iter().flatten();
        for target in targets.filter(|t| t["kind"][0] == "bench") {
            if let (Some(name), Some(package)) = (target["name"].as_str(), package["name"].as_str()) {
                found.insert(name.to_owned(), package.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_bench_targets_are_listed() {
        let metadata = json!({"packages": [{"name": "p", "targets": [
            {"name": "decide", "kind": ["bench"]}, {"name": "p", "kind": ["lib"]}]}]});
        let found = benches(&metadata);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("decide".to_owned(), "p".to_owned())]);
    }
}
