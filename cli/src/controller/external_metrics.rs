//! The External Metrics API (`external.metrics.k8s.io/v1beta1`), as an aggregated API server: the API server of the cluster hands
//! requests on to it, and says on whose behalf. It has one metric: the size that a policy has in force.
//!
//! Nobody but the API server gets a connection (a client certificate of its front proxy); whether the user that it names may read the
//! metric is asked of the cluster's authorisers, as every aggregated server does.

mod documents;
mod front_proxy;
mod selector;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};
use kube::Client;
use kube::core::SelectorExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_actuator::cluster::publish::{Published, Withheld};
use tidegate_core::metrics::external;
use tidegate_core::{Label, Metric, Timestamp};
use tokio_util::sync::CancellationToken;

use self::front_proxy::FrontProxy;
use super::door::{Bounds, Door, Trust};
use super::hub::{Hub, lock};
use super::published::{Answer, NoSize};
use super::review;
use crate::api::{TlsFiles, tls_config};
use crate::certificate::renewal::Renews;
use crate::clock;

/// Group and version of the API.
const GROUP: &str = "external.metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// Name of the object by which the API server knows who serves it.
pub(super) const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";
/// Connections: some per replica of the API server.
const BOUNDS: Bounds = Bounds { connections: 256, requests: 256 };
/// A user that may is not asked about again for so long; as aggregated servers have it.
const ALLOWED_FOR: Duration = Duration::from_secs(10);
/// Users and namespaces kept; when there are more, all are asked about again.
const ALLOWED_MAX: usize = 10_000;
/// A review that takes longer is none.
const REVIEW_MAX: Duration = Duration::from_secs(5);

/// The API, on an address that is taken.
pub(super) struct ExternalMetrics {
    door: Door,
    trust: Arc<Trust>,
}

impl ExternalMetrics {
    /// Takes the address.
    ///
    /// # Errors
    /// When it cannot be taken, or the certificate not be used.
    pub(super) fn bind(addr: SocketAddr, tls: &TlsFiles) -> anyhow::Result<Self> {
        let (trust, tls) = (Trust::nobody(), tls_config(tls)?);
        let clients = Some(Arc::clone(&trust));
        Ok(Self { door: Door::open("the External Metrics API", addr, Some(tls), clients, BOUNDS)?, trust })
    }

    /// The address as the API server is given it.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        self.door.url()
    }

    /// By which it takes a new certificate.
    pub(super) fn renews(&self) -> Option<Renews> {
        self.door.renews()
    }

    /// Serves until `stop`; follows who the front proxy is meanwhile.
    pub(super) async fn serve(
        self,
        hub: Arc<Hub>,
        client: Client,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let proxy = Arc::new(FrontProxy::default());
        let following = front_proxy::follow(client.clone(), Arc::clone(&proxy), self.trust, stop.clone());
        let following = tokio::spawn(following);
        let asked = Asked { hub, client, proxy, allowed: Mutex::default() };
        let served = self.door.serve(app(Arc::new(asked)), stop).await;
        following.abort();
        served
    }
}

struct Asked {
    hub: Arc<Hub>,
    client: Client,
    proxy: Arc<FrontProxy>,
    /// Who was found to be allowed, and when.
    allowed: Mutex<HashMap<[u8; 32], Timestamp>>,
}

fn app(asked: Arc<Asked>) -> Router {
    let api = format!("/apis/{GROUP}/{VERSION}");
    Router::new()
        .route("/apis", get(documents::groups))
        .route(&format!("/apis/{GROUP}"), get(async || Json(documents::group())))
        .route(&api, get(async || Json(documents::resources())))
        .route(&format!("{api}/namespaces/{{namespace}}/{{metric}}"), get(values))
        .route("/openapi/v2", get(async || Json(documents::openapi_v2())))
        .route("/openapi/v3", get(async || Json(documents::openapi_v3_root())))
        .route(&format!("/openapi/v3{api}"), get(async || Json(documents::openapi_v3())))
        .method_not_allowed_fallback(async || {
            status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only GET is allowed")
        })
        .fallback(async || status(StatusCode::NOT_FOUND, "NotFound", "there is no such path"))
        .with_state(asked)
}

/// `GET /apis/…/namespaces/{namespace}/{metric}?labelSelector=…`.
async fn values(
    State(asked): State<Arc<Asked>>,
    Path((namespace, metric)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(user) = asked.proxy.user(&headers) else {
        return status(StatusCode::UNAUTHORIZED, "Unauthorized", "the front proxy names no user");
    };
    match asked.may(user, &namespace, &metric).await {
        Ok(true) => {}
        Ok(false) => {
            let text = format!("you may not list {metric}.{GROUP} in the namespace {namespace}");
            return status(StatusCode::FORBIDDEN, "Forbidden", &text);
        }
        Err(error) => {
            tracing::warn!(error, "who may read external metrics could not be reviewed");
            let text = "the API server could not be asked who may read this";
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text);
        }
    }
    if metric != external::REPLICAS {
        let text = format!("there is no metric {metric}, only {}", external::REPLICAS);
        return status(StatusCode::NOT_FOUND, "NotFound", &text);
    }
    let query = url::form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes());
    let selector = query.into_iter().find(|(key, _)| key == "labelSelector").map(|(_, value)| value);
    let selector = match selector::parse(selector.as_deref().unwrap_or_default()) {
        Ok(selector) => selector,
        Err(error) => return status(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
    };
    let sizes = Arc::clone(&asked.hub.sizes.borrow());
    let selected = |policy: &str, published: &Published| selector.matches(&labels(policy, published));
    let found = sizes.find(&namespace, selected, clock::now());
    asked.hub.answered(found.as_ref().map(drop));
    match found {
        Ok(answer) => Json(list(&answer)).into_response(),
        Err(error) => {
            let (code, reason) = match error {
                NoSize::Several(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
                // That a client tries again at once is of use where it may be over in a moment.
                NoSize::Withheld(_, Withheld::Blind | Withheld::NoLeader) | NoSize::Stale => {
                    (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
                }
                NoSize::NoPolicy(_) | NoSize::Withheld(..) => (StatusCode::NOT_FOUND, "NotFound"),
            };
            status(code, reason, &error.to_string())
        }
    }
}

impl Asked {
    /// Whether a user may read a metric of a namespace.
    async fn may(&self, user: UserInfo, namespace: &str, metric: &str) -> Result<bool, String> {
        let key = serde_json::to_vec(&(&user, namespace, metric)).map_err(|error| error.to_string())?;
        let (key, now) = (Sha256::digest(&key).into(), clock::now());
        if lock(&self.allowed).get(&key).is_some_and(|at| now.since(*at) < ALLOWED_FOR) {
            return Ok(true);
        }
        let attributes = ResourceAttributes {
            group: Some(GROUP.to_owned()),
            version: Some(VERSION.to_owned()),
            resource: Some(metric.to_owned()),
            // The path has no name after the resource.
            verb: Some("list".to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = tokio::time::timeout(REVIEW_MAX, review::allowed(&self.client, spec)).await;
        let may = review.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        if may {
            let mut allowed = lock(&self.allowed);
            if allowed.len() >= ALLOWED_MAX {
                allowed.clear();
            }
            allowed.insert(key, now);
        }
        Ok(may)
    }
}

impl Hub {
    /// Counts an answer to an autoscaler.
    pub(super) fn answered(&self, found: Result<(), &NoSize>) {
        let outcome = found.err().map_or("ok", NoSize::as_str);
        self.registry.counter(Metric::PublishedAnswers, &[(Label::Outcome, outcome)]).inc();
    }
}

fn labels(policy: &str, published: &Published) -> BTreeMap<String, String> {
    let target = &published.target;
    let labels = [(external::POLICY, policy), (external::KIND, &target.kind), (external::NAME, &target.name)];
    labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

/// With `type: AverageValue` and `averageValue: "1"` an autoscaler divides the value by one and has the size.
fn list(answer: &Answer<'_>) -> Value {
    json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {},
        "items": [{
            "metricName": external::REPLICAS,
            "metricLabels": labels(answer.policy, answer.published),
            "timestamp": answer.at.to_string(),
            "value": answer.replicas.to_string(),
        }],
    })
}

/// An error as the API server's clients read it.
fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::published::tests::sizes;
    use super::*;

    #[test]
    fn a_size_is_a_list_of_one_value_with_its_labels() {
        let sizes = sizes();
        let answer = sizes.find("ml", |policy, _| policy == "chat", Timestamp::from_secs(1001)).unwrap();
        let list = list(&answer);
        let item = &list["items"][0];
        assert_eq!(item["value"], "7");
        assert_eq!(item["metricName"], external::REPLICAS);
        assert_eq!(item["metricLabels"], json!({"kind": "Deployment", "name": "chat", "policy": "chat"}));
        assert_eq!(item["timestamp"], "1970-01-01T00:16:40.000Z");
    }

    #[test]
    fn a_policy_is_selected_by_its_name_or_its_target() {
        let (sizes, now) = (sizes(), Timestamp::from_secs(1001));
        let found = |selector: &str| {
            let selector = selector::parse(selector).unwrap();
            let selected = |policy: &str, published: &Published| selector.matches(&labels(policy, published));
            sizes.find("ml", selected, now).map(|answer| answer.replicas)
        };
        assert_eq!(found("policy=chat"), Ok(7));
        assert_eq!(found("kind=Deployment,name=chat"), Ok(7));
        assert_eq!(found("policy in (chat, other)"), Ok(7));
        assert_eq!(found("kind=Deployment"), Err(NoSize::Several(2)));
        assert_eq!(found("policy=other"), Err(NoSize::NoPolicy("ml".into())));
        assert!(matches!(found("policy=tts"), Err(NoSize::Withheld(..))));
    }

    #[tokio::test]
    async fn an_error_is_a_status() {
        let answer = status(StatusCode::NOT_FOUND, "NotFound", "there is none");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        let body: kube::core::Status = serde_json::from_slice(&body).unwrap();
        assert_eq!((body.code, body.reason.as_str()), (404, "NotFound"));
    }
}
