//! Where metrics and log records are pushed to (OTLP): on loopback by anybody of this machine, beyond it with TLS and a token of scope `push`.
//!
//! Both ports take both forms; two are the custom, for senders are set up with one form and its port.

pub(crate) mod push;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use tidegate_agent::export::Registry;
use tidegate_agent::logs::Spool;
use tidegate_agent::otlp::receive::{Answer, Pushed, REQUEST_BYTES_MAX};
use tidegate_agent::otlp::{Inbox, Receiver};
use tidegate_core::{Label, Metric};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{Bound, Listen, ListenError};

/// Requests taken at once; each may hold two of the largest bodies.
const AT_ONCE_MAX: usize = 8;
/// A request that is not read and answered by then is given up; senders give up after ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A sender that is turned away comes again after so many seconds.
const COME_AGAIN: HeaderValue = HeaderValue::from_static("1");

/// Addresses taken, not yet served.
pub(crate) struct Ports {
    bound: Vec<Bound>,
    inbox: Arc<Inbox>,
}

/// Takes the addresses; `usual` says under which conditions. `None` when there are none.
///
/// # Errors
/// When one is beyond loopback without TLS and tokens, or cannot be taken.
pub(crate) fn bind(
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
    usual: &Listen,
) -> Result<Option<Ports>, ListenError> {
    let with = |addr: SocketAddr| {
        // Beyond loopback a token is needed; on it, nobody has to make one for machines that send.
        let tokens = usual.tokens.clone().filter(|_| !addr.ip().is_loopback());
        Listen { addr, tokens, reviewer: None, metrics_open: false, ..usual.clone() }.bind()
    };
    let bound = grpc.into_iter().chain(http).map(with).collect::<Result<Vec<_>, _>>()?;
    Ok((!bound.is_empty()).then(|| Ports { bound, inbox: Arc::new(Inbox::new()) }))
}

impl Ports {
    /// Where what is pushed goes.
    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// The addresses as senders are given them.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.bound.iter().map(Bound::url).collect()
    }

    /// What they serve TLS with.
    pub(crate) fn tls(&self) -> Vec<RustlsConfig> {
        self.bound.iter().filter_map(Bound::tls).collect()
    }

    /// Serves until `stop`. Log records go to `spool`, if there is one.
    pub(crate) fn serve(
        self,
        spool: Option<Arc<Spool>>,
        registry: &Arc<Registry>,
        stop: &CancellationToken,
    ) -> JoinHandle<anyhow::Result<()>> {
        let app = app(Receiver::new(Arc::clone(&self.inbox), spool, Arc::clone(registry)));
        let serving = self.bound.into_iter().map(|bound| {
            let registry = Arc::clone(registry);
            let denied = move |denied: crate::api::Denied| {
                registry.counter(Metric::AuthDenied, &[(Label::Cause, denied.as_str())]).inc();
            };
            bound.serve_senders(app.clone(), denied, stop.clone().cancelled_owned())
        });
        let serving = futures::future::try_join_all(serving.collect::<Vec<_>>());
        tokio::spawn(async move { serving.await.map(drop).context("the OTLP receiver failed") })
    }
}

/// What is told of an address.
pub(crate) fn said(url: &str, logs: bool) -> String {
    let what = if logs { "metrics and logs" } else { "metrics" };
    format!("{what} may be pushed to {url}")
}

/// What the routes share.
#[derive(Clone)]
struct Shared {
    receiver: Receiver,
    turns: Arc<Semaphore>,
}

fn app(receiver: Receiver) -> Router {
    let shared = Shared { receiver: receiver.clone(), turns: Arc::new(Semaphore::new(AT_ONCE_MAX)) };
    Router::new()
        .route(Pushed::Metrics.http_path(), post(|state, request| take(Pushed::Metrics, state, request)))
        .route(Pushed::Logs.http_path(), post(|state, request| take(Pushed::Logs, state, request)))
        .route_service(Pushed::Metrics.grpc_path(), receiver.metrics())
        .route_service(Pushed::Logs.grpc_path(), receiver.logs())
        .fallback(not_here)
        .layer(middleware::from_fn_with_state(shared.clone(), in_turn))
        .with_state(shared)
}

/// Lets in as many as there are turns. Who finds none may come again: what it has to say is not lost.
async fn in_turn(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let Ok(_turn) = shared.turns.try_acquire() else {
        return come_again(shared.receiver.busy());
    };
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => come_again(shared.receiver.busy()),
    }
}

async fn take(pushed: Pushed, State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        return respond(shared.receiver.too_large());
    };
    // Unpacking and reading a large request is work for a thread of its own.
    let read = tokio::task::spawn_blocking(move || {
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        shared.receiver.http(pushed, text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING), &body)
    });
    match read.await {
        Ok(answer) if answer.status == http::StatusCode::SERVICE_UNAVAILABLE => come_again(answer),
        Ok(answer) => respond(answer),
        Err(error) => {
            tracing::error!(%error, "a pushed request was not read to its end");
            http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn not_here(State(shared): State<Shared>) -> Response {
    respond(shared.receiver.not_here())
}

fn respond(answer: Answer) -> Response {
    let kind = HeaderValue::from_static(answer.content_type);
    let mut response = (answer.status, Body::from(answer.body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn come_again(answer: Answer) -> Response {
    let mut response = respond(answer);
    response.headers_mut().insert(header::RETRY_AFTER, COME_AGAIN);
    response
}

#[cfg(test)]
mod tests;
