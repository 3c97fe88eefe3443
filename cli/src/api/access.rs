//! Who may call what: bearer tokens with scopes; on loopback also anybody of this machine, but no page of another origin.

mod origin;
pub(crate) mod review;
pub(crate) mod sight;
pub(crate) mod tokens;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use self::review::{Asked, Reviewer, Verdict};
use self::sight::Sight;
use self::tokens::{Scope, Tokens};
use super::Denied;
use super::problem::Problem;
use super::router::Api;

/// What lets a request pass.
pub(super) struct Guard {
    /// Asked about tokens that are not known here.
    pub(super) reviewer: Option<Arc<dyn Reviewer>>,
    /// Tokens that are known.
    pub(super) tokens: Tokens,
    /// Whether a request of this machine needs no token. Never beyond loopback.
    pub(super) open: bool,
    /// Whether `/metrics` needs no token.
    pub(super) metrics_open: bool,
    /// Further names of this machine that a `Host` may bear.
    pub(super) hosts: Vec<String>,
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: it tells nothing either.
    Nothing,
    /// A scope; on loopback none.
    Of(Scope),
    /// A scope, on loopback too.
    Always(Scope),
}

/// Lets a request pass or answers it.
pub(super) async fn check(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let need = api.guard.need(request.method(), request.uri().path());
    let mut passed = api.guard.pass(need, &request).map(|()| Sight::WHOLE);
    if passed == Err(Denied::Invalid)
        && let Some((reviewer, token, asked)) = api.guard.question(need, &request)
    {
        let divisible = !asked.acts && sight::is_divisible(request.uri().path());
        let mut sight = match reviewer.review(&token, asked).await {
            Verdict::Allowed => Ok(Sight::REVIEWED),
            other => Err(other),
        };
        if sight == Err(Verdict::Refused) && divisible {
            sight = match api.ask(|backend| backend.namespaces()).await {
                Ok(namespaces) => sight::of(&*reviewer, &token, namespaces).await,
                Err(problem) => return problem.into_response(),
            };
        }
        passed = match sight {
            Ok(sight) => Ok(sight),
            Err(Verdict::Refused | Verdict::Allowed) => Err(Denied::Scope),
            Err(Verdict::Unknown) => Err(Denied::Invalid),
            Err(Verdict::NoAnswer) => {
                let text = "the API server could not be asked about the token";
                return Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
            }
        };
    }
    match passed {
        Ok(sight) => {
            request.extensions_mut().insert(sight);
            next.run(request).await
        }
        Err(denied) => {
            api.backend.denied(denied);
            refuse(denied, need)
        }
    }
}

/// Who may push, and where it is told that somebody may not.
pub(super) struct Gate {
    pub(super) guard: Guard,
    pub(super) denied: Box<dyn Fn(Denied) + Send + Sync>,
}

/// Lets whoever may push pass, or answers.
pub(super) async fn check_sender(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let need = Need::Of(Scope::Push);
    match gate.guard.pass(need, &request) {
        Ok(()) => next.run(request).await,
        Err(denied) => {
            (gate.denied)(denied);
            refuse(denied, need)
        }
    }
}

impl Guard {
    /// What the reviewer is to be asked of the request's token; `None` where there is no token, or nothing is needed.
    fn question(&self, need: Need, request: &Request) -> Option<(Arc<dyn Reviewer>, String, Asked)> {
        let (reviewer, token) = self.reviewer.as_ref().zip(bearer(request.headers()))?;
        let acts = match need {
            Need::Nothing => return None,
            Need::Of(scope) | Need::Always(scope) => scope != Scope::Read,
        };
        let namespace = review::namespace_of(request.uri().path());
        Some((Arc::clone(reviewer), token.to_owned(), Asked { acts, namespace }))
    }

    fn need(&self, method: &Method, path: &str) -> Need {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        match path {
            "/" | "/healthz" | "/readyz" => Need::Nothing,
            "/metrics" if self.metrics_open => Need::Nothing,
            "/api/v1/alerts" if !reads => Need::Always(Scope::Alerts),
            _ if path.starts_with("/assets/") => Need::Nothing,
            _ if reads => Need::Of(Scope::Read),
            _ => Need::Of(Scope::Act),
        }
    }

    fn pass(&self, need: Need, request: &Request) -> Result<(), Denied> {
        let headers = request.headers();
        let scopes = bearer(headers).map(|token| self.tokens.scopes(token));
        match (need, scopes) {
            (Need::Nothing, Some(Some(_))) => return Ok(()),
            (Need::Of(scope) | Need::Always(scope), Some(Some(scopes))) => {
                return if scopes.allow(scope) { Ok(()) } else { Err(Denied::Scope) };
            }
            (Need::Of(_) | Need::Always(_), _) if headers.contains_key(header::AUTHORIZATION) => {
                return Err(Denied::Invalid);
            }
            // Where nothing is needed, a token that is not known here is as good as none.
            _ => {}
        }
        match need {
            Need::Always(_) => Err(Denied::Missing),
            Need::Of(_) if !self.open => Err(Denied::Missing),
            Need::Nothing if !self.open => Ok(()),
            Need::Nothing | Need::Of(_) => origin::is_this_machine(request, &self.hosts),
        }
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn refuse(denied: Denied, need: Need) -> Response {
    let (status, text) = match denied {
        Denied::Missing => (StatusCode::UNAUTHORIZED, "needs a bearer token"),
        Denied::Invalid => (StatusCode::UNAUTHORIZED, "the bearer token is not known"),
        Denied::Scope => (StatusCode::FORBIDDEN, "the token does not allow this"),
        Denied::Host => (StatusCode::FORBIDDEN, "the Host header does not name this machine"),
        Denied::Origin => (StatusCode::FORBIDDEN, "a change may only be asked for by a page of this origin"),
    };
    let mut response = Problem::new(status, text).into_response();
    let scope = match need {
        Need::Of(scope) | Need::Always(scope) => scope.as_str(),
        Need::Nothing => Scope::Read.as_str(),
    };
    let challenge = match denied {
        Denied::Missing => format!("Bearer realm=\"tidegate\", scope=\"{scope}\""),
        Denied::Invalid => "Bearer realm=\"tidegate\", error=\"invalid_token\"".to_owned(),
        Denied::Scope => {
            format!("Bearer realm=\"tidegate\", error=\"insufficient_scope\", scope=\"{scope}\"")
        }
        Denied::Host | Denied::Origin => return response,
    };
    let challenge = HeaderValue::from_str(&challenge).expect("made of visible ASCII above");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
