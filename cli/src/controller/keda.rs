//! KEDA's external scaler: the size that a policy has in force, told to KEDA, which makes the HorizontalPodAutoscaler that follows it.
//!
//! KEDA names the namespace itself; the trigger's author only the policy, so that nobody reads another namespace by it. KEDA can
//! show a client certificate and nothing else, so that is what lets it in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tidegate_actuator::cluster::publish::Published;
use tidegate_actuator::keda::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use tidegate_actuator::keda::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use tidegate_core::metrics::external;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::door::{Bounds, Door, Trust};
use super::hub::Hub;
use super::published::NoSize;
use crate::api::{TlsFiles, tls_config};
use crate::certificate::renewal::Renews;
use crate::{Usage, clock};

/// KEDA keeps one connection for all its ScaledObjects, and on it a stream for each of those with `external-push`.
const BOUNDS: Bounds = Bounds { connections: 64, requests: 8_192 };
/// Streams at once.
const STREAMS_MAX: usize = 8_192;
/// Longest question: names, and the trigger's metadata.
const QUESTION_BYTES_MAX: usize = 1 << 16;
/// News that waits for KEDA to take it.
const NEWS_MAX: usize = 4;

/// Where KEDA reaches the controller, and what it is known by.
#[derive(Debug)]
pub(super) struct KedaOptions {
    pub(super) addr: SocketAddr,
    pub(super) tls: Option<TlsFiles>,
    /// The authority that signed KEDA's certificate, PEM; `None`: on loopback, anybody of this machine.
    pub(super) authority: Option<String>,
}

impl KedaOptions {
    /// Checks the conditions and takes the address.
    ///
    /// # Errors
    /// When it is beyond loopback without TLS or without an authority, or cannot be taken.
    pub(super) fn bind(self) -> anyhow::Result<Keda> {
        let trust = Trust::nobody();
        let (tls, clients) = match (&self.tls, &self.authority) {
            (Some(tls), Some(authority)) => {
                trust.set(authority, Vec::new()).context("the authority of KEDA's certificate")?;
                (Some(tls_config(tls)?), Some(Arc::clone(&trust)))
            }
            (_, None) if self.addr.ip().is_loopback() => (None, None),
            _ => {
                let needs = "that needs a certificate, and --keda-secret or --keda-client-ca";
                return Err(Usage(format!("keda: {}: {needs}", self.addr)).into());
            }
        };
        Ok(Keda { door: Door::open("KEDA", self.addr, tls, clients, BOUNDS)?, trust })
    }
}

/// The scaler, on an address that is taken.
pub(super) struct Keda {
    door: Door,
    /// By what KEDA is known.
    pub(super) trust: Arc<Trust>,
}

impl Keda {
    /// The address as KEDA is given it.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        self.door.url()
    }

    /// By which it takes a new certificate of the controller's.
    pub(super) fn renews(&self) -> Option<Renews> {
        self.door.renews()
    }

    /// Serves until `stop`.
    pub(super) async fn serve(self, hub: Arc<Hub>, stop: CancellationToken) -> std::io::Result<()> {
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        let service = ExternalScalerServer::new(Scaler { hub, places, stop: stop.clone() });
        let service = service.max_decoding_message_size(QUESTION_BYTES_MAX);
        let app = axum::Router::new().route_service("/externalscaler.ExternalScaler/{*method}", service);
        self.door.serve(app, stop).await
    }
}

struct Scaler {
    hub: Arc<Hub>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The policy that a trigger names: by `policy` in its metadata, else the one that bears the ScaledObject's name.
fn policy(asked: &ScaledObjectRef) -> &str {
    asked.scaler_metadata.get(external::POLICY).map_or(asked.name.as_str(), String::as_str)
}

fn size(hub: &Hub, asked: &ScaledObjectRef) -> Result<u32, NoSize> {
    let wanted = |name: &str, _: &Published| name == policy(asked);
    let sizes = Arc::clone(&hub.sizes.borrow());
    sizes.find(&asked.namespace, wanted, clock::now()).map(|answer| answer.replicas)
}

/// KEDA leaves a size as it is when it is answered with an error.
fn refused(error: &NoSize) -> Status {
    match error {
        NoSize::NoPolicy(_) => Status::not_found(error.to_string()),
        NoSize::Several(_) | NoSize::Withheld(..) => Status::failed_precondition(error.to_string()),
        NoSize::Stale => Status::unavailable(error.to_string()),
    }
}

impl Scaler {
    fn size(&self, asked: &ScaledObjectRef) -> Result<u32, Status> {
        let found = size(&self.hub, asked);
        self.hub.answered(found.as_ref().map(|_| ()));
        found.map_err(|error| refused(&error))
    }
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = ReceiverStream<Result<IsActiveResponse, Status>>;

    async fn is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<IsActiveResponse>, Status> {
        let size = self.size(request.get_ref())?;
        Ok(Response::new(IsActiveResponse { result: size > 0 }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many streams"));
        };
        let asked = request.into_inner();
        let (news, given) = mpsc::channel(NEWS_MAX);
        let (hub, stop) = (Arc::clone(&self.hub), self.stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut rounds = hub.sizes.subscribe();
            let mut told = None;
            loop {
                // What is not known is no news: KEDA goes on with what it was told last.
                let active = size(&hub, &asked).ok().map(|size| size > 0);
                if let Some(result) = active.filter(|active| told != Some(*active)) {
                    if news.send(Ok(IsActiveResponse { result })).await.is_err() {
                        return;
                    }
                    told = active;
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = news.closed() => return,
                    changed = rounds.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(given)))
    }

    async fn get_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        // One per replica: the HorizontalPodAutoscaler that KEDA makes divides by it and has the size.
        let spec =
            MetricSpec { metric_name: external::REPLICAS.to_owned(), target_size: 1, target_size_float: 1.0 };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let request = request.into_inner();
        if request.metric_name != external::REPLICAS {
            return Err(Status::not_found(format!("there is only {}", external::REPLICAS)));
        }
        let asked = request.scaled_object_ref;
        let asked = asked.ok_or_else(|| Status::invalid_argument("no ScaledObject is named"))?;
        let size = self.size(&asked)?;
        let value = MetricValue {
            metric_name: request.metric_name,
            metric_value: i64::from(size),
            metric_value_float: f64::from(size),
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }
}

/// Reads the authority that KEDA's certificate is known by.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn authority(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_names_a_policy_or_means_that_of_its_own_name() {
        let mut asked = ScaledObjectRef { name: "chat".into(), namespace: "ml".into(), ..Default::default() };
        assert_eq!(policy(&asked), "chat");
        asked.scaler_metadata.insert("policy".into(), "chat-eu".into());
        asked.scaler_metadata.insert("namespace".into(), "other".into());
        assert_eq!(policy(&asked), "chat-eu");
        assert_eq!(asked.namespace, "ml", "the namespace is KEDA's word alone");
    }

    #[test]
    fn beyond_loopback_nothing_is_opened_without_a_certificate_to_know_keda_by() {
        let open = |addr: &str, authority: Option<String>| {
            KedaOptions { addr: addr.parse().unwrap(), tls: None, authority }.bind()
        };
        assert!(open("0.0.0.0:0", None).is_err());
        assert!(open("0.0.0.0:0", Some(String::new())).is_err());
        assert!(open("127.0.0.1:0", Some(String::new())).is_err(), "asked for, and not possible");
        assert!(open("127.0.0.1:0", None).unwrap().url().unwrap().starts_with("http://"));
    }
}
