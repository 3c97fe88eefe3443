//! Replicas that serve a fixed number of requests at a time, each for a time of its own. The balancer is ideal: a request waits
//! only while no replica has room.

use std::collections::VecDeque;

use crate::book::Ended;
use crate::engine::agenda::{Agenda, Ends};
use crate::engine::line::{Line, Waiting};
use crate::engine::{Engine, Out};
use crate::load::{Request, SERVICE_STREAM, stream};
use crate::pool::Slot;
use crate::service::{Generic, Times};
use crate::time::{Micros, micros};

/// A request being served; ordered by its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Served {
    ends: Micros,
    slot: u32,
    arrived: Micros,
    tries: u8,
}

impl Ends for Served {
    fn ends(&self) -> Micros {
        self.ends
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Replica {
    is_open: bool,
    serving: u32,
}

#[derive(Debug)]
pub(crate) struct GenericEngine {
    service: Generic,
    latency: Micros,
    times: Times,
    replicas: Vec<Replica>,
    /// Free places of open replicas, the longest free first: that spreads requests.
    places: VecDeque<u32>,
    serving: Agenda<Served>,
    line: Line<Micros>,
}

impl GenericEngine {
    pub(crate) fn new(service: Generic, drop_after: Micros, seed: u64) -> Self {
        Self {
            service,
            latency: micros(service.latency),
            times: service.time.times(stream(seed, SERVICE_STREAM)),
            replicas: Vec::new(),
            places: VecDeque::new(),
            serving: Agenda::new(),
            line: Line::new(drop_after),
        }
    }

    fn serve(&mut self, now: Micros, slot: u32, waiting: Waiting<Micros>, out: &mut Out) {
        let Waiting { arrived, tries, task, .. } = waiting;
        self.replicas[slot as usize].serving += 1;
        out.book.in_flight += 1;
        self.serving.push(Served { ends: now + task, slot, arrived, tries });
    }

    fn end(&mut self, now: Micros, served: Served, out: &mut Out) {
        let late = served.ends - served.arrived > self.latency;
        let (arrived, at) = (served.arrived, served.ends);
        out.book.completed(Ended { arrived, at, late, output_tokens: 0, per_output_token: None });
        out.book.in_flight -= 1;
        let replica = &mut self.replicas[served.slot as usize];
        replica.serving -= 1;
        if !replica.is_open {
            if replica.serving == 0 {
                out.idle.push(served.slot as usize);
            }
        } else if let Some(waiting) = self.line.pop(out) {
            self.serve(now, served.slot, waiting, out);
        } else {
            self.places.push_back(served.slot);
        }
    }
}

impl Engine for GenericEngine {
    fn next(&self) -> Option<Micros> {
        let end = self.serving.first().map(|served| served.ends);
        match (end, self.line.next_drop()) {
            (Some(end), Some(drop)) => Some(end.min(drop)),
            (end, drop) => end.or(drop),
        }
    }

    fn advance(&mut self, now: Micros, out: &mut Out) {
        while let Some(served) = self.serving.first().copied().filter(|served| served.ends <= now) {
            self.serving.pop();
            self.end(now, served, out);
        }
        self.line.drop_due(now, out);
    }

    fn arrive(&mut self, now: Micros, request: Request, tries: u8, out: &mut Out) {
        // Drawn at once, so that the k-th request takes the same time whoever scales.
        let task = self.times.draw();
        let waiting = Waiting { arrived: now, request, tries, task };
        match self.places.pop_front() {
            Some(slot) => self.serve(now, slot, waiting, out),
            None => self.line.push(waiting, out),
        }
    }

    fn open(&mut self, now: Micros, slot: Slot, out: &mut Out) {
        if self.replicas.len() <= slot {
            self.replicas.resize(slot + 1, Replica::default());
        }
        self.replicas[slot] = Replica { is_open: true, serving: 0 };
        let slot = u32::try_from(slot).expect("slots are as few as replicas");
        for _ in 0..self.service.concurrency {
            match self.line.pop(out) {
                Some(waiting) => self.serve(now, slot, waiting, out),
                None => self.places.push_back(slot),
            }
        }
    }

    fn close(&mut self, slot: Slot) -> bool {
        self.replicas[slot].is_open = false;
        self.places.retain(|place| *place as usize != slot);
        self.replicas[slot].serving == 0
    }

    fn lose(&mut self, slot: Slot, out: &mut Out) {
        self.replicas[slot] = Replica::default();
        self.places.retain(|place| *place as usize != slot);
        for served in self.serving.take(|served| served.slot as usize == slot) {
            out.book.in_flight -= 1;
            out.drop_request(served.arrived, Request::default(), served.tries);
        }
    }
}
