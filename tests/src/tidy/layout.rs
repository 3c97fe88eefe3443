//! How files are named and begun, and how long they may be.

use std::path::Path;

/// A longer file has a second subject in it.
const LINES_MAX: usize = 600;

/// Words that say nothing of what is in a file.
const EMPTY_WORDS: [&str; 10] =
    ["common", "data", "handler", "helper", "helpers", "info", "manager", "misc", "types", "utils"];

/// What is wrong with a source file's name, length or beginning.
#[must_use]
pub fn problems(path: &Path, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if stem == "mod" {
        found.push("is a mod.rs: name it after its folder, beside it".to_owned());
    }
    for word in stem.split(['_', '-']).filter(|word| EMPTY_WORDS.contains(word) || *word == "util") {
        found.push(format!("is named `{word}`, which says nothing of what is in it"));
    }
    let lines = source.lines().count();
    if lines > LINES_MAX {
        found.push(format!("has {lines} lines, more than {LINES_MAX}"));
    }
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    if is_rust && !source.starts_with("//! ") {
        found.push("does not open with `//!`: what it is for, and what not".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, source: &str) -> String {
        problems(Path::new(path), source).join("; ")
    }

    #[test]
    fn each_fault_is_found() {
        assert!(of("a/mod.rs", "//! x").contains("mod.rs"));
        assert!(of("a/http_utils.rs", "//! x").contains("`utils`"));
        assert!(of("a/types.rs", "//! x").contains("`types`"));
        assert!(of("a/plan.rs", "use x;").contains("does not open"));
        assert!(of("a/plan.rs", &("//! x\n".repeat(601))).contains("601 lines"));
    }

    #[test]
    fn a_file_in_shape_passes() {
        assert_eq!(of("a/plan/bounds.rs", "//! Bounds of a plan.\n"), "");
        assert_eq!(of("a/main.go", "package main"), "", "only Rust opens with `//!`");
    }
}
