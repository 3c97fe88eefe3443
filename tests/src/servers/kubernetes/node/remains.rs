//! What a node leaves on the machine outside its directory: mounts, cgroups, logs, networks, its address. When it is dropped, they are gone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LOGS: &str = "/var/log/pods";
/// Directories of the machine in which the kubelet and containerd write, wherever their own lie: what came into them is taken away.
/// With a pod's network namespace goes its link to the machine.
const SHARED: [&str; 3] = [LOGS, "/var/log/containers", "/run/netns"];
/// The same, but others may write there, too: they are taken away only if they were not there at all.
const OURS_IF_NEW: [&str; 3] = ["/var/lib/kubelet", "/var/lib/cni", "/run/containerd"];
const CGROUPS: &str = "/sys/fs/cgroup";
/// The kubelet's root of the cgroups of pods.
const PODS: &str = "kubepods";
/// A killed process takes a moment to vanish, and its cgroup with it.
const POLL: Duration = Duration::from_millis(20);
const ROUNDS: u32 = 500;

/// What there was before, so that the rest can be taken away.
#[derive(Debug)]
pub(super) struct Remains {
    dir: PathBuf,
    before: Vec<(&'static str, Option<BTreeSet<OsString>>)>,
    new: Vec<&'static str>,
    address: &'static str,
}

impl Remains {
    /// Of a node in this directory, which has not started yet and is given this address. What a killed one left is taken away now.
    pub(super) fn of(dir: &Path, address: &'static str) -> Self {
        let kubelets = kubelets();
        assert!(
            kubelets.is_empty(),
            "this machine is a node of a cluster already: {kubelets:?} is its kubelet"
        );
        remove_pods();
        let before = SHARED.map(|path| (path, names_in(Path::new(path)))).into();
        let new = OURS_IF_NEW.into_iter().filter(|path| !Path::new(path).exists()).collect();
        let given = on_loopback("replace", address);
        assert!(given, "the node can be given no address: is iproute2 installed?");
        Self { dir: dir.to_owned(), before, new, address }
    }

    /// Directories of logs that were not there before.
    pub(super) fn log_directories(&self) -> Vec<PathBuf> {
        let of_logs = self.before.iter().filter(|(path, _)| *path == LOGS);
        of_logs.flat_map(|(path, before)| added(Path::new(path), before.as_ref())).collect()
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        remove_pods();
        on_loopback("del", self.address);
        unmount_below(&self.dir);
        for (path, before) in &self.before {
            let path = Path::new(path);
            for added in added(path, before.as_ref()) {
                unmount_below(&added);
                remove(&added);
            }
            if before.is_none() {
                fs::remove_dir(path).ok();
            }
        }
        for path in self.new.iter().map(Path::new) {
            unmount_below(path);
            remove(path);
        }
    }
}

/// Gives the loopback interface an address, or takes it away.
fn on_loopback(verb: &str, address: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["address", verb, &format!("{address}/32"), "dev", "lo"]);
    command.output().is_ok_and(|output| output.status.success())
}

/// Kills every process in a cgroup of pods.
pub(super) fn kill_pods() {
    for dir in pod_cgroups().iter().flat_map(|root| below(root)) {
        let processes = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for id in processes.lines().filter_map(|line| line.parse().ok()) {
            kill(Pid::from_raw(id), Signal::SIGKILL).ok();
        }
    }
}

fn remove_pods() {
    // Bounded: each round kills all there are, and removes what is empty.
    for _ in 0..ROUNDS {
        let roots = pod_cgroups();
        if roots.is_empty() {
            return;
        }
        kill_pods();
        for dir in roots.iter().flat_map(|root| below(root)) {
            fs::remove_dir(dir).ok();
        }
        thread::sleep(POLL);
    }
}

/// The root of pods in the one hierarchy of version 2, or in each of version 1.
fn pod_cgroups() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    let roots = hierarchies.chain([PathBuf::from(CGROUPS)]).map(|hierarchy| hierarchy.join(PODS));
    roots.filter(|root| root.is_dir()).collect()
}

/// The directory and all below it, the deepest first.
fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = folders.flat_map(|folder| below(&folder.path())).collect();
    found.push(dir.to_owned());
    found
}

fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // The newest first: one may lie in another.
    for point in mount_points(&mounts).into_iter().rev().filter(|point| point.starts_with(dir)) {
        Command::new("umount").arg("--lazy").arg(point).output().ok();
    }
}

/// The fifth field of each line. Paths with blanks are written with escapes and are none of ours.
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

fn names_in(dir: &Path) -> Option<BTreeSet<OsString>> {
    Some(fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name()).collect())
}

fn added(dir: &Path, before: Option<&BTreeSet<OsString>>) -> Vec<PathBuf> {
    let now = names_in(dir).unwrap_or_default();
    now.into_iter()
        .filter(|name| !before.is_some_and(|b| b.contains(name)))
        .map(|name| dir.join(name))
        .collect()
}

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).ok();
    } else {
        fs::remove_file(path).ok();
    }
}

/// Processes that are kubelets: their pods are not ours to end.
fn kubelets() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_kubelet(&line))).collect()
}

/// Whether the program, or what a program of many is told to be, is a kubelet.
fn is_kubelet(command_line: &[u8]) -> bool {
    let words = command_line.split(|byte| *byte == 0).take(2);
    words.into_iter().any(|word| word == b"kubelet" || word.ends_with(b"/kubelet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_in_their_order() {
        let mountinfo =
            "22 1 0:5 / /sys rw - sysfs sysfs rw\n31 22 0:9 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n";
        assert_eq!(mount_points(mountinfo), [PathBuf::from("/sys"), PathBuf::from("/sys/fs/cgroup")]);
    }

    #[test]
    fn a_kubelet_is_known_by_its_name_or_its_first_word() {
        assert!(is_kubelet(b"/usr/bin/kubelet\0--config\0/x\0"));
        assert!(is_kubelet(b"bin/kubernetes\0kubelet\0--config\0"));
        assert!(!is_kubelet(b"tail\0-f\0kubelet\0") && !is_kubelet(b"bin/kubernetes\0etcd\0"));
    }

    #[test]
    fn the_deepest_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        assert_eq!(below(dir.path()), [dir.path().join("a/b"), dir.path().join("a"), dir.path().to_owned()]);
    }

    #[test]
    fn only_what_was_not_there_before_was_added() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "").unwrap();
        let before = names_in(dir.path());
        fs::write(dir.path().join("new"), "").unwrap();
        assert_eq!(added(dir.path(), before.as_ref()), [dir.path().join("new")]);
        assert_eq!(names_in(&dir.path().join("absent")), None);
    }
}
