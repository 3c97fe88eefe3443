//! Jobs of real workers in this process, over loopback and a shared directory.

use std::path::Path;

use tokio::task::JoinHandle;

use super::*;
use crate::faults::Fault;
use crate::testing::{Answer, Lines, get, send, until};

struct Running {
    addr: SocketAddr,
    lines: Lines,
    stop: CancellationToken,
    task: JoinHandle<Result<(), TrainError>>,
}

fn args(dir: &Path) -> TrainArgs {
    TrainArgs {
        port: Some(0),
        dir: Some(dir.join("job")),
        per_worker_batch: 8,
        step_time: Duration::from_millis(20),
        log_every: 1,
        faults: Some(dir.join("faults")),
        once: false,
        steps: 1,
        out: None,
    }
}

impl Running {
    async fn start(dir: &Path) -> Self {
        let (lines, stop) = (Lines::default(), CancellationToken::new());
        let worker = Worker::bind(args(dir), lines.log()).await.unwrap();
        let addr = worker.addr();
        let task = tokio::spawn(worker.run(stop.clone()));
        Self { addr, lines, stop, task }
    }

    async fn ready(dir: &Path) -> Self {
        let running = Self::start(dir).await;
        until("ready", async || get(running.addr, "/readyz").await.status == 200).await;
        running
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        get(self.addr, "/metrics").await.metric(name)
    }

    async fn step(&self) -> f64 {
        self.metric("digits_train_step").await.unwrap()
    }

    async fn has_workers(&self, workers: f64) {
        until("workers", async || self.metric("digits_train_workers").await == Some(workers)).await;
    }

    async fn advances(&self) {
        let from = self.step().await;
        until("steps advance", async || self.step().await > from + 2.0).await;
    }

    async fn checkpoint(&self) -> Answer {
        send(self.addr, "POST", "/checkpoint", "").await
    }

    async fn leave(self) -> Lines {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.lines
    }
}

#[tokio::test]
async fn workers_join_and_leave_and_the_state_carries_over() {
    let dir = tempfile::tempdir().unwrap();
    let first = Running::ready(dir.path()).await;
    assert_eq!(first.metric("digits_train_leader").await, Some(1.0));
    let second = Running::ready(dir.path()).await;
    first.has_workers(2.0).await;
    let (third, fourth) = (Running::ready(dir.path()).await, Running::ready(dir.path()).await);
    first.has_workers(4.0).await;
    first.advances().await;
    fourth.leave().await;
    third.leave().await;
    second.has_workers(2.0).await;
    let left_at = first.step().await;
    let lines = first.leave().await;
    let saved = lines.with("checkpoint saved").pop().unwrap();
    assert!(saved["step"].as_f64().unwrap() >= left_at);
    until("the other leads", async || second.metric("digits_train_leader").await == Some(1.0)).await;
    second.has_workers(1.0).await;
    second.advances().await;
    assert_eq!(
        second.lines.with("leading")[0]["step"],
        saved["step"],
        "the new leader goes on from the checkpoint"
    );
    let steps: Vec<_> = second.leave().await.with("training step");
    assert!(steps[0]["samples_per_second"].as_f64().unwrap() > 0.0 && steps[0]["workers"] == 1);
}

#[tokio::test]
async fn a_checkpoint_is_had_from_any_worker_and_says_when_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, follower) = (Running::ready(dir.path()).await, Running::ready(dir.path()).await);
    for worker in [&leader, &follower] {
        let answer = worker.checkpoint().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let saved = crate::model::file::Saved::read(&dir.path().join("job/checkpoint.bin")).unwrap();
        assert!(answer.json()["step"].as_u64().unwrap() <= saved.steps);
    }
    std::fs::create_dir(dir.path().join("faults")).unwrap();
    std::fs::write(dir.path().join("faults").join(Fault::FailCheckpoint.file_name()), "").unwrap();
    for worker in [&leader, &follower] {
        let answer = worker.checkpoint().await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("fail-checkpoint"), "{}", answer.body);
    }
    assert_eq!(
        leader.metric("digits_train_checkpoints_total{result=\"saved\"}").await.map(|n| n >= 2.0),
        Some(true)
    );
    assert!(leader.metric("digits_train_checkpoints_total{result=\"failed\"}").await >= Some(2.0));
    follower.advances().await;
}

#[tokio::test]
async fn a_leader_that_dies_is_replaced_and_at_most_its_last_steps_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (leader, follower) = (Running::ready(dir.path()).await, Running::ready(dir.path()).await);
    let saved = leader.checkpoint().await.json()["step"].as_f64().unwrap();
    leader.task.abort();
    until("the other leads", async || follower.metric("digits_train_leader").await == Some(1.0)).await;
    follower.advances().await;
    assert!(follower.lines.with("leading")[0]["step"].as_f64().unwrap() >= saved);
}

#[tokio::test]
async fn a_worker_that_stalls_is_dropped_and_the_steps_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let leader = Running::ready(dir.path()).await;
    let announced = announcement::Announcement::read(&dir.path().join("job")).unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", announced.port)).await.unwrap();
    let mut link = wire::link(stream);
    wire::send(&mut link, &wire::Message::Join { term: announced.term }).await.unwrap();
    until("it is dropped", async || !leader.lines.with("worker dropped").is_empty()).await;
    leader.advances().await;
    assert_eq!(leader.metric("digits_train_workers").await, Some(1.0));
    assert!(leader.lines.with("worker dropped")[0]["error"].as_str().unwrap().contains("in time"));
}

#[tokio::test]
async fn a_stranger_and_a_follower_of_an_older_leader_are_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let leader = Running::ready(dir.path()).await;
    let announced = announcement::Announcement::read(&dir.path().join("job")).unwrap();
    let refused = send(([127, 0, 0, 1], announced.port).into(), "GET", "/", "");
    assert!(tokio::spawn(refused).await.is_err(), "a stranger was answered");
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", announced.port)).await.unwrap();
    let mut link = wire::link(stream);
    wire::send(&mut link, &wire::Message::Join { term: announced.term + 1 }).await.unwrap();
    assert!(matches!(wire::read(&mut link).await, Err(wire::WireError::Closed)));
    leader.advances().await;
    assert!(leader.lines.with("worker joined").is_empty());
}

#[tokio::test]
async fn a_damaged_checkpoint_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("job")).unwrap();
    std::fs::write(dir.path().join("job/checkpoint.bin"), "half a check").unwrap();
    let worker = Running::ready(dir.path()).await;
    assert_eq!(worker.lines.with("leading")[0]["step"], 0);
    assert_eq!(worker.lines.with("checkpoint moved aside").len(), 1);
    assert!(dir.path().join("job/checkpoint.damaged").exists());
}

#[tokio::test]
async fn the_crash_fault_ends_a_worker_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Running::ready(dir.path()).await;
    std::fs::create_dir(dir.path().join("faults")).unwrap();
    std::fs::write(dir.path().join("faults").join(Fault::Crash.file_name()), "").unwrap();
    assert!(matches!(worker.task.await.unwrap(), Err(TrainError::Crashed)));
}
