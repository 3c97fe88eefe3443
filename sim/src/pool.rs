//! The life of replicas: ordered, starting, ready, draining, gone.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tidegate_core::ReplicaCounts;

use crate::load::{STARTUP_STREAM, stream};
use crate::time::{Micros, micros_of};
use crate::world::StartUp;

/// A replica that failed this often in a row before it was ready is in a crash loop.
const FAILURES_OF_A_LOOP: u32 = 3;

/// Where an engine keeps a replica; used again when it is gone.
pub(crate) type Slot = usize;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Starting { ready_at: Micros },
    Ready { since: Micros },
    Draining,
}

#[derive(Debug, Clone, Copy)]
struct Replica {
    slot: Slot,
    ordered: Micros,
    start_up: Micros,
    failures: u32,
    phase: Phase,
}

/// What has to be done to a replica that is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Removed {
    /// It was not ready: nothing.
    Cancelled,
    /// It takes no more requests and goes when it has none.
    Draining(Slot),
}

/// All replicas, oldest first.
#[derive(Debug)]
pub(crate) struct Pool {
    replicas: Vec<Replica>,
    free: Vec<Slot>,
    slots: Slot,
    counts: ReplicaCounts,
    start_up: StartUp,
    rng: ChaCha8Rng,
    /// The soonest time at which a starting replica is due.
    next_due: Option<Micros>,
}

impl Pool {
    pub(crate) fn new(start_up: StartUp, seed: u64) -> Self {
        Self {
            replicas: Vec::new(),
            free: Vec::new(),
            slots: 0,
            counts: ReplicaCounts::default(),
            start_up,
            rng: stream(seed, STARTUP_STREAM),
            next_due: None,
        }
    }

    pub(crate) const fn counts(&self) -> ReplicaCounts {
        self.counts
    }

    pub(crate) const fn want(&mut self, wanted: u32) {
        self.counts.wanted = wanted;
    }

    pub(crate) const fn next_due(&self) -> Option<Micros> {
        self.next_due
    }

    fn recount(&mut self) {
        let mut counts = ReplicaCounts { wanted: self.counts.wanted, ..ReplicaCounts::default() };
        self.next_due = None;
        for replica in &self.replicas {
            match replica.phase {
                Phase::Starting { ready_at } => {
                    counts.starting += 1;
                    self.next_due = Some(self.next_due.map_or(ready_at, |due| due.min(ready_at)));
                }
                Phase::Ready { .. } => counts.ready += 1,
                Phase::Draining => counts.draining += 1,
            }
        }
        self.counts = counts;
    }

    /// Orders one replica. Its start-up time is drawn in the order of the orders, whoever gives them.
    pub(crate) fn create(&mut self, now: Micros) {
        let normal: f64 = self.rng.sample(StandardNormal);
        let start_up = micros_of(self.start_up.median.as_secs_f64() * (self.start_up.sigma * normal).exp());
        self.add(now, start_up, Phase::Starting { ready_at: now.saturating_add(start_up) });
    }

    /// Adds one that is ready from the beginning.
    pub(crate) fn create_ready(&mut self) -> Slot {
        self.add(0, 0, Phase::Ready { since: 0 })
    }

    fn add(&mut self, ordered: Micros, start_up: Micros, phase: Phase) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        self.replicas.push(Replica { slot, ordered, start_up, failures: 0, phase });
        self.recount();
        slot
    }

    /// A starting replica that is due at `now` becomes ready: its slot, and the time it took.
    pub(crate) fn ready(&mut self, now: Micros) -> Option<(Slot, Micros)> {
        let due =
            |replica: &&mut Replica| matches!(replica.phase, Phase::Starting { ready_at } if ready_at <= now);
        let replica = self.replicas.iter_mut().find(due)?;
        replica.phase = Phase::Ready { since: now };
        let made = (replica.slot, now - replica.ordered);
        self.recount();
        Some(made)
    }

    /// The starting replicas that are due at `now` fail and begin anew; how many.
    pub(crate) fn fail_due(&mut self, now: Micros) -> u32 {
        let mut failed = 0;
        for replica in &mut self.replicas {
            if let Phase::Starting { ready_at } = &mut replica.phase
                && *ready_at <= now
            {
                // At least a second: a process that dies at once is not started again a thousand times in it.
                *ready_at = now + replica.start_up.max(crate::time::SECOND);
                replica.failures += 1;
                failed += 1;
            }
        }
        self.recount();
        failed
    }

    /// Gives up one replica: the newest that is starting, else the newest that is ready. `None` when there is none.
    pub(crate) fn remove(&mut self) -> Option<Removed> {
        let starting = |replica: &Replica| matches!(replica.phase, Phase::Starting { .. });
        if let Some(at) = self.replicas.iter().rposition(starting) {
            self.take(at);
            return Some(Removed::Cancelled);
        }
        let ready = |replica: &Replica| matches!(replica.phase, Phase::Ready { .. });
        let at = self.replicas.iter().rposition(ready)?;
        self.replicas[at].phase = Phase::Draining;
        self.recount();
        Some(Removed::Draining(self.replicas[at].slot))
    }

    /// The oldest ready replica is gone; its slot.
    pub(crate) fn lose(&mut self) -> Option<Slot> {
        let at = self.replicas.iter().position(|replica| matches!(replica.phase, Phase::Ready { .. }))?;
        Some(self.take(at))
    }

    /// A draining replica has nothing left to do.
    pub(crate) fn drained(&mut self, slot: Slot) {
        if let Some(at) = self.replicas.iter().position(|r| r.slot == slot && r.phase == Phase::Draining) {
            self.take(at);
        }
    }

    fn take(&mut self, at: usize) -> Slot {
        let slot = self.replicas.remove(at).slot;
        self.free.push(slot);
        self.recount();
        slot
    }

    /// Ready replicas that became so after `since`.
    pub(crate) fn ready_after(&self, time: Micros) -> u32 {
        let fresh = |replica: &&Replica| matches!(replica.phase, Phase::Ready { since } if since > time);
        u32::try_from(self.replicas.iter().filter(fresh).count()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_crash_looping(&self) -> bool {
        let loops =
            |r: &Replica| matches!(r.phase, Phase::Starting { .. }) && r.failures >= FAILURES_OF_A_LOOP;
        self.replicas.iter().any(loops)
    }
}
