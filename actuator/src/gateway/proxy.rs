//! One request through the gateway: a replica is found for it, it is sent, the answer is passed on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::body::{Answer, Held, Lent, Relay};
use super::dispatch::{Dispatch, Lease};
use super::stats::{FailCause, Recorder, Visit};
use super::{GatewaySpec, answers, headers};
use crate::clock;

/// A replica on this machine accepts at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Kept shorter than most servers keep an idle connection, so that it is rarely closed under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Before the second try: time for the supervisor to take a dead replica out when it is the only one.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A client that does not send a small body within this is cut off.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) struct Proxy {
    spec: GatewaySpec,
    dispatch: Arc<Dispatch>,
    recorder: Arc<Recorder>,
    client: Client<HttpConnector, Lent>,
}

impl Proxy {
    pub(super) fn new(spec: GatewaySpec, dispatch: Arc<Dispatch>, recorder: Arc<Recorder>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let idle_max = usize::try_from(spec.concurrency).unwrap_or(usize::MAX);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(idle_max)
            .set_host(false)
            .build(connector);
        Self { spec, dispatch, recorder, client }
    }

    /// Answers one request. Dropped before its end, the request is cancelled at the replica too.
    pub(super) async fn answer(&self, client: SocketAddr, request: Request<Incoming>) -> Response<Answer> {
        if request.method() == Method::CONNECT {
            return answers::not_implemented();
        }
        let mut visit = Visit::arrive(&self.recorder);
        let (mut head, body) = request.into_parts();
        headers::forward(&mut head.headers, client.ip());
        let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, Held::hold(body)).await else {
            visit.answered(StatusCode::REQUEST_TIMEOUT);
            return answers::body_missing();
        };
        let waits_until = clock::steady() + self.spec.queue_wait;
        let mut may_retry = true;
        loop {
            let wait = waits_until.saturating_sub(clock::steady());
            let lease = match self.dispatch.acquire(wait).await {
                Ok(lease) => lease,
                Err(cause) => {
                    visit.answered(answers::status_of_drop(cause));
                    visit.dropped(cause);
                    return answers::dropped(cause);
                }
            };
            match self.send(&head, &body, &lease).await {
                Ok(answer) => return self.pass_on(answer, lease, visit),
                Err(failure) => {
                    let again =
                        std::mem::take(&mut may_retry) && failure.may_be_sent_again(&head.method, &body);
                    if !again {
                        visit.answered(answers::status_of_failure(failure.cause));
                        visit.failed(failure.cause);
                        return answers::failed(failure.cause);
                    }
                    lease.suspect();
                    drop(lease);
                    visit.retried();
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn send(&self, head: &Parts, body: &Held, lease: &Lease) -> Result<Response<Incoming>, Failure> {
        let request = request_for(head, body.lend(), lease.backend().addr);
        match tokio::time::timeout(self.spec.answer_timeout, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure { cause: FailCause::AnswerTimeout, sent: true }),
        }
    }

    fn pass_on(&self, answer: Response<Incoming>, lease: Lease, visit: Visit) -> Response<Answer> {
        let (mut head, body) = answer.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        head.version = Version::HTTP_11;
        visit.answered(head.status);
        let relay = Relay::new(body, head.status, lease, visit, self.spec.answer_timeout);
        Response::from_parts(head, Answer::Relayed(Box::new(relay)))
    }
}

/// A try that brought no answer.
#[derive(Debug, Clone, Copy)]
struct Failure {
    cause: FailCause,
    /// Whether the replica may have seen the request.
    sent: bool,
}

impl Failure {
    fn of(error: &Error) -> Self {
        if error.is_connect() {
            Self { cause: FailCause::Connect, sent: false }
        } else {
            Self { cause: FailCause::NoAnswer, sent: true }
        }
    }

    /// What may have been seen is sent again only when that does no harm, and nothing when its body has been read. A replica
    /// that was too slow once is not asked again: the client has waited long enough.
    fn may_be_sent_again(self, method: &Method, body: &Held) -> bool {
        self.cause != FailCause::AnswerTimeout && (!self.sent || method.is_idempotent()) && body.is_whole()
    }
}

fn request_for(head: &Parts, body: Lent, addr: SocketAddr) -> Request<Lent> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.headers_mut() = head.headers.clone();
    *request.uri_mut() = uri_at(&head.uri, addr);
    let host = || http::HeaderValue::from_str(&addr.to_string());
    if let (false, Ok(host)) = (head.headers.contains_key(http::header::HOST), host()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    request
}

fn uri_at(asked: &Uri, addr: SocketAddr) -> Uri {
    let authority: Authority = addr.to_string().parse().expect("a socket address is a valid authority");
    let path = asked.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path)
        .build()
        .expect("its three parts are valid")
}
