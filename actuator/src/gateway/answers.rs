//! Answers that the gateway gives by itself: problem details by RFC 9457.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::body::Answer;
use super::stats::{DropCause, FailCause};

/// When a refused client may come again: a replica that is about to be ready takes a few seconds.
const COME_AGAIN: Duration = Duration::from_secs(2);

pub(super) const fn status_of_drop(_: DropCause) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

pub(super) const fn status_of_failure(cause: FailCause) -> StatusCode {
    match cause {
        FailCause::AnswerTimeout => StatusCode::GATEWAY_TIMEOUT,
        FailCause::Connect | FailCause::NoAnswer | FailCause::AnswerBroken => StatusCode::BAD_GATEWAY,
    }
}

pub(super) fn dropped(cause: DropCause) -> Response<Answer> {
    let detail = match cause {
        DropCause::QueueFull => "as many requests as may wait for a replica already do",
        DropCause::QueueTimeout => "no replica was free for this request in time",
        DropCause::ClientGone | DropCause::Stopping => "the gateway is stopping",
    };
    let mut answer = problem(status_of_drop(cause), cause.as_str(), detail);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(COME_AGAIN.as_secs()));
    answer
}

pub(super) fn failed(cause: FailCause) -> Response<Answer> {
    let detail = match cause {
        FailCause::Connect => "the replica accepts no connection",
        FailCause::NoAnswer => "the replica closed the connection without an answer",
        FailCause::AnswerTimeout => "the replica did not answer in time",
        FailCause::AnswerBroken => "the answer of the replica broke off",
    };
    problem(status_of_failure(cause), cause.as_str(), detail)
}

/// For a request that no replica could serve through this gateway.
pub(super) fn not_implemented() -> Response<Answer> {
    problem(StatusCode::NOT_IMPLEMENTED, "method", "the gateway opens no tunnels")
}

/// For a request whose body did not come.
pub(super) fn body_missing() -> Response<Answer> {
    problem(StatusCode::REQUEST_TIMEOUT, "body", "the body of the request did not arrive in time")
}

fn problem(status: StatusCode, cause: &str, detail: &str) -> Response<Answer> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "cause": cause,
    });
    let mut response = Response::new(Answer::Own(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
