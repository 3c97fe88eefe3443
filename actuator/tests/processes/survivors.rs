//! What happens to replicas when their Tidegate is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tidegate_actuator::targets::local::EventKind;
use tidegate_actuator::{LocalTarget, sweep_orphans};
use tidegate_core::WorkloadId;

use crate::parts::{FOLDER, PART};
use crate::support::{pids, runs, server_spec, until, until_ready};

/// A supervising process; killed at the latest when the test ends.
struct Doomed(Child);

impl Drop for Doomed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a Tidegate with two replicas, kills it with SIGKILL, and returns the replicas' processes: both still run.
async fn orphans(folder: &Path) -> Vec<i32> {
    let doomed = Doomed(
        Command::new(std::env::current_exe().unwrap())
            .args(["parts::part", "--exact", "--nocapture"])
            .env(PART, "supervisor")
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let answering = || {
        let text =
            std::fs::read_to_string(folder.join("replicas/local_process_orphan.json")).unwrap_or_default();
        let running: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let replicas = running["replicas"].as_array().cloned().unwrap_or_default();
        let pid = |replica: &serde_json::Value| i32::try_from(replica["pid"].as_i64()?).ok();
        let answers = |replica: &serde_json::Value| {
            let port = replica["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            port.is_some_and(|port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        };
        let all: Vec<i32> = replicas.iter().filter(|r| answers(r)).filter_map(pid).collect();
        (all.len() == 2).then_some(all)
    };
    until("both replicas answer", || answering().is_some()).await;
    let pids = answering().unwrap();
    drop(doomed);
    assert!(pids.iter().all(|pid| runs(*pid)), "replicas outlive a killed Tidegate");
    pids
}

/// Ends what a failed test would leave behind.
struct Cleared(Vec<i32>);

impl Drop for Cleared {
    fn drop(&mut self) {
        for pid in &self.0 {
            let group = nix::unistd::Pid::from_raw(*pid);
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

#[tokio::test]
async fn survivors_that_answer_are_adopted_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let cleared = Cleared(orphans(folder.path()).await);
    let target = LocalTarget::start(server_spec("orphan", folder.path()), folder.path(), None).await.unwrap();
    let mut events = target.events();
    let mut adopted = pids(&target);
    adopted.sort_unstable();
    let mut expected = cleared.0.clone();
    expected.sort_unstable();
    assert_eq!(adopted, expected);
    let counts = target.counts();
    assert_eq!((counts.wanted, counts.ready), (2, 2), "the size stays what it was");
    target.kill_replica(0).await.unwrap();
    let ended = async { while !matches!(events.recv().await.unwrap().kind, EventKind::Exited { .. }) {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    until_ready(&target, 2).await;
    assert_ne!(pids(&target), adopted);
    target.stop().await;
    assert!(!cleared.0.iter().any(|pid| runs(*pid)));
}

#[tokio::test]
async fn survivors_of_another_specification_are_ended() {
    let folder = tempfile::tempdir().unwrap();
    let cleared = Cleared(orphans(folder.path()).await);
    let mut spec = server_spec("orphan", folder.path());
    spec.env.insert("CHANGED".into(), "1".into());
    let target = LocalTarget::start(spec, folder.path(), None).await.unwrap();
    assert!(!cleared.0.iter().any(|pid| runs(*pid)));
    assert_eq!(target.counts().wanted, 0);
    target.stop().await;
}

#[tokio::test]
async fn survivors_are_found_by_their_marker_when_the_file_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let cleared = Cleared(orphans(folder.path()).await);
    std::fs::remove_dir_all(folder.path().join("replicas")).unwrap();
    let swept = sweep_orphans(folder.path(), &[], Duration::from_secs(5)).await.unwrap();
    assert_eq!((swept.ended, swept.left), (2, 0));
    assert!(!cleared.0.iter().any(|pid| runs(*pid)));
}

#[tokio::test]
async fn a_sweep_keeps_what_will_be_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let cleared = Cleared(orphans(folder.path()).await);
    let keep = [WorkloadId::local("orphan").unwrap()];
    let kept = sweep_orphans(folder.path(), &keep, Duration::from_secs(5)).await.unwrap();
    assert_eq!(kept.ended, 0);
    assert!(cleared.0.iter().all(|pid| runs(*pid)));
    let other = tempfile::tempdir().unwrap();
    let foreign = sweep_orphans(other.path(), &[], Duration::from_secs(5)).await.unwrap();
    assert_eq!(foreign.ended, 0, "another Tidegate's replicas are none of its business");
    let swept = sweep_orphans(folder.path(), &[], Duration::from_secs(5)).await.unwrap();
    assert_eq!(swept.ended, 2);
}
