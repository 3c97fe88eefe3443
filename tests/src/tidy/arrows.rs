//! Which member may depend on which: arrows point only towards `core`, and what a crate may not know it cannot name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Member → members that it depends on, for building, running or testing.
pub type Arrows = BTreeMap<String, BTreeSet<String>>;

/// What each member may depend on. One that is missing here may depend on all but those in [`BY_NOBODY`].
const ALLOWED: [(&str, &[&str]); 10] = [
    ("tidegate-core", &[]),
    ("tidegate-predictor", &["tidegate-core"]),
    ("tidegate-brain", &["tidegate-core", "tidegate-predictor"]),
    ("tidegate-sim", &["tidegate-core", "tidegate-predictor", "tidegate-brain"]),
    ("tidegate-history", &["tidegate-core"]),
    ("tidegate-digest", &["tidegate-core"]),
    ("tidegate-agent", &["tidegate-core", "tidegate-digest", "tidegate-history"]),
    ("tidegate-actuator", &["tidegate-core", "tidegate-brain", "tidegate-history"]),
    ("tidegate-digits", &["tidegate-core"]),
    ("xtask", &[]),
];

/// Members that nobody depends on: they are ends.
const BY_NOBODY: [&str; 3] = ["tidegate", "tidegate-tests", "xtask"];

/// Reads the arrows out of what `cargo metadata --no-deps` prints.
#[must_use]
pub fn arrows(metadata: &Value) -> Arrows {
    let packages: Vec<&Value> =
        metadata["packages"].as_array().map(|p| p.iter().collect()).unwrap_or_default();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let members_of = |package: &Value| -> BTreeSet<String> {
        let dependencies = package["dependencies"].as_array().cloned().unwrap_or_default();
        let named = dependencies.iter().filter_map(|dependency| dependency["name"].as_str());
        named.filter(|name| names.contains(name)).map(str::to_owned).collect()
    };
    let entry = |package: &&Value| Some((package["name"].as_str()?.to_owned(), members_of(package)));
    packages.iter().filter_map(entry).collect()
}

/// The arrows that must not be.
#[must_use]
pub fn forbidden(arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for (from, targets) in arrows {
        let allowed = ALLOWED.iter().find(|(name, _)| name == from).map(|(_, allowed)| *allowed);
        for to in targets {
            let refused = allowed.is_some_and(|allowed| !allowed.contains(&to.as_str()));
            if refused || BY_NOBODY.contains(&to.as_str()) {
                found.push(format!("{from} must not depend on {to}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn from(from: &str, to: &str) -> Vec<String> {
        forbidden(&Arrows::from([(from.to_owned(), BTreeSet::from([to.to_owned()]))]))
    }

    #[test]
    fn arrows_away_from_core_are_found() {
        for (a, b) in [
            ("tidegate-core", "tidegate-history"),
            ("tidegate-agent", "tidegate-predictor"),
            ("tidegate-agent", "tidegate-brain"),
            ("tidegate-agent", "tidegate-actuator"),
            ("tidegate-predictor", "tidegate-brain"),
            ("tidegate-history", "tidegate-agent"),
            ("tidegate-sim", "tidegate"),
        ] {
            assert_eq!(from(a, b), [format!("{a} must not depend on {b}")]);
        }
    }

    #[test]
    fn arrows_towards_core_pass() {
        assert!(from("tidegate-brain", "tidegate-core").is_empty());
        assert!(from("tidegate", "tidegate-agent").is_empty());
    }

    #[test]
    fn development_dependencies_count_and_other_crates_do_not() {
        let metadata = json!({"packages": [
            {"name": "tidegate-core", "dependencies": [{"name": "serde"}, {"name": "tidegate-sim", "kind": "dev"}]},
            {"name": "tidegate-sim", "dependencies": []},
        ]});
        let read = arrows(&metadata);
        assert_eq!(read["tidegate-core"], BTreeSet::from(["tidegate-sim".to_owned()]));
        assert_eq!(forbidden(&read).len(), 1);
    }
}
