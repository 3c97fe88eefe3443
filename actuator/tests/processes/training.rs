//! Resizes of a job of real workers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tidegate_actuator::training::{Checkpoint, CheckpointHook, ResizeLimits, StepsProbe};
use tidegate_actuator::{LocalTarget, Outcome, ResizeKind, Resizer};

use crate::support::{ask, part_spec, until_ready};

/// Steps of the first ready worker.
fn steps(target: &Arc<LocalTarget>) -> StepsProbe {
    let target = Arc::clone(target);
    Arc::new(move || {
        let worker = target.endpoints().first().copied();
        Box::pin(async move {
            let (status, body) = ask(Method::GET, format!("http://{}/steps", worker?.addr)).await?;
            String::from_utf8(body.to_vec()).ok()?.parse().ok().filter(|_| status.is_success())
        })
    })
}

async fn job(folder: &Path, workers: u32, verify: Duration) -> (Arc<LocalTarget>, Resizer) {
    let target = LocalTarget::start(part_spec("train", "trainer", folder), folder, None).await.unwrap();
    target.set_replicas(workers);
    until_ready(&target, workers).await;
    let target = Arc::new(target);
    let hook = Some(CheckpointHook { path: "/checkpoint".into() });
    let limits = ResizeLimits { verify, ..ResizeLimits::default() };
    let resizer = Resizer::new(Arc::clone(&target), hook, steps(&target), limits, folder);
    (target, resizer)
}

#[tokio::test]
async fn grows_after_a_checkpoint_and_sees_steps_advance() {
    let folder = tempfile::tempdir().unwrap();
    let (target, resizer) = job(folder.path(), 1, Duration::from_secs(20)).await;
    let report = resizer.run(3, ResizeKind::Voluntary).await.unwrap();
    assert_eq!((report.outcome, report.workers), (Outcome::Done, 3));
    assert_eq!(report.course.checkpoint, Checkpoint::Saved);
    assert!(folder.path().join("saved").exists());
    let times = report.course.times;
    assert!(times.checkpoint.is_some() && times.resize.is_some() && times.verify.is_some());
    assert_eq!(target.counts().ready, 3);
    assert_eq!(resizer.unfinished().unwrap(), None);
    target.stop().await;
}

#[tokio::test]
async fn a_failed_checkpoint_stops_a_grow_but_not_a_recall() {
    let folder = tempfile::tempdir().unwrap();
    let (target, resizer) = job(folder.path(), 2, Duration::from_secs(20)).await;
    std::fs::write(folder.path().join("fail"), b"").unwrap();
    let grow = resizer.run(3, ResizeKind::Voluntary).await.unwrap();
    assert_eq!((grow.outcome, target.counts().wanted), (Outcome::CheckpointFailed, 2));
    let recall = resizer.run(1, ResizeKind::Recall).await.unwrap();
    assert_eq!((recall.outcome, target.counts().ready), (Outcome::Done, 1));
    let Checkpoint::Failed(text) = recall.course.checkpoint else { panic!("it was said to have failed") };
    assert!(text.contains("500"), "{text}");
    target.stop().await;
}

#[tokio::test]
async fn steps_that_stand_still_bring_the_former_size_back() {
    let folder = tempfile::tempdir().unwrap();
    let (target, resizer) = job(folder.path(), 1, Duration::from_millis(500)).await;
    std::fs::write(folder.path().join("stall"), b"").unwrap();
    let report = resizer.run(2, ResizeKind::Voluntary).await.unwrap();
    assert_eq!((report.outcome, report.workers), (Outcome::Restored, 1));
    assert!(report.course.times.restore.is_some());
    until_ready(&target, 1).await;
    target.stop().await;
}

#[tokio::test]
async fn a_resize_that_was_broken_off_is_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let (target, resizer) = job(folder.path(), 1, Duration::from_secs(20)).await;
    let interrupted =
        tokio::time::timeout(Duration::from_millis(150), resizer.run(2, ResizeKind::Voluntary)).await;
    assert!(interrupted.is_err());
    let unfinished = resizer.unfinished().unwrap().expect("it was written down");
    assert_eq!((unfinished.from, unfinished.to), (1, 2));
    let report = resizer.resume(unfinished).await;
    assert_eq!((report.outcome, target.counts().ready), (Outcome::Done, 2));
    assert_eq!(resizer.unfinished().unwrap(), None);
    target.stop().await;
}
