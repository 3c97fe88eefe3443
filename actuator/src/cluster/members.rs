//! Which pods are whose, kept up by what changes: a round costs what has happened, not what there is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::facts::{PodFacts, Selector};
use super::watch::{Changed, Known};

/// Names of pods by each of their labels, in one namespace.
type ByLabel<'a> = HashMap<(&'a str, &'a str), Vec<&'a str>>;

/// The pods, and which of them have changed since the last round.
pub(super) struct Pods<'a> {
    pub(super) known: &'a Known<PodFacts>,
    changed: Changed,
    /// Made when a workload looks for its pods among all: one pass for all that do.
    by_label: RefCell<BTreeMap<String, Rc<ByLabel<'a>>>>,
}

impl<'a> Pods<'a> {
    pub(super) const fn new(known: &'a Known<PodFacts>, changed: Changed) -> Self {
        Self { known, changed, by_label: RefCell::new(BTreeMap::new()) }
    }

    fn by_label(&self, namespace: &str) -> Rc<ByLabel<'a>> {
        let mut all = self.by_label.borrow_mut();
        if let Some(made) = all.get(namespace) {
            return Rc::clone(made);
        }
        let mut made = ByLabel::new();
        for (name, pod) in self.known.of_namespace(namespace) {
            for (label, value) in &pod.labels {
                made.entry((label, value)).or_default().push(name);
            }
        }
        Rc::clone(all.entry(namespace.to_owned()).or_insert_with(|| Rc::new(made)))
    }

    /// Names of all that are selected.
    fn all(&self, namespace: &str, selector: &Selector) -> BTreeSet<String> {
        let selected =
            |name: &str| self.known.get(namespace, name).is_some_and(|pod| selector.matches(&pod.labels));
        let mut labels = selector.single_labels().peekable();
        if labels.peek().is_none() {
            let names = self.known.of_namespace(namespace).map(|(name, _)| name);
            return names.filter(|name| selected(name)).map(str::to_owned).collect();
        }
        let by_label = self.by_label(namespace);
        let bearers = labels.map(|label| by_label.get(&label).map_or(&[][..], Vec::as_slice));
        let fewest = bearers.min_by_key(|names| names.len()).unwrap_or_default();
        fewest.iter().filter(|name| selected(name)).map(|name| (*name).to_owned()).collect()
    }
}

/// The pods of one workload, by name.
#[derive(Debug, Default)]
pub(super) struct Members {
    selector: Option<Selector>,
    names: BTreeSet<String>,
}

impl Members {
    /// Follows what has changed. Whether one of the workload's pods did, or is new or gone.
    pub(super) fn follow(&mut self, namespace: &str, selector: Option<&Selector>, pods: &Pods<'_>) -> bool {
        let changed = match &pods.changed {
            Changed::Some(changed) if self.selector.as_ref() == selector => changed,
            _ => {
                self.selector = selector.cloned();
                self.names = selector.map(|selector| pods.all(namespace, selector)).unwrap_or_default();
                return true;
            }
        };
        let Some((selector, changed)) = selector.zip(changed.get(namespace)) else { return false };
        let mut any = false;
        for name in changed {
            let pod = pods.known.get(namespace, name);
            let selected = pod.is_some_and(|pod| selector.matches(&pod.labels));
            let was = if selected { !self.names.insert(name.clone()) } else { self.names.remove(name) };
            any |= selected || was;
        }
        any
    }

    /// Its pods.
    pub(super) fn of<'a>(
        &'a self,
        namespace: &'a str,
        known: &'a Known<PodFacts>,
    ) -> impl Iterator<Item = (&'a str, &'a PodFacts)> {
        self.names.iter().filter_map(move |name| Some((name.as_str(), known.get(namespace, name)?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

    use super::super::watch::Table;
    use super::*;

    fn pod(labels: &[(&str, &str)]) -> PodFacts {
        PodFacts {
            uid: "u".into(),
            labels: labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
            ..PodFacts::default()
        }
    }

    fn put(table: &Table<PodFacts>, namespace: &str, name: &str, labels: &[(&str, &str)]) {
        table.look().set(namespace, name, Some(pod(labels)));
    }

    fn follow(table: &Table<PodFacts>, members: &mut Members, selector: &Selector) -> (bool, Vec<String>) {
        let mut known = table.look();
        let changed = known.take_changed();
        let pods = Pods::new(&known, changed);
        let any = members.follow("ml", Some(selector), &pods);
        (any, members.of("ml", &known).map(|(name, _)| name.to_owned()).collect())
    }

    #[test]
    fn members_are_found_once_and_followed_by_what_changes() {
        let table = Table::default();
        let chat = Selector::labels([("app", "llm"), ("model", "chat")].map(|(k, v)| (k.into(), v.into())));
        put(&table, "ml", "a", &[("app", "llm"), ("model", "chat")]);
        put(&table, "ml", "b", &[("app", "llm"), ("model", "tts")]);
        put(&table, "web", "c", &[("app", "llm"), ("model", "chat")]);
        let mut members = Members::default();
        assert_eq!(follow(&table, &mut members, &chat), (true, vec!["a".into()]));
        assert_eq!(follow(&table, &mut members, &chat), (false, vec!["a".into()]), "nothing has happened");
        put(&table, "ml", "b", &[("app", "llm"), ("model", "tts"), ("more", "")]);
        assert!(!follow(&table, &mut members, &chat).0, "it is another's");
        put(&table, "ml", "d", &[("app", "llm"), ("model", "chat")]);
        assert_eq!(follow(&table, &mut members, &chat), (true, vec!["a".into(), "d".into()]));
        put(&table, "ml", "a", &[("app", "llm"), ("model", "tts")]);
        assert_eq!(follow(&table, &mut members, &chat), (true, vec!["d".into()]), "its labels were changed");
        table.look().set("ml", "d", None);
        assert_eq!(follow(&table, &mut members, &chat), (true, vec![]));
        put(&table, "ml", "e", &[("app", "llm"), ("model", "tts")]);
        let tts = Selector::labels([("model".to_owned(), "tts".to_owned())]);
        let all = ["a", "b", "e"].map(str::to_owned).to_vec();
        assert_eq!(follow(&table, &mut members, &tts), (true, all), "the selector is another");
    }

    #[test]
    fn a_selector_without_a_single_label_looks_at_all() {
        let table = Table::default();
        put(&table, "ml", "a", &[("model", "chat")]);
        put(&table, "ml", "b", &[]);
        let exists =
            LabelSelectorRequirement { key: "model".into(), operator: "Exists".into(), values: None };
        let selector =
            LabelSelector { match_expressions: Some(vec![exists]), match_labels: None::<BTreeMap<_, _>> };
        let selector = Selector::of(&selector).unwrap();
        assert_eq!(follow(&table, &mut Members::default(), &selector), (true, vec!["a".into()]));
    }
}
