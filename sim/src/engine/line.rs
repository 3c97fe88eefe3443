//! The one line, first in, first out, in which requests wait while no replica can take them.

use std::collections::VecDeque;

use crate::engine::Out;
use crate::load::Request;
use crate::time::Micros;

/// A request that waits, with what its engine needs to know to serve it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting<T> {
    pub(crate) arrived: Micros,
    pub(crate) request: Request,
    pub(crate) tries: u8,
    pub(crate) task: T,
}

/// Requests that wait, each for at most `drop_after`: that is what bounds it.
#[derive(Debug)]
pub(crate) struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    drop_after: Micros,
}

impl<T: Copy> Line<T> {
    pub(crate) const fn new(drop_after: Micros) -> Self {
        Self { waiting: VecDeque::new(), drop_after }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, waiting: Waiting<T>, out: &mut Out) {
        self.waiting.push_back(waiting);
        out.book.queued += 1;
    }

    pub(crate) fn first(&self) -> Option<&Waiting<T>> {
        self.waiting.front()
    }

    pub(crate) fn pop(&mut self, out: &mut Out) -> Option<Waiting<T>> {
        let first = self.waiting.pop_front()?;
        out.book.queued -= 1;
        Some(first)
    }

    /// When the first is dropped.
    pub(crate) fn next_drop(&self) -> Option<Micros> {
        self.waiting.front().map(|first| first.arrived.saturating_add(self.drop_after))
    }

    /// Drops those whose time is up.
    pub(crate) fn drop_due(&mut self, now: Micros, out: &mut Out) {
        while self.next_drop().is_some_and(|at| at <= now) {
            if let Some(late) = self.pop(out) {
                out.drop_request(late.arrived, late.request, late.tries);
            }
        }
    }
}
