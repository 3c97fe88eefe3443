//! Finds the cgroups of pods and containers below a hierarchy's root.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::path;

/// Most containers read: a kubelet is set up for some hundreds of pods at most, each with a few containers.
pub const CONTAINERS_MAX: usize = 1024;
/// Steps from the root to the cgroups of pods, at most: a kubelet in a container has some of its own above.
const DEPTH_MAX: usize = 6;
/// So far from the root any name is followed: a kubelet may be told to use a cgroup of its own.
const ANY_NAME_TO: usize = 1;
/// Most directories looked into.
const DIRECTORIES_MAX: usize = 4096;

/// The cgroup of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Uid of the pod, as the cgroup has it.
    pub pod: String,
    /// The container's id.
    pub id: String,
    /// Where, below the root that was searched.
    pub path: PathBuf,
}

/// Every container's cgroup below `root`; `None` when `root` cannot be read.
#[must_use]
pub fn containers(root: &Path) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    let mut above = vec![(PathBuf::new(), 0)];
    std::fs::read_dir(root).ok()?;
    let mut looked = 0;
    while let Some((dir, depth)) = above.pop() {
        looked += 1;
        for name in directories(&root.join(&dir)) {
            if found.len() >= CONTAINERS_MAX || looked > DIRECTORIES_MAX {
                return Some(found);
            }
            let Some(text) = name.to_str() else { continue };
            let at = dir.join(&name);
            match path::place(text) {
                Some(path::Place { pod, container: Some(id) }) => found.push(Found { pod, id, path: at }),
                Some(path::Place { pod, container: None }) => {
                    looked += 1;
                    found.extend(of_pod(root, &at, &pod));
                }
                None if depth < ANY_NAME_TO || (depth < DEPTH_MAX && leads_to_pods(&dir, text)) => {
                    above.push((at, depth + 1))
                }
                None => {}
            }
        }
    }
    found.truncate(CONTAINERS_MAX);
    Some(found)
}

fn of_pod(root: &Path, pod: &Path, uid: &str) -> Vec<Found> {
    let containers = directories(&root.join(pod)).into_iter().filter_map(|name| {
        let id = path::container_id(name.to_str()?)?;
        Some(Found { pod: uid.to_owned(), id, path: pod.join(&name) })
    });
    containers.collect()
}

/// Whether pods may be below: the kubelet's own cgroups, and everything under them.
fn leads_to_pods(dir: &Path, name: &str) -> bool {
    let is_kubelets = |text: &str| text.contains("kubepods") || text.contains("kubelet");
    is_kubelets(name) || dir.to_str().is_some_and(is_kubelets)
}

fn directories(dir: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.file_name()).collect()
}

/// Devices, as `MAJOR:MINOR`, that are made of others (LVM, RAID, encryption) or of files (loop): what passes one is counted
/// at the device below once more.
#[must_use]
pub fn stacked_devices(root: &Path) -> BTreeSet<String> {
    let block = root.join("sys/block");
    let stacked = directories_and_links(&block).filter_map(|name| {
        let dir = block.join(&name);
        let is_loop = name.to_str().is_some_and(|name| name.starts_with("loop"));
        let has_slaves =
            || std::fs::read_dir(dir.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
        let number = || crate::collect::node::read_text(&dir.join("dev"));
        (is_loop || has_slaves()).then(number)?.map(|number| number.trim().to_owned())
    });
    stacked.collect()
}

fn directories_and_links(dir: &Path) -> impl Iterator<Item = OsString> {
    std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0a5f7e3c-6d1b-4c1e-9b5a-7f0d2c9e8b41";
    const HASH: &str = "5d1c3f0b9a8e7d6c5b4a392817060504";

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn found(directories: &[String]) -> Vec<(String, String)> {
        let root = tempfile::tempdir().unwrap();
        for dir in directories {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let mut found: Vec<_> =
            containers(root.path()).unwrap().into_iter().map(|found| (found.pod, found.id)).collect();
        found.sort();
        found
    }

    #[test]
    fn containers_of_both_drivers_are_found() {
        let cgroupfs = found(&[
            format!("kubepods/burstable/pod{UID}/{}", id('a')),
            format!("kubepods/pod{HASH}/{}", id('b')),
            format!("kubepods/besteffort/pod{HASH}"),
            format!("system.slice/pod{UID}"),
            format!("docker/{}", id('c')),
            format!("tenant/kubepods/burstable/pod{HASH}/{}", id('d')),
        ]);
        let expected = [(UID.to_owned(), id('a')), (HASH.to_owned(), id('b')), (HASH.to_owned(), id('d'))];
        assert_eq!(cgroupfs, expected);
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let systemd = found(&[
            format!("kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{}.scope", id('a')),
            format!("kubepods.slice/kubepods-burstable.slice/{slice}/crio-conmon-{}.scope", id('b')),
            format!("kubelet.slice/kubelet-kubepods.slice/kubelet-{slice}/crio-{}.scope/sub", id('d')),
            format!("{slice}:cri-containerd:{}", id('e')),
        ]);
        assert_eq!(
            systemd,
            [(UID.to_owned(), id('a')), (UID.to_owned(), id('d')), (UID.to_owned(), id('e'))]
        );
    }

    #[test]
    fn containers_beyond_the_bound_are_left_out() {
        let many: Vec<_> =
            (0..CONTAINERS_MAX + 5).map(|at| format!("kubepods/pod{HASH}/{at:064x}")).collect();
        assert_eq!(found(&many).len(), CONTAINERS_MAX);
        assert_eq!(containers(Path::new("/no such directory")), None);
    }

    #[test]
    fn devices_made_of_others_are_known() {
        let root = tempfile::tempdir().unwrap();
        for (name, number, below) in
            [("sda", "8:0", None), ("dm-0", "253:0", Some("sda")), ("loop1", "7:1", None)]
        {
            let dir = root.path().join("sys/block").join(name);
            std::fs::create_dir_all(dir.join("slaves").join(below.unwrap_or_default())).unwrap();
            std::fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
        }
        assert_eq!(stacked_devices(root.path()), BTreeSet::from(["253:0".to_owned(), "7:1".to_owned()]));
    }
}
