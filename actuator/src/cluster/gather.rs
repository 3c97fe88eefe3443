//! What the facts say of one workload: its pods by state, and what happened to them since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_core::{ReplicaCounts, Timestamp};

use super::facts::{NodeFacts, PodFacts, TargetFacts};
use super::watch::{Failing, Known};

/// A pod that was ready when it was first seen tells nothing of start-up times unless it became so this lately: before that,
/// nobody was looking, and its readiness may have come and gone.
const STARTED_LATELY: Duration = Duration::from_secs(60);
/// Pods whose readiness is remembered per workload; several times the largest size that a policy allows in practice.
const PODS_MAX: usize = 20_000;

/// Labels by which the controllers of Deployments, and of StatefulSets and others, tell which template a pod was made of.
const VERSION_LABELS: [&str; 2] = ["pod-template-hash", "controller-revision-hash"];
/// Label of a node with the type of its GPUs.
const GPU_LABEL: &str = "nvidia.com/gpu.product";

/// One look at a workload's pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gathered {
    /// By state; `wanted` is what the target's spec asks for.
    pub counts: ReplicaCounts,
    /// Start-up times of pods that became ready since the last look, without waits for nodes.
    pub started: Vec<Duration>,
    /// How long those of them waited that were given a node made after them, as a node autoscaler does.
    pub node_waits: Vec<Duration>,
    /// When the oldest of those that are starting was made.
    pub starting_since: Option<Timestamp>,
    /// Pods that were ready and ended unasked since the last look.
    pub lost: u32,
    /// A pod's container ends again and again.
    pub crash_loop: bool,
    /// What most ready pods run, and on which GPUs; `None` while none is ready.
    pub variant: Option<String>,
    /// Why pods wait for a node, in the scheduler's words.
    pub unschedulable: Option<String>,
}

/// What is remembered of a workload's pods from one look to the next.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pods: BTreeMap<String, Remembered>,
    wanted: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    ready: bool,
    started: bool,
    leaving: bool,
}

impl Memory {
    /// Looks at the target's pods.
    pub fn gather<'a>(
        &mut self,
        target: &TargetFacts,
        pods: impl Iterator<Item = &'a PodFacts>,
        nodes: &Known<NodeFacts>,
        now: Timestamp,
    ) -> Gathered {
        let mut seen = Gathered::default();
        seen.counts.wanted = target.size.unwrap_or(0);
        let mut present = BTreeMap::new();
        let mut variants = BTreeMap::<&str, (u32, BTreeSet<&str>)>::new();
        for pod in pods.take(PODS_MAX) {
            if pod.ended {
                continue;
            }
            let before = self.pods.get(&pod.uid).copied();
            let mut kept = before.unwrap_or(Remembered { ready: false, started: false, leaving: false });
            if pod.deleting {
                seen.counts.draining += 1;
            } else if let Some(since) = pod.ready_since {
                seen.counts.ready += 1;
                let of_version = variants.entry(version(pod)).or_default();
                of_version.0 += 1;
                of_version.1.extend(gpu_type(pod, nodes));
                if !kept.started
                    && (before.is_some() || now.since(since) < STARTED_LATELY)
                    && pod.restarts == 0
                {
                    let wait = node_wait(pod, nodes);
                    seen.node_waits.extend(wait);
                    seen.started.push(since.since(pod.created).saturating_sub(wait.unwrap_or_default()));
                }
                kept.started = true;
            } else {
                seen.counts.starting += 1;
                let oldest = seen.starting_since.get_or_insert(pod.created);
                *oldest = (*oldest).min(pod.created);
                seen.unschedulable = seen.unschedulable.take().or_else(|| pod.unschedulable.clone());
            }
            seen.crash_loop |= pod.crash_loop && !pod.deleting;
            kept.ready = pod.ready_since.is_some();
            kept.leaving = pod.deleting;
            present.insert(pod.uid.clone(), kept);
        }
        seen.lost = self.lost(&present, seen.counts.wanted);
        let most = variants.into_iter().max_by_key(|(_, (pods, _))| *pods);
        // Before the nodes are known, what runs on them would seem to change when they are.
        let knows = nodes.is_synced(1) || nodes.failing().is_some_and(Failing::is_forbidden);
        seen.variant = most.filter(|_| knows).map(|(version, (_, gpus))| {
            let gpus: Vec<_> = gpus.into_iter().collect();
            format!("{version}@{}", gpus.join("+"))
        });
        self.pods = present;
        self.wanted = Some(seen.counts.wanted);
        seen
    }

    /// Ready pods that are gone, or were started anew in place, and that nobody asked to end. When the size was made smaller
    /// meanwhile, so many of those that are gone were asked to.
    fn lost(&self, present: &BTreeMap<String, Remembered>, wanted: u32) -> u32 {
        let gone =
            self.pods.iter().filter(|(uid, was)| was.ready && !was.leaving && !present.contains_key(*uid));
        let asked = self.wanted.map_or(0, |before| before.saturating_sub(wanted));
        u32::try_from(gone.count()).unwrap_or(u32::MAX).saturating_sub(asked)
    }
}

/// The version of the template that a pod was made of, where its controller tells.
fn version(pod: &PodFacts) -> &str {
    VERSION_LABELS.iter().find_map(|label| pod.labels.get(*label)).map_or("", String::as_str)
}

/// The type of the GPUs on a pod's node, where the GPU operator or its feature discovery tells.
fn gpu_type<'a>(pod: &PodFacts, nodes: &'a Known<NodeFacts>) -> Option<&'a str> {
    let node = nodes.get("", pod.node.as_ref()?)?;
    node.labels.get(GPU_LABEL).map(String::as_str)
}

/// How long a pod waited for a node that was made for it.
fn node_wait(pod: &PodFacts, nodes: &Known<NodeFacts>) -> Option<Duration> {
    let made = nodes.get("", pod.node.as_ref()?)?.created?;
    (made > pod.created).then(|| Some(pod.scheduled?.since(pod.created)))?
}

#[cfg(test)]
mod tests {
    use super::super::watch::Table;
    use super::*;
    use crate::cluster::facts::Selector;

    fn target(size: u32) -> TargetFacts {
        TargetFacts {
            uid: "t".into(),
            size: Some(size),
            group_index: None,
            selector: Some(Selector::labels([("app".to_owned(), "chat".to_owned())])),
            owners: Vec::new(),
            devices: BTreeMap::new(),
            queued: false,
            deleting: false,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    fn pod(uid: &str, created: i64, ready: Option<i64>) -> PodFacts {
        PodFacts {
            uid: uid.into(),
            labels: BTreeMap::from([("app".to_owned(), "chat".to_owned())]),
            created: at(created),
            ready_since: ready.map(at),
            ..PodFacts::default()
        }
    }

    #[test]
    fn a_start_up_is_told_once() {
        let mut memory = Memory::default();
        let look = memory.gather(
            &target(2),
            [pod("a", 0, Some(90)), pod("b", 500, None)].iter(),
            &Table::default().look(),
            at(600),
        );
        assert_eq!((look.counts.ready, look.counts.starting, look.counts.wanted), (1, 1, 2));
        assert!(look.started.is_empty(), "it was ready long before anybody looked");
        let pods = [pod("a", 0, Some(90)), pod("b", 500, Some(610))];
        let look = memory.gather(&target(2), pods.iter(), &Table::default().look(), at(612));
        assert_eq!(look.started, [Duration::from_secs(110)]);
        assert!(memory.gather(&target(2), pods.iter(), &Table::default().look(), at(613)).started.is_empty());
    }

    #[test]
    fn a_pod_that_is_gone_is_lost_unless_the_size_went_down() {
        let pods = [pod("a", 0, Some(9)), pod("b", 0, Some(9)), pod("c", 0, Some(9))];
        let mut memory = Memory::default();
        memory.gather(&target(3), pods.iter(), &Table::default().look(), at(100));
        let mut asked = memory.clone();
        assert_eq!(memory.gather(&target(3), pods[..2].iter(), &Table::default().look(), at(101)).lost, 1);
        assert_eq!(asked.gather(&target(2), pods[..2].iter(), &Table::default().look(), at(101)).lost, 0);
    }

    #[test]
    fn a_wait_for_a_node_that_was_made_for_it_is_no_part_of_a_pods_start_up() {
        let nodes = Table::default();
        for (name, made) in [("old", -500), ("made", 130)] {
            let (labels, extended) = (BTreeMap::new(), BTreeMap::new());
            let facts = NodeFacts { labels, extended, open: true, created: Some(at(made)) };
            nodes.look().set("", name, Some(facts));
        }
        let of = |uid: &str, node: &str| {
            let placed =
                PodFacts { scheduled: Some(at(200)), node: Some(node.into()), ..pod(uid, 0, Some(290)) };
            Memory::default().gather(&target(1), [placed].iter(), &nodes.look(), at(300))
        };
        let (freed, made) = (of("a", "old"), of("b", "made"));
        assert_eq!((freed.started, freed.node_waits), (vec![Duration::from_secs(290)], vec![]));
        assert_eq!(
            (made.started, made.node_waits),
            (vec![Duration::from_secs(90)], vec![Duration::from_secs(200)])
        );
    }

    #[test]
    fn a_pod_that_drains_is_not_lost() {
        let mut memory = Memory::default();
        memory.gather(&target(1), [pod("a", 0, Some(9))].iter(), &Table::default().look(), at(100));
        let mut leaving = pod("a", 0, Some(9));
        leaving.deleting = true;
        let look = memory.gather(&target(1), [leaving].iter(), &Table::default().look(), at(101));
        assert_eq!((look.counts.draining, look.counts.ready), (1, 0));
        assert_eq!(memory.gather(&target(1), [].iter(), &Table::default().look(), at(102)).lost, 0);
    }

    #[test]
    fn what_most_ready_pods_run_and_on_what_is_the_variant() {
        let nodes = Table::default();
        for (name, gpu) in [("a", "A100"), ("h", "H100")] {
            let labels = BTreeMap::from([(GPU_LABEL.to_owned(), gpu.to_owned())]);
            let facts = NodeFacts { labels, extended: BTreeMap::new(), open: true, created: None };
            nodes.look().set("", name, Some(facts));
        }
        let of = |uid: &str, version: &str, node: &str, ready| {
            let mut pod = pod(uid, 0, ready);
            pod.labels.insert("pod-template-hash".into(), version.into());
            pod.node = Some(node.into());
            pod
        };
        let look = |pods: &[PodFacts]| {
            let mut memory = Memory::default();
            memory.gather(&target(4), pods.iter(), &nodes.look(), at(600)).variant
        };
        let mut pods = vec![of("1", "v1", "a", Some(9)), of("2", "v1", "h", Some(9))];
        assert_eq!(look(&pods), None, "what the nodes are is not known yet");
        nodes.look().sync();
        assert_eq!(look(&pods).as_deref(), Some("v1@A100+H100"));
        pods.extend([of("3", "v2", "h", Some(9)), of("4", "v2", "h", None), of("5", "v2", "h", None)]);
        assert_eq!(look(&pods).as_deref(), Some("v1@A100+H100"), "only what is ready counts");
        pods[3].ready_since = Some(at(500));
        pods[4].ready_since = Some(at(500));
        assert_eq!(look(&pods).as_deref(), Some("v2@H100"));
        assert_eq!(look(&[pod("6", 0, Some(9))]).as_deref(), Some("@"), "nobody tells; it does not change");
        assert_eq!(look(&[]), None);
    }
}
