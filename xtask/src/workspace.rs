//! Where things lie: the checkout, the build directory, the cache of servers. It finds, and makes nothing but the cache.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root")
}

/// What cargo says of the members: their targets, and where it builds.
pub(crate) fn metadata() -> Result<Value> {
    let output = crate::cargo::command()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("cargo metadata did not answer in JSON")
}

/// Where cargo puts what it builds, as the environment or cargo's configuration has it.
pub(crate) fn target_dir(metadata: &Value) -> Result<PathBuf> {
    let dir = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(dir))
}

/// Folders of the members.
pub(crate) fn members(metadata: &Value) -> Vec<PathBuf> {
    let manifests = metadata["packages"].as_array().into_iter().flatten();
    let folder = |package: &Value| Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_owned());
    manifests.filter_map(folder).collect()
}

/// Targets of a kind (`test`, `bench`): pairs of package and target.
pub(crate) fn targets(metadata: &Value, kind: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let targets = package["targets"].as_array().into_iter().flatten();
        for target in targets.filter(|target| target["kind"][0] == kind) {
            if let (Some(package), Some(name)) = (package["name"].as_str(), target["name"].as_str()) {
                found.insert((package.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

/// The cache of built servers and tools, outside the checkout: `$XDG_CACHE_HOME/tidegate-servers`, else under `~/.cache`.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        // The XDG specification says to ignore a relative path.
        Some(dir) if dir.is_absolute() => dir,
        _ => env::home_dir().context("no home directory: set HOME or XDG_CACHE_HOME")?.join(".cache"),
    };
    let cache = base.join("tidegate-servers");
    fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_targets_of_the_kind_are_found() {
        let metadata = json!({"packages": [{"name": "p", "targets": [
            {"name": "decide", "kind": ["bench"]}, {"name": "p", "kind": ["lib"]}]}]});
        assert_eq!(
            targets(&metadata, "bench").into_iter().collect::<Vec<_>>(),
            [("p".to_owned(), "decide".to_owned())]
        );
    }
}
