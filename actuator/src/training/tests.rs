//! Courses of a resize, without a job.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_000 + seconds)
}

fn seen(ready: u32, steps: Option<u64>) -> Seen {
    let workers = ReplicaCounts { wanted: ready, ready, ..ReplicaCounts::default() };
    Seen { workers, steps, ..Seen::default() }
}

fn saved() -> Seen {
    Seen { checkpoint: Some(Ok(())), ..seen(2, Some(10)) }
}

fn failed() -> Seen {
    Seen { checkpoint: Some(Err("disk full".into())), ..seen(2, Some(10)) }
}

/// Takes a resize through looks at rising seconds.
fn course(mut resize: Resize, looks: &[(i64, Seen)]) -> Resize {
    for (second, seen) in looks {
        resize = resize.next(seen, &ResizeLimits::default(), at(*second));
    }
    resize
}

fn grow() -> Resize {
    Resize::new(2, 4, ResizeKind::Voluntary, true, at(0))
}

fn recall() -> Resize {
    Resize::new(4, 2, ResizeKind::Recall, true, at(0))
}

#[test]
fn a_grow_saves_resizes_and_sees_steps() {
    let asked = grow();
    assert_eq!(asked.order(), Order::Checkpoint);
    let resizing = course(asked, &[(1, seen(2, Some(9))), (3, saved())]);
    assert_eq!(resizing.order(), Order::Workers(4));
    let done = course(
        resizing,
        &[(4, seen(3, Some(10))), (8, seen(4, Some(10))), (9, seen(4, Some(11))), (10, seen(4, Some(12)))],
    );
    assert_eq!(done.outcome(), Some(Outcome::Done));
    let s = |n| Some(Duration::from_secs(n));
    let times = PhaseTimes { checkpoint: s(3), resize: s(5), verify: s(2), restore: None };
    assert_eq!(done.times, times);
    assert_eq!(times.total(), Duration::from_secs(10));
}

#[test]
fn a_failed_checkpoint_stops_a_grow_but_not_a_recall() {
    let stopped = course(grow(), &[(1, failed())]);
    assert_eq!(stopped.outcome(), Some(Outcome::CheckpointFailed));
    assert_eq!(stopped.order(), Order::Workers(2));
    let goes_on = course(recall(), &[(1, failed())]);
    assert_eq!(goes_on.order(), Order::Workers(2));
    assert_eq!(goes_on.checkpoint, Checkpoint::Failed("disk full".into()));
    let late = course(recall(), &[(59, seen(4, None)), (60, seen(4, None))]);
    assert_eq!(late.phase, Phase::Resizing);
}

#[test]
fn steps_that_stand_still_bring_the_former_size_back() {
    let restoring = course(
        grow(),
        &[(1, saved()), (2, seen(4, Some(10))), (40, seen(4, Some(11))), (62, seen(4, Some(11)))],
    );
    assert_eq!(restoring.order(), Order::Workers(2));
    let restored = course(restoring.clone(), &[(63, seen(3, None)), (64, seen(2, None))]);
    assert_eq!(restored.outcome(), Some(Outcome::Restored));
    assert_eq!(restored.times.restore, Some(Duration::from_secs(2)));
    let stuck = course(restoring, &[(182, seen(3, None))]);
    assert_eq!(stuck.outcome(), Some(Outcome::TimedOut));
    assert_eq!(stuck.order(), Order::Workers(2));
}

#[test]
fn a_recall_is_never_taken_back() {
    let stalled = course(recall(), &[(1, saved()), (2, seen(2, Some(10))), (62, seen(2, Some(10)))]);
    assert_eq!(stalled.outcome(), Some(Outcome::TimedOut));
    assert_eq!(stalled.order(), Order::Workers(2));
    let slow = course(recall(), &[(1, saved()), (121, seen(3, None))]);
    assert_eq!((slow.outcome(), slow.order()), (Some(Outcome::TimedOut), Order::Workers(2)));
}

#[test]
fn new_workers_that_crash_are_not_waited_for() {
    let crash = Seen { crash_loop: true, ..seen(2, Some(10)) };
    assert_eq!(course(grow(), &[(1, saved()), (5, crash)]).phase, Phase::Restoring);
}

#[test]
fn steps_that_fell_back_to_a_checkpoint_count_from_there() {
    let steps = [(1, saved()), (2, seen(4, Some(100))), (3, seen(4, Some(90))), (4, seen(4, Some(91)))];
    let falling = course(grow(), &steps);
    assert_eq!(falling.phase, Phase::Verifying { baseline: Some(90) });
    assert_eq!(course(falling, &[(5, seen(4, Some(92)))]).outcome(), Some(Outcome::Done));
}

#[test]
fn unknown_steps_prove_nothing() {
    let unknown = course(grow(), &[(1, saved()), (2, seen(4, None)), (61, seen(4, None))]);
    assert_eq!(unknown.phase, Phase::Verifying { baseline: None });
    assert_eq!(course(unknown, &[(62, seen(4, None))]).phase, Phase::Restoring);
}

#[test]
fn a_job_without_workers_or_hook_is_not_asked_for_a_checkpoint() {
    let first = Resize::new(0, 2, ResizeKind::Voluntary, true, at(0));
    assert_eq!((first.order(), &first.checkpoint), (Order::Workers(2), &Checkpoint::None));
    let without = Resize::new(2, 4, ResizeKind::Voluntary, false, at(0));
    assert_eq!(without.order(), Order::Workers(4));
}

#[test]
fn a_job_sent_to_zero_has_no_steps_to_wait_for() {
    let away =
        course(Resize::new(2, 0, ResizeKind::Recall, true, at(0)), &[(1, saved()), (2, seen(0, None))]);
    assert_eq!(away.outcome(), Some(Outcome::Done));
}

#[test]
fn a_stored_resize_goes_on_where_it_was() {
    let verifying = course(grow(), &[(1, saved()), (2, seen(4, Some(10)))]);
    let text = serde_json::to_string(&verifying).unwrap();
    let back: Resize = serde_json::from_str(&text).unwrap();
    assert_eq!(back, verifying);
    assert_eq!(course(back, &[(3, seen(4, Some(12)))]).outcome(), Some(Outcome::Done));
}
