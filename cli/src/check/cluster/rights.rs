//! Whether Tidegate's identities may do what they have to: each right of the table, put to the API server's own authorisers.

use std::collections::BTreeSet;

use futures::StreamExt;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tidegate_actuator::cluster::rights::review::{attributes, may, own_may, places};
use tidegate_actuator::cluster::rights::{Identity, Permission, optional, permissions};

use super::super::finding::{Findings, Verdict, chain, is_forbidden};
use super::Asked;

/// Questions at once.
const AT_ONCE: usize = 8;

/// What came of one question.
type Answer = (Permission, Option<String>, kube::Result<bool>);

pub(super) async fn look(asked: &Asked, findings: &mut Findings) {
    for identity in Identity::ALL {
        let answers = ask(asked, permissions(identity), false).await;
        let refused = answers.iter().any(|(.., answer)| answer.as_ref().is_err_and(is_forbidden));
        if !refused {
            tell(asked, identity, answers, findings);
            tell_optional(ask(asked, optional(identity), false).await, findings);
        } else if is_own(&asked.client, &asked.own, identity).await {
            let answers = ask(asked, permissions(identity), true).await;
            tell(asked, identity, answers, findings);
        } else {
            let text = format!("whoever asks may not ask what {} may", identity.account());
            findings.add(Verdict::Unknown, "rights", text);
        }
    }
}

/// Puts rights to the API server: as their identity itself, or about it.
async fn ask(asked: &Asked, wanted: Vec<Permission>, as_itself: bool) -> Vec<Answer> {
    let questions = wanted.into_iter().flat_map(|one| {
        let places = places(one.place, &asked.own, &asked.watched);
        places.into_iter().map(move |place| (one, place))
    });
    let put = |(one, place): (Permission, Option<String>)| async move {
        let question = attributes(&one, place.as_deref());
        let answer = match as_itself {
            true => own_may(&asked.client, question).await,
            false => may(&asked.client, (&asked.own, one.identity.account()), question).await,
        };
        (one, place, answer)
    };
    futures::stream::iter(questions).map(put).buffered(AT_ONCE).collect().await
}

/// Whether whoever asks is this identity: from within its own pod.
async fn is_own(client: &Client, namespace: &str, identity: Identity) -> bool {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let user = review.ok().and_then(|review| review.status?.user_info?.username);
    user.is_some_and(|user| user == format!("system:serviceaccount:{namespace}:{}", identity.account()))
}

fn tell(asked: &Asked, identity: Identity, answers: Vec<Answer>, findings: &mut Findings) {
    const SUBJECT: &str = "rights";
    let account = identity.account();
    let (all, mut lacking) = (answers.len(), 0);
    for (one, place, answer) in answers {
        let place =
            place.map_or_else(|| "the cluster".to_owned(), |namespace| format!("namespace {namespace}"));
        match answer {
            Ok(true) => continue,
            Ok(false) => {
                let text = format!("{account} may not {one} in {place}: that is needed for {}", one.why);
                // What the server has no kind of is not done either.
                let verdict = if asked.has_group(one.group) { Verdict::Missing } else { Verdict::Warning };
                findings.ask(verdict, SUBJECT, text, "grant it as the chart does (helm upgrade)");
            }
            Err(error) => {
                findings.add(Verdict::Unknown, SUBJECT, format!("{account}, {one}: {}", chain(error)));
            }
        }
        lacking += 1;
    }
    if lacking == 0 {
        findings.add(Verdict::Fine, SUBJECT, format!("{account} has all {all} that it needs"));
    }
}

/// What is granted by a value of the chart alone, and need not be: one line for each value.
fn tell_optional(answers: Vec<Answer>, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for (one, _, answer) in answers {
        let Some(option) = one.option.filter(|_| matches!(answer, Ok(false))) else { continue };
        if told.insert(option) {
            let text = format!("{option} of the chart is off: there are no {}", one.why);
            findings.add(Verdict::Absent, "rights", text);
        }
    }
}
