//! What is known of this node's pods, and how to find them: by uid, by container id, by name. No I/O.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{Label, WorkloadId};

use crate::clock::Moment;

/// Most pods kept: several times the most that a kubelet is set up for (its default is 110).
pub const PODS_MAX: usize = 2048;

/// One port that a container says it listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its number in the pod.
    pub number: u16,
}

/// A container of a pod: one that runs, ran, or is about to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodContainer {
    /// Its name in the pod.
    pub name: String,
    /// The runtime's id of the one that was started last, without the runtime's name; `None` before the first one.
    pub id: Option<String>,
    /// Whether it starts before the others do.
    pub init: bool,
    /// Whether it passes its readiness probe; `None` while nothing is known of its state.
    pub ready: Option<bool>,
    /// How often it was started again; `None` while nothing is known of its state.
    pub restarts: Option<u32>,
    /// Ports that it names.
    pub ports: Vec<Port>,
}

/// A pod of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Uid, as the API has it.
    pub uid: String,
    /// For a pod that the kubelet took from a file, the uid that its cgroups and directories have.
    pub config_hash: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations of those prefixes that are asked for.
    pub annotations: BTreeMap<String, String>,
    /// The workload that it is part of.
    pub workload: Option<WorkloadId>,
    /// Node.
    pub node: Option<String>,
    /// Address; `None` before it has one.
    pub ip: Option<IpAddr>,
    /// Whether it uses the machine's own network.
    pub host_network: bool,
    /// Whether it is ready; `None` while nothing is known of its state.
    pub ready: Option<bool>,
    /// Whether it has ended for good, well or not.
    pub ended: bool,
    /// Containers, in the order of the pod.
    pub containers: Vec<PodContainer>,
}

impl Pod {
    /// Hash of the template that it was made from, where its controller tells it.
    #[must_use]
    pub fn template_hash(&self) -> Option<&str> {
        self.labels.get(super::workload::POD_TEMPLATE_HASH).map(String::as_str)
    }

    /// Labels of its metrics.
    #[must_use]
    pub fn names(&self) -> Vec<(Label, Box<str>)> {
        let mut names =
            vec![(Label::Namespace, self.namespace.as_str().into()), (Label::Pod, self.name.as_str().into())];
        names.extend(self.workload.as_ref().map(|id| (Label::Workload, id.as_str().into())));
        names
    }
}

/// How far a table can be relied on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has told anything yet.
    #[default]
    Unknown,
    /// Whoever tells is telling each change.
    InStep,
    /// It holds as of then; nobody tells of changes since.
    Since(Moment),
}

/// The pods of this node as last told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PodTable {
    standing: Standing,
    pods: Arc<BTreeMap<String, Arc<Pod>>>,
    by_config_hash: Arc<HashMap<String, Arc<Pod>>>,
    by_container: Arc<HashMap<String, (Arc<Pod>, usize)>>,
}

impl PodTable {
    /// Of these pods, by uid, in step with whoever tells of them.
    #[must_use]
    pub fn new(pods: BTreeMap<String, Arc<Pod>>) -> Self {
        let mut by_config_hash = HashMap::new();
        let mut by_container = HashMap::new();
        for pod in pods.values() {
            by_config_hash.extend(pod.config_hash.clone().map(|hash| (hash, Arc::clone(pod))));
            let ids = pod
                .containers
                .iter()
                .enumerate()
                .filter_map(|(at, container)| Some((container.id.clone()?, (Arc::clone(pod), at))));
            by_container.extend(ids);
        }
        Self {
            standing: Standing::InStep,
            pods: Arc::new(pods),
            by_config_hash: Arc::new(by_config_hash),
            by_container: Arc::new(by_container),
        }
    }

    /// The same pods, of which nobody tells since `at`. What had been lost earlier stays lost since then.
    #[must_use]
    pub fn lost(self, at: Moment) -> Self {
        match self.standing {
            Standing::InStep => Self { standing: Standing::Since(at), ..self },
            Standing::Unknown | Standing::Since(_) => self,
        }
    }

    /// Whether changes are told.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.standing == Standing::InStep
    }

    /// How long ago it was in step; `None` when it never was.
    #[must_use]
    pub fn age(&self, now: &Moment) -> Option<Duration> {
        match self.standing {
            Standing::Unknown => None,
            Standing::InStep => Some(Duration::ZERO),
            Standing::Since(then) => Some(now.steady.saturating_sub(then.steady)),
        }
    }

    /// Every pod, in the order of their uids.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// The pod of this uid: that of the API, or, for one that the kubelet took from a file, that of its cgroups.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.get(uid).or_else(|| self.by_config_hash.get(uid))
    }

    /// The container of this id, and its pod.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<(&Arc<Pod>, &PodContainer)> {
        let (pod, at) = self.by_container.get(id)?;
        Some((pod, pod.containers.get(*at)?))
    }

    /// The pod of this name. Of several, which a pod that is recreated under its name makes for a while, the one that has not
    /// ended; `None` when that does not settle it.
    #[must_use]
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        let mut all = self.pods.values().filter(|pod| pod.namespace == namespace && pod.name == name);
        let (first, rest) = (all.next()?, all.collect::<Vec<_>>());
        if rest.is_empty() {
            return Some(first);
        }
        let mut living = std::iter::once(first).chain(rest).filter(|pod| !pod.ended);
        living.next().filter(|_| living.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, name: &str) -> Pod {
        Pod { uid: uid.into(), namespace: "ml".into(), name: name.into(), ..Pod::default() }
    }

    fn table(pods: impl IntoIterator<Item = Pod>) -> PodTable {
        PodTable::new(pods.into_iter().map(|pod| (pod.uid.clone(), Arc::new(pod))).collect())
    }

    #[test]
    fn a_pod_is_found_by_uid_hash_and_container() {
        let container =
            PodContainer { name: "vllm".into(), id: Some("4f1d".into()), ..PodContainer::default() };
        let chat = Pod { containers: vec![container], ..pod("u-1", "chat-0") };
        let table = table([chat, Pod { config_hash: Some("c0ffee".into()), ..pod("u-2", "etcd-node-a") }]);
        assert_eq!(table.pod("u-1").unwrap().name, "chat-0");
        assert_eq!(table.pod("c0ffee").unwrap().uid, "u-2");
        assert_eq!(table.container("4f1d").unwrap().1.name, "vllm");
        assert!(table.is_in_step());
        assert!(table.pod("u-3").is_none() && table.container("u-1").is_none());
    }

    #[test]
    fn the_age_runs_from_the_first_loss() {
        let at =
            |seconds| Moment { at: tidegate_core::Timestamp::EPOCH, steady: Duration::from_secs(seconds) };
        assert_eq!(PodTable::default().lost(at(1)).age(&at(9)), None);
        let known = table([pod("u-1", "chat-0")]);
        assert_eq!(known.age(&at(9)), Some(Duration::ZERO));
        let lost = known.lost(at(10)).lost(at(20));
        assert_eq!((lost.age(&at(25)), lost.len()), (Some(Duration::from_secs(15)), 1));
    }

    #[test]
    fn a_name_that_two_living_pods_have_names_neither() {
        let ended = Pod { ended: true, ..pod("u-1", "db-0") };
        assert_eq!(table([ended.clone(), pod("u-2", "db-0")]).named("ml", "db-0").unwrap().uid, "u-2");
        assert!(table([pod("u-1", "db-0"), pod("u-2", "db-0")]).named("ml", "db-0").is_none());
        assert_eq!(table([ended]).named("ml", "db-0").unwrap().uid, "u-1");
        assert!(table([]).named("ml", "db-0").is_none());
    }
}
