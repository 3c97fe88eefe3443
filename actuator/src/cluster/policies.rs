//! Which policy has which workload: settled anew when a policy changes, not every round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_core::WorkloadId;

use super::entry::{Intent, PolicyKey, PolicyKind};
use super::tables::{PolicyFacts, Tables};
use super::targets::KindKey;

/// Workloads that one controller sizes.
const WORKLOADS_MAX: usize = 20_000;

/// A policy that has no workload of its own: another was there first, or its spec cannot be held.
#[derive(Debug, Clone)]
pub struct Idle {
    /// The intent.
    pub intent: Arc<Intent>,
    /// The policy that holds the target.
    pub held_by: Option<String>,
}

/// A policy whose spec cannot be read, as where a definition of another version let it in. It has no workload.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Which.
    pub key: PolicyKey,
    /// Changes with the spec.
    pub generation: i64,
    /// What is wrong with it.
    pub text: Arc<str>,
}

/// All policies, settled.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// By workload, the one that sizes it.
    pub(super) held: BTreeMap<WorkloadId, Arc<Intent>>,
    pub(super) idle: Vec<Idle>,
    pub(super) unreadable: Vec<Unreadable>,
    /// Kinds of their targets.
    pub(super) kinds: BTreeSet<KindKey>,
}

impl Policies {
    /// Settles them anew if one has changed. Whether one has.
    pub(super) fn follow(&mut self, tables: &Tables) -> bool {
        let serving = tables.serving.look().take_changed();
        let training = tables.training.look().take_changed();
        if serving.is_none() && training.is_none() {
            return false;
        }
        *self = Self::settled(tables);
        true
    }

    fn settled(tables: &Tables) -> Self {
        let mut settled = Self::default();
        let mut intents = settled.read(tables);
        // The elder first; of two made in the same second, the one whose name comes first.
        intents.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
        for intent in intents {
            let Some(id) = intent.id() else { continue };
            let intent = Arc::new(intent);
            if let Some(holder) = settled.held.get(&id) {
                settled.idle.push(Idle { held_by: Some(holder.key.path()), intent });
            } else if !intent.problems.is_empty() || settled.held.len() >= WORKLOADS_MAX {
                settled.idle.push(Idle { held_by: None, intent });
            } else {
                settled.kinds.insert(intent.kind());
                settled.held.insert(id, intent);
            }
        }
        settled
    }

    /// What they ask for; those that cannot be read are noted.
    fn read(&mut self, tables: &Tables) -> Vec<Intent> {
        let mut intents = Vec::new();
        for (key, facts) in tables.serving.look().all() {
            match &facts.spec {
                Ok(spec) => intents.push(Intent::serving(key.0, key.1, facts, spec)),
                Err(text) => self.unreadable.push(Unreadable::of(PolicyKind::Serving, key, facts, text)),
            }
        }
        for (key, facts) in tables.training.look().all() {
            match &facts.spec {
                Ok(spec) => intents.push(Intent::training(key.0, key.1, facts, spec)),
                Err(text) => self.unreadable.push(Unreadable::of(PolicyKind::Training, key, facts, text)),
            }
        }
        intents
    }
}

impl Unreadable {
    fn of<S>(
        kind: PolicyKind,
        (namespace, name): (&str, &str),
        facts: &PolicyFacts<S>,
        text: &Arc<str>,
    ) -> Self {
        let key = PolicyKey { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        Self { key, generation: facts.generation, text: Arc::clone(text) }
    }
}
