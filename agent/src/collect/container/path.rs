//! Which container a cgroup is: from its path, as the kubelet and the runtimes lay them out. Pure.
//!
//! ```text
//! cgroupfs:  /kubepods/burstable/podUID/ID                                              CRI-O: …/crio-ID
//! systemd:   /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope
//! mixed:     /system.slice/containerd.service/kubepods-burstable-podUID.slice:cri-containerd:ID
//! ```
//! systemd takes `-` for a step down, so the uid has `_` in its place. A pod that the kubelet took from a file has the hash of that
//! file, 32 hex digits, for its uid. What stands above is not looked at: a kubelet may sit in a container itself.

/// A place in the tree of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Uid of the pod, with dashes.
    pub pod: String,
    /// Id of the container; `None` for the cgroup of the pod itself.
    pub container: Option<String>,
}

/// Digits of a container's id, in every runtime that the kubelet speaks to.
const ID_DIGITS: usize = 64;
/// Names of the services that watch over a container, in a cgroup of their own beside it.
const MONITORS: [&str; 1] = ["crio-conmon-"];

/// Where `path` is; `None` when it is in no pod. What is below a container belongs to it.
#[must_use]
pub fn place(path: &str) -> Option<Place> {
    // A colon takes the place of a slash where the runtime and its settings disagree on the driver.
    let mut segments = path.split(['/', ':']);
    let pod = segments.find_map(pod_uid)?;
    Some(Place { pod, container: segments.find_map(container_id) })
}

/// The uid of the pod whose cgroup has this name.
#[must_use]
pub fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.rsplit_once("-pod") {
        Some((_, uid)) => uid,
        None => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let dashed = || {
        let lengths = uid.split('-').map(str::len);
        lengths.eq([8, 4, 4, 4, 12]) && uid.split('-').all(hex)
    };
    ((uid.len() == 32 && hex(&uid)) || dashed()).then_some(uid)
}

/// The id of the container whose cgroup has this name.
#[must_use]
pub fn container_id(name: &str) -> Option<String> {
    if MONITORS.iter().any(|monitor| name.starts_with(monitor)) {
        return None;
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    (id.len() == ID_DIGITS && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Where the process is whose `/proc/PID/cgroup` this is. With several hierarchies, the first that says it.
#[must_use]
pub fn of_process(text: &str) -> Option<Place> {
    // `ID:CONTROLLERS:PATH`
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "0a5f7e3c-6d1b-4c1e-9b5a-7f0d2c9e8b41";
    const ESCAPED: &str = "0a5f7e3c_6d1b_4c1e_9b5a_7f0d2c9e8b41";
    const HASH: &str = "5d1c3f0b9a8e7d6c5b4a392817060504";
    const ID: &str = "8f0e4c1d2b3a49586778695a4b3c2d1e0f8e7d6c5b4a39281706f5e4d3c2b1a0";

    fn check(path: &str, pod: &str, container: Option<&str>) {
        let expected = Place { pod: pod.into(), container: container.map(Into::into) };
        assert_eq!(place(path), Some(expected), "{path}");
    }

    #[test]
    fn both_drivers_and_all_runtimes() {
        check(&format!("/kubepods/burstable/pod{UID}/{ID}"), UID, Some(ID));
        check(&format!("/kubepods/pod{UID}/crio-{ID}"), UID, Some(ID));
        check(&format!("/kubepods/besteffort/pod{HASH}/{ID}"), HASH, Some(ID));
        check(&format!("/kubepods/besteffort/pod{HASH}"), HASH, None);
        let slice = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{ESCAPED}.slice");
        for scope in ["cri-containerd", "crio", "docker"] {
            check(&format!("{slice}/{scope}-{ID}.scope"), UID, Some(ID));
        }
        check(&slice, UID, None);
        check(&format!("{slice}/crio-conmon-{ID}.scope"), UID, None);
        check(&format!("/kubepods.slice/kubepods-pod{HASH}.slice/cri-containerd-{ID}.scope"), HASH, Some(ID));
        check(&format!("{slice}/cri-containerd-{ID}.scope/init.scope"), UID, Some(ID));
        let nested = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice";
        let pod = format!("kubelet-kubepods-besteffort-pod{ESCAPED}.slice");
        check(&format!("{nested}/{pod}/cri-containerd-{ID}.scope"), UID, Some(ID));
        let mixed = format!("/system.slice/containerd.service/kubepods-burstable-pod{ESCAPED}.slice");
        check(&format!("{mixed}:cri-containerd:{ID}"), UID, Some(ID));
    }

    #[test]
    fn what_is_in_no_pod_has_no_place() {
        for path in [
            "/",
            "",
            "/system.slice/docker-1.scope",
            "/kubepods",
            "/kubepods/burstable",
            "/kubepods/podman",
            "/machine.slice/libpod-abc",
            &format!("/kubepods/pod{}", &UID[1..]),
            &format!("/kubepods/pod{}", UID.to_uppercase()),
            &format!("/docker/{ID}"),
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }

    #[test]
    fn a_process_is_found_in_either_hierarchy() {
        let v1 = format!("11:memory:/kubepods/pod{UID}/{ID}\n1:name=systemd:/kubepods/pod{UID}/{ID}\n0::/\n");
        assert_eq!(of_process(&v1).unwrap().pod, UID);
        let v2 = format!("0::/../../kubepods.slice/kubepods-pod{ESCAPED}.slice/cri-containerd-{ID}.scope\n");
        assert_eq!(of_process(&v2).unwrap().container.as_deref(), Some(ID));
        let mixed = format!("4:cpu,cpuacct:/system.slice/kubepods-pod{ESCAPED}.slice:cri-containerd:{ID}\n");
        assert_eq!(of_process(&mixed).unwrap().container.as_deref(), Some(ID));
        assert_eq!(of_process("0::/user.slice\n"), None);
        assert_eq!(of_process("no colons"), None);
    }

    proptest! {
        #[test]
        fn any_text_has_a_place_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), uid in "[0-9a-f]{32}") {
            let text = String::from_utf8_lossy(&bytes);
            for place in of_process(&text).into_iter().chain(place(&text)) {
                prop_assert!(matches!(place.pod.len(), 32 | 36), "{place:?}");
            }
            prop_assert_eq!(place(&format!("{}/pod{uid}", text.replace("pod", ""))).map(|place| place.pod), Some(uid));
        }
    }
}
