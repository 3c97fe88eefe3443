//! Replicas come, go, fail and drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use tidegate_actuator::targets::local::{Check, Condition, EventKind, ReplicaState, Restart};
use tidegate_actuator::{Gateway, GatewaySpec, LocalTarget};

use crate::support::{ask, pids, runs, server_spec, shell_spec, until, until_ready};

#[tokio::test]
async fn a_replica_becomes_ready_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let target = LocalTarget::start(server_spec("serve", folder.path()), folder.path(), None).await.unwrap();
    let mut events = target.events();
    target.set_replicas(2);
    assert_eq!(target.counts().wanted, 2, "what was asked for shows at once");
    until_ready(&target, 2).await;
    let ports: Vec<_> = target.endpoints().iter().map(|backend| backend.addr.port()).collect();
    assert_ne!(ports[0], ports[1]);
    let mut start_ups = 0;
    while let Ok(event) = events.try_recv() {
        if let EventKind::Ready { start_up } = event.kind {
            assert!(start_up > Duration::ZERO && start_up < Duration::from_secs(20));
            start_ups += 1;
        }
    }
    assert_eq!(start_ups, 2);
    let pids = pids(&target);
    target.stop().await;
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert!(folder.path().join("logs/serve-1.log").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_under_load_cuts_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let spec = server_spec("drain", folder.path());
    let gate =
        Gateway::start(GatewaySpec::new(spec.id.clone(), "127.0.0.1:0".parse().unwrap())).await.unwrap();
    let target = LocalTarget::start(spec, folder.path(), Some(Arc::new(gate.router()))).await.unwrap();
    target.set_replicas(3);
    until_ready(&target, 3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let uri = format!("http://{}/work", gate.addr());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, uri) = (Arc::clone(&stop), uri.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !stop.load(Ordering::SeqCst) {
                    let (status, _) = ask(Method::POST, uri.clone()).await.expect("an answer");
                    assert_eq!(status, StatusCode::OK);
                    served += 1;
                }
                served
            })
        })
        .collect();
    for size in [1, 3, 2, 1] {
        let before = gate.stats().completed;
        target.set_replicas(size);
        until_ready(&target, size).await;
        until("requests went on", || gate.stats().completed > before + 20).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut served = 0;
    for client in clients {
        served += client.await.unwrap();
    }
    until("all is counted", || gate.stats().in_flight == 0).await;
    let stats = gate.stats();
    assert_eq!((stats.arrivals, stats.completed), (served, served));
    target.stop().await;
}

#[tokio::test]
async fn a_killed_replica_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let target = LocalTarget::start(server_spec("kill", folder.path()), folder.path(), None).await.unwrap();
    target.set_replicas(1);
    until_ready(&target, 1).await;
    let before = pids(&target);
    target.kill_replica(0).await.unwrap();
    assert!(target.kill_replica(7).await.is_err());
    until("another process is ready", || {
        target.replicas()[0].state == ReplicaState::Ready && pids(&target) != before
    })
    .await;
    assert_eq!(target.replicas()[0].restarts, 1);
    assert!(!runs(before[0]));
    target.stop().await;
}

#[tokio::test]
async fn a_crash_loop_is_told_and_tried_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let spec = shell_spec("crash", "exit 3", folder.path());
    let target = LocalTarget::start(spec, folder.path(), None).await.unwrap();
    let mut watch = target.watch();
    target.set_replicas(4);
    until("it is a crash loop", || target.is_crash_looping()).await;
    let tries_at_once = || target.replicas().iter().filter(|r| r.state == ReplicaState::Starting).count();
    // From the first retry on, one at a time; it is over when two more have failed.
    let failures = |target: &LocalTarget| match target.conditions().first() {
        Some(Condition::CrashLoop { failures }) => *failures,
        _ => 0,
    };
    until("the first four have ended", || failures(&target) >= 4).await;
    while failures(&target) < 6 {
        assert!(tries_at_once() <= 1);
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap().unwrap();
    }
    target.stop().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told_at_once_and_not_hammered() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = shell_spec("absent", "", folder.path());
    spec.command = vec!["/no/such/program".into()];
    let target = LocalTarget::start(spec, folder.path(), None).await.unwrap();
    let mut events = target.events();
    target.set_replicas(1);
    let cannot =
        |c: &Condition| matches!(c, Condition::CannotStart { text } if text.contains("command not found"));
    until("it is told", || target.conditions().iter().any(cannot)).await;
    assert!(target.is_crash_looping());
    // The next try is 30 s away: nothing but the one failure may have been told by now.
    let mut tries = 0;
    while let Ok(event) = events.try_recv() {
        tries += u32::from(matches!(event.kind, EventKind::SpawnFailed { .. }));
    }
    assert_eq!(tries, 1);
    target.stop().await;
}

#[tokio::test]
async fn a_replica_that_never_becomes_ready_is_ended_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = server_spec("never", folder.path());
    spec.ready.check = Check::Http("/never".into());
    spec.start_deadline = Duration::from_millis(600);
    let target = LocalTarget::start(spec, folder.path(), None).await.unwrap();
    target.set_replicas(1);
    until("it runs", || !pids(&target).is_empty()).await;
    let first = pids(&target)[0];
    until("it is told", || target.conditions().contains(&Condition::NeverReady)).await;
    until("its process is gone", || !runs(first)).await;
    until("it is a crash loop", || target.is_crash_looping()).await;
    assert_eq!(target.counts().ready, 0);
    target.stop().await;
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $!; wait; while :; do sleep 1; done";
    let target =
        LocalTarget::start(shell_spec("deaf", script, folder.path()), folder.path(), None).await.unwrap();
    target.set_replicas(1);
    let log = folder.path().join("logs/deaf-0.log");
    let child = || std::fs::read_to_string(&log).ok()?.trim().parse::<i32>().ok();
    until("it started another", || child().is_some_and(runs)).await;
    let (leader, child) = (pids(&target)[0], child().unwrap());
    target.stop().await;
    until("both are gone", || !runs(leader) && !runs(child)).await;
}

#[tokio::test]
async fn a_job_that_ends_well_is_done_and_its_output_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = shell_spec("job", "echo worker {replica} of port $PORT", folder.path());
    spec.restart = Restart::OnFailure;
    let target = LocalTarget::start(spec, folder.path(), None).await.unwrap();
    target.set_replicas(1);
    until("it is done", || target.replicas().iter().any(|r| r.state == ReplicaState::Done)).await;
    let log = std::fs::read_to_string(folder.path().join("logs/job-0.log")).unwrap();
    assert!(log.starts_with("worker 0 of port "), "{log}");
    target.stop().await;
}

#[tokio::test]
async fn dropping_a_target_ends_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    let target = LocalTarget::start(shell_spec("drop", "sleep 600", folder.path()), folder.path(), None)
        .await
        .unwrap();
    target.set_replicas(2);
    until_ready(&target, 2).await;
    let pids = pids(&target);
    drop(target);
    until("they are gone", || !pids.iter().any(|pid| runs(*pid))).await;
}
