//! Admission: a number of places, and a bounded queue in order of arrival in front of them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The places and the queue.
#[derive(Debug)]
pub(super) struct Gate {
    places: Semaphore,
    places_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// One that waits, for as long as it does: also when its request is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Gate {
    pub(super) fn new(places_max: usize, waiting_max: usize) -> Self {
        Self { places: Semaphore::new(places_max), places_max, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// Takes a place, waiting for one in order of arrival if there is room to wait. It is free again when the permit is dropped.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, Full> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let room = |waiting| (waiting < self.waiting_max).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, room).map_err(|_| Full)?;
        let waiting = Waiting(&self.waiting);
        let place = self.places.acquire().await.expect("the semaphore is never closed");
        drop(waiting);
        Ok(place)
    }

    /// Places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn places_then_queue_then_refusal() {
        let gate = Gate::new(1, 1);
        let place = gate.enter().await.unwrap();
        let mut waits = Box::pin(gate.enter());
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!((gate.taken(), gate.waiting()), (1, 1));
        assert_eq!(gate.enter().await.unwrap_err(), Full);
        drop(place);
        let place = waits.await.unwrap();
        assert_eq!((gate.taken(), gate.waiting()), (1, 0));
        drop(place);
        assert_eq!(gate.taken(), 0);
    }

    #[tokio::test]
    async fn one_that_gives_up_waits_no_longer() {
        let gate = Gate::new(1, 1);
        let _place = gate.enter().await.unwrap();
        let mut waits = Box::pin(gate.enter());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(waits);
        assert_eq!(gate.waiting(), 0);
    }
}
