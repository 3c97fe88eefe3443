//! What can be asked for: alerts taken in, faults tried in the demo.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, Uri};
use serde::de::DeserializeOwned;

use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::api::router::Api;
use crate::api::views::{AlertBatch, AlertReport, FaultRequest, Faults};

/// Version of Alertmanager's webhook that is understood.
const WEBHOOK_VERSION: &str = "4";

/// Takes in alerts from Alertmanager. Always needs a token of scope `alerts` or `act`.
#[utoipa::path(post, path = "/api/v1/alerts", tag = "actions", request_body = AlertBatch, security(("token" = [])),
    responses((status = 200, body = AlertReport), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn alerts(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<AlertReport>, Problem> {
    let batch: AlertBatch = json(request).await?;
    if batch.version != WEBHOOK_VERSION {
        let detail = format!("expected version {WEBHOOK_VERSION:?} of the webhook, got {:?}", batch.version);
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(Json(api.ask(move |backend| backend.alerts(batch)).await??))
}

/// Faults that can be tried, and those that hold. Only in the demo.
#[utoipa::path(get, path = "/api/v1/demo/faults", tag = "actions",
    responses((status = 200, body = Faults), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn faults(State(api): State<Arc<Api>>, uri: Uri) -> Result<Json<Faults>, Problem> {
    Params::read(&uri, &[]).done()?;
    api.ask(|backend| backend.faults()).await?.map(Json).ok_or_else(not_the_demo)
}

/// Starts or clears a fault. Only in the demo.
#[utoipa::path(post, path = "/api/v1/demo/faults", tag = "actions", request_body = FaultRequest,
    responses((status = 200, body = Faults), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn trigger(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Json<Faults>, Problem> {
    api.ask(|backend| backend.faults()).await?.ok_or_else(not_the_demo)?;
    let asked: FaultRequest = json(request).await?;
    Ok(Json(api.ask(move |backend| backend.trigger(&asked)).await??))
}

fn not_the_demo() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "faults can only be tried in the demo (`tidegate up --demo`)")
}

/// The body, which must be declared as JSON: a form of another page cannot declare that.
async fn json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    Json::from_request(request, &()).await.map(|Json(value)| value).map_err(|rejection: JsonRejection| {
        let status = match rejection.status() {
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Problem::new(status, rejection.body_text())
    })
}
