//! `cargo xtask servers`: builds the real programs that the suites run against, once, into the cache. It starts none of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{self, must_succeed};
use crate::install;
use crate::stopwatch::Stopwatch;
use crate::tools::Tool;
use crate::workspace;

mod keda;

/// Options of `cargo xtask servers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Names of servers; all by default
    names: Vec<String>,
    /// Only say what there is, and whether it is in the cache
    #[arg(long)]
    list: bool,
}

/// A server or tool that is built from a package registry.
#[derive(Debug)]
pub(crate) struct Server {
    /// Name, as the suites know it.
    pub name: &'static str,
    /// Version, fixed: a newer one is a change to be made and tested.
    pub version: &'static str,
    /// What must be on the machine to build it.
    pub tools: &'static [Tool],
    /// Folder under `tests/servers/` whose files are its source: a change builds it again.
    pub source: Option<&'static str>,
    /// Fills a directory with it.
    build: fn(&Server, &Path) -> Result<()>,
}

/// Every server there is.
pub(crate) const SERVERS: &[Server] = &[
    Server { name: "cargo-cyclonedx", version: "0.5.9", tools: &[], source: None, build: cargo_install },
    Server { name: "cargo-deny", version: "0.20.2", tools: &[], source: None, build: cargo_install },
    Server {
        name: "elasticsearch",
        version: "8.19.21",
        tools: &[Tool::Jdk, Tool::Maven],
        source: None,
        build: elasticsearch,
    },
    Server {
        name: "prometheus",
        version: "0.316.0",
        tools: &[Tool::Go],
        source: Some("prometheus"),
        build: prometheus,
    },
    Server {
        name: "grafana-schema",
        version: "0.0.18",
        tools: &[Tool::Go],
        source: Some("grafana-schema"),
        build: grafana_schema,
    },
    Server {
        name: "kubernetes",
        version: "1.36.3",
        tools: &[Tool::Go],
        source: Some("kubernetes"),
        build: kubernetes,
    },
    Server {
        name: "runtimes",
        // Python's: the versions of the packages stand in the folder.
        version: "3.11",
        tools: &[Tool::Python],
        source: Some("runtimes"),
        build: runtimes,
    },
    Server { name: "kwok", version: "0.8.0", tools: &[Tool::Go], source: None, build: kwok },
    Server { name: "containerd", version: "2.4.2", tools: &[Tool::Go], source: None, build: containerd },
    Server { name: "helm", version: "3.22.0", tools: &[Tool::Go], source: Some("helm"), build: helm },
    Server {
        name: "prometheus-adapter",
        version: "0.12.0",
        tools: &[Tool::Go],
        source: Some("prometheus-adapter"),
        build: prometheus_adapter,
    },
    Server {
        name: "opentelemetry-collector",
        version: "0.165.0",
        tools: &[Tool::Go],
        source: Some("opentelemetry-collector"),
        build: opentelemetry_collector,
    },
    Server { name: "keda", version: "2.21.0", tools: &[Tool::Go], source: None, build: keda::build },
    Server { name: "pause", version: "1", tools: &[Tool::Go], source: Some("pause"), build: pause },
];

/// What kwok does with nodes, and with pods that are deleted; what it does with pods that start is for the tests to say.
const KWOK_STAGES: [&str; 3] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-delete.yaml",
];

/// Prepares the servers named, or all; whether all could be had.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let all = || SERVERS.iter().map(|s| s.name.to_owned()).collect();
    let names: Vec<String> = if options.names.is_empty() { all() } else { options.names.clone() };
    let mut failed = 0;
    for name in &names {
        if options.list {
            println!("{}", described(named(name)?)?);
            continue;
        }
        let watch = Stopwatch::start();
        match prepared(name) {
            Ok(dir) => println!("server {name}: {} ({watch})", dir.display()),
            Err(error) => {
                failed += 1;
                println!("server {name}: FAILED: {error:#}");
            }
        }
    }
    Ok(failed == 0)
}

/// The variable that tells tests and benchmarks where a server was built.
pub(crate) fn variable(name: &str) -> String {
    format!("TIDEGATE_SERVER_{}", name.to_uppercase().replace('-', "_"))
}

/// The directory of a server, built now if it is not in the cache.
pub(crate) fn prepared(name: &str) -> Result<PathBuf> {
    let server = named(name)?;
    install::once(&workspace::cache()?, &server.key()?, |staging| {
        for tool in server.tools {
            tool.check()?;
        }
        println!("building {name} {} (once; it is kept in the cache)", server.version);
        (server.build)(server, staging).with_context(|| format!("failed to build {name} {}", server.version))
    })
}

fn named(name: &str) -> Result<&'static Server> {
    let known = || SERVERS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    SERVERS
        .iter()
        .find(|s| s.name == name)
        .with_context(|| format!("no server is called {name}; there are {}", known()))
}

fn described(server: &Server) -> Result<String> {
    let dir = workspace::cache()?.join(server.key()?);
    let state = if dir.is_dir() { "in the cache" } else { "not built yet" };
    Ok(format!("{} {}: {state}, {}", server.name, server.version, dir.display()))
}

impl Server {
    /// Name of its directory in the cache: its version and, for what is built from files of this repository, their checksum.
    fn key(&self) -> Result<String> {
        let key = format!("{}-{}", self.name, self.version);
        match self.source {
            None => Ok(key),
            Some(folder) => Ok(format!("{key}-{:08x}", checksum(&source_dir(folder))?)),
        }
    }
}

fn source_dir(folder: &str) -> PathBuf {
    workspace::root().join("tests/servers").join(folder)
}

/// CRC of the names and contents of a folder's files, in the order of their names.
fn checksum(dir: &Path) -> Result<u32> {
    let reading = || format!("failed to read {}", dir.display());
    let mut files =
        fs::read_dir(dir).with_context(reading)?.collect::<Result<Vec<_>, _>>().with_context(reading)?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut hasher = crc32fast::Hasher::new();
    for file in files {
        hasher.update(file.file_name().as_encoded_bytes());
        hasher.update(&fs::read(file.path()).with_context(reading)?);
    }
    Ok(hasher.finalize())
}

fn cargo_install(server: &Server, staging: &Path) -> Result<()> {
    let target = staging.join("build");
    let mut command = cargo::command();
    command.args(["install", server.name, "--locked", "--version", server.version, "--root"]).arg(staging);
    // Not the checkout's: other flags would build the workspace again. Not the default either: it may be on a small /tmp.
    command.env("CARGO_TARGET_DIR", &target);
    must_succeed(&mut command)?;
    fs::remove_dir_all(&target).with_context(|| format!("failed to remove {}", target.display()))
}

fn elasticsearch(server: &Server, staging: &Path) -> Result<()> {
    let artifact =
        format!("org.elasticsearch.distribution.integ-test-zip:elasticsearch:{}:zip", server.version);
    let mut command = Command::new("mvn");
    command.args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"]);
    command.arg(format!("-Dartifact={artifact}")).arg(format!("-DoutputDirectory={}", staging.display()));
    // Not in the checkout: Maven would look for a project there.
    must_succeed(command.current_dir(staging))
}

fn prometheus(_: &Server, staging: &Path) -> Result<()> {
    let commands = ["prometheus", "promtool"].map(|c| format!("github.com/prometheus/prometheus/cmd/{c}"));
    go_build("prometheus", &commands, &[], staging)
}

fn grafana_schema(_: &Server, staging: &Path) -> Result<()> {
    go_build("grafana-schema", &[".".to_owned()], &[], staging)
}

fn kubernetes(server: &Server, staging: &Path) -> Result<()> {
    let (major, minor) = major_and_minor(server.version)?;
    // Clients refuse a server that does not say its version, and the module does not know it.
    let version = "k8s.io/component-base/version.git";
    let variables = [
        format!("{version}Version=v{}", server.version),
        format!("{version}Major={major}"),
        format!("{version}Minor={minor}"),
    ];
    go_build("kubernetes", &[".".to_owned()], &variables, staging)
}

fn helm(server: &Server, staging: &Path) -> Result<()> {
    // What `helm template` and `helm lint` take the cluster for: without it, one of many years ago.
    let cluster = SERVERS.iter().find(|s| s.name == "kubernetes").context("there is no kubernetes")?;
    let (major, minor) = major_and_minor(cluster.version)?;
    let mut variables = vec![format!("helm.sh/helm/v3/internal/version.version=v{}", server.version)];
    for package in ["chartutil", "lint/rules"] {
        let variable = format!("helm.sh/helm/v3/pkg/{package}.k8sVersion");
        variables.extend([format!("{variable}Major={major}"), format!("{variable}Minor={minor}")]);
    }
    go_build("helm", &["helm.sh/helm/v3/cmd/helm".to_owned()], &variables, staging)
}

fn opentelemetry_collector(_: &Server, staging: &Path) -> Result<()> {
    go_build("opentelemetry-collector", &[".".to_owned()], &[], staging)
}

fn pause(_: &Server, staging: &Path) -> Result<()> {
    go_build("pause", &[".".to_owned()], &[], staging)
}

fn containerd(server: &Server, staging: &Path) -> Result<()> {
    let commands = ["containerd", "containerd-shim-runc-v2", "ctr"];
    go_install("github.com/containerd/containerd/v2", &commands, server, staging)
}

fn prometheus_adapter(_: &Server, staging: &Path) -> Result<()> {
    let package = "sigs.k8s.io/prometheus-adapter/cmd/adapter".to_owned();
    go_build("prometheus-adapter", &[package], &[], staging)
}

fn kwok(server: &Server, staging: &Path) -> Result<()> {
    let name = "sigs.k8s.io/kwok";
    go_install(name, &["kwok"], server, staging)?;
    let dir = module(name, server.version, staging)?;
    let stages = staging.join("stages");
    fs::create_dir(&stages).with_context(|| format!("failed to create {}", stages.display()))?;
    for path in KWOK_STAGES {
        let file = dir.join("kustomize/stage").join(path);
        copy_file(&file, &stages.join(file.file_name().context("a stage is a file")?))?;
    }
    Ok(())
}

/// Where the source of a published module lies in Go's cache, downloaded now if it is not there.
fn module(name: &str, version: &str, staging: &Path) -> Result<PathBuf> {
    let mut download = Command::new("go");
    download.current_dir(staging).args(["mod", "download", "-json"]);
    let output = download.arg(format!("{name}@v{version}")).output().context("failed to run go")?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "go mod download of {name} failed: {said}");
    let answer: serde_json::Value =
        serde_json::from_str(&said).context("go mod download did not answer in JSON")?;
    Ok(answer["Dir"].as_str().context("go mod download names no directory")?.into())
}

/// Written and not copied: files of Go's cache are read-only.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).with_context(|| format!("failed to read {}", from.display()))?;
    fs::write(to, text).with_context(|| format!("failed to write {}", to.display()))
}

fn major_and_minor(version: &str) -> Result<(&str, &str)> {
    let mut parts = version.split('.');
    parts.next().zip(parts.next()).with_context(|| format!("{version} has no minor version"))
}

/// A virtual environment. Programs of its `bin/` other than `python` name the staging directory and are of no use.
fn runtimes(_: &Server, staging: &Path) -> Result<()> {
    must_succeed(Command::new("python3").args(["-m", "venv"]).arg(staging))?;
    let mut command = Command::new(staging.join("bin/python"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]);
    // Nothing is compiled here, and nothing but what the file names comes in.
    command.args(["--only-binary=:all:", "--no-deps", "-r"]);
    must_succeed(command.arg(source_dir("runtimes").join("requirements.txt")))
}

/// Builds packages from the module in a folder of `tests/servers/` into `bin/`; `variables` (`PACKAGE.NAME=VALUE`) are set in them.
fn go_build(folder: &str, packages: &[String], variables: &[String], staging: &Path) -> Result<()> {
    let mut command = Command::new("go");
    command.current_dir(source_dir(folder)).env("CGO_ENABLED", "0");
    command.args(["build", "-trimpath", &linker_flags(variables), "-o"]);
    // The slash makes `go build` put each program under its own name.
    command.arg(bin(staging)?.join("")).args(packages);
    must_succeed(&mut command)
}

/// Builds commands of a published module into `bin/`, with the versions of its dependencies that it names itself.
fn go_install(module: &str, commands: &[&str], server: &Server, staging: &Path) -> Result<()> {
    let mut command = Command::new("go");
    command.current_dir(staging).env("CGO_ENABLED", "0").env("GOBIN", bin(staging)?);
    command.args(["install", "-trimpath", &linker_flags(&[])]);
    command.args(commands.iter().map(|name| format!("{module}/cmd/{name}@v{}", server.version)));
    must_succeed(&mut command)
}

/// Without symbols and debugging information: they would be most of the size.
fn linker_flags(variables: &[String]) -> String {
    let set = variables.iter().map(|variable| format!(" -X {variable}"));
    format!("-ldflags=-s -w{}", set.collect::<String>())
}

fn bin(staging: &Path) -> Result<PathBuf> {
    let bin = staging.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("failed to create {}", bin.display()))?;
    Ok(bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_versions_names_what_the_suites_run_against() {
        let page = fs::read_to_string(workspace::root().join("docs/versions.md")).unwrap();
        for name in [
            "kubernetes",
            "elasticsearch",
            "prometheus",
            "containerd",
            "helm",
            "kwok",
            "keda",
            "opentelemetry collector",
        ] {
            let version = named(&name.replace(' ', "-")).unwrap().version;
            // The module's version of Prometheus 3.16.0 is 0.316.0.
            let shown = match version.split('.').collect::<Vec<_>>().as_slice() {
                ["0", minor, patch] if name == "prometheus" => {
                    format!("{}.{}.{patch}", &minor[..1], minor[1..].trim_start_matches('0'))
                }
                _ => version.to_owned(),
            };
            let row = |line: &&str| line.to_lowercase().starts_with(&format!("| {name}"));
            let row =
                page.lines().find(row).unwrap_or_else(|| panic!("docs/versions.md has no row of {name}"));
            assert!(row.contains(&shown), "docs/versions.md says not {shown} but: {row}");
        }
    }

    #[test]
    fn every_server_has_a_key_of_its_own_with_its_version() {
        let keys: std::collections::BTreeSet<_> = SERVERS.iter().map(|s| s.key().unwrap()).collect();
        assert_eq!(keys.len(), SERVERS.len());
        assert!(keys.contains("elasticsearch-8.19.21"));
        assert!(keys.iter().any(|k| k.starts_with("prometheus-0.316.0-")));
    }

    #[test]
    fn a_changed_source_changes_the_checksum() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("main.go"), "a").unwrap();
        let before = checksum(dir.path()).unwrap();
        fs::write(dir.path().join("main.go"), "b").unwrap();
        assert_ne!(before, checksum(dir.path()).unwrap());
    }

    #[test]
    fn variables_of_a_go_program_are_set_when_it_is_linked() {
        assert_eq!(linker_flags(&[]), "-ldflags=-s -w");
        assert_eq!(linker_flags(&["a.b=1".into(), "a.c=2".into()]), "-ldflags=-s -w -X a.b=1 -X a.c=2");
        assert_eq!(major_and_minor("1.36.3").unwrap(), ("1", "36"));
        assert!(major_and_minor("1").is_err());
    }

    #[test]
    fn an_unknown_server_is_named_beside_the_known_ones() {
        let error = named("grafana").expect_err("there is none").to_string();
        assert!(error.contains("grafana-schema") && error.contains("elasticsearch"), "{error}");
    }
}
