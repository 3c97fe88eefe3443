//! What ends when: a calendar queue (Brown, *Communications of the ACM* 31, 1988). Times are sorted into short slots first and within
//! the present slot only, which is cheaper than one heap where hundreds are under way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Micros;

/// Length of a slot: 8 ms, in which a few requests end.
const SLOT_BITS: u32 = 13;
/// Slots kept: four seconds ahead. What ends later waits in a heap.
const SLOTS: u64 = 512;

/// Something with an end; ordered by it.
pub(crate) trait Ends: Ord + Copy {
    fn ends(&self) -> Micros;
}

/// Things by their ends.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// Of the present slot and before, the latest first. Empty only when there is nothing at all.
    present: Vec<T>,
    slot: u64,
    slots: Vec<Vec<T>>,
    /// How many are in `slots`.
    ahead: usize,
    later: BinaryHeap<Reverse<T>>,
}

impl<T: Ends> Agenda<T> {
    pub(crate) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { present: Vec::new(), slot: 0, slots, ahead: 0, later: BinaryHeap::new() }
    }

    pub(crate) fn push(&mut self, item: T) {
        let slot = item.ends() >> SLOT_BITS;
        if self.present.is_empty() {
            // Nothing is before it: time may go on to it.
            self.slot = slot;
        }
        if slot <= self.slot {
            let at = self.present.partition_point(|other| *other > item);
            self.present.insert(at, item);
        } else if slot < self.slot + SLOTS {
            self.slots[index(slot)].push(item);
            self.ahead += 1;
        } else {
            self.later.push(Reverse(item));
        }
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.present.last()
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let first = self.present.pop()?;
        if self.present.is_empty() {
            self.refill();
        }
        Some(first)
    }

    /// Takes out what `is_wanted` says, in no order.
    pub(crate) fn take(&mut self, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut all: Vec<T> = self.present.drain(..).collect();
        all.extend(self.slots.iter_mut().flat_map(|slot| slot.drain(..)));
        all.extend(self.later.drain().map(|item| item.0));
        self.ahead = 0;
        // Earliest first: the first one put back sets the present slot.
        all.sort_unstable();
        let (taken, kept): (Vec<T>, Vec<T>) = all.into_iter().partition(is_wanted);
        kept.into_iter().for_each(|item| self.push(item));
        taken
    }

    /// Goes on to the next slot in which something ends.
    fn refill(&mut self) {
        let due = |later: &BinaryHeap<Reverse<T>>| later.peek().map(|item| item.0.ends() >> SLOT_BITS);
        while self.present.is_empty() && (self.ahead > 0 || !self.later.is_empty()) {
            self.slot = match due(&self.later) {
                Some(slot) if self.ahead == 0 => slot,
                _ => self.slot + 1,
            };
            // The present is empty: its room serves the slot from now on.
            std::mem::swap(&mut self.present, &mut self.slots[index(self.slot)]);
            self.ahead -= self.present.len();
            while due(&self.later).is_some_and(|slot| slot <= self.slot) {
                self.present.extend(self.later.pop().map(|item| item.0));
            }
            if self.present.len() > 1 {
                self.present.sort_unstable_by(|a, b| b.cmp(a));
            }
        }
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Ends for (Micros, u32) {
        fn ends(&self) -> Micros {
            self.0
        }
    }

    proptest! {
        /// Steps: push something that ends so much later than now, or pop; take out what has an odd number at the end.
        #[test]
        fn gives_things_by_their_ends(steps in prop::collection::vec(prop::option::weighted(0.6, 0u64..20_000_000), 0..300)) {
            let (mut agenda, mut heap, mut now) = (Agenda::new(), BinaryHeap::new(), 0);
            for (number, step) in (0u32..).zip(steps) {
                if let Some(span) = step {
                    agenda.push((now + span, number));
                    heap.push(Reverse((now + span, number)));
                } else {
                    let expected = heap.pop().map(|item| item.0);
                    prop_assert_eq!(agenda.pop(), expected);
                    now = expected.map_or(now, |item| item.0);
                }
                prop_assert_eq!(agenda.first(), heap.peek().map(|item| &item.0));
            }
            let is_odd = |item: &(Micros, u32)| item.1 % 2 == 1;
            let mut taken = agenda.take(is_odd);
            taken.sort_unstable();
            let (odd, even): (Vec<_>, Vec<_>) = heap.into_sorted_vec().into_iter().rev().map(|item| item.0).partition(is_odd);
            prop_assert_eq!(taken, odd);
            prop_assert_eq!(std::iter::from_fn(|| agenda.pop()).collect::<Vec<_>>(), even);
        }
    }
}
