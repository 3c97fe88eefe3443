//! Bytes moved by a pod: the interfaces of the network that its processes are in.
//!
//! Which network a process is in is told by the inode of its `net/dev`, which the kernel makes per network: unlike the link
//! in `/proc/PID/ns`, it may be looked at without the right to trace the process.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::collect::node::{net, read_text};

/// Processes tried for one pod: the first of a container may just have ended.
const TRIES_MAX: usize = 3;

/// Bytes moved by all interfaces of one network since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNetwork {
    /// Which network: a new one counts from zero.
    pub inode: u64,
    /// Received.
    pub received_bytes: u64,
    /// Sent.
    pub sent_bytes: u64,
}

/// Reads the network of the first of `pids` that is there. `None` when none is, when it is the machine's own network, or when
/// it has no interface that leads out.
#[must_use]
pub fn read(proc: &Path, pids: impl Iterator<Item = u32>) -> Option<PodNetwork> {
    let inode = |pid: u32| Some(std::fs::metadata(proc.join(format!("{pid}/net/dev"))).ok()?.ino());
    // Process 1 of the machine is in the machine's network.
    let machine = inode(1)?;
    let (pid, inode) = pids.take(TRIES_MAX).find_map(|pid| Some((pid, inode(pid)?)))?;
    if inode == machine {
        return None;
    }
    let interfaces = net::parse(&read_text(&proc.join(format!("{pid}/net/dev")))?);
    if interfaces.is_empty() {
        return None;
    }
    let sum = |bytes: fn(&net::Moved) -> u64| interfaces.values().map(bytes).fold(0, u64::saturating_add);
    Some(PodNetwork {
        inode,
        received_bytes: sum(|moved| moved.received_bytes),
        sent_bytes: sum(|moved| moved.sent_bytes),
    })
}

/// Process ids of a `cgroup.procs`. A process of another PID namespace is written as 0 and is no use.
pub fn pids(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-| Receive | Transmit\n face |bytes |bytes\n";

    fn process(proc: &Path, pid: u32, interfaces: &str) {
        let dir = proc.join(format!("{pid}/net"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("dev"), format!("{HEAD}{interfaces}")).unwrap();
    }

    #[test]
    fn the_interfaces_of_a_pods_network_add_up() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 1, "eth0: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n");
        process(
            proc.path(),
            40,
            "lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\neth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\nnet1: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n",
        );
        process(proc.path(), 50, "lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n");
        let read = |pids: &[u32]| {
            read(proc.path(), pids.iter().copied())
                .map(|network| (network.received_bytes, network.sent_bytes))
        };
        assert_eq!(read(&[30, 40]), Some((101, 22)), "a process that is gone is passed over");
        assert_eq!(read(&[1]), None, "the machine's own network is no pod's");
        assert_eq!(read(&[50]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[31, 32, 33, 40]), None, "tries are bounded");
    }

    #[test]
    fn this_process_is_in_the_machines_network_or_in_one_of_its_own() {
        let own = std::fs::metadata("/proc/self/net/dev").unwrap().ino();
        let read = read(Path::new("/proc"), std::iter::once(std::process::id()));
        assert!(read.is_none_or(|network| network.inode == own));
    }

    #[test]
    fn processes_that_cannot_be_seen_are_left_out() {
        assert_eq!(pids("12\n0\nx\n7\n").collect::<Vec<_>>(), [12, 7]);
    }
}
