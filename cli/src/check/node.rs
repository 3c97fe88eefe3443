//! `tidegate check node`: what an agent finds on a node, and what it will have to do without. Looks, and changes nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_agent::collect::container::find;
use tidegate_agent::collect::gpu::GpuCause;
use tidegate_agent::collect::gpu::probe::{self as gpu, Driver};
use tidegate_agent::collect::kernel_log::{self, Way};
use tidegate_agent::collect::pods::probe::{self as kubelet, Answer};

use super::finding::{Findings, Verdict};
use crate::args::CheckNodeArgs;

/// A driver that takes longer hangs.
const DRIVER_MAX: Duration = Duration::from_secs(10);
/// Sockets of the runtimes that the kubelet speaks to, below the machine's root.
const RUNTIMES: [(&str, &str); 3] = [
    ("containerd", "run/containerd/containerd.sock"),
    ("CRI-O", "run/crio/crio.sock"),
    ("cri-dockerd", "run/cri-dockerd.sock"),
];
const CHART: &str = "the chart mounts the node's root: see --root";

pub(super) async fn run(args: CheckNodeArgs) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    proc(&args.root, &mut findings);
    cgroups(&args.root, &mut findings);
    runtime(&args.root, &mut findings);
    let kubelet = below(&args.root, &args.kubelet);
    of_kubelet(&kubelet, &mut findings).await;
    driver(&args, &mut findings).await;
    kernel_messages(&args, &mut findings);
    logs(&args.root, &mut findings);
    findings.tell(args.output, "node")
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn proc(root: &Path, findings: &mut Findings) {
    let unread: Vec<_> = ["proc/stat", "proc/meminfo", "proc/1/net/dev"]
        .into_iter()
        .filter(|name| fs::read(root.join(name)).is_err())
        .collect();
    match unread.as_slice() {
        [] => findings.add(Verdict::Fine, "proc", "the machine and its processes can be read"),
        ["proc/1/net/dev"] => {
            let text = "processes of others cannot be read: pods' networks are not told";
            findings.ask(Verdict::Warning, "proc", text, "run it as root with DAC_READ_SEARCH and hostPID");
        }
        names => {
            let text = format!("cannot be read: {}", names.join(", "));
            findings.ask(Verdict::Missing, "proc", text, CHART);
        }
    }
}

fn cgroups(root: &Path, findings: &mut Findings) {
    let tree = root.join("sys/fs/cgroup");
    let (version, hierarchy) = if tree.join("cgroup.controllers").exists() {
        ("2", tree)
    } else if tree.join("memory").is_dir() {
        ("1", tree.join("memory"))
    } else {
        findings.ask(Verdict::Missing, "cgroups", format!("there are none at {}", tree.display()), CHART);
        return;
    };
    match find::containers(&hierarchy) {
        None => findings.ask(
            Verdict::Missing,
            "cgroups",
            format!("{} cannot be read", hierarchy.display()),
            CHART,
        ),
        Some(found) if found.is_empty() => {
            findings.add(
                Verdict::Warning,
                "cgroups",
                format!("version {version}, and no container of a pod in it"),
            );
        }
        Some(found) => {
            findings.add(
                Verdict::Fine,
                "cgroups",
                format!("version {version}, {} containers of pods", found.len()),
            );
        }
    }
}

/// It is not asked anything: containers are known by their cgroups. Which one it is helps whoever reads the rest.
fn runtime(root: &Path, findings: &mut Findings) {
    let found: Vec<_> =
        RUNTIMES.iter().filter(|(_, socket)| root.join(socket).exists()).map(|(name, _)| *name).collect();
    if found.is_empty() {
        findings.add(Verdict::Absent, "runtime", "no socket of a known container runtime; none is needed");
    } else {
        findings.add(Verdict::Fine, "runtime", found.join(", "));
    }
}

async fn of_kubelet(kubelet: &Path, findings: &mut Findings) {
    if !kubelet.is_dir() {
        let text = format!("there is no {}", kubelet.display());
        findings.ask(Verdict::Missing, "kubelet", text, "see agent.kubeletDir of the chart, or --kubelet");
        return;
    }
    match kubelet::pods(kubelet).await {
        Answer::Counted(pods) => {
            findings.add(Verdict::Fine, "pods API", format!("the kubelet tells {pods} pods"))
        }
        Answer::NoSocket => {
            let text = "this kubelet has none; pods are asked of the API server";
            findings.add(Verdict::Absent, "pods API", text);
        }
        Answer::Failed(text) => {
            let text = format!("{text}; pods are asked of the API server");
            findings.add(Verdict::Warning, "pods API", text);
        }
    }
    match kubelet::devices(kubelet).await {
        Answer::Counted(pods) => {
            findings.add(
                Verdict::Fine,
                "pod resources",
                format!("the kubelet tells which pods have devices; {pods} have GPUs"),
            );
        }
        Answer::NoSocket => {
            let text = "there is no socket: it is not known which pod has which GPU";
            findings.ask(
                Verdict::Missing,
                "pod resources",
                text,
                "see agent.kubeletDir of the chart, or --kubelet",
            );
        }
        Answer::Failed(text) => {
            findings.ask(
                Verdict::Missing,
                "pod resources",
                text,
                "look whether the kubelet runs, and whether this is root",
            );
        }
    }
}

async fn driver(args: &CheckNodeArgs, findings: &mut Findings) {
    const SUBJECT: &str = "GPU driver";
    let library = args.gpu_library.clone();
    let asking = tokio::task::spawn_blocking(move || gpu::driver(library.as_deref()));
    let Ok(Ok(answer)) = tokio::time::timeout(DRIVER_MAX, asking).await else {
        let text = format!("it does not answer within {} s", DRIVER_MAX.as_secs());
        findings.ask(Verdict::Missing, SUBJECT, text, "look for Xid errors in the kernel log");
        return;
    };
    let (verdict, text, remedy) = judged(answer, args.gpu_required);
    match remedy {
        Some(remedy) => findings.ask(verdict, SUBJECT, text, remedy),
        None => findings.add(verdict, SUBJECT, text),
    }
}

/// What the driver's answer means, and what to do about it.
fn judged(answer: Result<Driver, GpuCause>, required: bool) -> (Verdict, String, Option<&'static str>) {
    let known = |version: Option<String>| version.unwrap_or_else(|| "unknown".to_owned());
    match answer {
        Ok(Driver { version, library, gpus }) => {
            let text = format!("version {}, NVML {}, {gpus} GPUs", known(version), known(library));
            (if gpus == 0 { Verdict::Warning } else { Verdict::Fine }, text, None)
        }
        Err(GpuCause::NoLibrary) => {
            let verdict = if required { Verdict::Missing } else { Verdict::Absent };
            let remedy = "on a node with GPUs see agent.runtimeClassName and agent.gpuLibrary of the chart";
            (verdict, "its library (libnvidia-ml.so.1) is not found".to_owned(), Some(remedy))
        }
        Err(GpuCause::NoDriver) => {
            let text = "the library is there, and the kernel's part of the driver is not loaded".to_owned();
            (Verdict::Missing, text, Some("nvidia-smi on the node says the same: load the driver"))
        }
        Err(GpuCause::DriverMismatch) => {
            let text = "library and loaded driver are of different versions".to_owned();
            (Verdict::Missing, text, Some("restart the node, or let the library be of the driver's version"))
        }
        Err(cause) => {
            (Verdict::Missing, cause.as_str().to_owned(), Some("nvidia-smi on the node should say the same"))
        }
    }
}

fn kernel_messages(args: &CheckNodeArgs, findings: &mut Findings) {
    let path = args.kernel_log.clone().unwrap_or_else(|| args.root.join("dev/kmsg"));
    match kernel_log::way(&path) {
        Ok(Way::Open) => findings.add(Verdict::Fine, "kernel log", path.display().to_string()),
        Ok(Way::Asked) => findings.add(Verdict::Fine, "kernel log", "told by the kernel when it is asked"),
        Err(error) => {
            let text = format!("{}: {error}; GPU errors are told by the driver alone", path.display());
            let remedy = "in a pod see agent.syslog and agent.kernelLog of the chart";
            findings.ask(Verdict::Absent, "kernel log", text, remedy);
        }
    }
}

/// Logs of pods belong to root and are closed to others: one is opened to see.
fn logs(root: &Path, findings: &mut Findings) {
    let folder = root.join("var/log/pods");
    let Ok(pods) = fs::read_dir(&folder) else {
        findings.add(Verdict::Absent, "pods' logs", format!("{} cannot be read", folder.display()));
        return;
    };
    let containers = pods.flatten().flat_map(|pod| fs::read_dir(pod.path()).into_iter().flatten().flatten());
    let files =
        containers.flat_map(|container| fs::read_dir(container.path()).into_iter().flatten().flatten());
    match files.map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "log")) {
        None => findings.add(Verdict::Fine, "pods' logs", "no pod has logged anything yet"),
        Some(path) => match File::open(&path) {
            Ok(_) => findings.add(Verdict::Fine, "pods' logs", format!("{} can be read", folder.display())),
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                findings.ask(Verdict::Warning, "pods' logs", text, "run it as root with DAC_READ_SEARCH");
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(look: impl Fn(&Path, &mut Findings), root: &Path) -> Vec<(Verdict, String)> {
        let mut findings = Findings::default();
        look(root, &mut findings);
        findings.findings.into_iter().map(|finding| (finding.verdict, finding.text)).collect()
    }

    fn put(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn an_empty_root_lacks_the_machine_and_its_cgroups() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(verdicts(proc, root)[0].0, Verdict::Missing);
        assert_eq!(verdicts(cgroups, root)[0].0, Verdict::Missing);
        assert_eq!(verdicts(runtime, root)[0].0, Verdict::Absent);
        assert_eq!(verdicts(logs, root)[0].0, Verdict::Absent);
        put(root, "proc/stat");
        put(root, "proc/meminfo");
        assert_eq!(verdicts(proc, root)[0].0, Verdict::Warning, "only the machine itself");
        put(root, "proc/1/net/dev");
        assert_eq!(verdicts(proc, root)[0].0, Verdict::Fine);
    }

    #[test]
    fn both_versions_of_cgroups_are_known() {
        const POD: &str = "kubepods/pod0a5f7e3c-6d1b-4c1e-9b5a-7f0d2c9e8b41";
        let id = "8f0e4c1d2b3a49586778695a4b3c2d1e0f8e7d6c5b4a39281706f5e4d3c2b1a0";
        for (version, tree, mark) in
            [("1", "sys/fs/cgroup/memory", "tasks"), ("2", "sys/fs/cgroup", "cgroup.controllers")]
        {
            let folder = tempfile::tempdir().unwrap();
            put(folder.path(), &format!("{tree}/{mark}"));
            assert_eq!(verdicts(cgroups, folder.path())[0].0, Verdict::Warning);
            put(folder.path(), &format!("{tree}/{POD}/{id}/tasks"));
            let found = verdicts(cgroups, folder.path());
            assert_eq!(found, [(Verdict::Fine, format!("version {version}, 1 containers of pods"))]);
        }
    }

    #[test]
    fn the_runtime_and_logs_are_found() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "run/containerd/containerd.sock");
        assert_eq!(verdicts(runtime, folder.path()), [(Verdict::Fine, "containerd".to_owned())]);
        put(folder.path(), "var/log/pods/ml_chat_uid/server/0.log");
        assert_eq!(verdicts(logs, folder.path())[0].0, Verdict::Fine);
    }

    #[test]
    fn a_missing_library_is_a_lack_only_where_gpus_are_wanted() {
        let verdict = |answer, required| judged(answer, required).0;
        assert_eq!(verdict(Err(GpuCause::NoLibrary), false), Verdict::Absent);
        assert_eq!(verdict(Err(GpuCause::NoLibrary), true), Verdict::Missing);
        assert_eq!(verdict(Err(GpuCause::DriverMismatch), false), Verdict::Missing);
        let driver = |gpus| Ok(Driver { version: Some("550.54".into()), library: None, gpus });
        let (found, text, _) = judged(driver(2), false);
        assert_eq!((found, text.as_str()), (Verdict::Fine, "version 550.54, NVML unknown, 2 GPUs"));
        assert_eq!(verdict(driver(0), false), Verdict::Warning);
    }

    #[tokio::test]
    async fn a_kubelet_without_sockets_lacks_its_devices() {
        let folder = tempfile::tempdir().unwrap();
        let mut findings = Findings::default();
        of_kubelet(folder.path(), &mut findings).await;
        let verdicts: Vec<_> = findings.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Absent, Verdict::Missing]);
    }
}
