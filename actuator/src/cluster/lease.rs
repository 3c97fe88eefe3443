//! One leader per cluster, by a Lease. Only the leader writes; the others watch, learn and wait.
//!
//! As in client-go's `leaderelection`: a lease is taken over when its record has not changed for its duration *as seen by this
//! process's own clock*, so that clocks that differ between nodes do no harm; every write carries the resource version that was
//! read, so that of two that try, one fails.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// How long a lease holds without being renewed.
const LEASE_FOR: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long steps down, well before another may take over.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_secs(2);
/// A request for the lease that takes longer hangs.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Whose lease it is, and where.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Namespace of the lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this process is: unique, such as the pod's name.
    pub identity: String,
}

/// Who leads, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leader {
    /// This process.
    This,
    /// Another, whose lease holds.
    Another,
    /// Nobody, or nobody that is known of.
    #[default]
    Nobody,
}

impl Leader {
    /// Whether this process leads.
    #[must_use]
    pub const fn is_this(self) -> bool {
        matches!(self, Self::This)
    }
}

/// Takes part in the election until `stop`, then gives the lease back. Who leads is told to `leading`.
pub async fn elect(
    client: Client,
    options: LeaseOptions,
    leading: watch::Sender<Leader>,
    stop: CancellationToken,
) {
    let mut election =
        Election { api: Api::namespaced(client, &options.namespace), options, seen: None, renewed: None };
    let mut ticks = tokio::time::interval(TRY_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let tried = tokio::time::timeout(REQUEST_MAX, election.attempt()).await;
        match tried {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the lease could not be read or written"),
            Err(_) => tracing::warn!("the API server did not answer about the lease in time"),
        }
        let leader = election.leader();
        if leading.send_if_modified(|was| std::mem::replace(was, leader) != leader) {
            tracing::info!(
                leads = leader.is_this(),
                identity = election.options.identity,
                "leadership changed"
            );
        }
    }
    if leading.send_replace(Leader::Nobody).is_this() {
        let given = tokio::time::timeout(REQUEST_MAX, election.release()).await;
        if !matches!(given, Ok(Ok(()))) {
            tracing::warn!("the lease could not be given back; another takes over when it has run out");
        }
    }
}

struct Election {
    api: Api<Lease>,
    options: LeaseOptions,
    /// The record as last read, and when it was first read so.
    seen: Option<(Record, Instant)>,
    /// When this process last wrote the lease as its own.
    renewed: Option<Instant>,
}

/// What tells one state of the lease from another.
#[derive(Debug, Clone, PartialEq)]
struct Record {
    holder: String,
    renewed_at: Option<MicroTime>,
    transitions: i32,
    lasts: Duration,
}

impl Record {
    fn of(spec: &LeaseSpec) -> Self {
        let lasts = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        Self {
            holder: spec.holder_identity.clone().unwrap_or_default(),
            renewed_at: spec.renew_time.clone(),
            transitions: spec.lease_transitions.unwrap_or(0),
            lasts: lasts.map_or(LEASE_FOR, Duration::from_secs),
        }
    }
}

impl Election {
    fn leader(&self) -> Leader {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW_WITHIN) {
            return Leader::This;
        }
        let another = |record: &Record| !record.holder.is_empty() && record.holder != self.options.identity;
        let holds = |(record, since): &(Record, Instant)| another(record) && since.elapsed() < record.lasts;
        if self.seen.as_ref().is_some_and(holds) { Leader::Another } else { Leader::Nobody }
    }

    async fn attempt(&mut self) -> kube::Result<()> {
        let Some(lease) = self.api.get_opt(&self.options.name).await? else {
            let lease = Lease { metadata: self.metadata(None), spec: Some(self.spec(0, true)) };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => self.won(),
                Err(kube::Error::Api(status)) if status.code == 409 => self.lost(),
                Err(error) => Err(error),
            };
        };
        let record = lease.spec.as_ref().map(Record::of);
        let Some(record) = record else { return self.write(lease, 0, true).await };
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => Instant::now(),
        };
        self.seen = Some((record.clone(), since));
        if record.holder == self.options.identity {
            return self.write(lease, record.transitions, false).await;
        }
        if record.holder.is_empty() || since.elapsed() >= record.lasts {
            return self.write(lease, record.transitions.saturating_add(1), true).await;
        }
        self.lost()
    }

    async fn write(&mut self, lease: Lease, transitions: i32, taken: bool) -> kube::Result<()> {
        let mut spec = self.spec(transitions, taken);
        if !taken {
            spec.acquire_time = lease.spec.and_then(|spec| spec.acquire_time);
        }
        let lease = Lease { metadata: self.metadata(lease.metadata.resource_version), spec: Some(spec) };
        match self.api.replace(&self.options.name, &PostParams::default(), &lease).await {
            Ok(_) => self.won(),
            Err(kube::Error::Api(status)) if status.code == 409 => self.lost(),
            Err(error) => Err(error),
        }
    }

    fn won(&mut self) -> kube::Result<()> {
        self.renewed = Some(Instant::now());
        Ok(())
    }

    fn lost(&mut self) -> kube::Result<()> {
        self.renewed = None;
        Ok(())
    }

    async fn release(&mut self) -> kube::Result<()> {
        let Some(lease) = self.api.get_opt(&self.options.name).await? else { return Ok(()) };
        let record = lease.spec.as_ref().map(Record::of);
        let Some(record) = record.filter(|record| record.holder == self.options.identity) else {
            return Ok(());
        };
        let mut spec = self.spec(record.transitions, false);
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let lease = Lease { metadata: self.metadata(lease.metadata.resource_version), spec: Some(spec) };
        self.api.replace(&self.options.name, &PostParams::default(), &lease).await.map(|_| ())
    }

    fn metadata(&self, resource_version: Option<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.options.name.clone()),
            namespace: Some(self.options.namespace.clone()),
            resource_version,
            ..ObjectMeta::default()
        }
    }

    fn spec(&self, transitions: i32, taken: bool) -> LeaseSpec {
        let now = k8s_openapi::jiff::Timestamp::from_millisecond(clock::wall().as_millis());
        let now = MicroTime(now.unwrap_or_default());
        LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_FOR.as_secs()).ok(),
            acquire_time: taken.then(|| now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}
