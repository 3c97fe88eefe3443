//! Watching the API server: one task per kind keeps a table of facts, and goes on with what it knows while the server is away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tidegate_core::Timestamp;
use tokio_util::sync::CancellationToken;

use super::facts::Key;
use crate::clock;

/// Objects of a kind that are kept; the largest clusters that Kubernetes is tested with have 150,000 pods.
const OBJECTS_MAX: usize = 300_000;

/// Names that an account of changes holds; beyond, everything is looked at.
const CHANGED_MAX: usize = 20_000;

/// A kind that the server does not have is asked for again after this long: its definition may have come.
const MISSING_PAUSE: Duration = Duration::from_secs(30);

/// While the API server cannot be watched for longer than this, no size is made smaller: what is known may be long past.
const BLIND_AFTER: Duration = Duration::from_secs(20);

/// Which namespaces are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Cluster,
    /// These alone.
    Namespaces(Vec<String>),
}

impl Scope {
    /// Namespaces to watch one by one; `None`: all at once.
    #[must_use]
    pub fn parts(&self) -> Vec<Option<String>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

/// Facts of one kind's objects, by namespace and name. Cheap to clone: all clones are the same table.
#[derive(Debug)]
pub struct Table<T>(Arc<Mutex<Known<T>>>);

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Known {
            facts: BTreeMap::new(),
            changed: Changed::All,
            synced: 0,
            failing: None,
        })))
    }
}

/// What has changed since somebody asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Whatever there is may have: nobody has asked before, or not for long.
    All,
    /// The objects of these names, by namespace; some may be gone.
    Some(BTreeMap<String, BTreeSet<String>>),
}

impl Changed {
    /// Nothing has.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Some(names) if names.is_empty())
    }
}

/// What a table holds.
#[derive(Debug)]
pub struct Known<T> {
    facts: BTreeMap<String, BTreeMap<String, T>>,
    changed: Changed,
    synced: usize,
    failing: Option<Failing>,
}

/// Why a watch fails at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: Timestamp,
    /// In the server's words.
    pub text: String,
    /// HTTP status, where the server answered.
    pub code: Option<u16>,
}

impl Failing {
    /// The server has no such kind.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self.code, Some(404))
    }

    /// What is known may be long past at `now`.
    #[must_use]
    pub fn blinds(&self, now: Timestamp) -> bool {
        now.since(self.since) >= BLIND_AFTER
    }

    /// It may not be read.
    #[must_use]
    pub const fn is_forbidden(&self) -> bool {
        matches!(self.code, Some(401 | 403))
    }
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

impl<T> Known<T> {
    /// The facts of one object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.facts.get(namespace)?.get(name)
    }

    /// Every object.
    pub fn all(&self) -> impl Iterator<Item = ((&str, &str), &T)> {
        self.facts.iter().flat_map(|(namespace, of)| {
            of.iter().map(move |(name, fact)| ((namespace.as_str(), name.as_str()), fact))
        })
    }

    /// The objects of one namespace, by name.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = (&str, &T)> + use<'_, T> {
        self.facts.get(namespace).into_iter().flatten().map(|(name, fact)| (name.as_str(), fact))
    }

    /// What has changed since the last call; from then on it is kept account of. For one asker.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::replace(&mut self.changed, Changed::Some(BTreeMap::new()))
    }

    /// Whether the first list of `parts` watches is in: before that, what is not here may be there all the same.
    #[must_use]
    pub const fn is_synced(&self, parts: usize) -> bool {
        self.synced >= parts
    }

    /// Why it cannot be watched at present, if so.
    #[must_use]
    pub const fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }

    fn len(&self) -> usize {
        self.facts.values().map(BTreeMap::len).sum()
    }

    fn touch(&mut self, (namespace, name): &Key) {
        let Changed::Some(names) = &mut self.changed else { return };
        names.entry(namespace.clone()).or_default().insert(name.clone());
        if names.values().map(BTreeSet::len).sum::<usize>() > CHANGED_MAX {
            self.changed = Changed::All;
        }
    }

    fn put(&mut self, key: Key, fact: Option<T>)
    where
        T: PartialEq,
    {
        let Some(fact) = fact else { return self.remove(&key) };
        let before = self.get(&key.0, &key.1);
        if before == Some(&fact) || (before.is_none() && self.len() >= OBJECTS_MAX) {
            return;
        }
        self.touch(&key);
        self.facts.entry(key.0).or_default().insert(key.1, fact);
    }

    fn remove(&mut self, key: &Key) {
        let Some(of_namespace) = self.facts.get_mut(&key.0) else { return };
        if of_namespace.remove(&key.1).is_none() {
            return;
        }
        if of_namespace.is_empty() {
            self.facts.remove(&key.0);
        }
        self.touch(key);
    }

    /// The first list is in.
    #[cfg(test)]
    pub(super) fn sync(&mut self) {
        self.synced += 1;
    }

    /// Takes in an object, or that it is gone.
    #[cfg(test)]
    pub(super) fn set(&mut self, namespace: &str, name: &str, fact: Option<T>)
    where
        T: PartialEq,
    {
        self.put((namespace.to_owned(), name.to_owned()), fact);
    }

    /// Takes a whole list in: what is in `namespace` (or anywhere) and not in it is gone.
    fn replace(&mut self, namespace: Option<&str>, list: BTreeMap<Key, T>)
    where
        T: PartialEq,
    {
        let within = |of: &str| namespace.is_none_or(|namespace| of == namespace);
        let keys = self.all().map(|((of, name), _)| (of.to_owned(), name.to_owned()));
        let gone: Vec<_> = keys.filter(|key| within(&key.0) && !list.contains_key(key)).collect();
        gone.iter().for_each(|key| self.remove(key));
        for (key, fact) in list {
            self.put(key, Some(fact));
        }
    }
}

impl<T> Table<T> {
    /// A look at it. Not to be held across an await.
    pub fn look(&self) -> MutexGuard<'_, Known<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Follows `api` until `stop`, keeping `table`. `namespace`: the one that `api` is bound to, if it is.
pub async fn follow<K, T>(
    api: Api<K>,
    kind: K::DynamicType,
    namespace: Option<String>,
    table: Table<T>,
    fact: impl Fn(&K) -> Option<T> + Send + 'static,
    stop: CancellationToken,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Send,
    T: PartialEq + Send + 'static,
{
    let kind = K::kind(&kind).into_owned();
    let mut events = pin!(watch_objects(api, watcher::Config::default()).default_backoff());
    let mut list = BTreeMap::new();
    let mut listed = false;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        let error = match event {
            Ok(event) => {
                take(&table, event, &fact, &namespace, (&mut list, &mut listed));
                continue;
            }
            Err(error) => error,
        };
        let failing = Failing { since: clock::wall(), text: error.to_string(), code: code_of(&error) };
        let missing = failing.is_missing();
        {
            let mut known = table.look();
            if known.failing.is_none() && missing {
                tracing::info!(kind, "the cluster has no such kind");
            } else if known.failing.is_none() {
                tracing::warn!(error = %error, kind, "watch failed; going on with what is known");
            }
            let since = known.failing.as_ref().map_or(failing.since, |failing| failing.since);
            known.failing = Some(Failing { since, ..failing });
        }
        if missing {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(MISSING_PAUSE) => {}
            }
        }
    }
}

/// Takes an event in. Only what shows that the server answers ends a failure: each try begins with an event of its own.
fn take<K: ResourceExt, T: PartialEq>(
    table: &Table<T>,
    event: Event<K>,
    fact: &impl Fn(&K) -> Option<T>,
    namespace: &Option<String>,
    (list, listed): (&mut BTreeMap<Key, T>, &mut bool),
) {
    let mut known = table.look();
    match event {
        Event::Init => {
            list.clear();
            return;
        }
        Event::InitApply(object) => {
            if let Some(fact) = fact(&object).filter(|_| list.len() < OBJECTS_MAX) {
                list.insert(key_of(&object), fact);
            }
        }
        Event::InitDone => {
            known.replace(namespace.as_deref(), std::mem::take(list));
            known.synced += usize::from(!std::mem::replace(listed, true));
        }
        Event::Apply(object) => known.put(key_of(&object), fact(&object)),
        Event::Delete(object) => known.remove(&key_of(&object)),
    }
    known.failing = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_others_alone() {
        let table = Table::<u32>::default();
        let mut known = table.look();
        known.put(key("a", "x"), Some(1));
        known.put(key("a", "y"), Some(2));
        known.put(key("b", "x"), Some(3));
        known.replace(Some("a"), BTreeMap::from([(key("a", "y"), 2), (key("a", "z"), 4)]));
        let left: Vec<_> = known.all().map(|((ns, name), n)| (ns, name, *n)).collect();
        assert_eq!(left, [("a", "y", 2), ("a", "z", 4), ("b", "x", 3)]);
        assert_eq!(known.of_namespace("a").count(), 2);
    }

    #[test]
    fn what_changes_is_told_once_and_what_does_not_is_not() {
        let table = Table::<u32>::default();
        let mut known = table.look();
        assert_eq!(known.take_changed(), Changed::All, "whoever asks first knows nothing");
        known.put(key("a", "x"), Some(1));
        known.put(key("b", "y"), Some(1));
        let both = [("a".to_owned(), ["x".to_owned()].into()), ("b".to_owned(), ["y".to_owned()].into())];
        assert_eq!(known.take_changed(), Changed::Some(both.into()));
        known.put(key("a", "x"), Some(1));
        known.remove(&key("a", "z"));
        assert!(known.take_changed().is_none());
        known.remove(&key("a", "x"));
        assert_eq!(known.take_changed(), Changed::Some([("a".to_owned(), ["x".to_owned()].into())].into()));
    }

    #[test]
    fn an_account_that_nobody_asks_for_does_not_grow_for_ever() {
        let table = Table::<u32>::default();
        let mut known = table.look();
        drop(known.take_changed());
        for at in 0..=CHANGED_MAX {
            known.put(key("a", &at.to_string()), Some(1));
            known.remove(&key("a", &at.to_string()));
        }
        assert_eq!(known.take_changed(), Changed::All);
    }
}
