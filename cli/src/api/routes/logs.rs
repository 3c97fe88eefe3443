//! Log lines.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::{Extension, Json};

use crate::api::access::sight::Sight;
use crate::api::backend::LogFilter;
use crate::api::params::{self, Params};
use crate::api::problem::Problem;
use crate::api::router::Api;
use crate::api::views::Logs;

/// Lines in an answer when nobody says how many.
const LINES: usize = 200;
/// Most lines in an answer.
const LINES_MAX: usize = 2000;
/// The levels there are.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// Log lines that pass the filter, newest first.
#[utoipa::path(get, path = "/api/v1/logs", tag = "logs",
    params(
        ("workload" = Option<String>, Query, description = "Id of a workload"),
        ("class" = Option<String>, Query, description = "Class, such as checkpoint_saved"),
        ("level" = Option<String>, Query, description = "trace, debug, info, warn, error or fatal"),
        ("q" = Option<String>, Query, description = "Text that the line contains, letters' case aside"),
        ("limit" = Option<u32>, Query, description = "At most this many, 1 to 2000; 200 when absent"),
    ),
    responses((status = 200, body = Logs), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Json<Logs>, Problem> {
    let mut params = Params::read(&uri, &["workload", "class", "level", "q", "limit"]);
    let filter = LogFilter {
        workload: params.get("workload", params::workload),
        class: params.get("class", params::text),
        level: params.get("level", level),
        text: params.get("q", params::text),
        limit: params.get("limit", params::count(LINES_MAX)).unwrap_or(LINES),
    };
    params.done()?;
    let mut logs = api.ask(move |backend| backend.logs(&filter)).await??;
    logs.retain(|line| line.workload.as_deref().map_or(sight.is_whole(), |workload| sight.sees(workload)));
    Ok(Json(Logs { logs }))
}

fn level(text: &str) -> Result<String, String> {
    let known = LEVELS.contains(&text);
    known
        .then(|| text.to_owned())
        .ok_or_else(|| format!("expected one of {}, got {text:?}", LEVELS.join(", ")))
}
