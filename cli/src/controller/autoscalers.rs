//! Everything by which autoscalers ask for sizes, opened as the arguments say; and the API server told what to trust of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tidegate_actuator::cluster::apply::MANAGER;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::door::Trust;
use super::external_metrics::{API_SERVICE, ExternalMetrics};
use super::hub::Hub;
use super::keda::{self, Keda, KedaOptions};
use crate::Usage;
use crate::args::PublishedArgs;
use crate::certificate::renewal::{Renews, Source};
use crate::certificate::{Place, Shared};

/// What the APIService trusts is written this often: it may have been made anew. Nothing changes where it is as it should be.
const TRUSTED_EVERY: Duration = Duration::from_secs(60);
/// KEDA's certificate is looked at this often: it is good for two years.
const KEDA_EVERY: Duration = Duration::from_secs(3600);
/// A write that takes longer hangs.
const WRITE_MAX: Duration = Duration::from_secs(10);

/// Addresses taken, not yet served.
pub(super) struct Autoscalers {
    external_metrics: Option<ExternalMetrics>,
    keda: Option<Keda>,
    /// Namespace and name of the Service by which the API server reaches us.
    service: Option<(String, String)>,
    /// Where KEDA's certificate is kept: beside ours, under this name.
    secret: Option<(Place, String)>,
}

impl Autoscalers {
    /// Takes the addresses. `source` and `own`: where the controller's certificate comes from, and what it is now.
    ///
    /// # Errors
    /// When one cannot be taken, or what it needs is not there.
    pub(super) async fn bind(
        args: &PublishedArgs,
        source: Option<&Source>,
        own: Option<&Shared>,
    ) -> anyhow::Result<Self> {
        let external_metrics = match (args.external_metrics, own) {
            (Some(addr), Some(own)) => Some(ExternalMetrics::bind(addr, &own.files)?),
            (Some(_), None) => {
                let text = "--external-metrics needs --tls-secret, or --tls-cert and --tls-key";
                return Err(Usage(text.to_owned()).into());
            }
            (None, _) => None,
        };
        let service = args.external_metrics_service.as_deref().map(|service| {
            let parts = service.split_once('/').map(|(ns, name)| (ns.to_owned(), name.to_owned()));
            parts.ok_or_else(|| Usage(format!("--external-metrics-service: {service}: needs NAMESPACE/NAME")))
        });
        let service = service.transpose()?;
        let secret = match (source, &args.keda_secret) {
            (Some(Source::Shared(place)), Some(secret)) => Some((place.clone(), secret.clone())),
            _ => None,
        };
        let Some(addr) = args.keda else {
            return Ok(Self { external_metrics, keda: None, service, secret });
        };
        let trusts = own.and_then(|own| own.authority.as_deref());
        let authority = match (&args.keda_client_ca, &secret, trusts) {
            (Some(path), ..) => Some(keda::authority(path)?),
            (None, Some((place, secret)), Some(trusts)) => Some(place.for_keda(secret, trusts).await?),
            _ => None,
        };
        let keda = KedaOptions { addr, tls: own.map(|own| own.files.clone()), authority }.bind()?;
        Ok(Self { external_metrics, keda: Some(keda), service, secret })
    }

    /// By which they take a new certificate of the controller's.
    pub(super) fn renews(&self) -> impl Iterator<Item = Renews> {
        let of_api = self.external_metrics.as_ref().and_then(ExternalMetrics::renews);
        of_api.into_iter().chain(self.keda.as_ref().and_then(Keda::renews))
    }

    /// Serves until `stop`. `authority`: what the controller's certificate is trusted by, as it changes.
    pub(super) fn serve(
        self,
        hub: &Arc<Hub>,
        client: &Client,
        authority: &watch::Receiver<Option<String>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<JoinHandle<std::io::Result<()>>>> {
        let mut serving = Vec::new();
        if let Some(api) = self.external_metrics {
            tracing::info!(url = api.url()?, "the API server is answered");
            serving.push(tokio::spawn(api.serve(Arc::clone(hub), client.clone(), stop.clone())));
        }
        if let Some(service) = self.service {
            let (hub, client) = (Arc::clone(hub), client.clone());
            drop(tokio::spawn(trust(service, authority.clone(), hub, client, stop.clone())));
        }
        if let Some(keda) = self.keda {
            tracing::info!(url = keda.url()?, "KEDA is answered");
            if let Some((place, secret)) = self.secret {
                let known = Arc::clone(&keda.trust);
                drop(tokio::spawn(keep_keda(place, secret, known, authority.clone(), stop.clone())));
            }
            serving.push(tokio::spawn(keda.serve(Arc::clone(hub), stop.clone())));
        }
        Ok(serving)
    }
}

/// Says once that something fails, and once more after it has worked.
#[derive(Default)]
struct Complaint {
    made: bool,
}

impl Complaint {
    fn of(&mut self, tried: anyhow::Result<()>, what: &str) {
        match tried {
            Ok(()) => self.made = false,
            Err(error) if !std::mem::replace(&mut self.made, true) => {
                tracing::warn!(error = format!("{error:#}"), "{what}");
            }
            Err(_) => {}
        }
    }
}

/// Keeps the APIService trusting our certificate, while this controller leads, until `stop`.
async fn trust(
    service: (String, String),
    mut authority: watch::Receiver<Option<String>>,
    hub: Arc<Hub>,
    client: Client,
    stop: CancellationToken,
) {
    let mut leading = hub.leading.clone();
    let mut ticks = tokio::time::interval(TRUSTED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaint = Complaint::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = leading.changed() => if changed.is_err() { return },
            changed = authority.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
        let trusted = authority.borrow_and_update().clone();
        let Some(trusted) = trusted.filter(|_| hub.leads()) else { continue };
        let written = tokio::time::timeout(WRITE_MAX, write(&client, &service, &trusted)).await;
        let written = written.context("the API server did not answer in time").and_then(|written| written);
        complaint.of(written, "the API server could not be told what to trust of external metrics");
    }
}

/// Keeps the Secret that KEDA has its certificate from, and lets in by it, until `stop`.
async fn keep_keda(
    place: Place,
    secret: String,
    known: Arc<Trust>,
    mut authority: watch::Receiver<Option<String>>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(KEDA_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaint = Complaint::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = authority.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
        let trusts = authority.borrow_and_update().clone();
        let Some(trusts) = trusts else { continue };
        let kept = tokio::time::timeout(WRITE_MAX, place.for_keda(&secret, &trusts)).await;
        let kept = kept.context("the API server did not answer in time").and_then(|kept| kept);
        let taken = kept.and_then(|signs| known.set(&signs, Vec::new()));
        complaint.of(taken, "KEDA's certificate could not be looked at; it is known by the one before");
    }
}

/// Writes only where the APIService is ours: of the one there can be in a cluster, another adapter may have taken possession.
async fn write(client: &Client, service: &(String, String), trusted: &str) -> anyhow::Result<()> {
    let (namespace, name) = service;
    let operations = json!([
        {"op": "test", "path": "/spec/service/namespace", "value": namespace},
        {"op": "test", "path": "/spec/service/name", "value": name},
        {"op": "add", "path": "/spec/caBundle", "value": ByteString(trusted.as_bytes().to_vec())},
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations).context("invalid operations")?);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let services: Api<APIService> = Api::all(client.clone());
    let patched = services.patch(API_SERVICE, &params, &patch).await;
    patched.map(drop).with_context(|| format!("APIService {API_SERVICE}, if it names {namespace}/{name}"))
}
