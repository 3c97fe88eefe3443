//! The routes put together, and what holds for all of them: who may call, how long it may take, how much may be sent.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{self, Guard};
use super::assets;
use super::backend::Backend;
use super::document::Document;
use super::events;
use super::problem::Problem;
use super::routes::{about, actions, logs, workloads};

/// Largest accepted request body: Alertmanager sends at most some hundred alerts of a kilobyte or two.
const BODY_BYTES_MAX: usize = 1 << 20;
/// An answer that takes longer is of no use to a page that asks again every few seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Most questions to the backend at once; further ones wait for their turn within the time limit.
const QUESTIONS_MAX: usize = 32;
/// Most listeners to events at once: each costs a connection and a copy of every event.
const LISTENERS_MAX: usize = 64;

/// What the routes share.
pub(super) struct Api {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) guard: Guard,
    /// Ends the event streams when the server stops.
    pub(super) closing: CancellationToken,
    pub(super) listeners: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    document: String,
}

impl Api {
    pub(super) fn new(backend: Arc<dyn Backend>, guard: Guard) -> Arc<Self> {
        let document = document().to_json().expect("the document is made of strings and maps");
        Arc::new(Self {
            backend,
            guard,
            closing: CancellationToken::new(),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            document,
        })
    }

    /// Asks the backend on a thread that may block.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.questions).acquire_owned().await;
        let backend = Arc::clone(&self.backend);
        let answer = tokio::task::spawn_blocking(move || {
            // Held until the backend has answered, even when nobody waits for that any more.
            let _turn = turn;
            question(backend.as_ref())
        });
        answer.await.map_err(|error| {
            tracing::error!(%error, "an answer was not finished");
            let detail = "the answer could not be made; the log says why";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
        })
    }
}

fn described() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(about::healthz))
        .routes(routes!(about::readyz))
        .routes(routes!(about::metrics))
        .routes(routes!(about::about))
        .routes(routes!(about::pool))
        .routes(routes!(about::node))
        .routes(routes!(about::node_series))
        .routes(routes!(about::openapi))
        .routes(routes!(workloads::list))
        .routes(routes!(workloads::summary))
        .routes(routes!(logs::list))
        .routes(routes!(events::listen))
        .routes(routes!(actions::alerts))
        .routes(routes!(actions::faults, actions::trigger))
}

/// The OpenAPI document.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// Answers with the OpenAPI document.
pub(super) fn document_of(api: &Api) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}

/// The whole service.
pub(super) fn app(api: Arc<Api>) -> Router {
    let (described, _) = described().split_for_parts();
    described
        .route("/api/v1/workloads/{*path}", axum::routing::get(workloads::below))
        .merge(assets::routes())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method")
        })
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), access::check))
        .layer(middleware::from_fn(harden))
        .with_state(api)
}

/// Gives up on an answer that takes too long. A stream of events begins in time and may then last.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "took too long").into_response(),
    }
}

/// What a browser may do with the answers. Scripts come from files of this origin alone; Plotly writes its own styles.
const HARDENING: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

async fn harden(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HARDENING {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What the API says is true for a moment; assets say for themselves how long they hold.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
