//! The API server's pods of this node: a watch filtered to it, for kubelets without a Pods API.

use futures::TryStreamExt as _;
use futures::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod as PodResource;
use kube::api::{Api, ApiResource, Object};
use kube::runtime::watcher::{self, Event};

use super::FollowError;
use super::book::Change;
use super::messages::core::{ObjectMeta, OwnerReference, PodSpec, PodStatus};
use super::object;

/// Where to ask, and for which node.
#[derive(Clone)]
pub struct ApiServer {
    /// Knows the address and the credentials.
    pub client: kube::Client,
    /// Name of the node, as the API has it.
    pub node: String,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A pod of which only what is used is read: the rest of its text is passed over and takes no memory.
type PartialPod = Object<PodSpec, PodStatus>;

/// Every change of the node's pods, as the API server tells it, beginning with all of them.
pub(super) fn changes(server: &ApiServer) -> BoxStream<'static, Result<Change, FollowError>> {
    let pods: Api<PartialPod> = Api::all_with(server.client.clone(), &ApiResource::erase::<PodResource>(&()));
    // From the server's cache: nodes that all come back at once then cost its store nothing. A change that is missed for a
    // moment is told by the watch.
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", server.node)).any_semantic();
    let events =
        watcher::watcher(pods, config).map_err(|source| FollowError::ApiServer { source: Box::new(source) });
    events.try_filter_map(|event| async { Ok(change(event)) }).boxed()
}

fn change(event: Event<PartialPod>) -> Option<Change> {
    match event {
        Event::Init => Some(Change::Began),
        Event::InitApply(object) | Event::Apply(object) => {
            let pod = object::pod(meta(object.metadata), &object.spec, object.status.as_ref())?;
            Some(Change::Is(Box::new(pod)))
        }
        Event::InitDone => Some(Change::InStep),
        Event::Delete(object) => Some(Change::Gone(object.metadata.uid?)),
    }
}

fn meta(meta: kube::api::ObjectMeta) -> ObjectMeta {
    let owners = meta.owner_references.unwrap_or_default().into_iter().map(|owner| OwnerReference {
        kind: owner.kind,
        name: owner.name,
        controller: owner.controller.unwrap_or_default(),
    });
    ObjectMeta {
        name: meta.name.unwrap_or_default(),
        namespace: meta.namespace.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        labels: meta.labels.unwrap_or_default(),
        annotations: meta.annotations.unwrap_or_default(),
        owner_references: owners.collect(),
    }
}
