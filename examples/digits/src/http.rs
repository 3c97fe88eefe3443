//! What both samples' HTTP sides share: problem answers, the metrics answer, and serving until asked to stop.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bounded::Bounded;
use crate::exposition::{self, Page};
use crate::faults::{Fault, Faults};

/// Time for answering what was taken before a stop; with what comes before and after it, a process ends within 10 s.
pub(crate) const DRAIN: Duration = Duration::from_secs(9);

/// A refusal as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into() }
    }

    pub(crate) fn unavailable(title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, title, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "title": self.title, "status": self.status.as_u16(), "detail": self.detail });
        let headers: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, headers, body.to_string()).into_response()
    }
}

/// The answer to a path that does not exist.
pub(crate) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such path", "see the documentation of the sample for its paths")
}

/// The answer to a method that a path does not have.
pub(crate) async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong method", "the path exists, but not with this method")
}

/// The answer to a liveness probe.
pub(crate) async fn alive() -> &'static str {
    "alive\n"
}

/// The page, or the refusal that was asked for.
pub(crate) fn metrics(faults: &Faults, page: Page) -> Response {
    if faults.is_on(Fault::NoMetrics) {
        return Problem::unavailable("no metrics", "switched off by the fault no-metrics").into_response();
    }
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], page.into_text()).into_response()
}

/// A server that runs beside its owner and ends with it.
#[derive(Debug)]
pub(crate) struct Serving {
    task: JoinSet<()>,
    stop: CancellationToken,
}

impl Serving {
    pub(crate) fn start(listener: Bounded, router: Router) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Its error type is never made: failing accepts are waited out within.
            drop(axum::serve(listener, router).with_graceful_shutdown(stopped).await);
        });
        Self { task, stop }
    }

    /// Takes no more connections and answers what was taken; whether all was answered within [`DRAIN`].
    pub(crate) async fn drain(mut self) -> bool {
        self.stop.cancel();
        tokio::time::timeout(DRAIN, self.task.join_next()).await.is_ok()
    }
}
