//! Server-sent events: what happens, to those who listen. A listener that falls behind is told how many it missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::{pending, ready};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged;

use super::access::sight::Sight;
use super::params::Params;
use super::problem::Problem;
use super::router::Api;
use super::views::Event;

/// Between signs of life: shorter than the 30 s after which proxies and the page give a silent connection up.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A stream ends after this where somebody else says who may listen: whoever listens on is reviewed anew.
const REVIEWED_EVERY: Duration = Duration::from_secs(300);

/// What happens: `hello` once, then `workload` (a workload as in the list), `decision` (with its `workload`), `log_class` (a log
/// line of a class), `condition` (one begins or ends), and `lagged` (events were missed: read anew).
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn listen(
    State(api): State<Arc<Api>>,
    Extension(sight): Extension<Sight>,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::read(&uri, &[]).done()?;
    let place = Arc::clone(&api.listeners)
        .try_acquire_owned()
        .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many listeners"))?;
    let may_end = sight.may_end;
    let news = BroadcastStream::new(api.backend.subscribe()).filter_map(move |item| {
        // Held here, the place is free again when the stream ends.
        let _held = &place;
        let told = match item {
            Ok(event) => event.workload().map_or(sight.is_whole(), |id| sight.sees(id)).then(|| sent(&event)),
            Err(Lagged(missed)) => {
                Some(Sent::default().event("lagged").data(json!({ "missed": missed }).to_string()))
            }
        };
        ready(told)
    });
    let over = async move {
        if may_end {
            tokio::time::sleep(REVIEWED_EVERY).await;
        } else {
            pending::<()>().await;
        }
    };
    let hello = Sent::default().event("hello").data(json!({ "at": api.backend.now() }).to_string());
    let all = stream::once(async { hello })
        .chain(news)
        .take_until(api.closing.clone().cancelled_owned())
        .take_until(over);
    let sse = Sse::new(all.map(Ok::<_, Infallible>));
    Ok(sse.keep_alive(KeepAlive::new().interval(ALIVE_EVERY)).into_response())
}

fn sent(event: &Event) -> Sent {
    let (name, value) = match event {
        Event::Workload(workload) => ("workload", json!(workload)),
        Event::Decision { workload, decision } => {
            let mut value = json!({ "workload": workload });
            if let (Some(all), serde_json::Value::Object(more)) = (value.as_object_mut(), json!(decision)) {
                all.extend(more);
            }
            ("decision", value)
        }
        Event::LogClass(line) => ("log_class", json!(line)),
        Event::Condition(change) => ("condition", json!(change)),
    };
    Sent::default().event(name).data(value.to_string())
}
