//! The controller's end of the agents' streams: who may tell, what is taken in, and what all agents together say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tidegate_core::{Label, Metric};
use tidegate_digest::v1::digests_server::{Digests, DigestsServer};
use tidegate_digest::{Board, checked, v1};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::door::{Bounds, Door};
use super::hub::{Hub, lock};
use crate::api::{TlsFiles, tls_config};
use crate::certificate::renewal::Renews;
use crate::{Usage, clock};

/// Streams at once: one per node of the largest clusters, and some that are being replaced.
const STREAMS_MAX: usize = 6_000;
/// Largest digest that is decoded: 200 pods with all their signals are a fifth of it.
const DIGEST_BYTES_MAX: usize = 1 << 20;
/// An agent that is silent for longer is gone; it tells something every two seconds.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// Receipts on their way.
const RECEIPTS_MAX: usize = 4;
/// A node that is silent for so long is dropped.
const DROPPED_AFTER: Duration = Duration::from_secs(60);
/// Some connections more than streams, for those that are refused; an agent has one stream, and one more while it is replaced.
const BOUNDS: Bounds = Bounds { connections: STREAMS_MAX + 500, requests: 16 };
/// Under this key of `extra` the API server tells which node a pod's token was made for (KEP-4193).
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";

/// Where agents reach the controller, and which of them may.
#[derive(Debug, Clone)]
pub(super) struct DigestOptions {
    pub(super) addr: SocketAddr,
    pub(super) tls: Option<TlsFiles>,
    /// ServiceAccount of the agents, `namespace/name`; `None`: on loopback, anybody of this machine.
    pub(super) account: Option<String>,
    /// Audience that their tokens must be made for.
    pub(super) audience: String,
}

/// An address taken, not yet served.
pub(super) struct Bound {
    door: Door,
    options: DigestOptions,
}

impl DigestOptions {
    /// Checks the conditions and takes the address.
    ///
    /// # Errors
    /// When it is beyond loopback without TLS or without an account, or cannot be taken.
    pub(super) fn bind(self) -> anyhow::Result<Bound> {
        if !self.addr.ip().is_loopback() && (self.tls.is_none() || self.account.is_none()) {
            let needs = "that needs --tls-cert, --tls-key and --agent-account";
            return Err(Usage(format!("digests: {} is beyond loopback: {needs}", self.addr)).into());
        }
        let tls = self.tls.as_ref().map(tls_config).transpose()?;
        let door = Door::open("digests", self.addr, tls, None, BOUNDS)?;
        Ok(Bound { door, options: self })
    }
}

impl Bound {
    /// The address as agents are given it.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        self.door.url()
    }

    /// By which it takes a new certificate.
    pub(super) fn renews(&self) -> Option<Renews> {
        self.door.renews()
    }

    /// Serves until `stop`.
    pub(super) async fn serve(
        self,
        hub: Arc<Hub>,
        client: Client,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let service = Service {
            hub,
            reviewer: self.options.account.map(|account| Reviewer {
                client,
                user: format!("system:serviceaccount:{}", account.replace('/', ":")),
                audience: self.options.audience,
            }),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            stop: stop.clone(),
        };
        let service = DigestsServer::new(service).max_decoding_message_size(DIGEST_BYTES_MAX);
        let app = axum::Router::new().route_service("/tidegate.digest.v1.Digests/{*method}", service);
        self.door.serve(app, stop).await
    }
}

/// Asks the API server whose token it is.
#[derive(Clone)]
struct Reviewer {
    client: Client,
    user: String,
    audience: String,
}

/// What a token was found to be.
struct Known {
    /// The node that its pod runs on, where the API server tells.
    node: Option<String>,
}

impl Reviewer {
    async fn review(&self, token: &str) -> Result<Known, Status> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![self.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let status = answer.map_err(|_| Status::unavailable("the API server cannot be asked"))?.status;
        let status = status.filter(|status| status.authenticated == Some(true));
        let Some(UserInfo { username, extra, .. }) = status.and_then(|status| status.user) else {
            return Err(Status::unauthenticated("the token is not valid for this audience"));
        };
        if username.as_deref() != Some(self.user.as_str()) {
            return Err(Status::permission_denied("only the agents' ServiceAccount may send digests"));
        }
        let node = extra.and_then(|extra| extra.get(NODE_CLAIM).and_then(|nodes| nodes.first().cloned()));
        Ok(Known { node })
    }
}

struct Service {
    hub: Arc<Hub>,
    reviewer: Option<Reviewer>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Service {
    fn refuse(&self, cause: &'static str) {
        self.hub.registry.counter(Metric::DigestsRefused, &[(Label::Cause, cause)]).inc();
    }

    async fn known(&self, request: &Request<Streaming<v1::Digest>>) -> Result<Known, Status> {
        let Some(reviewer) = &self.reviewer else { return Ok(Known { node: None }) };
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).map(str::trim);
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(Status::unauthenticated("needs a ServiceAccount token"));
        };
        reviewer.review(token).await
    }
}

#[tonic::async_trait]
impl Digests for Service {
    type SendStream = ReceiverStream<Result<v1::Receipt, Status>>;

    async fn send(
        &self,
        request: Request<Streaming<v1::Digest>>,
    ) -> Result<Response<Self::SendStream>, Status> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refuse("too_many_streams");
            return Err(Status::resource_exhausted("too many agents"));
        };
        let known = match self.known(&request).await {
            Ok(known) => known,
            Err(status) => {
                self.refuse(if status.code() == tonic::Code::Unavailable {
                    "not_reviewed"
                } else {
                    "denied"
                });
                return Err(status);
            }
        };
        let mut digests = request.into_inner();
        let (receipts, given) = mpsc::channel(RECEIPTS_MAX);
        let (hub, stop) = (Arc::clone(&self.hub), self.stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let mut told = None;
            loop {
                let next = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    next = tokio::time::timeout(SILENT_MAX, digests.message()) => next,
                };
                let Ok(Ok(Some(digest))) = next else { return };
                let mut answer = take(&hub, &known, &digest);
                if let Ok(receipt) = &mut answer {
                    let settings = hub.settings(digest.workloads.iter().map(|workload| workload.id.as_str()));
                    if told.as_ref() != Some(&settings) {
                        receipt.settings = Some(settings.clone());
                        told = Some(settings);
                    }
                }
                let over = answer.is_err();
                if receipts.send(answer).await.is_err() || over {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(given)))
    }
}

/// Takes one digest in.
fn take(hub: &Hub, known: &Known, digest: &v1::Digest) -> Result<v1::Receipt, Status> {
    let refused = |cause| hub.registry.counter(Metric::DigestsRefused, &[(Label::Cause, cause)]).inc();
    let (parts, flaws) = checked(digest);
    for flaw in &flaws {
        refused(flaw.as_str());
    }
    let Some(parts) = parts else { return Err(Status::invalid_argument("the digest names no node")) };
    if known.node.as_ref().is_some_and(|node| *node != parts.node) {
        refused("other_node");
        return Err(Status::permission_denied("the token was made for a pod of another node"));
    }
    if !hub.has_node(&parts.node) {
        refused("unknown_node");
        return Err(Status::failed_precondition(format!("the cluster has no node {}", parts.node)));
    }
    let sequence = parts.sequence;
    if lock(&hub.board).take(parts, clock::now()) {
        hub.registry.counter(Metric::DigestsReceived, &[]).inc();
    }
    Ok(v1::Receipt { sequence, settings: None })
}

/// Puts what all agents together say where the loop reads it; once before each round.
pub(super) fn gather(hub: &Hub) {
    let now = clock::now();
    let mut board = lock(&hub.board);
    board.tidy(now, DROPPED_AFTER);
    let together = board.together(now);
    let in_flight = board.in_flight(now);
    let (mut nodes, mut skew) = (0_u32, 0.0_f64);
    for (_, report) in board.nodes() {
        nodes += 1;
        skew = skew.max(report.skew_s.abs());
    }
    drop(board);
    hub.registry.gauge(Metric::DigestNodes, &[]).set(Some(f64::from(nodes)));
    hub.registry.gauge(Metric::DigestSkewSeconds, &[]).set((nodes > 0).then_some(skew));
    hub.demand.put_in_flight(in_flight);
    for (id, signals) in together {
        for (signal, (value, at)) in signals {
            hub.demand.put(&id, signal, value, at);
        }
    }
}

/// The last digests of all nodes.
pub(super) type SharedBoard = Mutex<Board>;
