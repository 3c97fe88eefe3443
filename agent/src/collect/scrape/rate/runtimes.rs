//! Every runtime of the catalogue on pages written as it writes them: `agent/tests/runtimes/NAME.txt` holds two pages, ten seconds
//! apart, and `NAME.toml` all that they say. Whatever a page holds, nothing panics and no value is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde::Deserialize;
use tidegate_core::{Signal, Timestamp, WorkloadId};

use super::tests::snapshot;
use super::{Objective, Parts, Rules, parts};
use crate::collect::scrape::merge;
use crate::collect::scrape::{SignalRule, catalogue};

/// What stands between the two pages of a file.
const LATER: &str = "# ---- ten seconds later\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    runtimes: Vec<String>,
    objective: Option<Limits>,
    #[serde(default)]
    select: BTreeMap<String, String>,
    signals: BTreeMap<Signal, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    latency_seconds: f64,
    per_output_token_seconds: Option<f64>,
}

struct Fixture {
    name: String,
    pages: [String; 2],
    expected: Expected,
}

fn fixtures() -> Vec<Fixture> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtimes");
    let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let pages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let mut all: Vec<_> = pages
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let (before, after) = text.split_once(LATER).unwrap_or_else(|| panic!("{}", path.display()));
            let expected = fs::read_to_string(path.with_extension("toml")).unwrap();
            Fixture {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                pages: [before.to_owned(), after.to_owned()],
                expected: toml::from_str(&expected).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

impl Fixture {
    fn objective(&self) -> Option<Objective> {
        self.expected.objective.as_ref().map(|limits| Objective {
            latency_seconds: limits.latency_seconds,
            per_output_token_seconds: limits.per_output_token_seconds,
        })
    }

    fn parts(&self, rules: &Arc<Rules>) -> Parts {
        let [before, after] = &self.pages;
        let (before, after) = (snapshot(rules, 0, before), snapshot(rules, 10, after));
        parts(rules, Some(&before), &after, self.objective())
    }
}

/// What one target's parts tell of its workload.
fn told(parts: Parts) -> BTreeMap<Signal, f64> {
    let id = WorkloadId::local("a").unwrap();
    let reading = merge::reading(Timestamp::EPOCH, std::iter::once((&id, Some((Timestamp::EPOCH, parts)))));
    reading.samples.into_iter().map(|sample| (sample.signal, sample.value)).collect()
}

#[test]
fn every_page_says_what_is_expected_of_it_and_no_more() {
    for fixture in fixtures() {
        let rules = Rules::new(&[], &fixture.expected.select, catalogue());
        let parts = fixture.parts(&rules);
        assert_eq!(parts.runtimes, fixture.expected.runtimes, "{}", fixture.name);
        let told = told(parts);
        let names = |signals: &BTreeMap<Signal, f64>| signals.keys().map(|s| s.name()).collect::<Vec<_>>();
        assert_eq!(names(&told), names(&fixture.expected.signals), "{}", fixture.name);
        for (signal, expected) in &fixture.expected.signals {
            let close = (told[signal] - expected).abs() <= 1e-6 * expected.abs().max(1.0);
            assert!(close, "{}: {} is {}, not {expected}", fixture.name, signal.name(), told[signal]);
        }
    }
}

/// Every rule of the catalogue but one, as the user's own.
fn without(runtime: usize, rule: usize) -> (Arc<Rules>, BTreeSet<String>) {
    let mut rules: Vec<SignalRule> = Vec::new();
    let mut left_out = BTreeSet::new();
    for (at, known) in catalogue().iter().enumerate() {
        for (index, whole) in known.rules().enumerate() {
            if at == runtime && index % known.rules.len() == rule {
                left_out.insert(whole.family);
            } else {
                rules.push(whole);
            }
        }
    }
    (Rules::new(&rules, &BTreeMap::new(), &[]), left_out)
}

#[test]
fn no_rule_could_be_left_out_unnoticed() {
    let fixtures = fixtures();
    let (all, _) = without(usize::MAX, 0);
    let before: Vec<_> = fixtures.iter().map(|fixture| fixture.parts(&all).parts).collect();
    let mut idle = Vec::new();
    for (at, runtime) in catalogue().iter().enumerate() {
        for (index, rule) in runtime.rules.iter().enumerate() {
            let (rules, families) = without(at, index);
            let is_noticed = fixtures.iter().zip(&before).any(|(fixture, before)| {
                families.iter().any(|family| fixture.pages[1].contains(family))
                    && fixture.parts(&rules).parts != *before
            });
            if !is_noticed {
                idle.push(format!("{}: {} as {}", runtime.name, rule.family, rule.signal.name()));
            }
        }
        let is_used = |prefix: &String| {
            let begins = |fixture: &Fixture| fixture.pages[1].lines().any(|line| line.starts_with(prefix));
            fixtures
                .iter()
                .any(|fixture| fixture.expected.runtimes.contains(&runtime.name) && begins(fixture))
        };
        idle.extend(runtime.prefixes.iter().filter(|prefix| !is_used(prefix)).cloned());
    }
    assert_eq!(idle, Vec::<String>::new());
}

/// A line as a runtime might write it, right or wrong: a family of the catalogue, labels, and any number.
fn lines() -> impl Strategy<Value = String> {
    let families: Vec<String> = catalogue()
        .iter()
        .flat_map(|runtime| runtime.rules())
        .flat_map(|rule| {
            let per = rule.per.unwrap_or_default();
            ["", "_bucket", "_sum", "_count", "_total"]
                .map(|end| format!("{}{end}", rule.family))
                .into_iter()
                .chain([per])
        })
        .filter(|family| !family.is_empty())
        .collect();
    let labels = prop::sample::select(vec![
        "",
        "{}",
        r#"{le="0.1"}"#,
        r#"{le="+Inf"}"#,
        r#"{le="NaN"}"#,
        r#"{le="-1"}"#,
        r#"{le="1e308"}"#,
        r#"{status="500"}"#,
        r#"{model_name="a",le="2"}"#,
        r#"{request_type="scheduled"}"#,
        "{broken",
    ]);
    let values = prop_oneof![
        any::<f64>().prop_map(|value| format!("{value:e}")),
        (0u32..1000).prop_map(|value| value.to_string()),
        prop::sample::select(vec!["NaN", "+Inf", "-Inf", "1e400", "-1", "x", ""]).prop_map(str::to_owned),
    ];
    let kinds = prop::sample::select(vec!["counter", "gauge", "histogram", "summary"]);
    (prop::sample::select(families), labels, values, kinds, 0u8..8).prop_map(
        |(family, labels, value, kind, which)| match which {
            0 => format!("# TYPE {family} {kind}"),
            _ => format!("{family}{labels} {value}"),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_a_page_holds_every_value_can_be_true(
        first in prop::collection::vec(lines(), 0..60),
        second in prop::collection::vec(lines(), 0..60),
        seconds in 0u64..3,
        limit in prop_oneof![Just(None), Just(Some(0.05))],
    ) {
        let rules = Rules::new(&[], &BTreeMap::new(), catalogue());
        let objective = Objective { latency_seconds: 0.5, per_output_token_seconds: limit };
        let before = snapshot(&rules, 10, &first.join("\n"));
        let after = snapshot(&rules, 10 + seconds, &second.join("\n"));
        let id = WorkloadId::local("a").unwrap();
        let answers = || [
            (&id, Some((Timestamp::EPOCH, parts(&rules, Some(&before), &after, Some(objective))))),
            (&id, Some((Timestamp::EPOCH, parts(&rules, Some(&after), &before, Some(objective))))),
            (&id, Some((Timestamp::EPOCH, parts(&rules, None, &after, Some(objective))))),
            (&id, None),
        ];
        for sample in merge::reading(Timestamp::EPOCH, answers().into_iter()).samples {
            prop_assert!(sample.value.is_finite(), "{sample:?}");
            prop_assert!(sample.signal == Signal::Loss || sample.value >= 0.0, "{sample:?}");
        }
    }

    #[test]
    fn a_page_of_any_bytes_is_read_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let rules = Rules::new(&[], &BTreeMap::new(), catalogue());
        let page = String::from_utf8_lossy(&bytes);
        let seen = snapshot(&rules, 0, &page);
        prop_assert!(parts(&rules, None, &seen, None).parts.values().all(|part| matches!(part, super::Part::Sum(sum) if sum.is_finite())));
    }
}
