//! Whether the controller still may do what it has to. Rights are taken away while it runs: what then fails, fails with a cause; this
//! says which right it is before it is needed, and goes on asking until it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tidegate_actuator::cluster::lease::LeaseOptions;
use tidegate_actuator::cluster::rights::review::own_lacks;
use tidegate_actuator::cluster::rights::{Identity, KUBE_SYSTEM, Permission, Place, optional, permissions};
use tidegate_core::{Label, Metric};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, lock};
use crate::args::ControllerArgs;

/// Between two questions; with several namespaces each is asked about in its turn.
const EVERY: Duration = Duration::from_secs(10);
/// A question that takes longer hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The rights that are lacking, by the namespace in which that was seen.
pub(super) type Lacking = BTreeMap<String, BTreeSet<Permission>>;

/// A question: in which namespace, and for what.
type Question = (String, Vec<Permission>);

/// Asks until `stop`.
pub(super) async fn review(hub: Arc<Hub>, client: Client, questions: Vec<Question>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (namespace, wanted) in questions.iter().cycle() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match tokio::time::timeout(ANSWER_MAX, own_lacks(&client, namespace, wanted)).await {
            Ok(Ok(lacks)) => note(&hub, namespace, lacks.into_iter().collect()),
            // While the API server is away, others say so.
            Ok(Err(error)) => tracing::debug!(%error, namespace, "own rights could not be asked for"),
            Err(_) => tracing::debug!(namespace, "the API server did not answer about own rights in time"),
        }
    }
}

/// What this controller has to ask about: what it does as it was started.
pub(super) fn questions(args: &ControllerArgs, lease: &LeaseOptions) -> Vec<Question> {
    let published = &args.published;
    let is_used = |one: &Permission| match (one.resource, one.name) {
        ("apiservices", _) => published.external_metrics_service.is_some(),
        ("configmaps", _) if one.place == Place::KubeSystem => published.external_metrics.is_some(),
        ("secrets", name) if one.option.is_some() => {
            name.is_some() && published.keda_secret.as_deref() == name
        }
        // Commands in pods: whoever has a policy that needs them is told by that policy.
        _ if one.option.is_some() => false,
        ("leases", name) => name.is_none_or(|name| name == lease.name),
        ("secrets", None) | ("configmaps", _) => args.tls_secret.is_some(),
        ("secrets", name) => args.tls_secret.as_deref() == name,
        _ => true,
    };
    let used = permissions(Identity::Controller)
        .into_iter()
        .chain(optional(Identity::Controller))
        .filter(is_used)
        .collect();
    by_place(used, &lease.namespace, &args.namespace)
}

/// What to ask in which namespace. What must hold in the whole cluster is asked in the controller's own.
fn by_place(all: Vec<Permission>, own: &str, watched: &[String]) -> Vec<Question> {
    let (of_watched, elsewhere): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|one| one.place == Place::Watched && !watched.is_empty());
    let (of_system, of_own): (Vec<_>, Vec<_>) =
        elsewhere.into_iter().partition(|one| one.place == Place::KubeSystem);
    let mut questions = vec![(own.to_owned(), of_own)];
    if !of_system.is_empty() {
        questions.push((KUBE_SYSTEM.to_owned(), of_system));
    }
    for namespace in watched {
        match questions.iter_mut().find(|(known, _)| known == namespace) {
            Some((_, wanted)) => wanted.extend(&of_watched),
            None => questions.push((namespace.clone(), of_watched.clone())),
        }
    }
    questions
}

/// Tells what has changed, once.
fn note(hub: &Hub, namespace: &str, now: BTreeSet<Permission>) {
    let mut lacking = lock(&hub.lacking);
    let before = lacking.insert(namespace.to_owned(), now.clone()).unwrap_or_default();
    for one in now.difference(&before) {
        let (right, needed_for) = (one.to_string(), one.why);
        tracing::warn!(right, namespace, needed_for, "a right is missing; going on without it");
    }
    for one in before.difference(&now) {
        tracing::info!(right = one.to_string(), namespace, "a right is back");
    }
    let missing: BTreeSet<String> = lacking.values().flatten().map(ToString::to_string).collect();
    for one in before.union(&now).map(ToString::to_string) {
        let gauge = hub.registry.gauge(Metric::ClusterRightMissing, &[(Label::Right, one.as_str())]);
        gauge.set(missing.contains(&one).then_some(1.0));
    }
}

/// What is lacking, for people.
pub(super) fn sentences(lacking: &Lacking) -> Vec<String> {
    let all = lacking.iter().flat_map(|(namespace, lacks)| lacks.iter().map(move |one| (namespace, one)));
    let sentence = |(namespace, one): (&String, &Permission)| {
        let place = match one.place {
            Place::Cluster => String::new(),
            Place::Own | Place::Watched | Place::KubeSystem => format!(" in namespace {namespace}"),
        };
        format!("It may not {one}{place}: that is needed for {}.", one.why)
    };
    all.map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_is_asked_for_where_it_must_hold() {
        let rights = || permissions(Identity::Controller);
        let all = rights().len();
        let whole = by_place(rights(), "tidegate", &[]);
        assert_eq!(whole.len(), 1);
        assert_eq!((whole[0].0.as_str(), whole[0].1.len()), ("tidegate", all));
        let watched = ["ml".to_owned(), "tidegate".to_owned()];
        let parts = by_place(rights(), "tidegate", &watched);
        let names: Vec<_> = parts.iter().map(|(name, wanted)| (name.as_str(), wanted.len())).collect();
        let of_watched = parts[1].1.len();
        assert_eq!(names, [("tidegate", all), ("ml", of_watched)]);
        assert!(parts[1].1.iter().all(|one| one.place == Place::Watched) && of_watched < all);
    }

    #[test]
    fn what_is_lacking_is_a_sentence() {
        let one = permissions(Identity::Controller)
            .into_iter()
            .find(|one| one.to_string() == "list nodes")
            .unwrap();
        let lacking = Lacking::from([("tidegate".to_owned(), BTreeSet::from([one]))]);
        let [sentence] = sentences(&lacking).try_into().unwrap();
        assert!(sentence.starts_with("It may not list nodes: that is needed for"), "{sentence}");
    }
}
