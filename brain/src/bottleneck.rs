//! What limits a workload, as far as what its mind is told can show.

use tidegate_core::Role;

use crate::brain::Brain;
use crate::event::{Progress, Seen};

/// From this share on, memory for keys and values is what a new request waits for: engines keep a little back for those that run.
const KV_FULL: f64 = 0.95;

/// What limits a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// Nothing: what comes is worked on at once.
    None,
    /// Requests wait for a free replica.
    Queue,
    /// Requests wait because the memory for attention keys and values is full.
    GpuMemory,
    /// Replicas end again and again, or steps do not advance.
    Stalled,
}

impl Bottleneck {
    /// As the API, statuses and the page say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Queue => "queue",
            Self::GpuMemory => "gpu_memory",
            Self::Stalled => "stalled",
        }
    }

    fn of_serving(seen: &Seen) -> Option<Self> {
        if seen.crash_loop {
            return Some(Self::Stalled);
        }
        let waits = seen.queued? > f64::from(seen.replicas.ready.max(1));
        let full = seen.kv_utilisation.is_some_and(|share| share >= KV_FULL);
        Some(match (waits, full) {
            (true, true) => Self::GpuMemory,
            (true, false) => Self::Queue,
            (false, _) => Self::None,
        })
    }

    fn of_training(progress: &Progress) -> Option<Self> {
        let stands = progress.steps_per_second? == 0.0 && progress.workers.ready > 0;
        Some(if stands { Self::Stalled } else { Self::None })
    }
}

impl Brain {
    /// What limits it; `None`: not known.
    #[must_use]
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        match self.role() {
            Role::Serving => self.seen().and_then(Bottleneck::of_serving),
            Role::Training => self.progress().and_then(Bottleneck::of_training),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{ReplicaCounts, Timestamp};

    use super::*;

    fn seen(queued: Option<f64>, kv: Option<f64>) -> Seen {
        Seen {
            at: Timestamp::EPOCH,
            replicas: ReplicaCounts { wanted: 2, ready: 2, ..ReplicaCounts::default() },
            flow: None,
            in_flight: None,
            queued,
            kv_utilisation: kv,
            lost: 0,
            crash_loop: false,
        }
    }

    #[test]
    fn a_queue_is_told_from_full_memory_and_from_what_is_unknown() {
        let of = |queued, kv| Bottleneck::of_serving(&seen(queued, kv)).map(Bottleneck::as_str);
        assert_eq!(of(None, Some(0.99)), None);
        assert_eq!(of(Some(1.0), Some(0.99)), Some("none"));
        assert_eq!(of(Some(9.0), None), Some("queue"));
        assert_eq!(of(Some(9.0), Some(0.5)), Some("queue"));
        assert_eq!(of(Some(9.0), Some(0.97)), Some("gpu_memory"));
        let looping = Seen { crash_loop: true, ..seen(None, None) };
        assert_eq!(Bottleneck::of_serving(&looping), Some(Bottleneck::Stalled));
    }

    #[test]
    fn steps_that_stand_still_are_told() {
        let progress = |steps, ready| Progress {
            at: Timestamp::EPOCH,
            workers: ReplicaCounts { wanted: 2, ready, ..ReplicaCounts::default() },
            samples_per_second: None,
            steps_per_second: steps,
            resizing: false,
        };
        let of = |steps, ready| Bottleneck::of_training(&progress(steps, ready));
        assert_eq!(of(None, 2), None);
        assert_eq!(of(Some(0.0), 2), Some(Bottleneck::Stalled));
        assert_eq!(of(Some(0.0), 0), Some(Bottleneck::None));
        assert_eq!(of(Some(3.0), 2), Some(Bottleneck::None));
    }
}
