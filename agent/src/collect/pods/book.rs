//! Keeps the table of pods by the changes that are told. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::{PODS_MAX, Pod, PodTable};

/// One thing that is told of the node's pods.
#[derive(Debug)]
pub(super) enum Change {
    /// All pods will be told again, and then [`Change::InStep`].
    Began,
    /// A pod is as this one is, new or changed.
    Is(Box<Pod>),
    /// The pod of this uid is gone.
    Gone(String),
    /// What was told is all there is.
    InStep,
}

/// Pods as they are told.
#[derive(Debug, Default)]
pub(super) struct Book {
    pods: BTreeMap<String, Arc<Pod>>,
    in_step: bool,
}

impl Book {
    /// Takes a change; gives the table when it can be relied on.
    pub(super) fn take(&mut self, change: Change) -> Option<PodTable> {
        match change {
            Change::Began => *self = Self::default(),
            Change::Is(pod) => {
                if self.pods.len() < PODS_MAX || self.pods.contains_key(&pod.uid) {
                    self.pods.insert(pod.uid.clone(), Arc::new(*pod));
                }
            }
            Change::Gone(uid) => {
                self.pods.remove(&uid);
            }
            Change::InStep => self.in_step = true,
        }
        self.in_step.then(|| PodTable::new(self.pods.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(uid: &str) -> Change {
        Change::Is(Box::new(Pod { uid: uid.into(), ..Pod::default() }))
    }

    fn uids(table: Option<PodTable>) -> Option<Vec<String>> {
        Some(table?.pods().map(|pod| pod.uid.clone()).collect())
    }

    #[test]
    fn nothing_is_told_before_all_is_known() {
        let mut book = Book::default();
        assert!(book.take(is("b")).is_none());
        assert_eq!(uids(book.take(Change::InStep)).unwrap(), ["b"]);
        assert_eq!(uids(book.take(is("a"))).unwrap(), ["a", "b"]);
        assert_eq!(uids(book.take(Change::Gone("b".into()))).unwrap(), ["a"]);
        assert!(book.take(Change::Began).is_none(), "the old pods are not told of as if they were all");
        assert!(book.take(is("c")).is_none());
        assert_eq!(uids(book.take(Change::InStep)).unwrap(), ["c"]);
    }

    #[test]
    fn pods_beyond_the_bound_are_left_out() {
        let mut book = Book::default();
        (0..PODS_MAX + 3).for_each(|at| drop(book.take(is(&format!("{at:05}")))));
        drop(book.take(is("00000")));
        assert_eq!(book.take(Change::InStep).unwrap().len(), PODS_MAX);
    }
}
