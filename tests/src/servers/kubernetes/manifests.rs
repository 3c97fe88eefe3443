//! Manifests as files have them, applied as `kubectl apply --server-side` does it.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use kube::{Client, ResourceExt};
use serde_json::Value;

/// Where objects go that name no namespace.
const NAMESPACE: &str = "default";

/// The objects of a file.
///
/// # Panics
/// When it is no YAML, or something in it is no object.
#[must_use]
pub fn objects(yaml: &str) -> Vec<DynamicObject> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("it is YAML, with no key twice");
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects.map(|object| serde_json::from_value(object).expect("it is an object")).collect()
}

/// Applies objects in their order; gives them as they are then.
///
/// # Panics
/// When the API server does not know or take one.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> Vec<DynamicObject> {
    let mut applied = Vec::new();
    for object in objects {
        let TypeMeta { api_version, kind } = object.types.clone().expect("an object has a kind");
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let (resource, known) =
            pinned_kind(client, &GroupVersionKind::gvk(group, version, &kind)).await.expect("a known kind");
        let namespace = object.namespace().unwrap_or_else(|| NAMESPACE.to_owned());
        let api: Api<DynamicObject> = match known.scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(client.clone(), &namespace, &resource),
        };
        let name = object.name_any();
        let answer = api.patch(&name, &PatchParams::apply("kubectl"), &Patch::Apply(object)).await;
        applied.push(answer.unwrap_or_else(|error| panic!("{kind} {name}: {error}")));
    }
    applied
}
