//! What the control loop reads of the collectors, and which workloads' metrics a user has switched off as a fault.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_actuator::control::Readings;
use tidegate_agent::collect::LatestValues;
use tidegate_agent::collect::SourceName;
use tidegate_agent::collect::latest::Giver;
use tidegate_core::{Signal, Subject, Timestamp, WorkloadId};

/// The collectors' latest values.
#[derive(Debug)]
pub(super) struct Collected {
    latest: Arc<LatestValues>,
    withheld: Mutex<BTreeSet<WorkloadId>>,
}

/// The giver under which the loop itself puts what it knows better than any collector.
pub(super) const LOOP: Giver = Giver::Part("loop");

impl Collected {
    pub(super) fn new(latest: Arc<LatestValues>) -> Self {
        Self { latest, withheld: Mutex::default() }
    }

    /// Switches a workload's metrics off or on again.
    pub(super) fn withhold(&self, id: &WorkloadId, off: bool) {
        let mut withheld = self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
        if off {
            withheld.insert(id.clone());
        } else {
            withheld.remove(id);
        }
    }
}

/// Who tells of a workload what it says itself: asked for it before telling it unasked.
const SELF_TOLD: [Giver; 2] = [Giver::Source(SourceName::Scrape), Giver::Source(SourceName::Otlp)];

impl Readings for Collected {
    fn latest(&self, workload: &WorkloadId, signal: Signal) -> Option<(f64, Timestamp)> {
        let subject = Subject::Workload(workload.clone());
        let of = |giver| self.latest.get_from(giver, &subject, signal);
        SELF_TOLD.into_iter().find_map(of).map(|latest| (latest.value, latest.at))
    }

    fn answering(&self, workload: &WorkloadId) -> Option<u32> {
        let subject = Subject::Workload(workload.clone());
        let of = |giver| {
            Signal::ALL.iter().find_map(|signal| self.latest.get_from(giver, &subject, *signal)?.coverage)
        };
        SELF_TOLD.into_iter().find_map(of).map(|coverage| coverage.answered)
    }

    fn withheld(&self, workload: &WorkloadId) -> bool {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner).contains(workload)
    }
}
