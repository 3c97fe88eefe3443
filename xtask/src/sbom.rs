//! `cargo xtask sbom`: a bill of materials of the release binary, in CycloneDX JSON. It is made by cargo-cyclonedx of the CycloneDX
//! project, and held against what cargo itself says is built.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{cargo, servers, workspace};

/// The package whose binary is released.
const PACKAGE: &str = "tidegate";
/// Version of the specification.
const SPEC: &str = "1.5";
/// The tool writes beside each member's manifest, under this name.
const NAME: &str = "tidegate-sbom.cdx";

/// Options of `cargo xtask sbom`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// For this target
    #[arg(long, default_value = "x86_64-unknown-linux-gnu")]
    target: String,
    /// Write it there
    #[arg(long, value_name = "FILE", default_value = "target/tidegate.cdx.json")]
    output: PathBuf,
}

/// Writes it; whether it is whole.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let text = made(&options.target)?;
    let bill: Value = serde_json::from_str(&text).context("the bill of materials is no JSON")?;
    let built = built(&options.target)?;
    let problems = problems(&bill, &built);
    problems.iter().for_each(|problem| println!("{problem}"));
    let path = workspace::root().join(&options.output);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    println!("{}: {} crates for {}", path.display(), built.len(), options.target);
    Ok(problems.is_empty())
}

/// What the tool makes of the package.
fn made(target: &str) -> Result<String> {
    let program = servers::prepared("cargo-cyclonedx")?.join("bin/cargo-cyclonedx");
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args(["cyclonedx", "--manifest-path", "cli/Cargo.toml"]);
    command.args([
        "--format",
        "json",
        "--spec-version",
        SPEC,
        "--target",
        target,
        "--override-filename",
        NAME,
    ]);
    let written = cargo::must_succeed(&mut command);
    let mut text = None;
    // It writes one for every member.
    for member in workspace::members(&workspace::metadata()?) {
        let path = member.join(format!("{NAME}.json"));
        if !path.exists() {
            continue;
        }
        if member.ends_with("cli") {
            text = Some(
                fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?,
            );
        }
        fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    written?;
    text.context("cargo-cyclonedx wrote nothing for the package")
}

/// Every crate that is in the binary or builds it, as `name version`, by cargo.
fn built(target: &str) -> Result<BTreeSet<String>> {
    let mut command = cargo::command();
    command.args(["tree", "--locked", "--package", PACKAGE, "--edges", "normal,build", "--target", target]);
    let output =
        command.args(["--prefix", "none", "--format", "{p}"]).output().context("failed to run cargo tree")?;
    ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(crates(&String::from_utf8_lossy(&output.stdout)))
}

/// The crates of a tree: `name vVERSION (…)` on each line.
fn crates(tree: &str) -> BTreeSet<String> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = words.next().zip(words.next())?;
        Some(format!("{name} {}", version.strip_prefix('v')?))
    };
    tree.lines().filter_map(one).collect()
}

/// What the bill lacks.
fn problems(bill: &Value, built: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    if bill["bomFormat"] != "CycloneDX" || bill["specVersion"] != SPEC {
        problems.push(format!("it is no CycloneDX {SPEC}"));
    }
    let text = |component: &Value, key: &str| component[key].as_str().unwrap_or_default().to_owned();
    let listed: Vec<&Value> = bill["components"].as_array().into_iter().flatten().collect();
    let itself = &bill["metadata"]["component"];
    let names: BTreeSet<String> = listed
        .iter()
        .copied()
        .chain([itself])
        .map(|component| format!("{} {}", text(component, "name"), text(component, "version")))
        .collect();
    problems.extend(built.difference(&names).map(|missing| format!("{missing} is built and not listed")));
    for component in listed {
        let name = format!("{} {}", text(component, "name"), text(component, "version"));
        let purl = text(component, "purl");
        if !purl.starts_with("pkg:cargo/") {
            problems.push(format!("{name} has no package URL"));
        }
        // Members of the workspace have neither a checksum nor a place in a registry.
        let is_own = purl.contains("download_url=file:");
        if !is_own && component["hashes"].as_array().is_none_or(Vec::is_empty) {
            problems.push(format!("{name} has no checksum"));
        }
        if component["licenses"].as_array().is_none_or(Vec::is_empty) {
            problems.push(format!("{name} has no licence"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn component(name: &str) -> Value {
        json!({
            "name": name, "version": "1.0.0", "purl": format!("pkg:cargo/{name}@1.0.0"),
            "hashes": [{"alg": "SHA-256", "content": "00"}], "licenses": [{"expression": "MIT"}],
        })
    }

    fn bill(components: &[Value]) -> Value {
        json!({
            "bomFormat": "CycloneDX", "specVersion": SPEC, "components": components,
            "metadata": {"component": {"name": "tidegate", "version": "0.1.0"}},
        })
    }

    #[test]
    fn a_tree_is_read_by_its_names_and_versions() {
        let tree =
            "tidegate v0.1.0 (/src/cli)\nserde v1.0.2\nserde v1.0.2 (*)\nmacros v2.0.0 (proc-macro)\n\n";
        let found: Vec<_> = crates(tree).into_iter().collect();
        assert_eq!(found, ["macros 2.0.0", "serde 1.0.2", "tidegate 0.1.0"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let built = crates("tidegate v0.1.0\nserde v1.0.0\nrand v1.0.0");
        assert_eq!(problems(&bill(&[component("serde"), component("rand")]), &built), Vec::<String>::new());
        assert_eq!(problems(&bill(&[component("serde")]), &built), ["rand 1.0.0 is built and not listed"]);
        let mut bare = component("rand");
        bare["licenses"] = json!([]);
        bare["hashes"] = Value::Null;
        let found = problems(&bill(&[component("serde"), bare]), &built);
        assert_eq!(found, ["rand 1.0.0 has no checksum", "rand 1.0.0 has no licence"]);
        assert_eq!(problems(&json!({}), &BTreeSet::new()), ["it is no CycloneDX 1.5"]);
    }
}
