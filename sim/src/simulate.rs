//! The loop: second by second, and within each second event by event.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_core::Timestamp;

use crate::book::Book;
use crate::engine::generic::GenericEngine;
use crate::engine::llm::LlmEngine;
use crate::engine::{Engine, Out};
use crate::load::{Arrivals, Request};
use crate::pool::{Pool, Removed};
use crate::run::Run;
use crate::scaler::{Look, Pipeline, Scaler};
use crate::service::Service;
use crate::time::{Micros, SECOND, micros};
use crate::world::{FaultKind, World};

/// What is inside when arrivals end is given this long to end, beyond the time after which requests are dropped.
const RUN_OUT: Duration = Duration::from_secs(3600);

/// Lets `scaler` size the pool of `world` from its start to its end. Deterministic: the same world and an equal scaler give an
/// equal run.
pub fn simulate(world: &World, scaler: &mut dyn Scaler) -> Run {
    let drop_after = micros(world.drop_after);
    match world.service {
        Service::Generic(generic) => {
            Simulation::new(world, GenericEngine::new(generic, drop_after, world.seed)).run(scaler)
        }
        Service::Llm(llm) => Simulation::new(world, LlmEngine::new(llm, drop_after)).run(scaler),
    }
}

struct Simulation<'a, E> {
    world: &'a World,
    engine: E,
    out: Out,
    pool: Pool,
    arrivals: Arrivals<'a>,
    /// When the next request arrives, and what it is; [`Micros::MAX`] when none does.
    arrives_at: Micros,
    arriving: Request,
    /// Requests that come again, soonest first: each comes the same time after it was dropped.
    again: VecDeque<(Micros, Request, u8)>,
    /// Orders that take effect late, soonest first.
    orders: VecDeque<(Micros, u32)>,
    /// Replicas that became ready since the last look.
    started: Vec<(Micros, Micros)>,
    lost: u32,
    now: Micros,
    /// Nothing arrives from here on.
    end: Micros,
}

impl<'a, E: Engine> Simulation<'a, E> {
    fn new(world: &'a World, engine: E) -> Self {
        // Whole seconds: the loop goes by them.
        let end = micros(world.end - world.start) / SECOND * SECOND;
        let warm_up = (micros(world.warm_up) / SECOND * SECOND).min(end);
        let sized = matches!(world.service, Service::Llm(_));
        let until = world.start + Duration::from_micros(end);
        let arrivals = world.load.arrivals(world.start, until, world.seed, sized);
        let mut simulation = Self {
            world,
            engine,
            out: Out { book: Book::new(world.start, warm_up, end), idle: Vec::new(), again: Vec::new() },
            pool: Pool::new(world.start_up, world.seed),
            arrivals,
            arrives_at: Micros::MAX,
            arriving: Request::default(),
            again: VecDeque::new(),
            orders: VecDeque::new(),
            started: Vec::new(),
            lost: 0,
            now: 0,
            end,
        };
        simulation.next_arrival();
        let replicas = world.bounds.clamp(world.replicas);
        simulation.pool.want(replicas);
        for _ in 0..replicas {
            let slot = simulation.pool.create_ready();
            simulation.engine.open(0, slot, &mut simulation.out);
        }
        simulation.settle();
        simulation
    }

    fn run(mut self, scaler: &mut dyn Scaler) -> Run {
        let pipeline = scaler.pipeline();
        let period = whole_seconds(pipeline.period).max(1) * SECOND;
        while self.now < self.end {
            self.strike();
            if self.now > 0 && self.now.is_multiple_of(period) {
                self.consult(scaler, pipeline);
            }
            self.pass_second();
        }
        self.again.clear();
        let last = self.end.saturating_add(micros(RUN_OUT)).saturating_add(micros(self.world.drop_after));
        while self.inside() > 0 && self.now < last {
            self.pass_second();
        }
        let inside = self.inside();
        self.out.book.finish(inside)
    }

    const fn inside(&self) -> u64 {
        self.out.book.in_flight + self.out.book.queued
    }

    fn time(&self, at: Micros) -> Timestamp {
        self.world.start + Duration::from_micros(at)
    }

    /// What holds or strikes at the present second.
    fn strike(&mut self) {
        let (now, next) = (self.time(self.now), self.time(self.now + SECOND));
        for fault in self.world.faults.iter().filter(|fault| now <= fault.from && fault.from < next) {
            match fault.kind {
                FaultKind::CounterReset => self.out.book.reset_counters(),
                FaultKind::LostReplicas(count) => {
                    for _ in 0..count {
                        let Some(slot) = self.pool.lose() else { break };
                        self.engine.lose(slot, &mut self.out);
                        self.lost += 1;
                    }
                    // Whatever keeps the number of replicas puts new ones in their place.
                    self.reconcile();
                }
                _ => {}
            }
        }
        while self.orders.front().is_some_and(|(at, _)| *at <= self.now) {
            if let Some((_, wanted)) = self.orders.pop_front() {
                self.apply(wanted);
            }
        }
        self.settle();
    }

    /// The longest of the faults that hold now and last.
    fn longest(&self, span: impl Fn(FaultKind) -> Option<Duration>) -> Duration {
        let now = self.time(self.now);
        let holding = self.world.faults.iter().filter(|fault| fault.holds(now));
        holding.filter_map(|fault| span(fault.kind)).max().unwrap_or_default()
    }

    fn holds(&self, kind: FaultKind) -> bool {
        let now = self.time(self.now);
        self.world.faults.iter().any(|fault| fault.kind == kind && fault.holds(now))
    }

    fn consult(&mut self, scaler: &mut dyn Scaler, pipeline: Pipeline) {
        for (at, start_up) in std::mem::take(&mut self.started) {
            scaler.started(self.time(at), Duration::from_micros(start_up));
        }
        let look = self.look(pipeline);
        self.lost = 0;
        let wanted = self.world.bounds.clamp(scaler.decide(&look));
        if wanted == self.pool.counts().wanted {
            // Whoever scales writes nothing when the size in force is the one it wants, whatever is on its way.
            return;
        }
        let late = self.longest(|kind| match kind {
            FaultKind::SlowApi(late) => Some(late),
            _ => None,
        });
        // An order never overtakes one that was given before.
        let after = self.orders.back().map_or(0, |(at, _)| *at);
        let at = (self.now + micros(late)).max(after);
        if at <= self.now {
            self.apply(wanted);
        } else {
            self.orders.push_back((at, wanted));
        }
        self.settle();
    }

    fn look(&self, pipeline: Pipeline) -> Look {
        let delay = self.longest(|kind| match kind {
            FaultKind::MetricDelay(delay) => Some(delay),
            _ => None,
        });
        let age = whole_seconds(pipeline.age.saturating_add(delay));
        let window = whole_seconds(pipeline.window).max(1);
        let index = |seconds: u64| usize::try_from(seconds).unwrap_or(usize::MAX);
        let figures = self.out.book.figures(index(age), index(window));
        let figures = figures.filter(|_| !self.holds(FaultKind::MetricGap));
        let is_nan = self.holds(FaultKind::MetricNan);
        Look {
            now: self.time(self.now),
            replicas: self.pool.counts(),
            fresh: self.pool.ready_after(self.now.saturating_sub(age.saturating_mul(SECOND))),
            lost: self.lost,
            crash_loop: self.pool.is_crash_looping(),
            age: Duration::from_secs(age),
            figures: if is_nan { figures.map(|figures| figures.not_a_number()) } else { figures },
        }
    }

    fn apply(&mut self, wanted: u32) {
        let before = self.pool.counts().wanted;
        if wanted != before {
            self.out.book.action(before, wanted);
            self.pool.want(wanted);
        }
        self.reconcile();
    }

    /// Orders what is missing and gives up what is too much.
    fn reconcile(&mut self) {
        let wanted = self.pool.counts().wanted;
        while self.pool.counts().supply() < wanted {
            self.pool.create(self.now);
        }
        while self.pool.counts().supply() > wanted {
            match self.pool.remove() {
                Some(Removed::Draining(slot)) if self.engine.close(slot) => self.pool.drained(slot),
                Some(_) => {}
                None => break,
            }
        }
    }

    /// Takes note of what has changed among the replicas and of what comes again.
    fn settle(&mut self) {
        for slot in self.out.idle.drain(..) {
            self.pool.drained(slot);
        }
        self.out.book.replicas(self.pool.counts());
        if let Some(retries) = self.world.retries.filter(|_| self.now < self.end) {
            let at = self.now + micros(retries.after);
            self.again.extend(self.out.again.drain(..).map(|(request, tries)| (at, request, tries)));
        }
        // What is dropped after the end comes no more.
        self.out.again.clear();
    }

    fn pass_second(&mut self) {
        let end = self.now + SECOND;
        loop {
            let due = self.pool.next_due().unwrap_or(Micros::MAX);
            let again = self.again.front().map_or(Micros::MAX, |(at, ..)| *at);
            let limit = end.min(due).min(again);
            if self.serve_until(limit) {
                continue;
            }
            self.now = limit;
            self.out.book.pass(limit);
            if limit == end {
                break;
            } else if limit == due {
                self.due();
            } else {
                self.come_again();
            }
        }
        self.out.book.close_second(self.pool.counts().wanted, self.engine.kv_utilisation());
    }

    /// Lets requests arrive and be served up to `limit`; whether replicas or what comes again have changed before it.
    fn serve_until(&mut self, limit: Micros) -> bool {
        loop {
            let within = self.engine.next().unwrap_or(Micros::MAX);
            let next = self.arrives_at.min(within);
            if next >= limit {
                return false;
            }
            self.now = next;
            self.out.book.pass(next);
            if next == within {
                self.engine.advance(next, &mut self.out);
                if !self.out.idle.is_empty() || !self.out.again.is_empty() {
                    self.settle();
                    return true;
                }
            } else {
                self.arrive();
            }
        }
    }

    fn arrive(&mut self) {
        let tries = self.world.retries.map_or(0, |retries| retries.times);
        self.out.book.arrived(self.arriving.prompt_tokens);
        self.engine.arrive(self.arrives_at, self.arriving, tries, &mut self.out);
        self.next_arrival();
    }

    fn next_arrival(&mut self) {
        self.arrives_at = match self.arrivals.next() {
            Some((at, request)) => {
                self.arriving = request;
                at
            }
            None => Micros::MAX,
        };
    }

    fn come_again(&mut self) {
        if let Some((at, request, tries)) = self.again.pop_front() {
            self.out.book.arrived(request.prompt_tokens);
            self.engine.arrive(at, request, tries, &mut self.out);
        }
    }

    /// A starting replica has come to the end of its start.
    fn due(&mut self) {
        if self.holds(FaultKind::FailedStarts) {
            self.lost += self.pool.fail_due(self.now);
        } else if let Some((slot, start_up)) = self.pool.ready(self.now) {
            self.started.push((self.now, start_up));
            self.engine.open(self.now, slot, &mut self.out);
        }
        self.settle();
    }
}

fn whole_seconds(span: Duration) -> u64 {
    span.saturating_add(Duration::from_millis(500)).as_secs()
}
