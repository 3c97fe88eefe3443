//! The program itself: whether it is well, what it is, its metrics, its pool, and the machine it runs on.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use tidegate_core::{Scope, Subject};

use super::workloads::read_series;
use crate::api::access::sight::Sight;
use crate::api::params::{self, Params};
use crate::api::problem::Problem;
use crate::api::router::{self, Api};
use crate::api::views::{About, NodeView, Pool, SeriesView};

/// Whether the program answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(in crate::api) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether it works as configured.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain"), (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Problem> {
    let ready = api.ask(|backend| backend.ready()).await?;
    ready.map(|()| "ok\n").map_err(|text| Problem::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

/// Metrics for Prometheus, as text or OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(in crate::api) async fn metrics(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let page = api.ask(move |backend| backend.metrics(accept.as_deref())).await?;
    Ok(([(header::CONTENT_TYPE, page.content_type)], page.body).into_response())
}

/// The OpenAPI document of this API.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", responses((status = 200, body = Object)))]
pub(in crate::api) async fn openapi(State(api): State<Arc<Api>>) -> Response {
    router::document_of(&api)
}

/// What this program is, where it listens, its pool, its rivals, its sinks of logs.
#[utoipa::path(get, path = "/api/v1/about", tag = "about", responses((status = 200, body = About)))]
pub(in crate::api) async fn about(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Json<About>, Problem> {
    Params::read(&uri, &[]).done()?;
    let mut about = api.ask(|backend| backend.about()).await?;
    about.pool = about.pool.map(|pool| pool.seen_by(&sight));
    about.rivals.retain(|rival| sight.sees(&rival.workload));
    Ok(Json(about))
}

/// Who holds the slots of this machine's pool.
#[utoipa::path(get, path = "/api/v1/pool", tag = "about",
    responses((status = 200, body = Pool), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn pool(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Json<Pool>, Problem> {
    Params::read(&uri, &[]).done()?;
    let pool = api.ask(|backend| backend.about().pool).await?;
    pool.map(|pool| Json(pool.seen_by(&sight)))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no pool"))
}

/// The last readings of this machine.
#[utoipa::path(get, path = "/api/v1/node", tag = "node", responses((status = 200, body = NodeView)))]
pub(in crate::api) async fn node(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Json<NodeView>, Problem> {
    Params::read(&uri, &[]).done()?;
    let mut readings = api.ask(|backend| backend.node()).await?;
    // A machine belongs to no namespace.
    readings.retain(|_| sight.is_whole());
    Ok(Json(NodeView { readings }))
}

/// Means of a signal of this machine per step; a step without a reading is null.
#[utoipa::path(get, path = "/api/v1/node/series", tag = "node",
    params(
        ("signal" = String, Query, description = "Name in the catalogue of signals"),
        ("part" = Option<String>, Query, description = "Disk, interface or mount point; the whole machine when absent"),
        ("from" = Option<String>, Query, description = "Start; an hour before `to` when absent", format = DateTime),
        ("to" = Option<String>, Query, description = "End; now when absent", format = DateTime),
        ("step" = Option<f64>, Query, description = "Length of a step in seconds; makes at most 600 steps when absent"),
    ),
    responses((status = 200, body = SeriesView), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn node_series(
    State(api): State<Arc<Api>>,
    uri: Uri,
) -> Result<Json<SeriesView>, Problem> {
    let mut params = Params::read(&uri, &["signal", "part", "from", "to", "step"]);
    let subject = params.get("part", params::text).map_or(Subject::Node, Subject::NodePart);
    read_series(&api, params, Scope::Node, subject).await
}
