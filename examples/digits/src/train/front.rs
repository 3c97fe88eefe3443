//! A worker's HTTP side: probes, metrics, and checkpoints on request.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::Job;
use super::checkpoint::SaveRequest;
use crate::http::{self, Problem};

/// A checkpoint waits for the step under way, then for the disk; a worker that finds no leader in this time has failed.
const SAVE_WAIT: Duration = Duration::from_secs(15);
/// A worker is ready while its last step is at most this old: a change of leader takes far less.
const STEP_AGE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
struct Front {
    job: Arc<Job>,
    requests: mpsc::Sender<SaveRequest>,
}

/// Every path of a worker. Requests for a checkpoint go to `requests`.
pub(super) fn router(job: &Arc<Job>, requests: mpsc::Sender<SaveRequest>) -> Router {
    Router::new()
        .route("/healthz", get(http::alive))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/checkpoint", post(checkpoint))
        .fallback(http::not_found)
        .method_not_allowed_fallback(http::wrong_method)
        .with_state(Front { job: Arc::clone(job), requests })
}

async fn readyz(State(front): State<Front>) -> Result<&'static str, Problem> {
    let age_max = STEP_AGE_MAX.max(front.job.deadline() * 2);
    let ready = front.job.status.is_ready(age_max) && !front.job.stop.is_cancelled();
    let detail = "the worker takes part in no step";
    if ready { Ok("ready\n") } else { Err(Problem::unavailable("not ready", detail)) }
}

async fn metrics(State(front): State<Front>) -> Response {
    http::metrics(&front.job.faults, front.job.status.page())
}

async fn checkpoint(State(front): State<Front>) -> Result<Json<Value>, Problem> {
    let failed = |detail: &str| Problem::unavailable("no checkpoint", detail);
    let (reply, outcome) = oneshot::channel();
    front.requests.try_send(SaveRequest { reply }).map_err(|_| failed("too many wait for one already"))?;
    let wait = SAVE_WAIT.max(front.job.deadline() * 2);
    let outcome =
        tokio::time::timeout(wait, outcome).await.map_err(|_| failed("no leader wrote one in time"))?;
    let outcome = outcome.map_err(|_| failed("the leader went away"))?;
    outcome.map(|step| Json(json!({ "step": step }))).map_err(|reason| failed(&reason))
}
