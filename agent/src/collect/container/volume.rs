//! Volumes of this node's pods: room left, and hours until full, by `statvfs` of their directories below the kubelet's.
//!
//! Told of are filesystems of their own (persistent and other mounted volumes, `emptyDir` in memory) and `emptyDir` on the node's
//! disk, whose room is that disk's. What the kubelet fills itself (secrets, config maps, the downward API) is not. A source of
//! its own: `statvfs` on a dead network mount never returns.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tidegate_core::{Signal, Subject};
use tokio::sync::watch;

use super::ContainerPaths;
use crate::clock::Moment;
use crate::collect::Cause;
use crate::collect::node::filesystem::{self, Filling};
use crate::collect::pods::table::PodTable;
use crate::collect::reading::{BlockingSource, Names, Reading, Samples};

/// Most volumes told of: a bound on series and on time.
pub const VOLUMES_MAX: usize = 1024;
/// Kinds that hold what the kubelet wrote: their room is no concern of anybody.
const FILLED_BY_KUBELET: [&str; 4] = ["secret", "configmap", "projected", "downward-api"];
/// Between the kind's vendor and its name, where a path would have a slash.
const VENDOR_END: char = '~';
/// The directory of a CSI volume has its mount below.
const CSI: &str = "csi";
const CSI_MOUNT: &str = "mount";

/// A volume's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDirectory {
    /// Uid of the pod, as the kubelet's directories have it.
    pub pod: String,
    /// Name of the volume.
    pub name: String,
    /// Where to ask.
    pub path: PathBuf,
}

/// The volumes below the kubelet's directory; `None` when it cannot be read. `pods/UID/volumes/VENDOR~KIND/NAME`.
#[must_use]
pub fn directories(kubelet: &Path) -> Option<Vec<VolumeDirectory>> {
    let mut out = Vec::new();
    let pods = kubelet.join("pods");
    std::fs::read_dir(&pods).ok()?;
    for (uid, pod) in entries(&pods) {
        for (kind, dir) in entries(&pod.join("volumes")) {
            let kind = kind.rsplit_once(VENDOR_END).map_or(kind.as_str(), |(_, kind)| kind);
            if FILLED_BY_KUBELET.contains(&kind) {
                continue;
            }
            for (name, path) in entries(&dir) {
                if out.len() >= VOLUMES_MAX {
                    return Some(out);
                }
                let path = if kind == CSI { path.join(CSI_MOUNT) } else { path };
                out.push(VolumeDirectory { pod: uid.clone(), name, path });
            }
        }
    }
    Some(out)
}

/// Names and paths in a directory, in order; nothing when it is not there.
fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut all: Vec<_> = named.collect();
    all.sort();
    all
}

/// Volumes as a source.
#[derive(Debug)]
pub struct VolumeSource {
    paths: ContainerPaths,
    pods: watch::Receiver<PodTable>,
    filling: HashMap<PathBuf, Filling>,
}

impl VolumeSource {
    /// Looks below the kubelet's directory of `paths`; takes names from `pods`.
    #[must_use]
    pub fn new(paths: ContainerPaths, pods: watch::Receiver<PodTable>) -> Self {
        Self { paths, pods, filling: HashMap::new() }
    }
}

impl BlockingSource for VolumeSource {
    fn read(&mut self, now: Moment) -> Reading {
        let Some(volumes) = directories(&self.paths.seen(&self.paths.kubelet)) else {
            return Reading::failed(Cause::Unreadable);
        };
        let pods = self.pods.borrow().clone();
        let (mut out, mut names, mut filling) = (Samples::at(now.at), Names::new(), HashMap::new());
        for volume in volumes {
            let Some(room) = filesystem::room(&volume.path) else { continue };
            let pod = pods.pod(&volume.pod);
            let uid = pod.map_or(volume.pod, |pod| pod.uid.clone());
            let subject = Subject::Volume { pod: uid, name: volume.name };
            let mut seen = self.filling.remove(&volume.path).unwrap_or_default();
            seen.note(now.steady, room.available_bytes);
            let hours = seen.hours_until_full(room.available_bytes);
            out.push(&subject, Signal::PodVolumeSizeBytes, Some(room.size_bytes));
            out.push(&subject, Signal::PodVolumeAvailableBytes, Some(room.available_bytes));
            out.push(&subject, Signal::PodVolumeInodesFree, room.inodes_free);
            out.push(&subject, Signal::PodVolumeHoursUntilFull, hours);
            filling.insert(volume.path, seen);
            names.extend(pod.map(|pod| (subject, pod.names())));
        }
        self.filling = filling;
        Reading { samples: out.into_vec(), names, ..Reading::default() }
    }
}
