//! Which scraped family is which signal: the embedded catalogue of known runtimes.

use std::sync::OnceLock;

use serde::Deserialize;

use tidegate_core::policy::SignalRule;

/// Whether a label's value is as a rule says: one of the alternatives between `|`, where a trailing `*` stands for anything.
pub(super) fn value_holds(pattern: &str, value: &str) -> bool {
    pattern.split('|').any(|one| match one.strip_suffix('*') {
        Some(prefix) => value.starts_with(prefix),
        None => value == one,
    })
}

/// A runtime and its rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Its name: the value of the `runtime` label.
    pub name: String,
    /// Its name, as people write it, and the versions that the rules are of.
    pub title: String,
    /// What one must know of its metrics.
    pub note: String,
    /// What its families begin with; the same rules hold under each. Empty: the rules have whole names.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// As they stand in the file: [`Self::rules`] gives them with their whole names.
    pub rules: Vec<SignalRule>,
}

impl Runtime {
    /// Its rules with whole names, first wins. All rules under the first prefix come before those under the second.
    pub fn rules(&self) -> impl Iterator<Item = SignalRule> + '_ {
        let whole = [String::new()];
        let prefixes = if self.prefixes.is_empty() { whole.to_vec() } else { self.prefixes.clone() };
        prefixes.into_iter().flat_map(|prefix| {
            self.rules.iter().map(move |rule| SignalRule {
                family: format!("{prefix}{}", rule.family),
                per: rule.per.as_ref().map(|per| format!("{prefix}{per}")),
                ..rule.clone()
            })
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    runtime: Vec<Runtime>,
}

/// The known runtimes, in the order they are tried.
///
/// # Panics
/// Never: the embedded file is read by a test.
#[must_use]
pub fn catalogue() -> &'static [Runtime] {
    static CATALOGUE: OnceLock<Vec<Runtime>> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let file: File = toml::from_str(include_str!("../../../data/runtimes.toml"))
            .expect("the embedded catalogue is well-formed");
        file.runtime
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_of_the_catalogue_holds() {
        assert!(catalogue().len() >= 4);
        let names: BTreeSet<_> = catalogue().iter().map(|runtime| &runtime.name).collect();
        assert_eq!(names.len(), catalogue().len());
        for runtime in catalogue() {
            assert!(runtime.rules().count() > 0 && runtime.note.ends_with('.'), "{}", runtime.name);
            for rule in runtime.rules() {
                assert_eq!(rule.check(), Ok(()), "{} of {}", rule.family, runtime.name);
            }
        }
    }

    #[test]
    fn a_star_stands_for_anything_and_a_bar_for_either() {
        assert!(
            value_holds("200|5*", "503") && value_holds("200|5*", "200") && !value_holds("200|5*", "404")
        );
        assert!(value_holds("5*", "503") && value_holds("5*", "5xx") && value_holds("*", ""));
        assert!(!value_holds("5*", "200") && !value_holds("50", "500"));
    }
}
