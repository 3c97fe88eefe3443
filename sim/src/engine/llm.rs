//! Replicas of a language model with continuous batching. While nothing is read and nobody leaves, iterations are alike, so a whole
//! stretch of them is one event; a request that comes in between ends the stretch with the iteration that is under way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::book::Ended;
use crate::engine::line::{Line, Waiting};
use crate::engine::{Engine, Out};
use crate::load::Request;
use crate::pool::Slot;
use crate::service::Llm;
use crate::time::{Micros, micros, micros_of};

/// A request in a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Inside {
    arrived: Micros,
    prompt_tokens: u32,
    output_tokens: u32,
    reserved: u32,
    tries: u8,
}

/// A request of which tokens are written; ordered by the iteration that writes its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Writing {
    last: u64,
    first_token: Micros,
    inside: Inside,
}

/// What routing looks at, apart from the rest so that it finds all replicas side by side.
#[derive(Debug, Clone, Copy, Default)]
struct Burden {
    is_open: bool,
    requests: u32,
    reserved: u32,
    /// Prompt tokens not read yet, and how many chunks that makes.
    unread: u32,
    chunks: u32,
}

impl Burden {
    const fn set_unread(&mut self, unread: u32, chunk: u32) {
        self.unread = unread;
        self.chunks = unread.div_ceil(chunk);
    }
}

#[derive(Debug, Default)]
struct Replica {
    /// Requests whose prompt is not read yet, with the tokens left.
    reading: VecDeque<(Inside, u32)>,
    writing: BinaryHeap<Reverse<Writing>>,
    /// Iterations that are over.
    iterations: u64,
    stretch: Stretch,
}

/// Iterations under way.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    since: Micros,
    each: Micros,
    /// How many; 0: idle.
    count: u64,
    /// Prompt tokens that its only iteration reads.
    reads: u32,
    /// Tells a stretch from one that was planned before it and cut.
    version: u64,
}

impl Stretch {
    fn ends(&self) -> Micros {
        self.since.saturating_add(self.each.saturating_mul(self.count))
    }
}

#[derive(Debug)]
pub(crate) struct LlmEngine {
    service: Llm,
    ttft: Micros,
    tpot: Micros,
    replicas: Vec<Replica>,
    burdens: Vec<Burden>,
    /// Ends of stretches: when, where, and which.
    ends: BinaryHeap<Reverse<(Micros, Slot, u64)>>,
    line: Line<()>,
}

impl LlmEngine {
    pub(crate) fn new(service: Llm, drop_after: Micros) -> Self {
        Self {
            service: Llm { chunk: service.chunk.max(1), ..service },
            ttft: micros(service.ttft),
            tpot: micros(service.tpot),
            replicas: Vec::new(),
            burdens: Vec::new(),
            ends: BinaryHeap::new(),
            line: Line::new(drop_after),
        }
    }

    /// Where a request goes: to the replica with the fewest chunks to read, then with the fewest requests. `None`: none has room.
    fn route(&self, request: Request) -> Option<Slot> {
        let reserve = self.reserve(request);
        let most = self.service.kv_tokens - reserve;
        // Every arrival looks at every replica, so this is one comparison for each, without a branch.
        let weight = |burden: &Burden| {
            let fits = burden.is_open & (burden.requests < self.service.batch) & (burden.reserved <= most);
            if fits { u64::from(burden.chunks) << 32 | u64::from(burden.requests) } else { u64::MAX }
        };
        let lightest = self.burdens.iter().map(weight).min().filter(|weight| *weight < u64::MAX)?;
        self.burdens.iter().position(|burden| weight(burden) == lightest)
    }

    fn reserve(&self, request: Request) -> u32 {
        request.prompt_tokens.saturating_add(request.output_tokens).min(self.service.kv_tokens)
    }

    fn admit(&mut self, now: Micros, slot: Slot, waiting: Waiting<()>, out: &mut Out) {
        let Waiting { arrived, request, tries, .. } = waiting;
        let reserved = self.reserve(request);
        let inside = Inside {
            arrived,
            prompt_tokens: request.prompt_tokens.max(1),
            output_tokens: request.output_tokens.max(1),
            reserved,
            tries,
        };
        let (replica, burden) = (&mut self.replicas[slot], &mut self.burdens[slot]);
        burden.requests += 1;
        burden.reserved += reserved;
        burden.set_unread(burden.unread.saturating_add(inside.prompt_tokens), self.service.chunk);
        replica.reading.push_back((inside, inside.prompt_tokens));
        out.book.in_flight += 1;
        if replica.stretch.count == 0 {
            self.begin(now, slot);
        } else {
            let elapsed = now - replica.stretch.since;
            let count = elapsed.div_ceil(replica.stretch.each).max(1);
            if count < replica.stretch.count {
                replica.stretch.count = count;
                self.schedule(slot);
            }
        }
    }

    /// Plans the iterations from now on.
    fn begin(&mut self, now: Micros, slot: Slot) {
        let replica = &mut self.replicas[slot];
        let running = u32::try_from(replica.writing.len()).unwrap_or(u32::MAX);
        let reads = self.burdens[slot].unread.min(self.service.chunk);
        let count = match replica.writing.peek() {
            _ if reads > 0 => 1,
            Some(Reverse(next)) => next.last - replica.iterations,
            None => 0,
        };
        let each = micros_of(self.service.iteration_s(running, reads)).max(1);
        replica.stretch = Stretch { since: now, each, count, reads, version: replica.stretch.version };
        if count > 0 {
            self.schedule(slot);
        }
    }

    fn schedule(&mut self, slot: Slot) {
        let stretch = &mut self.replicas[slot].stretch;
        stretch.version += 1;
        self.ends.push(Reverse((stretch.ends(), slot, stretch.version)));
    }

    /// A stretch is over: what was read gives its first token, what was written to the end leaves.
    fn finish(&mut self, now: Micros, slot: Slot, out: &mut Out) {
        let replica = &mut self.replicas[slot];
        replica.iterations += replica.stretch.count;
        let mut reads = replica.stretch.reads;
        let burden = &mut self.burdens[slot];
        burden.set_unread(burden.unread - reads, self.service.chunk);
        while let Some((inside, left)) = replica.reading.front_mut() {
            let read = reads.min(*left);
            *left -= read;
            reads -= read;
            if *left > 0 {
                break;
            }
            let last = replica.iterations + u64::from(inside.output_tokens - 1);
            replica.writing.push(Reverse(Writing { last, first_token: now, inside: *inside }));
            replica.reading.pop_front();
        }
        replica.stretch.count = 0;
        while self.replicas[slot]
            .writing
            .peek()
            .is_some_and(|next| next.0.last <= self.replicas[slot].iterations)
        {
            if let Some(Reverse(written)) = self.replicas[slot].writing.pop() {
                self.end(now, slot, written, out);
            }
        }
        if !self.burdens[slot].is_open && self.burdens[slot].requests == 0 {
            out.idle.push(slot);
        }
        self.admit_waiting(now, out);
        if self.replicas[slot].stretch.count == 0 {
            self.begin(now, slot);
        }
    }

    fn end(&mut self, now: Micros, slot: Slot, written: Writing, out: &mut Out) {
        let Inside { arrived, output_tokens, reserved, .. } = written.inside;
        self.burdens[slot].requests -= 1;
        self.burdens[slot].reserved -= reserved;
        let first = written.first_token - arrived;
        let per_output_token = (now - written.first_token).checked_div(u64::from(output_tokens - 1));
        let late = first > self.ttft || per_output_token.is_some_and(|span| span > self.tpot);
        out.book.completed(Ended { arrived, at: now, late, output_tokens, per_output_token });
        out.book.in_flight -= 1;
    }

    fn admit_waiting(&mut self, now: Micros, out: &mut Out) {
        while let Some(slot) = self.line.first().and_then(|first| self.route(first.request)) {
            if let Some(waiting) = self.line.pop(out) {
                self.admit(now, slot, waiting, out);
            }
        }
    }
}

impl Engine for LlmEngine {
    fn next(&self) -> Option<Micros> {
        let end = self.ends.peek().map(|end| end.0.0);
        match (end, self.line.next_drop()) {
            (Some(end), Some(drop)) => Some(end.min(drop)),
            (end, drop) => end.or(drop),
        }
    }

    fn advance(&mut self, now: Micros, out: &mut Out) {
        while let Some(Reverse((_, slot, version))) = self.ends.peek().copied().filter(|end| end.0.0 <= now) {
            self.ends.pop();
            if self.replicas[slot].stretch.version == version {
                self.finish(now, slot, out);
            }
        }
        self.line.drop_due(now, out);
    }

    fn arrive(&mut self, now: Micros, request: Request, tries: u8, out: &mut Out) {
        let waiting = Waiting { arrived: now, request, tries, task: () };
        match self.route(request).filter(|_| self.line.is_empty()) {
            Some(slot) => self.admit(now, slot, waiting, out),
            None => self.line.push(waiting, out),
        }
    }

    fn open(&mut self, now: Micros, slot: Slot, out: &mut Out) {
        if self.replicas.len() <= slot {
            self.replicas.resize_with(slot + 1, Replica::default);
            self.burdens.resize(slot + 1, Burden::default());
        }
        // The version goes on: an end that a former replica planned must not be taken for one of this.
        let version = self.replicas[slot].stretch.version + 1;
        let stretch = Stretch { version, ..Stretch::default() };
        self.replicas[slot] = Replica { stretch, ..Replica::default() };
        self.burdens[slot] = Burden { is_open: true, ..Burden::default() };
        self.admit_waiting(now, out);
    }

    fn close(&mut self, slot: Slot) -> bool {
        self.burdens[slot].is_open = false;
        self.burdens[slot].requests == 0
    }

    fn lose(&mut self, slot: Slot, out: &mut Out) {
        let version = self.replicas[slot].stretch.version + 1;
        let stretch = Stretch { version, ..Stretch::default() };
        self.burdens[slot] = Burden::default();
        let lost = std::mem::replace(&mut self.replicas[slot], Replica { stretch, ..Replica::default() });
        let written = lost.writing.into_iter().map(|writing| writing.0.inside);
        for inside in lost.reading.into_iter().map(|(inside, _)| inside).chain(written) {
            let request =
                Request { prompt_tokens: inside.prompt_tokens, output_tokens: inside.output_tokens };
            out.book.in_flight -= 1;
            out.drop_request(inside.arrived, request, inside.tries);
        }
    }

    fn kv_utilisation(&self) -> Option<f64> {
        let open = self.burdens.iter().filter(|burden| burden.is_open);
        let (reserved, replicas) =
            open.fold((0u64, 0u32), |(sum, n), burden| (sum + u64::from(burden.reserved), n + 1));
        (replicas > 0).then(|| reserved as f64 / (f64::from(replicas) * f64::from(self.service.kv_tokens)))
    }
}
