//! KEDA's operator and its metrics adapter, from its published module, with its scalers for other systems left out: they pull in the SDKs
//! of every cloud, which take longer to compile than all the rest. What makes, follows and ends a ScaledObject's HPA is KEDA's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Server, bin, copy_file, linker_flags, module};
use crate::cargo::must_succeed;

const MODULE: &str = "github.com/kedacore/keda/v2";
/// What its two programs are made of.
const SOURCES: [&str; 5] = ["apis", "cmd", "controllers", "pkg", "version"];
/// What it is installed by: the tests apply it as it is.
const MANIFESTS: [&str; 5] = ["crd/bases", "general", "metrics-server", "rbac", "service_account"];
/// Its programs, under the names that they have in KEDA's images: by these the API server knows who has written a field.
const PROGRAMS: [(&str, &str); 2] = [("./cmd/operator", "keda"), ("./cmd/adapter", "keda-adapter")];
/// Files of `pkg/scalers` that stay.
const SCALERS: [&str; 6] = [
    "scaler.go",
    "cpu_memory_scaler.go",
    "cron_scaler.go",
    "external_mock_scaler.go",
    "external_scaler.go",
    // For a constant that the external scaler takes from it.
    "azure_queue_scaler.go",
];
/// Triggers that stay.
const TRIGGERS: [&str; 6] = ["cpu", "cron", "external", "external-mock", "external-push", "memory"];
/// Lines between which KEDA says which trigger is which scaler.
const MARKS: [&str; 2] = ["// TRIGGERS-START", "// TRIGGERS-END"];

/// Builds `bin/keda` and `bin/keda-adapter`, and lays KEDA's manifests beside them in `config/`.
pub(super) fn build(server: &Server, staging: &Path) -> Result<()> {
    let published = module(MODULE, server.version, staging)?;
    let source = staging.join("source");
    for folder in SOURCES {
        copy(&published.join(folder), &source.join(folder), &|name| !name.ends_with("_test.go"))?;
    }
    for file in ["go.mod", "go.sum"] {
        copy_file(&published.join(file), &source.join(file))?;
    }
    trim(&source)?;
    for folder in MANIFESTS {
        let (from, to) = (published.join("config").join(folder), staging.join("config").join(folder));
        copy(&from, &to, &|name| name.ends_with(".yaml") && name != "kustomization.yaml")?;
    }
    let version = format!("{MODULE}/version.Version={}", server.version);
    for (package, program) in PROGRAMS {
        let mut command = Command::new("go");
        command.current_dir(&source).env("CGO_ENABLED", "0");
        command.args(["build", "-trimpath", &linker_flags(std::slice::from_ref(&version)), "-o"]);
        must_succeed(command.arg(bin(staging)?.join(program)).arg(package))?;
    }
    fs::remove_dir_all(&source).with_context(|| format!("failed to remove {}", source.display()))
}

/// Leaves the scalers out that are not in the lists.
fn trim(source: &Path) -> Result<()> {
    let scalers = source.join("pkg/scalers");
    let reading = || format!("failed to read {}", scalers.display());
    for entry in fs::read_dir(&scalers).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".go") && !SCALERS.contains(&name.as_ref()) {
            fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        }
    }
    let builder = source.join("pkg/scaling/scalers_builder.go");
    let text =
        fs::read_to_string(&builder).with_context(|| format!("failed to read {}", builder.display()))?;
    let text = with_triggers(&text, &TRIGGERS)?;
    fs::write(&builder, text).with_context(|| format!("failed to write {}", builder.display()))
}

/// The text with only these cases, and the default one, in the `switch` between the marks.
fn with_triggers(text: &str, triggers: &[&str]) -> Result<String> {
    let mut kept = Vec::new();
    let (mut inside, mut keeps) = (false, true);
    let mut marks = 0;
    for line in text.lines() {
        if MARKS.contains(&line.trim()) {
            marks += 1;
            inside = line.trim() == MARKS[0];
            keeps = true;
        } else if inside && let Some(case) = line.strip_prefix("\tcase ") {
            keeps = triggers.iter().any(|trigger| case.contains(&format!("\"{trigger}\"")));
        } else if inside && line.starts_with("\tdefault:") {
            keeps = true;
        }
        if keeps {
            kept.push(line);
        }
    }
    anyhow::ensure!(marks == MARKS.len(), "the list of triggers is not where it was: {marks} marks");
    Ok(kept.join("\n") + "\n")
}

/// Copies the files of a folder whose names are right, and those of the folders in it.
fn copy(from: &Path, to: &Path, right: &dyn Fn(&str) -> bool) -> Result<()> {
    let reading = || format!("failed to read {}", from.display());
    fs::create_dir_all(to).with_context(|| format!("failed to create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().with_context(reading)?.is_dir() {
            copy(&path, &copied, right)?;
        } else if right(&entry.file_name().to_string_lossy()) {
            copy_file(&path, &copied)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILDER: &str = "\
switch before {
\tcase \"kafka\":
}
\t// TRIGGERS-START
\tswitch trigger {
\tcase \"kafka\":
\t\treturn kafka()
\tcase \"cron\":
\t\treturn cron()
\tcase \"redis\", \"redis-cluster\":
\t\treturn redis()
\tcase \"external\":
\t\treturn external()
\tcase \"external-of-another\":
\t\treturn another()
\tdefault:
\t\treturn none()
\t}
\t// TRIGGERS-END
\tcase \"kafka\":
";

    #[test]
    fn only_the_cases_named_and_the_default_one_stay() {
        let text = with_triggers(BUILDER, &["cron", "external"]).unwrap();
        let expected = "\
switch before {
\tcase \"kafka\":
}
\t// TRIGGERS-START
\tswitch trigger {
\tcase \"cron\":
\t\treturn cron()
\tcase \"external\":
\t\treturn external()
\tdefault:
\t\treturn none()
\t}
\t// TRIGGERS-END
\tcase \"kafka\":
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_list_that_is_not_where_it_was_is_told() {
        let error = with_triggers("switch trigger {\n}\n", &["cron"]).expect_err("there are no marks");
        assert!(error.to_string().contains("0 marks"), "{error}");
    }

    #[test]
    fn what_is_copied_can_be_written_to_and_is_only_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("in")).unwrap();
        for file in ["a.go", "a_test.go", "in/b.go"] {
            fs::write(from.join(file), file).unwrap();
        }
        let mut permissions = fs::metadata(from.join("a.go")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(from.join("a.go"), permissions).unwrap();
        copy(&from, &to, &|name| !name.ends_with("_test.go")).unwrap();
        assert!(!to.join("a_test.go").exists());
        assert_eq!(fs::read_to_string(to.join("in/b.go")).unwrap(), "in/b.go");
        assert!(!fs::metadata(to.join("a.go")).unwrap().permissions().readonly());
    }
}
