//! Names in the code: metric names live in the catalogue alone, types are called after what they are, nothing is left to be done.

use super::tokens::{Scope, Token, tokens};

/// Endings that say nothing of what a type is.
const EMPTY_ENDINGS: [&str; 4] = ["Manager", "Handler", "Data", "Info"];
/// Macros that stand for code which is not there.
const UNDONE: [&str; 2] = ["todo", "unimplemented"];
/// What every metric of Tidegate's own begins with.
const METRIC_PREFIX: &str = concat!("tidegate", "_");

/// Literals that are metric names, as `LINE: LITERAL`. Names of crates (`tidegate_core`, for a log filter) are none.
#[must_use]
pub fn metric_literals(source: &str, crates: &[String]) -> Vec<String> {
    let is_metric = |token: &Token| {
        let inner = token.text.trim_start_matches(['b', 'c', 'r', '#']);
        let Some(inner) = inner.strip_prefix('"').filter(|inner| inner.starts_with(METRIC_PREFIX)) else {
            return false;
        };
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        !crates.iter().any(|name| name.replace('-', "_") == inner[..end])
    };
    found(source, |tokens, at| is_metric(&tokens[at]).then(|| tokens[at].text.clone()))
}

/// `#[ignore]` on a test, as `LINE: …`: a test that needs more belongs to a suite.
#[must_use]
pub fn ignored_tests(source: &str) -> Vec<String> {
    found(source, |tokens, at| {
        let is = |offset: usize, text: &str| tokens.get(at + offset).is_some_and(|t| t.text == text);
        (is(0, "#") && is(1, "[") && is(2, "ignore")).then(|| "#[ignore]".to_owned())
    })
}

/// Types with an empty name and macros for missing code, as `LINE: NAME`.
#[must_use]
pub fn empty_names(source: &str) -> Vec<String> {
    found(source, |tokens, at| {
        let word = tokens[at].text.as_str();
        let next = tokens.get(at + 1).map_or("", |token| token.text.as_str());
        if UNDONE.contains(&word) && next == "!" {
            return Some(format!("{word}!"));
        }
        let is_definition = matches!(word, "struct" | "enum" | "trait");
        (is_definition && EMPTY_ENDINGS.iter().any(|ending| next.ends_with(ending))).then(|| next.to_owned())
    })
}

fn found(source: &str, look: impl Fn(&[Token], usize) -> Option<String>) -> Vec<String> {
    match tokens(source, Scope::All) {
        Err(reason) => vec![reason],
        Ok(tokens) => {
            let looked = (0..tokens.len())
                .filter_map(|at| Some(format!("{}: {}", tokens[at].line, look(&tokens, at)?)));
            looked.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_found_in_any_kind_of_string() {
        let name = format!("{METRIC_PREFIX}replicas");
        for literal in [format!("\"{name}\""), format!("r#\"{name}{{x=1}}\"#"), format!("b\"{name}\"")] {
            assert_eq!(metric_literals(&format!("fn f() {{ g({literal}) }}"), &[]).len(), 1, "{literal}");
        }
    }

    #[test]
    fn crate_names_and_comments_are_no_metric_names() {
        let crates = ["tidegate-core".to_owned()];
        let source = format!(
            "// \"{METRIC_PREFIX}x\"\nfn f() {{ g(\"{METRIC_PREFIX}core=debug\", \"of {METRIC_PREFIX}x\") }}"
        );
        assert!(metric_literals(&source, &crates).is_empty());
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(ignored_tests("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), ["2: #[ignore]"]);
        assert!(ignored_tests("#[test]\nfn ignore() {}").is_empty());
    }

    #[test]
    fn empty_names_and_missing_code_are_found() {
        assert_eq!(empty_names("pub struct PlanManager;\nenum LogInfo {}"), ["1: PlanManager", "2: LogInfo"]);
        assert_eq!(empty_names("fn f() { todo!() }"), ["1: todo!"]);
        assert!(empty_names("struct Metadata; fn handler() {}").is_empty());
    }
}
