//! What is watched whatever the policies are: policies, pools, pods, nodes and the autoscalers of others.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Node;
use kube::api::DynamicObject;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt};
use tidegate_core::Timestamp;
use tokio_util::sync::CancellationToken;

use super::facts::{AutoscalerFacts, NodeFacts, PodFacts, timestamp};
use super::publish::ToldSize;
use super::watch::{Scope, Table, follow};
use super::way::AutoscalerKind;
use crate::crds::{
    GpuPool, GpuPoolSpec, ResizeStatus, ServingPolicy, ServingPolicySpec, TrainingPolicy, TrainingPolicySpec,
};

/// Annotation of a policy: until then it decides and shows, but changes nothing. RFC 3339.
pub const PAUSED_UNTIL: &str = "tidegate.io/paused-until";

/// What a controller finds in a policy's status of what another has begun, or has in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// The target's size before the policy changed it.
    pub size_before: Option<u32>,
    /// A training job's resize.
    pub resize: Option<ResizeStatus>,
    /// The size that is published.
    pub told: Option<ToldSize>,
    /// Time until a node that a pool grows by can run a pod, as measured.
    pub node_wait: Option<Duration>,
}

/// What is kept of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyFacts<S> {
    /// Unique for all time.
    pub uid: String,
    /// Changes with the spec.
    pub generation: i64,
    /// When it was made: of two on one target, the elder holds.
    pub created: Timestamp,
    /// Until when it is paused.
    pub paused_until: Option<Timestamp>,
    /// What its status keeps for the next leader.
    pub kept: Kept,
    /// The spec; or why it cannot be read, as where a definition of another version let it in.
    pub spec: Result<Arc<S>, Arc<str>>,
}

impl<S: Clone> PolicyFacts<S> {
    fn of<K: ResourceExt>(object: &DeserializeGuard<K>, read: impl FnOnce(&K) -> (&S, Kept)) -> Option<Self> {
        let (spec, kept) = match &object.0 {
            Ok(policy) => {
                let (spec, kept) = read(policy);
                (Ok(Arc::new(spec.clone())), kept)
            }
            Err(invalid) => (Err(invalid.error.as_str().into()), Kept::default()),
        };
        let meta = object.meta();
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let paused = object.annotations().get(PAUSED_UNTIL);
        Some(Self {
            uid: object.uid()?,
            generation: meta.generation.unwrap_or(0),
            created: meta.creation_timestamp.as_ref().map(timestamp)?,
            paused_until: paused.and_then(|until| until.parse().ok()),
            kept,
            spec,
        })
    }
}

/// All of them. Clones are the same tables.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Policies of serving.
    pub serving: Table<PolicyFacts<ServingPolicySpec>>,
    /// Policies of training.
    pub training: Table<PolicyFacts<TrainingPolicySpec>>,
    /// Pools, under the empty namespace.
    pub pools: Table<PolicyFacts<GpuPoolSpec>>,
    /// Pods.
    pub pods: Table<PodFacts>,
    /// Nodes, under the empty namespace.
    pub nodes: Table<NodeFacts>,
    /// HorizontalPodAutoscalers.
    pub hpas: Table<AutoscalerFacts>,
    /// KEDA's ScaledObjects; stays empty where KEDA is not installed.
    pub scaled_objects: Table<AutoscalerFacts>,
}

impl Tables {
    /// Begins to watch. Must be called within a Tokio runtime.
    #[must_use]
    pub fn start(client: &Client, scope: &Scope, stop: &CancellationToken) -> Self {
        let tables = Self::default();
        for namespace in scope.parts() {
            let api = Namespaced { client, namespace, stop };
            api.follow(&tables.serving, |policy: &DeserializeGuard<ServingPolicy>| {
                PolicyFacts::of(policy, |policy| {
                    let size_before = policy.status.as_ref().and_then(|status| status.size_before);
                    let told = policy.status.as_ref().and_then(ToldSize::of);
                    (&policy.spec, Kept { size_before, told, ..Kept::default() })
                })
            });
            api.follow(&tables.training, |policy: &DeserializeGuard<TrainingPolicy>| {
                PolicyFacts::of(policy, |policy| {
                    let kept = policy.status.as_ref().map(|status| Kept {
                        size_before: status.size_before,
                        resize: status.resize.clone(),
                        ..Kept::default()
                    });
                    (&policy.spec, kept.unwrap_or_default())
                })
            });
            api.follow(&tables.pods, PodFacts::of);
            api.follow(&tables.hpas, AutoscalerFacts::of_hpa as fn(&HorizontalPodAutoscaler) -> _);
            let kind = AutoscalerKind::ScaledObject.resource();
            let objects: Api<DynamicObject> = match &api.namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
                None => Api::all_with(client.clone(), &kind),
            };
            tokio::spawn(follow(
                objects,
                kind,
                api.namespace,
                tables.scaled_objects.clone(),
                AutoscalerFacts::of_scaled_object,
                stop.clone(),
            ));
        }
        let pools = |pool: &DeserializeGuard<GpuPool>| {
            PolicyFacts::of(pool, |pool| {
                let seconds = pool.status.as_ref().and_then(|status| status.lead_time_seconds);
                let node_wait = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                (&pool.spec, Kept { node_wait, ..Kept::default() })
            })
        };
        let pooled = follow(Api::all(client.clone()), (), None, tables.pools.clone(), pools, stop.clone());
        tokio::spawn(pooled);
        let nodes: Api<Node> = Api::all(client.clone());
        tokio::spawn(follow(nodes, (), None, tables.nodes.clone(), NodeFacts::of, stop.clone()));
        tables
    }

    /// Since when what decisions rest upon cannot be watched, and why.
    #[must_use]
    pub fn failing(&self) -> Option<super::watch::Failing> {
        let failing = [
            self.serving.look().failing().cloned(),
            self.training.look().failing().cloned(),
            self.pods.look().failing().cloned(),
            self.hpas.look().failing().cloned(),
        ];
        failing.into_iter().flatten().min_by_key(|failing| failing.since)
    }
}

/// One watch per kind, in one namespace or in all.
struct Namespaced<'a> {
    client: &'a Client,
    namespace: Option<String>,
    stop: &'a CancellationToken,
}

impl Namespaced<'_> {
    fn follow<K, T>(&self, table: &Table<T>, fact: impl Fn(&K) -> Option<T> + Send + 'static)
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
        T: PartialEq + Send + 'static,
    {
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        tokio::spawn(follow(api, (), self.namespace.clone(), table.clone(), fact, self.stop.clone()));
    }
}
