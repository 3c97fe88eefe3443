//! Who takes the next request: the ready replica with the least in flight, or else a place in one bounded queue, first
//! come, first served. Nothing is sent here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::stats::{BackendLoad, DropCause};
use crate::clock;
use crate::routing::Backend;

/// How long a replica that refused a connection is passed over while there are others: until the supervisor has surely
/// seen that its process is gone.
const SUSPECT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Dispatch {
    concurrency: u32,
    queue_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    waiters: VecDeque<Waiter>,
    next_waiter: u64,
    /// Rises with each request given out; breaks ties in favour of the replica that has waited longest.
    turn: u64,
    closed: bool,
}

#[derive(Debug)]
struct Slot {
    backend: Backend,
    in_flight: u32,
    draining: bool,
    suspect_until: Duration,
    last_turn: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    grant: oneshot::Sender<Backend>,
}

/// The right to one request at a replica; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    dispatch: Arc<Dispatch>,
    backend: Backend,
}

impl Lease {
    pub(super) const fn backend(&self) -> Backend {
        self.backend
    }

    /// The replica refused a connection: others are preferred for a moment.
    pub(super) fn suspect(&self) {
        let mut state = self.dispatch.lock();
        if let Some(slot) = state.slot(&self.backend) {
            slot.suspect_until = clock::steady() + SUSPECT;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.dispatch.release(&self.backend);
    }
}

/// A place in the queue; given up when dropped, together with a replica that was granted in the last moment.
struct Place {
    dispatch: Arc<Dispatch>,
    id: u64,
    granted: oneshot::Receiver<Backend>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.dispatch.lock();
        state.waiters.retain(|waiter| waiter.id != self.id);
        drop(state);
        if let Ok(backend) = self.granted.try_recv() {
            self.dispatch.release(&backend);
        }
    }
}

impl Dispatch {
    pub(super) fn new(concurrency: u32, queue_max: usize) -> Self {
        Self { concurrency: concurrency.max(1), queue_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock but arithmetic on counts, which stays valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a replica for at most `wait`; behind those that wait already.
    ///
    /// # Errors
    /// When the queue is full, the wait too long, or the gateway is stopping.
    pub(super) async fn acquire(self: &Arc<Self>, wait: Duration) -> Result<Lease, DropCause> {
        let mut place = match self.take_or_queue()? {
            Taken::Now(backend) => return Ok(self.lease(backend)),
            Taken::Queued(place) => place,
        };
        match tokio::time::timeout(wait, &mut place.granted).await {
            Ok(Ok(backend)) => Ok(self.lease(backend)),
            Ok(Err(_)) => Err(DropCause::Stopping),
            Err(_) => Err(DropCause::QueueTimeout),
        }
    }

    fn lease(self: &Arc<Self>, backend: Backend) -> Lease {
        Lease { dispatch: Arc::clone(self), backend }
    }

    fn take_or_queue(self: &Arc<Self>) -> Result<Taken, DropCause> {
        let mut state = self.lock();
        if state.closed {
            return Err(DropCause::Stopping);
        }
        state.grant_waiting(self.concurrency);
        if state.waiters.is_empty()
            && let Some(backend) = state.take(self.concurrency)
        {
            return Ok(Taken::Now(backend));
        }
        if state.waiters.len() >= self.queue_max {
            return Err(DropCause::QueueFull);
        }
        let (grant, granted) = oneshot::channel();
        let id = state.next_waiter;
        state.next_waiter += 1;
        state.waiters.push_back(Waiter { id, grant });
        Ok(Taken::Queued(Place { dispatch: Arc::clone(self), id, granted }))
    }

    fn release(&self, backend: &Backend) {
        let mut state = self.lock();
        if let Some(slot) = state.slot(backend) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
        }
        state.forget_drained();
        state.grant_waiting(self.concurrency);
    }

    pub(super) fn set_backends(&self, backends: &[Backend]) {
        let mut state = self.lock();
        for slot in &mut state.slots {
            slot.draining = !backends.contains(&slot.backend);
        }
        for backend in backends {
            if state.slot(backend).is_none() {
                state.slots.push(Slot::new(*backend));
            }
        }
        state.forget_drained();
        state.grant_waiting(self.concurrency);
    }

    /// Refuses what waits and what comes.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiters.clear();
    }

    pub(super) fn in_flight(&self, backend: &Backend) -> Option<u32> {
        // A replica that was forgotten had nothing left.
        Some(self.lock().slot(backend).map_or(0, |slot| slot.in_flight))
    }

    /// Load of each backend, and the number of requests that wait.
    pub(super) fn load(&self) -> (Vec<BackendLoad>, u64) {
        let state = self.lock();
        let mut loads: Vec<_> = state.slots.iter().map(Slot::load).collect();
        loads.sort_by_key(|load| load.backend);
        (loads, u64::try_from(state.waiters.len()).unwrap_or(u64::MAX))
    }
}

enum Taken {
    Now(Backend),
    Queued(Place),
}

impl State {
    fn slot(&mut self, backend: &Backend) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.backend == *backend)
    }

    fn forget_drained(&mut self) {
        self.slots.retain(|slot| !slot.draining || slot.in_flight > 0);
    }

    /// Gives a request to the best replica with room. Suspects come last, but come: they may be all there is.
    fn take(&mut self, concurrency: u32) -> Option<Backend> {
        let now = clock::steady();
        let usable = self.slots.iter().filter(|slot| !slot.draining);
        let trusted = usable.clone().filter(|slot| slot.suspect_until <= now).count();
        let open = |slot: &&mut Slot| {
            !slot.draining && slot.in_flight < concurrency && (trusted == 0 || slot.suspect_until <= now)
        };
        let best = self.slots.iter_mut().filter(open).min_by_key(|slot| (slot.in_flight, slot.last_turn))?;
        self.turn += 1;
        best.last_turn = self.turn;
        best.in_flight += 1;
        Some(best.backend)
    }

    fn grant_waiting(&mut self, concurrency: u32) {
        while !self.waiters.is_empty() {
            let Some(backend) = self.take(concurrency) else { return };
            let Some(waiter) = self.waiters.pop_front() else { return };
            if waiter.grant.send(backend).is_err()
                && let Some(slot) = self.slot(&backend)
            {
                slot.in_flight -= 1;
            }
        }
    }
}

impl Slot {
    const fn new(backend: Backend) -> Self {
        Self { backend, in_flight: 0, draining: false, suspect_until: Duration::ZERO, last_turn: 0 }
    }

    const fn load(&self) -> BackendLoad {
        BackendLoad { backend: self.backend, in_flight: self.in_flight, draining: self.draining }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    const SOON: Duration = Duration::from_millis(20);

    fn backend(index: u32) -> Backend {
        let port = 1000 + u16::try_from(index).unwrap();
        Backend { index, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    fn dispatch(concurrency: u32, queue_max: usize, backends: u32) -> Arc<Dispatch> {
        let dispatch = Arc::new(Dispatch::new(concurrency, queue_max));
        dispatch.set_backends(&(0..backends).map(backend).collect::<Vec<_>>());
        dispatch
    }

    async fn queued(dispatch: &Arc<Dispatch>, n: u64) {
        while dispatch.load().1 != n {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn gives_to_the_least_in_flight_and_in_turn_among_equals() {
        let dispatch = dispatch(2, 0, 3);
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(dispatch.acquire(SOON).await.unwrap());
        }
        let mut first: Vec<_> = leases.iter().map(|lease| lease.backend().index).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        let freed = leases.remove(1).backend();
        assert_eq!(dispatch.acquire(SOON).await.unwrap().backend(), freed);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_first_come_first_served() {
        let dispatch = dispatch(1, 2, 1);
        let held = dispatch.acquire(SOON).await.unwrap();
        let (order, mut served) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..2u64 {
            let (dispatch2, order) = (Arc::clone(&dispatch), order.clone());
            tokio::spawn(async move {
                let lease = dispatch2.acquire(Duration::from_secs(10)).await.unwrap();
                order.send(n).unwrap();
                drop(lease);
            });
            queued(&dispatch, n + 1).await;
        }
        assert_eq!(dispatch.acquire(SOON).await.unwrap_err(), DropCause::QueueFull);
        drop(held);
        assert_eq!((served.recv().await, served.recv().await), (Some(0), Some(1)));
    }

    #[tokio::test]
    async fn without_replicas_requests_wait_for_one() {
        let dispatch = dispatch(1, 4, 0);
        assert_eq!(dispatch.acquire(SOON).await.unwrap_err(), DropCause::QueueTimeout);
        assert_eq!(dispatch.load().1, 0, "who gave up waits no more");
        let waiting = tokio::spawn({
            let dispatch = Arc::clone(&dispatch);
            async move { dispatch.acquire(Duration::from_secs(10)).await.unwrap().backend() }
        });
        queued(&dispatch, 1).await;
        dispatch.set_backends(&[backend(7)]);
        assert_eq!(waiting.await.unwrap(), backend(7));
    }

    #[tokio::test]
    async fn a_replica_granted_to_one_who_left_is_not_lost() {
        let dispatch = dispatch(1, 4, 1);
        let held = dispatch.acquire(SOON).await.unwrap();
        let mut waiting = Box::pin(dispatch.acquire(Duration::from_secs(10)));
        assert!(tokio::time::timeout(SOON, &mut waiting).await.is_err());
        drop(held);
        drop(waiting);
        assert_eq!(dispatch.in_flight(&backend(0)), Some(0));
        dispatch.acquire(SOON).await.unwrap();
    }

    #[tokio::test]
    async fn a_draining_replica_finishes_and_is_forgotten() {
        let dispatch = dispatch(4, 0, 2);
        let held = [dispatch.acquire(SOON).await.unwrap(), dispatch.acquire(SOON).await.unwrap()];
        dispatch.set_backends(&[backend(1)]);
        for _ in 0..3 {
            let lease = dispatch.acquire(SOON).await.unwrap();
            assert_eq!(lease.backend().index, 1);
        }
        assert_eq!(dispatch.in_flight(&backend(0)), Some(1));
        drop(held);
        assert_eq!(dispatch.load().0.len(), 1);
        assert_eq!(dispatch.in_flight(&backend(0)), Some(0));
    }

    #[tokio::test]
    async fn a_suspect_is_passed_over_while_there_are_others() {
        let dispatch = dispatch(8, 0, 2);
        let refused = dispatch.acquire(SOON).await.unwrap();
        refused.suspect();
        let suspect = refused.backend();
        drop(refused);
        let leases = [dispatch.acquire(SOON).await.unwrap(), dispatch.acquire(SOON).await.unwrap()];
        assert!(leases.iter().all(|lease| lease.backend() != suspect));
        dispatch.set_backends(&[suspect]);
        assert_eq!(dispatch.acquire(SOON).await.unwrap().backend(), suspect);
    }
}
