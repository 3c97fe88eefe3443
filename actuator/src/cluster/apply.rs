//! Putting sizes into effect: one order per workload at a time, a bounded number at once, none of them waited for by the loop.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidegate_core::{Timestamp, WorkloadId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::facts::Key;
use super::floor::FloorWrite;
use super::kinds::{SizePath, TargetKind};
use super::victims::{self, Marks};
use super::way::AutoscalerKind;

/// Name under which Tidegate's writes stand in managed fields.
pub const MANAGER: &str = "tidegate";
/// Requests to the API server at once; its own default allows a client many more.
const AT_ONCE: usize = 32;
/// A request that takes longer hangs.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// An order that failed is given again after this long, doubled with each failure.
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
const AWAY_MAX: Duration = Duration::from_secs(5);

/// What was written is seen by the watch within a moment; until then it is not written again.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// A size, to the target itself.
    Size {
        /// What it is.
        resource: ApiResource,
        /// Where its size stands.
        layout: &'static TargetKind,
        /// Which object.
        key: Key,
        /// Place of the group, where the kind has groups.
        group_index: Option<usize>,
        /// The size as it was when the order was given; a list's entry is changed only if it still is.
        from: Option<u32>,
        /// The size.
        to: u32,
    },
    /// A floor, to an autoscaler.
    Floor {
        /// What it is.
        kind: AutoscalerKind,
        /// Which object.
        key: Key,
        /// What to write.
        write: FloorWrite,
    },
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { resource, key, from, to, .. } => {
                let from = from.map_or_else(|| "none".to_owned(), |from| from.to_string());
                write!(f, "{} {}/{}: size {from} → {to}", resource.kind, key.0, key.1)
            }
            Self::Floor { kind, key, write } => {
                let to = write.min.map_or_else(|| "none".to_owned(), |min| min.to_string());
                write!(f, "{} {}/{}: floor → {to}", kind.kind(), key.0, key.1)
            }
        }
    }
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When it was known.
    pub at: Timestamp,
    /// Why it failed, if it did.
    pub refused: Option<Refused>,
}

/// Why the API server did not take a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub cause: RefusedCause,
    /// In the server's words.
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The closed set of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedCause {
    /// Role-based access control, or a quota.
    Forbidden,
    /// The object is gone, or its kind is.
    NotFound,
    /// Somebody changed it at the same moment; it is looked at again.
    Conflict,
    /// The object's own rules, or an admission webhook, refuse the size.
    Invalid,
    /// The server is away, slow or overloaded.
    Unavailable,
}

impl RefusedCause {
    /// Value of the `cause` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }

    fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 | 403 => Self::Forbidden,
                404 => Self::NotFound,
                409 => Self::Conflict,
                400 | 405 | 415 | 422 => Self::Invalid,
                _ => Self::Unavailable,
            },
            _ => Self::Unavailable,
        }
    }
}

/// Gives orders and remembers what became of them.
pub struct Hands {
    client: Client,
    permits: Arc<Semaphore>,
    under_way: BTreeMap<WorkloadId, (Order, JoinHandle<Result<(), Refused>>)>,
    failed: BTreeMap<WorkloadId, Failed>,
    written: BTreeMap<WorkloadId, (Order, Timestamp)>,
}

/// An order that failed, and when it may be given again.
#[derive(Debug, Clone)]
struct Failed {
    order: Order,
    refused: Refused,
    again_at: Timestamp,
    pause: Duration,
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hands").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

impl Hands {
    /// Idle ones.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            under_way: BTreeMap::new(),
            failed: BTreeMap::new(),
            written: BTreeMap::new(),
        }
    }

    /// Whether a write for this workload is on its way.
    #[must_use]
    pub fn is_busy(&self, id: &WorkloadId) -> bool {
        self.under_way.contains_key(id)
    }

    /// Why the last order for this workload failed, if it did and no later one has not.
    #[must_use]
    pub fn refused(&self, id: &WorkloadId) -> Option<&Refused> {
        self.failed.get(id).map(|failed| &failed.refused)
    }

    /// Gives an order, unless one is under way or the same has just failed; pods are marked before. Must be called within a Tokio
    /// runtime.
    pub fn give(&mut self, id: &WorkloadId, order: Order, marks: Marks, now: Timestamp) -> bool {
        let too_soon = self.failed.get(id).is_some_and(|f| f.order == order && now < f.again_at);
        let seen_soon = |(last, at): &(Order, Timestamp)| *last == order && now.since(*at) < SEEN_WITHIN;
        if self.is_busy(id) || too_soon || self.written.get(id).is_some_and(seen_soon) {
            return false;
        }
        let (client, permits, task) = (self.client.clone(), Arc::clone(&self.permits), order.clone());
        let handle = tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            // However it ends: the size is what counts.
            drop(tokio::time::timeout(REQUEST_MAX, victims::write(&client, marks)).await);
            write(client, &task).await
        });
        self.under_way.insert(id.clone(), (order, handle));
        true
    }

    /// What became of orders since the last call.
    pub fn ended(&mut self, now: Timestamp) -> Vec<(WorkloadId, Order, Outcome)> {
        let done: Vec<_> = self.under_way.extract_if(.., |_, (_, handle)| handle.is_finished()).collect();
        let mut ended = Vec::new();
        for (id, (order, handle)) in done {
            // It is finished, so this is there at once.
            let result = match futures::FutureExt::now_or_never(handle) {
                Some(Ok(result)) => result,
                Some(Err(_)) | None => Err(Refused {
                    cause: RefusedCause::Unavailable,
                    text: "the write was broken off".to_owned(),
                }),
            };
            let refused = result.err();
            match &refused {
                None => {
                    self.failed.remove(&id);
                    self.written.insert(id.clone(), (order.clone(), now));
                }
                Some(refused) => {
                    let before = self.failed.get(&id).filter(|failed| failed.order == order);
                    // A server that is away may be back at any moment; one that said no will not soon say yes.
                    let most = if refused.cause == RefusedCause::Unavailable { AWAY_MAX } else { RETRY_MAX };
                    let pause = before.map_or(RETRY_FIRST, |failed| (failed.pause * 2).min(most));
                    let (order, refused) = (order.clone(), refused.clone());
                    self.failed.insert(id.clone(), Failed { order, refused, again_at: now + pause, pause });
                }
            }
            ended.push((id, order, Outcome { at: now, refused }));
        }
        ended
    }

    /// Forgets a workload that is gone; a write under way is left to end.
    pub fn forget(&mut self, id: &WorkloadId) {
        self.failed.remove(id);
        self.written.remove(id);
    }

    /// Waits, for at most `limit`, until no order is under way.
    pub async fn settle(&mut self, limit: Duration) {
        let handles = self.under_way.values_mut().map(|(_, handle)| handle);
        // What does not end in time is left to the next leader, which sees the state as it is.
        drop(tokio::time::timeout(limit, futures::future::join_all(handles)).await);
    }
}

/// Makes one write.
///
/// # Errors
/// Why the server refused it.
pub async fn write(client: Client, order: &Order) -> Result<(), Refused> {
    let writing = async {
        match order {
            Order::Size { resource, layout, key, group_index, from, to } => {
                let api: Api<DynamicObject> = Api::namespaced_with(client, &key.0, resource);
                write_size(&api, (resource, layout), &key.1, *group_index, *from, *to).await
            }
            Order::Floor { kind, key, write } => {
                let api: Api<DynamicObject> = Api::namespaced_with(client, &key.0, &kind.resource());
                let patch = Patch::Merge(write.patch(kind.floor_field()));
                let params =
                    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                api.patch(&key.1, &params, &patch).await.map(drop)
            }
        }
    };
    match tokio::time::timeout(REQUEST_MAX, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Refused { cause: RefusedCause::of(&error), text: error.to_string() }),
        Err(_) => Err(Refused {
            cause: RefusedCause::Unavailable,
            text: format!("the API server did not answer within {} s", REQUEST_MAX.as_secs()),
        }),
    }
}

async fn write_size(
    api: &Api<DynamicObject>,
    (resource, layout): (&ApiResource, &TargetKind),
    name: &str,
    group_index: Option<usize>,
    from: Option<u32>,
    to: u32,
) -> kube::Result<()> {
    match layout.size {
        // The server cannot apply to the `scale` of a custom resource: it looks for autoscaling/v1 among the resource's own versions.
        SizePath::Scale(_) if resource.group != "apps" => {
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(json!({"spec": {"replicas": to}}));
            api.patch_scale(name, &params, &patch).await.map(drop)
        }
        SizePath::Scale(_) => {
            let body = json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"name": name}, "spec": {"replicas": to},
            });
            // Whoever wrote the size before does not own it: those that do are recognised earlier, and left alone.
            let params = PatchParams::apply(MANAGER).force();
            api.patch_scale(name, &params, &Patch::Apply(&body)).await.map(drop)
        }
        SizePath::Field(path) => {
            let body = path.iter().rev().fold(json!(to), |inner, part| json!({*part: inner}));
            merge(api, name, &body).await
        }
        SizePath::Group { list, size, .. } => {
            let index = group_index.unwrap_or(0);
            let path = list.iter().map(ToString::to_string);
            let path: Vec<_> =
                path.chain([index.to_string()]).chain(size.iter().map(ToString::to_string)).collect();
            let path = super::facts::pointer(&path);
            let test = from.map(|from| json!({"op": "test", "path": path, "value": from}));
            // `add` on a member of an object sets it, whether it was there or not (RFC 6902, 4.1).
            let set = json!({"op": "add", "path": path, "value": to});
            let operations: Vec<Value> = test.into_iter().chain([set]).collect();
            let patch: kube::core::params::Patch<()> =
                Patch::Json(serde_json::from_value(Value::Array(operations)).expect("valid operations"));
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(name, &params, &patch).await.map(drop)
        }
    }
}

async fn merge(api: &Api<DynamicObject>, name: &str, body: &Value) -> kube::Result<()> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(body)).await.map(drop)
}
