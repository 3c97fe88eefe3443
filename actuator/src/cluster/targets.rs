//! The objects that policies target, of whatever kinds those are: a kind is watched once a policy names it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use tidegate_core::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::facts::TargetFacts;
use super::kinds::{PodsBy, SizePath, TargetKind};
use super::watch::{Scope, Table, follow};

/// How the size of a kind is written that is not in the table: by its `scale` subresource.
pub static ANY_WITH_SCALE: TargetKind = TargetKind {
    kind: "",
    group: "",
    version: "",
    plural: "",
    size: SizePath::Scale(&["spec", "replicas"]),
    pods: PodsBy::Selector,
    grouped: false,
    has_scale: true,
};

/// A kind that the server did not know is asked for again after this long: its definition may have come.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Kinds followed at once; a cluster has a handful that can be resized.
const KINDS_MAX: usize = 64;

/// What is kept of one object: its facts for each of its groups, and under `None` those of an object without groups, or of its
/// only one.
pub type Groups = BTreeMap<Option<String>, Arc<TargetFacts>>;

/// What is known of a kind.
enum Known {
    /// The server is asked whether it has it.
    Asking(JoinHandle<Option<ApiResource>>),
    /// It is followed.
    Followed { place: Place, table: Table<Groups> },
    /// The server has no such kind, as of then.
    Unknown(Timestamp),
}

/// A kind, as a policy names it: `group/version` and kind.
pub type KindKey = (String, String);

/// How objects of a kind are read and written.
#[derive(Debug, Clone)]
pub struct Place {
    /// How the API server knows the kind.
    pub resource: Arc<ApiResource>,
    /// Where their sizes and pods are.
    pub layout: &'static TargetKind,
}

/// The facts of a target, or why there are none.
#[derive(Debug, Clone)]
pub enum Found {
    /// The object.
    Object(Place, Arc<TargetFacts>),
    /// Not known yet: the first list is not in.
    Waiting,
    /// No object of this name, or it has no such group.
    Absent,
    /// The server has no such kind.
    NoKind,
    /// It cannot be read.
    Unreadable(String),
}

/// Follows the kinds that policies name.
pub struct Targets {
    client: Client,
    scope: Scope,
    stop: CancellationToken,
    kinds: BTreeMap<KindKey, Known>,
}

impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Targets").field("kinds", &self.kinds.keys()).finish_non_exhaustive()
    }
}

impl Targets {
    /// None yet. Watches end with `stop`.
    #[must_use]
    pub const fn new(client: Client, scope: Scope, stop: CancellationToken) -> Self {
        Self { client, scope, stop, kinds: BTreeMap::new() }
    }

    /// Begins to follow a kind, or goes on asking for it. Must be called within a Tokio runtime.
    pub fn want(&mut self, key: &KindKey, now: Timestamp) {
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(key) {
            return;
        }
        let next = match self.kinds.remove(key) {
            None => self.begin(key),
            Some(Known::Asking(asking)) if asking.is_finished() => {
                // It is finished, so this is there at once.
                let answer = futures::FutureExt::now_or_never(asking).and_then(Result::ok).flatten();
                answer.map_or(Known::Unknown(now), |resource| self.follow(resource, layout_of(key)))
            }
            Some(Known::Unknown(since)) if now.since(since) >= ASK_AGAIN => self.ask(key),
            Some(known) => known,
        };
        self.kinds.insert(key.clone(), next);
    }

    fn begin(&self, key: &KindKey) -> Known {
        match known_place(key) {
            Some((resource, layout)) => self.follow(resource, layout),
            None => self.ask(key),
        }
    }

    fn ask(&self, key: &KindKey) -> Known {
        let (client, key) = (self.client.clone(), key.clone());
        Known::Asking(tokio::spawn(
            async move { place(&client, &key).await.ok().map(|(resource, _)| resource) },
        ))
    }

    fn follow(&self, resource: ApiResource, layout: &'static TargetKind) -> Known {
        let table = Table::default();
        for namespace in self.scope.parts() {
            let api: Api<DynamicObject> = match &namespace {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
                None => Api::all_with(self.client.clone(), &resource),
            };
            let groups = move |object: &DynamicObject| {
                let groups = TargetFacts::groups(object, layout);
                let shared = groups.into_iter().map(|(group, facts)| (group, Arc::new(facts)));
                Some(shared.collect::<Groups>()).filter(|groups| !groups.is_empty())
            };
            tokio::spawn(follow(api, resource.clone(), namespace, table.clone(), groups, self.stop.clone()));
        }
        Known::Followed { place: Place { resource: Arc::new(resource), layout }, table }
    }

    /// The facts of one target.
    #[must_use]
    pub fn find(&self, key: &KindKey, namespace: &str, name: &str, group: Option<&str>) -> Found {
        let Some(known) = self.kinds.get(key) else { return Found::Waiting };
        match known {
            Known::Asking(_) => Found::Waiting,
            Known::Unknown(_) => Found::NoKind,
            Known::Followed { place, table } => {
                let table = table.look();
                let facts =
                    table.get(namespace, name).and_then(|groups| groups.get(&group.map(str::to_owned)));
                match (facts, table.failing()) {
                    (Some(facts), _) => Found::Object(place.clone(), Arc::clone(facts)),
                    (None, Some(failing)) if failing.is_missing() => Found::NoKind,
                    (None, Some(failing)) => Found::Unreadable(failing.text.clone()),
                    (None, None) if !table.is_synced(self.scope.parts().len()) => Found::Waiting,
                    (None, None) => Found::Absent,
                }
            }
        }
    }

    /// Since when objects of any kind cannot be watched.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        let tables = self.kinds.values().filter_map(|known| match known {
            Known::Followed { table, .. } => Some(table),
            Known::Asking(_) | Known::Unknown(_) => None,
        });
        tables.filter_map(|table| table.look().failing().filter(|f| !f.is_missing()).map(|f| f.since)).min()
    }
}

/// How a kind is read and written: from the table, or for another by asking the server.
///
/// # Errors
/// When the server has no such kind, or does not answer.
pub async fn place(client: &Client, key: &KindKey) -> kube::Result<(ApiResource, &'static TargetKind)> {
    if let Some(known) = known_place(key) {
        return Ok(known);
    }
    let (group, version) = key.0.split_once('/').unwrap_or(("", &key.0));
    let gvk = GroupVersionKind::gvk(group, version, &key.1);
    let found = kube::discovery::oneshot::pinned_kind(client, &gvk).await;
    found.map(|(resource, _)| (resource, &ANY_WITH_SCALE))
}

fn known_place(key: &KindKey) -> Option<(ApiResource, &'static TargetKind)> {
    let layout = Some(layout_of(key)).filter(|layout| !layout.kind.is_empty())?;
    let gvk = GroupVersionKind::gvk(layout.group, layout.version, layout.kind);
    Some((ApiResource::from_gvk_with_plural(&gvk, layout.plural), layout))
}

fn layout_of((api_version, kind): &KindKey) -> &'static TargetKind {
    TargetKind::named(kind).filter(|known| known.api_version() == *api_version).unwrap_or(&ANY_WITH_SCALE)
}
