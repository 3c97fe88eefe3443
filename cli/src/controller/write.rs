//! What is told to the API server: statuses of policies, and Events. Beside the loop, bounded, and never instead of a size.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tidegate_actuator::cluster::Part;
use tidegate_actuator::cluster::apply::MANAGER;
use tidegate_actuator::cluster::entry::{PolicyKey, PolicyKind};
use tidegate_actuator::cluster::status::Status;
use tidegate_actuator::cluster::watch::Scope;
use tidegate_actuator::crds::{GROUP, GpuPool, ServingPolicy, TrainingPolicy, VERSION};
use tidegate_core::Decision;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Statuses on their way at once.
const AT_ONCE: usize = 16;
/// A write that takes longer hangs.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Objects of one answer, where many are read.
const READ_AT_ONCE: u32 = 500;
/// What was not read by then is told anew.
const READ_MAX: Duration = Duration::from_secs(10);
/// Events that wait to be sent; beyond them the newest are dropped: the statuses say the same.
const EVENTS_MAX: usize = 256;

/// Something worth an Event on a policy.
pub(super) struct Announcement {
    on: ObjectReference,
    event: Event,
}

impl Announcement {
    /// A decision that changes the size, or would.
    pub(super) fn decided(part: &Part, decision: &Decision) -> Self {
        let verb = if decision.applied { "sized" } else { "would size" };
        let why: Vec<_> = decision.reasons.iter().map(|reason| reason.text.as_str()).collect();
        let note = format!(
            "{verb} {} from {} to {}: {}",
            part.intent.target.name,
            decision.from,
            decision.to,
            why.join("; ")
        );
        let reason = if decision.to > decision.from { "ScaledUp" } else { "ScaledDown" };
        Self {
            on: reference(&part.intent.key, &part.intent.uid),
            event: Event {
                type_: EventType::Normal,
                reason: if decision.applied { reason.to_owned() } else { "WouldScale".to_owned() },
                // The API server takes a kilobyte.
                note: Some(note.chars().take(1000).collect()),
                action: "Scale".to_owned(),
                secondary: None,
            },
        }
    }
}

fn reference(key: &PolicyKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(key.kind().to_owned()),
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

/// How the write of a policy's status ended.
pub(super) type Ended = (PolicyKey, Result<(), String>);

/// Statuses as the server has them, read beside the loop.
#[derive(Debug)]
pub(super) struct Stored(Option<JoinHandle<Vec<(PolicyKey, Status)>>>);

/// How far the reading has come.
#[derive(Debug)]
pub(super) enum Read {
    /// Under way.
    Waiting,
    /// Just ended; nobody has heard of it before.
    Now(Vec<(PolicyKey, Status)>),
    /// Ended, and told.
    Before,
}

impl Stored {
    /// What was read, once.
    pub(super) fn take(&mut self) -> Read {
        let Some(reading) = &mut self.0 else { return Read::Before };
        if !reading.is_finished() {
            return Read::Waiting;
        }
        // It is finished, so this is there at once. Where nothing could be read, every status is told anew.
        let read = reading.now_or_never().and_then(Result::ok).unwrap_or_default();
        self.0 = None;
        Read::Now(read)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Some(reading) = self.0.take() {
            reading.abort();
        }
    }
}

/// Writes beside the loop.
pub(super) struct Writer {
    client: Client,
    permits: Arc<Semaphore>,
    ended: Arc<Mutex<Vec<Ended>>>,
    events: mpsc::Sender<Announcement>,
}

impl Writer {
    /// Must be called within a Tokio runtime.
    pub(super) fn new(client: Client) -> Self {
        let (events, waiting) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(publish(client.clone(), waiting));
        Self { client, permits: Arc::new(Semaphore::new(AT_ONCE)), ended: Arc::default(), events }
    }

    /// Begins to read what the statuses of all policies say.
    pub(super) fn read(&self, scope: Option<&Scope>) -> Stored {
        let parts = scope.map(Scope::parts).unwrap_or_default();
        let client = self.client.clone();
        Stored(Some(tokio::spawn(async move {
            let mut found = Vec::new();
            let reading = read(&client, parts, &mut found);
            match tokio::time::timeout(READ_MAX, reading).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "statuses could not be read; their conditions begin anew")
                }
                Err(_) => tracing::warn!("statuses could not be read in time; some conditions begin anew"),
            }
            found
        })))
    }

    /// Sends an Event, unless too many wait.
    pub(super) fn announce(&self, announcement: Announcement) {
        if self.events.try_send(announcement).is_err() {
            tracing::debug!("an Event was dropped: too many wait");
        }
    }

    /// Writes statuses.
    pub(super) fn statuses(&self, statuses: Vec<(PolicyKey, Status)>) {
        for (key, status) in statuses {
            let (client, permits) = (self.client.clone(), Arc::clone(&self.permits));
            let ended = Arc::clone(&self.ended);
            tokio::spawn(async move {
                let _permit = permits.acquire_owned().await;
                let written = tokio::time::timeout(WRITE_MAX, write(client, &key, &status)).await;
                let written = match written {
                    Ok(Ok(())) => Ok(()),
                    // The policy is gone; there is nothing to be told to.
                    Ok(Err(kube::Error::Api(answer))) if answer.code == 404 => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("the API server did not answer in time".to_owned()),
                };
                ended.lock().unwrap_or_else(PoisonError::into_inner).push((key, written));
            });
        }
    }

    /// How writes of statuses ended since the last call.
    pub(super) fn ended(&self) -> Vec<Ended> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads the statuses of all policies of these namespaces, and of all pools.
async fn read(
    client: &Client,
    parts: Vec<Option<String>>,
    found: &mut Vec<(PolicyKey, Status)>,
) -> kube::Result<()> {
    let policies = [
        (PolicyKind::Serving, ApiResource::erase::<ServingPolicy>(&())),
        (PolicyKind::Training, ApiResource::erase::<TrainingPolicy>(&())),
    ];
    let pools = ApiResource::erase::<GpuPool>(&());
    for (kind, resource) in &policies {
        for namespace in &parts {
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
                None => Api::all_with(client.clone(), resource),
            };
            read_all(&api, *kind, found).await?;
        }
    }
    read_all(&Api::all_with(client.clone(), &pools), PolicyKind::Pool, found).await
}

async fn read_all(
    api: &Api<DynamicObject>,
    kind: PolicyKind,
    found: &mut Vec<(PolicyKey, Status)>,
) -> kube::Result<()> {
    let mut parameters = ListParams::default().limit(READ_AT_ONCE);
    loop {
        let page = api.list(&parameters).await?;
        for mut object in page.items {
            let status = object.data.get_mut("status").map(Value::take);
            let Some(status) = status.and_then(|status| Status::read(kind, status)) else { continue };
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            found.push((PolicyKey { kind, namespace, name }, status));
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(());
        }
    }
}

async fn write(client: Client, key: &PolicyKey, status: &Status) -> kube::Result<()> {
    let status = match status {
        Status::Serving(status) => serde_json::to_value(status),
        Status::Training(status) => serde_json::to_value(status),
        Status::Pool(status) => serde_json::to_value(status),
    };
    let body = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": key.kind(),
        "metadata": {"name": key.name},
        "status": status.expect("a status is plain data"),
    });
    let params = PatchParams::apply(MANAGER).force();
    let patch: Patch<&Value> = Patch::Apply(&body);
    match key.kind {
        PolicyKind::Serving => {
            let api: Api<ServingPolicy> = Api::namespaced(client, &key.namespace);
            api.patch_status(&key.name, &params, &patch).await.map(drop)
        }
        PolicyKind::Training => {
            let api: Api<TrainingPolicy> = Api::namespaced(client, &key.namespace);
            api.patch_status(&key.name, &params, &patch).await.map(drop)
        }
        PolicyKind::Pool => {
            let api: Api<GpuPool> = Api::all(client);
            api.patch_status(&key.name, &params, &patch).await.map(drop)
        }
    }
}

async fn publish(client: Client, mut waiting: mpsc::Receiver<Announcement>) {
    let reporter = Reporter { controller: "tidegate".into(), instance: None };
    let recorder = Recorder::new(client, reporter);
    while let Some(Announcement { on, event }) = waiting.recv().await {
        if let Err(error) = recorder.publish(&event, &on).await {
            tracing::warn!(%error, "an Event could not be written");
        }
    }
}
