//! Which pods go when a size falls: those with the least in flight, by the cost that a ReplicaSet's controller goes by
//! (`controller.kubernetes.io/pod-deletion-cost`; pods that are not ready it takes before that).

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::apply::MANAGER;
use super::facts::PodFacts;

/// The annotation, and the cost of a pod that is to go; others have none, which counts as 0.
pub(super) const ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(super) const COST: &str = "-1000";
/// Pods marked for one write; a fall beyond that is left to the controller's own order.
const VICTIMS_MAX: usize = 256;
/// Patches at once.
const AT_ONCE: usize = 8;

/// Whether pods of such a target can be chosen.
#[must_use]
pub fn are_chosen(kind: &str) -> bool {
    matches!(kind, "Deployment" | "ReplicaSet")
}

/// Pods to be marked, and pods whose mark is to go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// Of which namespace.
    pub namespace: String,
    /// Are to go first.
    pub mark: Vec<String>,
    /// Were to go once, and no longer are.
    pub clear: Vec<String>,
}

/// The marks for a fall by `remove` of a target that has these pods. Where nothing is known of what is in flight, there are none.
pub(super) fn choose<'a>(
    namespace: &str,
    pods: impl Iterator<Item = (&'a str, &'a PodFacts)>,
    in_flight: &BTreeMap<String, f64>,
    remove: u32,
) -> Marks {
    let alive: Vec<_> = pods.filter(|(_, pod)| !pod.deleting && !pod.ended).collect();
    let unready = alive.iter().filter(|(_, pod)| pod.ready_since.is_none()).count();
    let remove = usize::try_from(remove).unwrap_or(usize::MAX).saturating_sub(unready);
    let mut ready: Vec<_> = alive.into_iter().filter(|(_, pod)| pod.ready_since.is_some()).collect();
    let is_known = ready.iter().any(|(name, _)| in_flight.contains_key(*name));
    let chooses = is_known && remove > 0 && remove < ready.len() && remove <= VICTIMS_MAX;
    // One that nobody tells of may be busy. Of those with as much, the youngest: its caches are the coldest.
    let busy = |name: &str| in_flight.get(name).copied().unwrap_or(f64::MAX);
    ready
        .sort_by(|(a, x), (b, y)| busy(a).total_cmp(&busy(b)).then(y.created.cmp(&x.created)).then(a.cmp(b)));
    let (go, stay) = ready.split_at(if chooses { remove } else { 0 });
    let named = |pods: &[(&str, &PodFacts)], marked: bool| {
        pods.iter().filter(|(_, pod)| pod.marked == marked).map(|(name, _)| (*name).to_owned()).collect()
    };
    Marks { namespace: namespace.to_owned(), mark: named(go, false), clear: named(stay, true) }
}

/// Sets and clears marks. One that fails is told in the log: the size falls all the same, in the controller's own order.
pub(super) async fn write(client: &Client, marks: Marks) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &marks.namespace);
    let cleared = marks.clear.into_iter().map(|name| (name, None));
    let all: Vec<_> = marks.mark.into_iter().map(|name| (name, Some(COST))).chain(cleared).collect();
    let patches: Vec<_> = all.into_iter().map(|(name, cost)| patch(api.clone(), name, cost)).collect();
    let ended: Vec<_> = futures::stream::iter(patches).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<_> = ended.into_iter().flatten().collect();
    if let Some((pod, error)) = failed.first() {
        let (namespace, failed) = (marks.namespace, failed.len());
        tracing::warn!(namespace, pod, %error, failed, "pods could not be marked to go first");
    }
}

/// What went wrong, if something did; a pod that is gone needs no mark.
async fn patch(api: Api<Pod>, name: String, cost: Option<&'static str>) -> Option<(String, kube::Error)> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"metadata": {"annotations": {ANNOTATION: cost}}}));
    match api.patch_metadata(&name, &params, &patch).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => Some((name, error)),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::Timestamp;

    use super::*;

    fn pod(created: i64, ready: bool, marked: bool) -> PodFacts {
        let at = Timestamp::from_secs;
        PodFacts {
            created: at(created),
            ready_since: ready.then(|| at(created + 5)),
            marked,
            ..PodFacts::default()
        }
    }

    fn chosen(
        pods: &[(&str, PodFacts)],
        in_flight: &[(&str, f64)],
        remove: u32,
    ) -> (Vec<String>, Vec<String>) {
        let in_flight = in_flight.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let Marks { mark, clear, .. } =
            choose("ml", pods.iter().map(|(name, pod)| (*name, pod)), &in_flight, remove);
        (mark, clear)
    }

    #[test]
    fn those_with_the_least_in_flight_go_first_and_of_two_the_younger() {
        let pods = [("a", pod(1, true, false)), ("b", pod(2, true, false)), ("c", pod(3, true, false))];
        let told = [("a", 0.0), ("b", 4.0), ("c", 0.0)];
        assert_eq!(chosen(&pods, &told, 1).0, ["c"]);
        assert_eq!(chosen(&pods, &told, 2).0, ["c", "a"]);
        assert_eq!(chosen(&pods, &told[1..], 2).0, ["c", "b"], "who tells nothing may be busy");
    }

    #[test]
    fn pods_that_are_not_ready_go_before_all_others_and_need_no_mark() {
        let pods = [("a", pod(1, true, false)), ("b", pod(2, true, false)), ("c", pod(3, false, false))];
        let told = [("a", 0.0), ("b", 4.0)];
        assert!(chosen(&pods, &told, 1).0.is_empty());
        assert_eq!(chosen(&pods, &told, 2).0, ["a"]);
    }

    #[test]
    fn without_knowledge_nothing_is_marked_and_old_marks_are_cleared() {
        let pods = [("a", pod(1, true, true)), ("b", pod(2, true, false)), ("c", pod(3, true, true))];
        let none = (Vec::new(), vec!["c".to_owned(), "a".to_owned()]);
        assert_eq!(chosen(&pods, &[], 1), none);
        let told = [("a", 5.0), ("b", 0.0), ("c", 3.0)];
        let (mark, clear) = chosen(&pods, &told, 1);
        assert_eq!((mark, clear), (vec!["b".to_owned()], vec!["c".to_owned(), "a".to_owned()]));
        assert_eq!(chosen(&pods, &told, 3).0, Vec::<String>::new(), "all go");
    }
}
