//! Workloads, and what lies below the id of one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use percent_encoding::percent_decode_str;
use tidegate_core::{Scope, Signal, Subject, WorkloadId};

use crate::api::access::sight::Sight;
use crate::api::backend::SeriesQuery;
use crate::api::params::{self, Params};
use crate::api::problem::Problem;
use crate::api::router::Api;
use crate::api::views::{Decisions, ForecastView, SeriesView, Summary, WorkloadDetail, Workloads};

/// Decisions in an answer when nobody says how many.
const DECISIONS: usize = 50;
/// Most decisions in an answer.
const DECISIONS_MAX: usize = 1000;
/// Range of a series when nobody says which.
pub(super) const SERIES_SPAN: Duration = Duration::from_secs(3600);

/// Every workload that the caller may look at, as it stands.
#[utoipa::path(get, path = "/api/v1/workloads", tag = "workloads", responses((status = 200, body = Workloads)))]
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Json<Workloads>, Problem> {
    Params::read(&uri, &[]).done()?;
    let mut workloads = api.ask(|backend| backend.workloads()).await?;
    workloads.retain(|workload| sight.sees(&workload.id));
    Ok(Json(Workloads { workloads }))
}

/// What each workload that the caller may look at did over a range of time.
#[utoipa::path(get, path = "/api/v1/summary", tag = "workloads",
    params(
        ("from" = Option<String>, Query, description = "Start; a day of load before `to` when absent", format = DateTime),
        ("to" = Option<String>, Query, description = "End; now when absent", format = DateTime),
    ),
    responses((status = 200, body = Summary), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn summary(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Json<Summary>, Problem> {
    let (now, day_s) = api.ask(|backend| (backend.now(), backend.about().day_s)).await?;
    let day = Duration::try_from_secs_f64(day_s).unwrap_or(Duration::from_secs(86_400));
    let mut params = Params::read(&uri, &["from", "to"]);
    let (from, to) = params::range(&mut params, now, day);
    params.done()?;
    let mut summary = api.ask(move |backend| backend.summary(from, to)).await??;
    summary.workloads.retain(|one| sight.sees(&one.workload));
    Ok(Json(summary))
}

/// What is asked of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    One,
    Forecast,
    Series,
    Decisions,
}

/// Everything below `/api/v1/workloads/`: ids hold slashes, so that one wildcard serves all.
pub(in crate::api) async fn below(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix("/api/v1/workloads/").unwrap_or_default();
    let (id, view) = parse(path).ok_or_else(|| Problem::no_workload(path))?;
    match view {
        View::One => one(api, id, &uri).await.map(IntoResponse::into_response),
        View::Forecast => forecast(api, id, &uri).await.map(IntoResponse::into_response),
        View::Series => series(api, id, &uri).await.map(IntoResponse::into_response),
        View::Decisions => decisions(api, id, &uri).await.map(IntoResponse::into_response),
    }
}

/// Splits the raw path into an id and what is asked of it. Slashes of an id may be percent-encoded or not; the slash
/// before `forecast`, `series` or `decisions` may not, which keeps a worker group of such a name apart.
fn parse(path: &str) -> Option<(WorkloadId, View)> {
    let decoded = |raw: &str| percent_decode_str(raw).decode_utf8().ok()?.parse::<WorkloadId>().ok();
    let below = path.rsplit_once('/').and_then(|(id, view)| {
        let view = match view {
            "forecast" => View::Forecast,
            "series" => View::Series,
            "decisions" => View::Decisions,
            _ => return None,
        };
        Some((decoded(id)?, view))
    });
    below.or_else(|| Some((decoded(path)?, View::One)))
}

/// One workload with policy, capacity, lead time and league table.
#[utoipa::path(get, path = "/api/v1/workloads/{id}", tag = "workloads",
    params(("id" = String, Path, description = "Id; its slashes may be percent-encoded or not")),
    responses((status = 200, body = WorkloadDetail), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn one(
    api: Arc<Api>,
    id: WorkloadId,
    uri: &Uri,
) -> Result<Json<WorkloadDetail>, Problem> {
    Params::read(uri, &[]).done()?;
    let asked = id.clone();
    let detail = api.ask(move |backend| backend.workload(&asked)).await?;
    detail.map(Json).ok_or_else(|| Problem::no_workload(id.as_str()))
}

/// The forecast in use. Without an opinion of any model, all but `signal` and `unit` is null or empty.
#[utoipa::path(get, path = "/api/v1/workloads/{id}/forecast", tag = "workloads",
    params(
        ("id" = String, Path, description = "Id; its slashes may be percent-encoded or not"),
        ("signal" = Option<String>, Query, description = "What is forecast; the first demand signal when absent"),
    ),
    responses((status = 200, body = ForecastView), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn forecast(
    api: Arc<Api>,
    id: WorkloadId,
    uri: &Uri,
) -> Result<Json<ForecastView>, Problem> {
    let mut params = Params::read(uri, &["signal"]);
    let signal = params.get("signal", params::signal);
    params.done()?;
    let found = api.ask(move |backend| backend.forecast(&id, signal)).await??;
    let signal = signal.unwrap_or(Signal::RequestsPerSecond);
    Ok(Json(found.unwrap_or_else(|| ForecastView::none(signal))))
}

/// Means of a signal per step; a step without a reading is null.
#[utoipa::path(get, path = "/api/v1/workloads/{id}/series", tag = "workloads",
    params(
        ("id" = String, Path, description = "Id; its slashes may be percent-encoded or not"),
        ("signal" = String, Query, description = "Name in the catalogue of signals"),
        ("from" = Option<String>, Query, description = "Start; an hour before `to` when absent", format = DateTime),
        ("to" = Option<String>, Query, description = "End; now when absent", format = DateTime),
        ("step" = Option<f64>, Query, description = "Length of a step in seconds; makes at most 600 steps when absent"),
    ),
    responses((status = 200, body = SeriesView), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn series(
    api: Arc<Api>,
    id: WorkloadId,
    uri: &Uri,
) -> Result<Json<SeriesView>, Problem> {
    let params = Params::read(uri, &["signal", "from", "to", "step"]);
    read_series(&api, params, Scope::Workload, Subject::Workload(id)).await
}

/// Reads a series of a subject whose signals are of this scope.
pub(super) async fn read_series(
    api: &Api,
    mut params: Params,
    scope: Scope,
    subject: Subject,
) -> Result<Json<SeriesView>, Problem> {
    let now = api.backend.now();
    params.need("signal", "a name in the catalogue of signals");
    let signal = params.get("signal", params::signal);
    if signal.is_some_and(|signal| signal.scope() != scope) {
        params.refuse("signal", "is not a signal of this kind of subject");
    }
    let (from, to) = params::range(&mut params, now, SERIES_SPAN);
    let step = params::step(&mut params, from, to);
    params.done()?;
    let signal = signal.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "needs a signal"))?;
    let query = SeriesQuery { subject, signal, from, to, step };
    let points = api.ask(move |backend| backend.series(&query)).await??;
    Ok(Json(SeriesView { signal: signal.name().into(), unit: signal.unit().symbol().into(), points }))
}

/// The last decisions with their reasons, newest first.
#[utoipa::path(get, path = "/api/v1/workloads/{id}/decisions", tag = "workloads",
    params(
        ("id" = String, Path, description = "Id; its slashes may be percent-encoded or not"),
        ("limit" = Option<u32>, Query, description = "At most this many, 1 to 1000; 50 when absent"),
    ),
    responses((status = 200, body = Decisions), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn decisions(
    api: Arc<Api>,
    id: WorkloadId,
    uri: &Uri,
) -> Result<Json<Decisions>, Problem> {
    let mut params = Params::read(uri, &["limit"]);
    let limit = params.get("limit", params::count(DECISIONS_MAX)).unwrap_or(DECISIONS);
    params.done()?;
    let decisions = api.ask(move |backend| backend.decisions(&id, limit)).await??;
    Ok(Json(Decisions { decisions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_with_its_slashes_encoded_or_not() {
        let check = |path: &str, id: &str, view| {
            let found = parse(path).map(|(id, view)| (id.to_string(), view));
            assert_eq!(found, Some((id.to_owned(), view)), "{path}");
        };
        check("local/process/a", "local/process/a", View::One);
        check("local%2Fprocess%2fa", "local/process/a", View::One);
        check("local/process/a/series", "local/process/a", View::Series);
        check("local%2Fprocess%2Fa/decisions", "local/process/a", View::Decisions);
        check("x/raycluster/a/gpu/forecast", "x/raycluster/a/gpu", View::Forecast);
        check("x%2Fraycluster%2Fa%2Fforecast", "x/raycluster/a/forecast", View::One);
        check("x/raycluster/a/forecast", "x/raycluster/a", View::Forecast);
        check("x/deployment/forecast", "x/deployment/forecast", View::One);
        assert_eq!(parse("a/b"), None);
        assert_eq!(parse("a/b/%ff"), None);
    }
}
