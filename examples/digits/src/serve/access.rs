//! One log line and one count for every request, whether it is answered or given up by the caller.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use super::service::{PREDICT, Service};
use crate::log::rounded;
use crate::names::field;

/// Says which request an answer and a log line belong to.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a caller; a longer one is replaced.
const ID_CHARS_MAX: usize = 128;
/// Longest path that is logged whole.
const PATH_CHARS_MAX: usize = 200;
/// Logged and counted when the caller went away before the answer; the code is the usual one for it in access logs.
const GIVEN_UP: u16 = 499;

/// A request under way; what became of it is recorded when it is dropped.
struct Access {
    service: Arc<Service>,
    started: Instant,
    method: Method,
    path: String,
    id: String,
    status: u16,
}

/// Records every request that goes through it.
pub(super) async fn record(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let id = caller_id(request.headers()).unwrap_or_else(|| service.next_id());
    let header = HeaderValue::from_str(&id);
    let mut access = Access {
        started: Instant::now(),
        method: request.method().clone(),
        path: request.uri().path().chars().take(PATH_CHARS_MAX).collect(),
        status: GIVEN_UP,
        service,
        id,
    };
    let mut response = next.run(request).await;
    access.status = response.status().as_u16();
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID.clone(), header);
    }
    response
}

fn caller_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(&REQUEST_ID)?.to_str().ok()?;
    (!id.is_empty() && id.len() <= ID_CHARS_MAX).then(|| id.to_owned())
}

impl Drop for Access {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if self.path == PREDICT {
            self.service.figures().count(self.status, took);
        }
        let log = self.service.log();
        let line = if self.status >= 500 { log.warn("request") } else { log.info("request") };
        line.with(field::METHOD, self.method.as_str())
            .with(field::PATH, self.path.as_str())
            .with(field::STATUS, self.status)
            .with(field::DURATION_MS, rounded(took.as_secs_f64() * 1000.0))
            .with(field::REQUEST_ID, self.id.as_str())
            .write();
    }
}
