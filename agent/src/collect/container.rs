//! The containers of this node's pods: CPU, throttling, memory, disks, pressure and network, from their cgroups.
//!
//! Cgroup version 2 whole, version 1 what it has. A container is known by its cgroup's path ([`path`]); its name, and that of its
//! pod and workload, come from the table of pods where that knows them. The sandbox of a pod, which holds its network and does
//! nothing else, is no container of its own. Volumes are a source apart ([`volume`]), since asking for their room may hang.
//!
//! Networks need the machine's process ids: an agent in a container sees them with `hostPID`, and tells no network without.

pub mod find;
pub mod network;
pub mod path;
pub mod usage;
pub mod v1;
pub mod v2;
pub mod volume;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use tidegate_core::{Signal, Subject, WorkloadId};
use tokio::sync::watch;

use crate::clock::Moment;
use crate::collect::Cause;
use crate::collect::node::{rate, read_text};
use crate::collect::pods::table::{Pod, PodContainer, PodTable};
use crate::collect::reading::{BlockingSource, Names, Reading, Samples};
use find::Found;
use network::PodNetwork;
use usage::{Usage, number};
use v1::Hierarchies;

/// Limits hardly ever change: they are read with one reading of so many, and of a container that is new at once.
const LIMITS_EVERY: u64 = 3;

/// Where things are on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPaths {
    /// The machine's root: `/`, or where a container has it mounted.
    pub root: PathBuf,
    /// The cgroup filesystem, seen from the machine's root.
    pub cgroup: PathBuf,
    /// The kubelet's directory, seen from the machine's root.
    pub kubelet: PathBuf,
}

impl ContainerPaths {
    /// The usual places below `root`: `/sys/fs/cgroup` and `/var/lib/kubelet`.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), cgroup: "/sys/fs/cgroup".into(), kubelet: "/var/lib/kubelet".into() }
    }

    fn seen(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// The pod and container that a process of the machine is in, by the pods that are known; `root` is the machine's.
#[must_use]
pub fn of_process<'a>(
    root: &Path,
    pid: u32,
    pods: &'a PodTable,
) -> Option<(&'a Pod, Option<&'a PodContainer>)> {
    let place = path::of_process(&read_text(&root.join(format!("proc/{pid}/cgroup")))?)?;
    let container = place.container.and_then(|id| pods.container(&id)).map(|(_, container)| container);
    Some((pods.pod(&place.pod)?, container))
}

/// The cgroup filesystem of either version.
#[derive(Debug)]
enum Cgroups {
    Unified(PathBuf),
    Older(Hierarchies),
}

impl Cgroups {
    fn at(root: PathBuf) -> Self {
        // Only the root of the unified hierarchy lists its controllers.
        if root.join("cgroup.controllers").exists() {
            Self::Unified(root)
        } else {
            Self::Older(Hierarchies::below(root))
        }
    }

    fn to_search(&self) -> PathBuf {
        match self {
            Self::Unified(root) => root.clone(),
            Self::Older(hierarchies) => hierarchies.to_search(),
        }
    }

    fn usage(&self, path: &Path, stacked: &BTreeSet<String>, lately: Option<&Usage>) -> Usage {
        match self {
            Self::Unified(root) => v2::read(&root.join(path), stacked, lately),
            Self::Older(hierarchies) => v1::read(hierarchies, path, stacked),
        }
    }

    fn pids(&self, path: &Path) -> Vec<u32> {
        let text = read_text(&self.to_search().join(path).join("cgroup.procs"));
        text.as_deref().map(|text| network::pids(text).collect()).unwrap_or_default()
    }
}

/// The state of one reading that the next one needs.
#[derive(Debug)]
struct Before {
    at: Moment,
    usage: HashMap<String, Usage>,
    networks: HashMap<String, PodNetwork>,
}

/// Containers as a source.
#[derive(Debug)]
pub struct ContainerSource {
    paths: ContainerPaths,
    pods: watch::Receiver<PodTable>,
    before: Option<Before>,
    readings: u64,
}

impl ContainerSource {
    /// Reads at `paths`; takes names from `pods`.
    #[must_use]
    pub const fn new(paths: ContainerPaths, pods: watch::Receiver<PodTable>) -> Self {
        Self { paths, pods, before: None, readings: 0 }
    }
}

impl BlockingSource for ContainerSource {
    fn read(&mut self, now: Moment) -> Reading {
        let cgroups = Cgroups::at(self.paths.seen(&self.paths.cgroup));
        let Some(found) = find::containers(&cgroups.to_search()) else {
            self.before = None;
            return Reading::failed(Cause::Unreadable);
        };
        let pods = self.pods.borrow().clone();
        let mut told = Told::new(now, self.before.take());
        let stacked = find::stacked_devices(&self.paths.root);
        let limits = self.readings.is_multiple_of(LIMITS_EVERY);
        self.readings += 1;
        for found in &found {
            if let Some(name) = name_of(&pods, found) {
                let usage = cgroups.usage(&found.path, &stacked, told.lately(found).filter(|_| !limits));
                told.container(found, pods.pod(&found.pod).map(|pod| &**pod), name, usage);
            }
        }
        told.workloads();
        told.networks(&self.paths.root.join("proc"), &cgroups, &pods, &found);
        if pods.is_in_step() {
            told.restarts(&pods);
        }
        self.before = Some(Before { at: now, usage: told.usage, networks: told.networks });
        Reading { samples: told.out.into_vec(), names: told.names, ..Reading::default() }
    }
}

/// The name of a container; `None` for what a pod does not list, which is its sandbox, or a container that is not known yet.
fn name_of<'a>(pods: &'a PodTable, found: &'a Found) -> Option<&'a str> {
    match (pods.container(&found.id), pods.pod(&found.pod)) {
        (Some((_, container)), _) => Some(&container.name),
        (None, Some(_)) => None,
        (None, None) => Some(&found.id),
    }
}

/// CPU and memory of a workload's containers on this node; unknown as soon as one of them is.
#[derive(Debug)]
struct Sum {
    cores: Option<f64>,
    memory_bytes: Option<u64>,
}

/// A reading in the making.
#[derive(Debug)]
struct Told {
    now: Moment,
    before: Option<Before>,
    out: Samples,
    names: Names,
    usage: HashMap<String, Usage>,
    networks: HashMap<String, PodNetwork>,
    sums: BTreeMap<WorkloadId, Sum>,
}

impl Told {
    fn new(now: Moment, before: Option<Before>) -> Self {
        Self {
            now,
            before,
            out: Samples::at(now.at),
            names: Names::new(),
            usage: HashMap::new(),
            networks: HashMap::new(),
            sums: BTreeMap::new(),
        }
    }

    /// What the reading before said of a container.
    fn lately(&self, found: &Found) -> Option<&Usage> {
        self.before.as_ref()?.usage.get(&found.id)
    }

    fn container(&mut self, found: &Found, pod: Option<&Pod>, name: &str, usage: Usage) {
        let uid = pod.map_or(&found.pod, |pod| &pod.uid);
        let subject = Subject::Container { pod: uid.clone(), name: name.to_owned() };
        let before = self.before.as_ref().and_then(|before| Some((before.usage.get(&found.id)?, &before.at)));
        usage.samples(&mut self.out, &subject, before, &self.now);
        if let Some(workload) = pod.and_then(|pod| pod.workload.as_ref()) {
            let cores =
                before.and_then(|(before, at)| usage.cores_since(before, self.now.seconds_since(at)?));
            let sum = Sum { cores, memory_bytes: usage.rss_bytes };
            match self.sums.get_mut(workload) {
                Some(all) => {
                    all.cores = all.cores.zip(sum.cores).map(|(a, b)| a + b);
                    all.memory_bytes =
                        all.memory_bytes.zip(sum.memory_bytes).map(|(a, b)| a.saturating_add(b));
                }
                None => {
                    self.sums.insert(workload.clone(), sum);
                }
            }
        }
        self.name(subject, pod);
        self.usage.insert(found.id.clone(), usage);
    }

    fn name(&mut self, subject: Subject, pod: Option<&Pod>) {
        if let Some(pod) = pod {
            self.names.insert(subject, pod.names());
        }
    }

    fn workloads(&mut self) {
        for (workload, sum) in &self.sums {
            let subject = Subject::Workload(workload.clone());
            self.out.push(&subject, Signal::CpuCores, sum.cores);
            self.out.push(&subject, Signal::MemoryBytes, sum.memory_bytes.map(number));
        }
    }

    fn networks(&mut self, proc: &Path, cgroups: &Cgroups, pods: &PodTable, found: &[Found]) {
        let mut by_pod: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
        for found in found {
            by_pod.entry(&found.pod).or_default().push(found);
        }
        for (uid, mut containers) in by_pod {
            let pod = pods.pod(uid).map(|pod| &**pod);
            if pod.is_some_and(|pod| pod.host_network) {
                continue;
            }
            // The sandbox comes first: a container may hold processes in a network of their own.
            containers.sort_by_key(|found| pods.container(&found.id).is_some());
            let pids = containers.iter().flat_map(|found| cgroups.pids(&found.path).into_iter().take(1));
            let Some(network) = network::read(proc, pids) else { continue };
            let subject = Subject::Pod(pod.map_or(uid, |pod| &pod.uid).to_owned());
            self.network(&subject, uid, network);
            self.name(subject, pod);
        }
    }

    fn network(&mut self, subject: &Subject, uid: &str, network: PodNetwork) {
        let before = self.before.as_ref().and_then(|before| Some((before.networks.get(uid)?, &before.at)));
        if let Some((earlier, at)) = before
            && earlier.inode == network.inode
            && let Some(seconds) = self.now.seconds_since(at)
        {
            let received = rate(earlier.received_bytes, network.received_bytes, seconds);
            let sent = rate(earlier.sent_bytes, network.sent_bytes, seconds);
            self.out.push(subject, Signal::PodNetworkReceivedBytesPerSecond, received);
            self.out.push(subject, Signal::PodNetworkSentBytesPerSecond, sent);
        }
        self.networks.insert(uid.to_owned(), network);
    }

    fn restarts(&mut self, pods: &PodTable) {
        for pod in pods.pods() {
            for container in &pod.containers {
                let subject = Subject::Container { pod: pod.uid.clone(), name: container.name.clone() };
                self.out.push(&subject, Signal::ContainerRestarts, container.restarts.map(f64::from));
                self.name(subject, Some(pod));
            }
        }
    }
}

#[cfg(test)]
mod tests;
