//! What the same arrivals would have cost under other policies: replayed beside the real thing, second by second.

use std::time::Duration;

use tidegate_actuator::GatewayStats;
use tidegate_core::{Capacity, Lead, ServingPolicy, Timestamp, WorkloadId};
use tidegate_sim::fluid::{Rival, RivalKind, Service, Totals};

/// Weight of a new reading of the time that a request takes when it need not wait.
const SERVICE_WEIGHT: f64 = 0.1;
/// Waiting requests are dropped after this, as by the gateway's default.
const DROP_AFTER: Duration = Duration::from_secs(30);

/// The comparison for one serving workload.
#[derive(Debug)]
pub(super) struct Rivals {
    policy: ServingPolicy,
    id: WorkloadId,
    rivals: Vec<Rival>,
    /// Time that a request takes when it need not wait, in seconds.
    service_s: Option<f64>,
    /// What Tidegate itself has held and missed, as seen.
    pub(super) own: Totals,
    pub(super) since: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// One second as seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Second {
    pub(super) at: Timestamp,
    pub(super) arrivals: f64,
    pub(super) ended: f64,
    pub(super) missed: f64,
    pub(super) held: u32,
    pub(super) ready: u32,
}

impl Rivals {
    pub(super) fn new(id: WorkloadId, policy: ServingPolicy) -> Self {
        let own = Totals::default();
        Self { policy, id, rivals: Vec::new(), service_s: None, own, since: None, last: None }
    }

    /// Learns the time that a request takes when it need not wait.
    pub(super) fn learn_service(&mut self, before: &GatewayStats, now: &GatewayStats) {
        let waited = before.queued > 0 || now.queued > 0;
        let Some(seconds) =
            now.latency.since(&before.latency).filter(|_| !waited).and_then(|h| h.quantile(0.5))
        else {
            return;
        };
        let service = self.service_s.get_or_insert(seconds);
        *service += SERVICE_WEIGHT * (seconds - *service);
    }

    /// Lets one second pass for all. The comparison begins when the first replica is ready and its capacity is known.
    pub(super) fn step(&mut self, second: Second, capacity: Option<Capacity>, lead: Option<Lead>) {
        let window = second.at.since(self.last.replace(second.at).unwrap_or(second.at)).as_secs_f64();
        let (Some(capacity), Some(lead), Some(service_s)) = (capacity, lead, self.service_s) else { return };
        if self.since.is_none() {
            if second.ready == 0 {
                return;
            }
            self.since = Some(second.at);
            let kinds = [RivalKind::Reactive, RivalKind::Hpa];
            self.rivals = kinds.map(|kind| Rival::new(kind, &self.id, &self.policy, second.held)).into();
        }
        self.own.replica_seconds += f64::from(second.held) * window;
        self.own.ended += second.ended;
        self.own.missed += second.missed;
        let slack = (self.policy.slo.latency.get().as_secs_f64() - service_s).max(0.0);
        let service = Service {
            capacity_rps: capacity.mid,
            lead: lead.p50,
            wait_max: Duration::from_secs_f64(slack),
            drop_after: DROP_AFTER,
        };
        for rival in &mut self.rivals {
            rival.step(second.at, second.arrivals, &service);
        }
    }

    /// Name and totals of every policy, Tidegate first.
    pub(super) fn totals(&self) -> Vec<(&'static str, Totals)> {
        let own = ("tidegate", self.own);
        std::iter::once(own)
            .chain(self.rivals.iter().map(|rival| (rival.kind().as_str(), rival.totals())))
            .collect()
    }

    pub(super) const fn workload(&self) -> &WorkloadId {
        &self.id
    }
}
