//! Turns of a fleet, without processes.

use super::*;
use proptest::prelude::*;

const S: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Duration {
    Duration::from_secs(100) + Duration::from_secs_f64(seconds)
}

fn fleet() -> Fleet {
    Fleet::new(Limits {
        start_deadline: 10 * S,
        drain_limit: 30 * S,
        stop_grace: 5 * S,
        healthy_run: 60 * S,
        restart: Restart::Always,
    })
}

fn idle(_: u32) -> Option<u32> {
    Some(0)
}

/// A fleet of `n` ready replicas at time 0.
fn ready(n: u32) -> Fleet {
    let mut fleet = fleet();
    fleet.want(n);
    assert_eq!(fleet.step(at(0.0), &idle).len(), n as usize);
    for index in 0..n {
        fleet.ready(index, at(0.0));
    }
    fleet
}

fn state(fleet: &Fleet) -> (u32, u32, u32, u32) {
    let c = fleet.counts();
    (c.wanted, c.ready, c.starting, c.draining)
}

#[test]
fn starts_what_is_wanted_and_measures_the_start_up() {
    let mut fleet = fleet();
    fleet.want(2);
    assert_eq!(fleet.step(at(0.0), &idle), [Action::Spawn(0), Action::Spawn(1)]);
    assert_eq!(fleet.step(at(0.1), &idle), [], "asking again changes nothing");
    assert_eq!(fleet.ready(0, at(2.5)), Some(Duration::from_millis(2500)));
    assert_eq!(state(&fleet), (2, 1, 1, 0));
    fleet.unready(0, at(3.0));
    assert_eq!(fleet.ready(0, at(4.0)), None, "the start-up is measured once");
}

#[test]
fn cancels_starting_replicas_first_and_the_newest_of_them() {
    let mut fleet = ready(1);
    fleet.want(2);
    fleet.step(at(1.0), &idle);
    fleet.want(3);
    fleet.step(at(2.0), &idle);
    fleet.want(2);
    assert_eq!(fleet.step(at(3.0), &idle), [Action::Terminate(2)]);
    fleet.want(1);
    assert_eq!(fleet.step(at(4.0), &idle), [Action::Terminate(1)]);
    assert_eq!(state(&fleet), (1, 1, 0, 2));
}

#[test]
fn drains_the_least_in_flight_and_waits_for_its_requests() {
    let mut fleet = ready(3);
    let busy = |index: u32| Some([4, 1, 9][index as usize]);
    fleet.want(2);
    assert_eq!(fleet.step(at(1.0), &busy), []);
    assert!(matches!(fleet.replicas[&1].phase, Phase::Draining { .. }));
    assert_eq!(fleet.step(at(2.0), &busy), []);
    assert_eq!(fleet.step(at(3.0), &idle), [Action::Terminate(1)]);
    assert_eq!(fleet.step(at(8.0), &idle), [Action::Kill(1)]);
    fleet.exited(1, false, at(8.1));
    assert_eq!(state(&fleet), (2, 2, 0, 0));
    assert_eq!(fleet.failures(), 0, "an end that was asked for is no failure");
}

#[test]
fn a_request_that_never_ends_does_not_hold_a_drain_for_ever() {
    let mut fleet = ready(1);
    fleet.want(0);
    fleet.step(at(0.5), &|_| Some(1));
    assert_eq!(fleet.step(at(30.0), &|_| Some(1)), []);
    assert_eq!(fleet.step(at(30.5), &|_| Some(1)), [Action::Terminate(0)]);
}

#[test]
fn takes_a_draining_replica_back_before_it_starts_another() {
    let mut fleet = ready(2);
    fleet.want(1);
    fleet.step(at(1.0), &|_| Some(1));
    fleet.want(2);
    assert_eq!(fleet.step(at(2.0), &|_| Some(1)), []);
    assert_eq!(state(&fleet), (2, 2, 0, 0));
}

#[test]
fn backs_off_and_then_lets_only_one_replica_try() {
    let mut fleet = fleet();
    fleet.want(3);
    fleet.step(at(0.0), &idle);
    (0..3).for_each(|index| fleet.exited(index, false, at(0.1)));
    assert!(fleet.is_looping());
    assert_eq!(fleet.step(at(0.2), &idle), [], "not before the pause is over");
    assert_eq!(fleet.step(at(0.7), &idle), [Action::Spawn(0)]);
    assert_eq!(fleet.step(at(5.0), &idle), [], "one at a time");
    let mut now = 5.0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        fleet.exited(0, false, at(now));
        let next = fleet.wake_at(at(now)).unwrap();
        pauses.push((next - at(now)).as_secs_f64());
        now = (next - at(0.0)).as_secs_f64();
        assert_eq!(fleet.step(next, &idle), [Action::Spawn(0)]);
    }
    assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
}

#[test]
fn a_crash_loop_ends_with_a_healthy_run() {
    let mut fleet = fleet();
    fleet.want(2);
    fleet.step(at(0.0), &idle);
    for n in 0..3 {
        fleet.exited(0, false, at(f64::from(n) * 5.0));
        fleet.step(at(f64::from(n) * 5.0 + 4.0), &idle);
    }
    assert!(fleet.is_looping());
    fleet.ready(0, at(20.0));
    fleet.ready(1, at(20.0));
    fleet.step(at(79.0), &idle);
    assert!(fleet.is_looping());
    assert_eq!(fleet.wake_at(at(79.0)), Some(at(80.0)));
    fleet.step(at(80.0), &idle);
    assert!(!fleet.is_looping());
}

#[test]
fn a_replica_that_ran_before_the_failures_proves_nothing() {
    let mut fleet = ready(1);
    fleet.want(2);
    fleet.step(at(100.0), &idle);
    for n in 0..3 {
        let now = 101.0 + f64::from(n) * 5.0;
        fleet.exited(1, false, at(now));
        fleet.step(at(now + 4.0), &idle);
    }
    assert!(fleet.is_looping());
    assert_eq!(fleet.counts().ready, 1);
}

#[test]
fn a_crash_loop_ends_when_those_that_failed_were_scaled_away() {
    let mut fleet = ready(1);
    fleet.want(3);
    fleet.step(at(100.0), &idle);
    for n in 0..3 {
        fleet.exited(1, false, at(101.0 + f64::from(n) * 2.0));
        fleet.step(at(101.0 + f64::from(n) * 2.0 + 1.9), &idle);
    }
    assert!(fleet.is_looping());
    fleet.want(1);
    fleet.step(at(107.0), &idle);
    fleet.exited(2, false, at(107.1));
    fleet.exited(1, false, at(107.1));
    assert_eq!(fleet.wake_at(at(108.0)), Some(at(165.0)));
    fleet.step(at(165.0), &idle);
    assert!(!fleet.is_looping());
}

#[test]
fn an_end_after_a_healthy_run_is_answered_at_once() {
    let mut fleet = ready(1);
    fleet.exited(0, false, at(61.0));
    assert_eq!(fleet.step(at(61.0), &idle), [Action::Spawn(0)]);
    assert_eq!(fleet.failures(), 0);
    assert_eq!(fleet.replicas[&0].restarts, 1);
}

#[test]
fn a_replica_that_never_becomes_ready_is_ended_and_counted() {
    let mut fleet = fleet();
    fleet.want(1);
    fleet.step(at(0.0), &idle);
    assert_eq!(fleet.wake_at(at(0.0)), Some(at(10.0)));
    assert_eq!(fleet.step(at(10.0), &idle), [Action::StartDeadline(0), Action::Terminate(0)]);
    assert_eq!(fleet.failures(), 1);
    fleet.exited(0, false, at(10.2));
    assert_eq!(fleet.step(at(10.3), &idle), []);
    assert_eq!(fleet.step(at(10.8), &idle), [Action::Spawn(0)]);
}

#[test]
fn a_command_that_cannot_run_is_tried_by_one_replica_every_half_minute() {
    let mut fleet = fleet();
    fleet.want(5);
    for action in fleet.step(at(0.0), &idle) {
        if let Action::Spawn(index) = action {
            fleet.spawn_failed(index, true, at(0.0));
        }
    }
    assert_eq!(fleet.step(at(29.0), &idle), []);
    assert_eq!(fleet.wake_at(at(29.0)), Some(at(30.0)));
    assert_eq!(fleet.step(at(30.0), &idle), [Action::Spawn(0)]);
}

#[test]
fn a_job_that_ended_well_is_done() {
    let mut fleet = fleet();
    fleet.limits.restart = Restart::OnFailure;
    fleet.want(1);
    fleet.step(at(0.0), &idle);
    fleet.ready(0, at(1.0));
    fleet.exited(0, true, at(2.0));
    assert_eq!(fleet.step(at(90.0), &idle), []);
    assert_eq!(state(&fleet), (1, 0, 0, 0));
    fleet.want(0);
    fleet.step(at(91.0), &idle);
    assert!(fleet.is_empty());
}

#[test]
fn scaling_below_a_restarting_replica_does_not_start_it_again() {
    let mut fleet = ready(1);
    fleet.unhealthy(0, at(1.0));
    fleet.want(0);
    assert_eq!(fleet.step(at(1.1), &idle), []);
    fleet.exited(0, false, at(1.2));
    assert!(fleet.is_empty());
}

/// Something that happens to a fleet.
#[derive(Debug, Clone)]
enum Happening {
    Want(u32),
    Ready(u32),
    Unready(u32),
    Exited(u32, bool),
    Unhealthy(u32),
    SpawnFails(u32, bool),
}

fn happenings() -> impl Strategy<Value = Vec<(u32, Happening)>> {
    let index = || 0u32..6;
    let one = prop_oneof![
        (0u32..6).prop_map(Happening::Want),
        index().prop_map(Happening::Ready),
        index().prop_map(Happening::Unready),
        (index(), any::<bool>()).prop_map(|(i, ok)| Happening::Exited(i, ok)),
        index().prop_map(Happening::Unhealthy),
        (index(), any::<bool>()).prop_map(|(i, lasting)| Happening::SpawnFails(i, lasting)),
    ];
    proptest::collection::vec((0u32..40_000, one), 0..60)
}

proptest! {
    #[test]
    fn whatever_happens_the_number_is_kept_and_nothing_spins(course in happenings()) {
        let mut fleet = fleet();
        let mut now = at(0.0);
        for (pause_ms, happening) in course {
            now += Duration::from_millis(pause_ms.into());
            match happening {
                Happening::Want(n) => fleet.want(n),
                Happening::Ready(i) => {
                    fleet.ready(i, now);
                }
                Happening::Unready(i) => fleet.unready(i, now),
                Happening::Exited(i, ok) => fleet.exited(i, ok, now),
                Happening::Unhealthy(i) => {
                    fleet.unhealthy(i, now);
                }
                Happening::SpawnFails(i, lasting) => {
                    if fleet.replicas.get(&i).is_some_and(|r| r.phase == Phase::Starting) {
                        fleet.spawn_failed(i, lasting, now);
                    }
                }
            }
            let looping = fleet.is_looping();
            let spawned = fleet.step(now, &idle).iter().filter(|a| matches!(a, Action::Spawn(_))).count();
            let kept = fleet.replicas.values().filter(|r| r.phase.is_kept()).count();
            prop_assert_eq!(kept, fleet.wanted as usize);
            prop_assert!(!looping || !fleet.is_looping() || spawned <= 1);
            prop_assert!(fleet.wake_at(now).is_none_or(|wake| wake > now), "it would wake at once, for ever");
        }
        // Every process that is asked to end does, every other becomes ready: then the wanted number is there.
        for _ in 0..40 {
            now += Duration::from_secs(31);
            let indices: Vec<u32> = fleet.replicas.keys().copied().collect();
            for index in indices {
                match fleet.replicas[&index].phase {
                    Phase::Stopping { .. } => fleet.exited(index, false, now),
                    Phase::Starting => {
                        fleet.ready(index, now);
                    }
                    _ => {}
                }
            }
            fleet.step(now, &idle);
        }
        let counts = fleet.counts();
        prop_assert_eq!((counts.ready, counts.held()), (fleet.wanted, fleet.wanted));
        prop_assert!(!fleet.is_looping());
    }
}
