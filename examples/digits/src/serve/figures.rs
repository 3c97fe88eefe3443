//! What `digits-serve` counts, and how `/metrics` shows it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::exposition::{Histogram, Page};
use crate::names::{label, serve};

/// Seconds. Dense around the usual objectives of a service that takes 150 ms.
const BOUNDS: [f64; 14] = [0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 4.0, 10.0];
/// Present from the start, so that the first failure shows as a rise.
const CODES: [u16; 3] = [200, 400, 503];

/// What has been answered so far.
#[derive(Debug)]
pub(super) struct Figures {
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    /// Bounded: the service answers with few different codes.
    by_code: BTreeMap<u16, u64>,
    durations: Histogram,
}

/// What is going on right now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    pub(super) in_flight: usize,
    pub(super) waiting: usize,
    pub(super) ready: bool,
}

impl Figures {
    pub(super) fn new() -> Self {
        let by_code = CODES.into_iter().map(|code| (code, 0)).collect();
        Self { counted: Mutex::new(Counted { by_code, durations: Histogram::new(&BOUNDS) }) }
    }

    /// Counts an answer. Only served requests count in the durations: a refusal is quick and says nothing of the service.
    pub(super) fn count(&self, code: u16, took: Duration) {
        let mut counted = self.counted();
        *counted.by_code.entry(code).or_insert(0) += 1;
        if code == 200 {
            counted.durations.observe(took.as_secs_f64());
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of requests at once are small")]
    pub(super) fn page(&self, present: Present) -> Page {
        let counted = self.counted();
        let mut page = Page::default();
        let help = "Seconds from a request's arrival to its answer, waiting included; served requests only.";
        page.histogram(serve::REQUEST_DURATION, help, &counted.durations);
        let by_code = counted.by_code.iter().map(|(code, count)| (code, *count));
        page.counters(serve::REQUESTS, "Answered requests by status code.", label::CODE, by_code);
        page.gauge(serve::IN_FLIGHT, "Requests being served.", Some(present.in_flight as f64));
        page.gauge(serve::QUEUE_DEPTH, "Requests waiting for a free place.", Some(present.waiting as f64));
        page.gauge(serve::READY, "1 when requests are taken.", Some(f64::from(u8::from(present.ready))));
        page
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Counting cannot panic half-way, so a poisoned lock still guards whole figures.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
