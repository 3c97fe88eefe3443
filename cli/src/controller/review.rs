//! Who calls, and what they may: asked of the API server itself. A token is reviewed, then each question is put to its
//! authorisers: whoever may `get` the policies of a namespace may look at its workloads, whoever may `update` them may act.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tidegate_actuator::crds::GROUP;
use tidegate_core::Timestamp;

use super::hub::lock;
use crate::api::{Asked, Reviewer, Verdict};
use crate::clock;

/// An answer holds for so long: as long as the API server's own cache of tokens.
const HOLDS_FOR: Duration = Duration::from_secs(10);
/// Whose a token is holds for the questions of one look at several namespaces.
const USER_HOLDS_FOR: Duration = Duration::from_secs(2);
/// Answers kept; when there are more, all are asked again.
const KEPT_MAX: usize = 10_000;
/// A review that takes longer is none.
const REVIEW_MAX: Duration = Duration::from_secs(5);

type Key = ([u8; 32], Asked);

/// Asks the API server.
pub(super) struct ByApiServer {
    client: Client,
    kept: Mutex<HashMap<Key, (Verdict, Timestamp)>>,
    users: Mutex<HashMap<[u8; 32], (User, Timestamp)>>,
}

/// Who a token belongs to.
#[derive(Clone)]
struct User {
    name: String,
    groups: Vec<String>,
    uid: Option<String>,
    extra: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

impl ByApiServer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, kept: Mutex::default(), users: Mutex::default() }
    }

    fn known(&self, key: &Key, now: Timestamp) -> Option<Verdict> {
        lock(&self.kept).get(key).filter(|(_, at)| now.since(*at) < HOLDS_FOR).map(|(verdict, _)| *verdict)
    }

    fn keep(&self, key: Key, verdict: Verdict, now: Timestamp) {
        keep(&mut lock(&self.kept), key, (verdict, now));
    }

    /// Whose token it is.
    async fn user(&self, token: &str, digest: [u8; 32]) -> kube::Result<Option<User>> {
        let now = clock::now();
        let known = |users: &HashMap<_, (User, Timestamp)>| {
            users.get(&digest).filter(|(_, at)| now.since(*at) < USER_HOLDS_FOR).map(|(user, _)| user.clone())
        };
        if let Some(user) = known(&lock(&self.users)) {
            return Ok(Some(user));
        }
        let found = self.review_token(token).await?;
        if let Some(user) = &found {
            keep(&mut lock(&self.users), digest, (user.clone(), now));
        }
        Ok(found)
    }

    async fn review_token(&self, token: &str) -> kube::Result<Option<User>> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review =
            api.create(&PostParams::default(), &TokenReview { spec, ..TokenReview::default() }).await?;
        let status = review.status.filter(|status| status.authenticated == Some(true));
        Ok(status.and_then(|status| status.user).map(|user| User {
            name: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            uid: user.uid,
            extra: user.extra,
        }))
    }

    async fn may(&self, user: User, asked: &Asked) -> kube::Result<bool> {
        let verb = if asked.acts { "update" } else { "get" };
        let attributes = ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some("servingpolicies".to_owned()),
            verb: Some(verb.to_owned()),
            // None: in all of them.
            namespace: asked.namespace.clone(),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.name),
            groups: Some(user.groups),
            uid: user.uid,
            extra: user.extra,
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        allowed(&self.client, spec).await
    }

    async fn ask(&self, token: &str, (digest, asked): &Key) -> kube::Result<Verdict> {
        let Some(user) = self.user(token, *digest).await? else { return Ok(Verdict::Unknown) };
        Ok(if self.may(user, asked).await? { Verdict::Allowed } else { Verdict::Refused })
    }
}

/// Keeps an answer; when there are too many, all are asked for again.
fn keep<K: std::hash::Hash + Eq, V>(kept: &mut HashMap<K, V>, key: K, value: V) {
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(key, value);
}

/// Whether the API server's authorisers allow it.
pub(super) async fn allowed(client: &Client, spec: SubjectAccessReviewSpec) -> kube::Result<bool> {
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let review = api.create(&PostParams::default(), &review).await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

impl Reviewer for ByApiServer {
    fn review<'a>(&'a self, token: &'a str, asked: Asked) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let key = (Sha256::digest(token.as_bytes()).into(), asked);
            let now = clock::now();
            if let Some(verdict) = self.known(&key, now) {
                return verdict;
            }
            match tokio::time::timeout(REVIEW_MAX, self.ask(token, &key)).await {
                Ok(Ok(verdict)) => {
                    self.keep(key, verdict, now);
                    verdict
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a token could not be reviewed");
                    Verdict::NoAnswer
                }
                Err(_) => Verdict::NoAnswer,
            }
        })
    }
}
