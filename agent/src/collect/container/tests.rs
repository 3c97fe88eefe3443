//! Saved trees of either version, read twice.

use super::volume::VolumeSource;
use super::*;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::{Label, Sample, Timestamp};

const UID: &str = "0a5f7e3c-6d1b-4c1e-9b5a-7f0d2c9e8b41";
const HASH: &str = "5d1c3f0b9a8e7d6c5b4a392817060504";

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn moment(seconds: u64) -> Moment {
    Moment { at: Timestamp::from_secs(1_000_000), steady: Duration::from_secs(seconds) }
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Writes files given as `NAME: TEXT` below `dir`, `|` for a line's end.
fn files(root: &Path, dir: &str, files: &[(&str, &str)]) {
    for (name, text) in files {
        write(root, &format!("{dir}/{name}"), &format!("{}\n", text.replace('|', "\n")));
    }
}

fn network(root: &Path, pid: u32, received: u64, sent: u64) {
    let text = format!("a\nb\neth0: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n");
    write(root, &format!("proc/{pid}/net/dev"), &text);
}

/// A node with cgroup v2 and the systemd driver, as of some moment: a pod of two containers and its sandbox.
fn unified(root: &Path, usage_usec: u64, throttled: u64, read: u64, stalled: u64) {
    write(root, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    let pod = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let pod = format!("sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/{pod}");
    let pressure = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={stalled}|full avg10=0.00 total=0");
    files(
        root,
        &format!("{pod}/cri-containerd-{}.scope", id('a')),
        &[
            (
                "cpu.stat",
                &format!(
                    "usage_usec {usage_usec}|user_usec 1|nr_periods {}|nr_throttled {throttled}",
                    throttled * 4
                ),
            ),
            ("cpu.max", "200000 100000"),
            ("memory.current", "5000"),
            ("memory.stat", "anon 3000|file 2000|inactive_file 1500|active_file 500"),
            ("memory.max", "8000"),
            ("memory.events", "low 0|high 0|max 3|oom 1|oom_kill 2|oom_group_kill 0"),
            ("io.stat", &format!("259:0 rbytes={read} wbytes=0 rios=1 wios=0|253:0 rbytes={read} wbytes=7")),
            ("cpu.pressure", &pressure),
            ("memory.pressure", &pressure),
            ("io.pressure", &pressure),
            ("cgroup.procs", "40"),
        ],
    );
    files(
        root,
        &format!("{pod}/cri-containerd-{}.scope", id('b')),
        &[
            ("cpu.stat", &format!("usage_usec {}|user_usec 1", usage_usec / 2)),
            ("cpu.max", "max 100000"),
            ("memory.current", "100"),
            ("memory.stat", "anon 90"),
            ("memory.max", "max"),
            ("cgroup.procs", "41"),
        ],
    );
    files(root, &format!("{pod}/cri-containerd-{}.scope", id('f')), &[("cgroup.procs", "39")]);
    write(root, "sys/block/dm-0/dev", "253:0\n");
    write(root, "sys/block/dm-0/slaves/nvme0n1", "");
}

fn chat() -> Pod {
    let container = |name: &str, id: String| PodContainer {
        name: name.into(),
        id: Some(id),
        restarts: Some(3),
        ..PodContainer::default()
    };
    Pod {
        uid: UID.into(),
        namespace: "ml".into(),
        name: "chat-6d4cf56db6-x2x7z".into(),
        workload: Some("ml/deployment/chat".parse().unwrap()),
        containers: vec![container("vllm", id('a')), container("proxy", id('b'))],
        ..Pod::default()
    }
}

fn known(pods: impl IntoIterator<Item = Pod>) -> watch::Receiver<PodTable> {
    let pods = pods.into_iter().map(|pod| (pod.uid.clone(), Arc::new(pod))).collect();
    watch::channel(PodTable::new(pods)).1
}

fn value(reading: &Reading, subject: &Subject, signal: Signal) -> Option<f64> {
    let is = |sample: &&Sample| sample.subject == *subject && sample.signal == signal;
    reading.samples.iter().find(is).map(|sample| sample.value)
}

fn container(name: &str) -> Subject {
    Subject::Container { pod: UID.into(), name: name.into() }
}

#[test]
fn a_unified_tree_gives_everything() {
    let root = tempfile::tempdir().unwrap();
    let mut source = ContainerSource::new(ContainerPaths::below(root.path()), known([chat()]));
    network(root.path(), 1, 0, 0);
    network(root.path(), 39, 1000, 500);
    network(root.path(), 40, 7, 7);
    unified(root.path(), 1_000_000, 10, 0, 0);
    source.read(moment(10));
    network(root.path(), 39, 3000, 400);
    unified(root.path(), 4_000_000, 20, 4096, 500_000);
    let reading = source.read(moment(12));
    let vllm = |signal| value(&reading, &container("vllm"), signal);
    for (signal, expected) in [
        (Signal::ContainerCpuCores, Some(1.5)),
        (Signal::ContainerCpuLimitCores, Some(2.0)),
        (Signal::ContainerCpuThrottledRatio, Some(0.25)),
        (Signal::ContainerMemoryWorkingSetBytes, Some(3500.0)),
        (Signal::ContainerMemoryRssBytes, Some(3000.0)),
        (Signal::ContainerMemoryLimitBytes, Some(8000.0)),
        (Signal::ContainerOomKills, Some(2.0)),
        (Signal::ContainerIoReadBytesPerSecond, Some(2048.0)),
        (Signal::ContainerIoWrittenBytesPerSecond, Some(0.0)),
        (Signal::ContainerCpuPressureRatio, Some(0.25)),
        (Signal::ContainerMemoryPressureRatio, Some(0.25)),
        (Signal::ContainerIoPressureRatio, Some(0.25)),
        (Signal::ContainerRestarts, Some(3.0)),
    ] {
        assert_eq!(vllm(signal), expected, "{}", signal.name());
    }
    let proxy = |signal| value(&reading, &container("proxy"), signal);
    assert_eq!(proxy(Signal::ContainerCpuCores), Some(0.75));
    assert_eq!(proxy(Signal::ContainerMemoryLimitBytes), None, "no limit is no number");
    assert_eq!(proxy(Signal::ContainerCpuLimitCores), None);
    assert_eq!(proxy(Signal::ContainerMemoryWorkingSetBytes), None, "the cache in it is not known");
    let pod = Subject::Pod(UID.into());
    assert_eq!(value(&reading, &pod, Signal::PodNetworkReceivedBytesPerSecond), Some(1000.0));
    assert_eq!(value(&reading, &pod, Signal::PodNetworkSentBytesPerSecond), None, "it went back");
    let workload = Subject::Workload("ml/deployment/chat".parse().unwrap());
    assert_eq!(value(&reading, &workload, Signal::CpuCores), Some(2.25));
    assert_eq!(value(&reading, &workload, Signal::MemoryBytes), Some(3090.0));
    assert!(
        !reading.samples.iter().any(|sample| sample.subject == container(&id('f'))),
        "no sandbox is told"
    );
    let names = &reading.names[&container("vllm")];
    assert!(names.contains(&(Label::Workload, "ml/deployment/chat".into())), "{names:?}");
    assert!(names.contains(&(Label::Pod, "chat-6d4cf56db6-x2x7z".into())), "{names:?}");
}

#[test]
fn a_container_that_is_new_spoils_the_sums_of_its_workload_once() {
    let root = tempfile::tempdir().unwrap();
    let mut source = ContainerSource::new(ContainerPaths::below(root.path()), known([chat()]));
    unified(root.path(), 1_000_000, 10, 0, 0);
    let reading = source.read(moment(10));
    let workload = Subject::Workload("ml/deployment/chat".parse().unwrap());
    assert_eq!(value(&reading, &workload, Signal::CpuCores), None);
    assert_eq!(value(&reading, &workload, Signal::MemoryBytes), Some(3090.0));
}

#[test]
fn without_a_table_containers_go_by_their_ids() {
    let root = tempfile::tempdir().unwrap();
    let nobody = watch::channel(PodTable::default()).1;
    let mut source = ContainerSource::new(ContainerPaths::below(root.path()), nobody);
    unified(root.path(), 1_000_000, 10, 0, 0);
    source.read(moment(10));
    unified(root.path(), 2_000_000, 10, 0, 0);
    let reading = source.read(moment(12));
    assert_eq!(value(&reading, &container(&id('a')), Signal::ContainerCpuCores), Some(0.5));
    assert_eq!(value(&reading, &container(&id('a')), Signal::ContainerRestarts), None);
    assert!(reading.names.is_empty());
}

#[test]
fn a_pod_in_the_machines_network_has_none_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let host = Pod { host_network: true, ..chat() };
    let mut source = ContainerSource::new(ContainerPaths::below(root.path()), known([host]));
    unified(root.path(), 1, 1, 1, 1);
    for (seconds, bytes) in [(10, 100), (12, 200)] {
        network(root.path(), 1, 0, 0);
        network(root.path(), 39, bytes, bytes);
        let reading = source.read(moment(seconds));
        assert!(!reading.samples.iter().any(|sample| sample.subject == Subject::Pod(UID.into())));
    }
}

/// A node with cgroup v1 and the cgroupfs driver: a static pod.
fn older(root: &Path, usage_ns: u64, read: u64) {
    let at = format!("kubepods/besteffort/pod{HASH}/{}", id('c'));
    let dir = |controller: &str, named: &[(&str, &str)]| {
        files(root, &format!("sys/fs/cgroup/{controller}/{at}"), named);
    };
    dir(
        "memory",
        &[
            ("memory.usage_in_bytes", "5000"),
            ("memory.stat", "cache 1|rss 2|inactive_file 3|total_rss 3000|total_inactive_file 1500"),
            ("memory.limit_in_bytes", "9223372036854771712"),
            ("memory.oom_control", "oom_kill_disable 0|under_oom 0|oom_kill 1"),
            ("cgroup.procs", "50"),
        ],
    );
    dir("cpuacct", &[("cpuacct.usage", &usage_ns.to_string())]);
    dir(
        "cpu",
        &[
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.stat", "nr_periods 0|nr_throttled 0|throttled_time 0"),
        ],
    );
    dir(
        "blkio",
        &[(
            "blkio.throttle.io_service_bytes_recursive",
            &format!("8:0 Read {read}|8:0 Write 0|8:0 Total {read}|Total {read}"),
        )],
    );
}

#[test]
fn an_older_tree_gives_what_it_has() {
    let root = tempfile::tempdir().unwrap();
    let etcd = PodContainer { name: "etcd".into(), id: Some(id('c')), ..PodContainer::default() };
    let mirror = Pod {
        uid: UID.into(),
        config_hash: Some(HASH.into()),
        namespace: "kube-system".into(),
        name: "etcd-node-a".into(),
        containers: vec![etcd],
        ..Pod::default()
    };
    let mut source = ContainerSource::new(ContainerPaths::below(root.path()), known([mirror]));
    older(root.path(), 1_000_000_000, 0);
    source.read(moment(10));
    older(root.path(), 2_000_000_000, 2048);
    let reading = source.read(moment(12));
    let etcd = |signal| value(&reading, &container("etcd"), signal);
    assert_eq!(etcd(Signal::ContainerCpuCores), Some(0.5), "a static pod goes by the uid of the API");
    assert_eq!(etcd(Signal::ContainerMemoryWorkingSetBytes), Some(3500.0));
    assert_eq!(etcd(Signal::ContainerMemoryRssBytes), Some(3000.0));
    assert_eq!(etcd(Signal::ContainerOomKills), Some(1.0));
    assert_eq!(etcd(Signal::ContainerIoReadBytesPerSecond), Some(1024.0));
    for absent in [
        Signal::ContainerMemoryLimitBytes,
        Signal::ContainerCpuLimitCores,
        Signal::ContainerCpuThrottledRatio,
        Signal::ContainerCpuPressureRatio,
        Signal::ContainerRestarts,
    ] {
        assert_eq!(etcd(absent), None, "{}", absent.name());
    }
}

#[test]
fn a_process_leads_to_its_pod_and_container() {
    let root = tempfile::tempdir().unwrap();
    let cgroup = |pid: u32, path: &str| write(root.path(), &format!("proc/{pid}/cgroup"), path);
    cgroup(40, &format!("5:memory:/kubepods/pod{UID}/{}\n0::/\n", id('a')));
    cgroup(39, &format!("0::/kubepods/pod{UID}/{}\n", id('f')));
    cgroup(7, "0::/system.slice/sshd.service\n");
    let pods = known([chat()]).borrow().clone();
    let of = |pid| of_process(root.path(), pid, &pods);
    let (pod, container) = of(40).unwrap();
    assert_eq!((pod.uid.as_str(), container.unwrap().name.as_str()), (UID, "vllm"));
    assert!(of(39).unwrap().1.is_none(), "the sandbox is no container of the pod's list");
    assert!(of(7).is_none() && of(8).is_none());
}

#[test]
fn a_machine_without_cgroups_is_a_failure_and_no_zero() {
    let root = tempfile::tempdir().unwrap();
    let reading = ContainerSource::new(ContainerPaths::below(root.path()), known([])).read(moment(1));
    assert_eq!((reading.samples.len(), reading.failure), (0, Some(Cause::Unreadable)));
}

#[test]
fn volumes_are_told_of_but_for_those_that_the_kubelet_fills() {
    let root = tempfile::tempdir().unwrap();
    let volumes = root.path().join(format!("var/lib/kubelet/pods/{UID}/volumes"));
    for dir in [
        "kubernetes.io~empty-dir/cache",
        "kubernetes.io~csi/pvc-1/mount",
        "kubernetes.io~csi/pvc-gone",
        "kubernetes.io~secret/token",
        "kubernetes.io~projected/kube-api-access-x",
    ] {
        std::fs::create_dir_all(volumes.join(dir)).unwrap();
    }
    let mut source = VolumeSource::new(ContainerPaths::below(root.path()), known([chat()]));
    let reading = source.read(moment(10));
    let volume = |name: &str| Subject::Volume { pod: UID.into(), name: name.into() };
    let told: std::collections::BTreeSet<_> =
        reading.samples.iter().map(|sample| sample.subject.clone()).collect();
    assert_eq!(told, [volume("cache"), volume("pvc-1")].into());
    let size = value(&reading, &volume("cache"), Signal::PodVolumeSizeBytes).unwrap();
    let available = value(&reading, &volume("cache"), Signal::PodVolumeAvailableBytes).unwrap();
    assert!(size >= available && available > 0.0);
    assert_eq!(value(&reading, &volume("cache"), Signal::PodVolumeHoursUntilFull), None);
    assert_eq!(reading.names[&volume("cache")], chat().names());
    let nowhere = tempfile::tempdir().unwrap();
    let reading = VolumeSource::new(ContainerPaths::below(nowhere.path()), known([])).read(moment(1));
    assert_eq!(reading.failure, Some(Cause::Unreadable));
}

#[test]
fn limits_are_read_less_often_and_of_what_is_new_at_once() {
    let dir = tempfile::tempdir().unwrap();
    unified(dir.path(), 1_000_000, 1, 0, 0);
    let (_table, pods) = watch::channel(PodTable::default());
    let mut source = ContainerSource::new(ContainerPaths::below(dir.path()), pods);
    let mut limit = |seconds| {
        let samples = source.read(moment(seconds)).samples;
        let found = samples.into_iter().find(|sample| sample.signal == Signal::ContainerMemoryLimitBytes);
        found.map(|sample| sample.value)
    };
    assert_eq!(limit(0), Some(8000.0));
    let pod = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let container = format!(
        "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{}.scope",
        id('a')
    );
    files(dir.path(), &container, &[("memory.max", "9000")]);
    assert!((1..LIMITS_EVERY).all(|turn| limit(turn * 10) == Some(8000.0)));
    assert_eq!(limit(LIMITS_EVERY * 10), Some(9000.0));
}
