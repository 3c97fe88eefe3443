//! Telling: what a round saw and did, as samples for the history, as metrics, as cards and as events. It decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_actuator::control::{Control, Round, Told};
use tidegate_actuator::{FailCause, GatewayStats, StatusClass};
use tidegate_agent::collect::ScrapeTarget;
use tidegate_brain::Brain;
use tidegate_core::{Histogram, Label, Metric, Sample, Signal, Subject, Timestamp, WorkloadId};

use super::machine::{Machine, lock};
use super::readings::LOOP;
use super::rivals;
use super::rivals::Second;
use super::settings::Setting;
use crate::api::views::Event;
use crate::told::Shown;
use crate::{show, told};

/// Latency quantiles are of the requests of about this long.
const LATENCY_OVER: usize = 5;
/// Longest a scrape of one replica may take.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(2);

/// What is remembered from one round to the next.
#[derive(Debug)]
pub(super) struct Teller {
    gateways: BTreeMap<WorkloadId, Vec<GatewayStats>>,
    shown: BTreeMap<WorkloadId, Shown>,
    history_fails: bool,
}

impl Teller {
    pub(super) const fn new() -> Self {
        Self { gateways: BTreeMap::new(), shown: BTreeMap::new(), history_fails: false }
    }

    /// Tells of one round; gives its samples for the history.
    pub(super) fn tell(&mut self, machine: &Machine, control: &Control, round: &Round) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (id, told) in &round.workloads {
            let Some(brain) = control.fleet().get(id) else { continue };
            samples.extend(self.samples(brain, told, round.at));
            self.metrics(machine, brain, told);
            self.rivals(machine, brain, told, round.at);
            let attained = card(machine, brain, told, round.at);
            let shown = self.shown.entry(id.clone());
            let shown = shown.or_insert_with(|| Shown::new(&machine.registry, id));
            shown.tell(&machine.registry, brain, attained, round.at);
            if let Some(stats) = &told.gateway {
                let kept = self.gateways.entry(id.clone()).or_default();
                kept.push(stats.clone());
                let surplus = kept.len().saturating_sub(LATENCY_OVER + 1);
                kept.drain(..surplus);
            }
        }
        round.resizes.iter().for_each(|resized| told::resized(&machine.registry, resized));
        if let Some(logs) = lock(&machine.logs).as_ref() {
            samples.extend(logs.error_rates(tidegate_agent::clock::now()));
        }
        machine.latest.replace(LOOP, &samples, |_| None);
        pool_metrics(machine, control);
        log_metrics(machine);
        follow_targets(machine, round);
        samples
    }

    /// What the loop itself knows of a workload: better than any collector does.
    fn samples(&self, brain: &Brain, told: &Told, at: Timestamp) -> Vec<Sample> {
        let mut found: Vec<(Signal, Option<f64>)> =
            vec![(Signal::ReplicasWanted, Some(f64::from(told.plan.replicas)))];
        if told.target.is_some() {
            let counts = brain.counts();
            found.push((Signal::ReplicasReady, Some(f64::from(counts.ready))));
            found.push((Signal::ReplicasStarting, Some(f64::from(counts.starting))));
            found.push((Signal::ReplicasDraining, Some(f64::from(counts.draining))));
        }
        found.push((Signal::CapacityPerReplica, brain.capacity().map(|capacity| capacity.mid)));
        found.push((Signal::LeadSeconds, brain.lead().map(|lead| lead.p90.as_secs_f64())));
        found.push((Signal::WorkersLost, workers_lost(brain)));
        if let (Some(_), Some(seen)) = (&told.gateway, told.seen) {
            found.push((Signal::InFlight, seen.in_flight));
            found.push((Signal::Queued, seen.queued));
            if let Some(flow) = seen.flow {
                let per_second = |amount: f64| Some(amount / flow.window.as_secs_f64());
                found.push((Signal::RequestsPerSecond, per_second(flow.arrivals)));
                found.push((Signal::CompletionsPerSecond, per_second(flow.completed)));
                found.push((Signal::SloMissesPerSecond, flow.missed.and_then(per_second)));
                found.push((Signal::ErrorsPerSecond, self.errors(brain.id(), told).and_then(per_second)));
            }
            found.extend(self.latencies(brain.id(), told));
        }
        let subject = Subject::Workload(brain.id().clone());
        let sample =
            |(signal, value): (Signal, Option<f64>)| Sample::new(subject.clone(), signal, at, value?);
        found.into_iter().filter_map(sample).collect()
    }

    /// Requests since the round before that were answered with a server error, by a replica or the gateway, or broke off.
    fn errors(&self, id: &WorkloadId, told: &Told) -> Option<f64> {
        let (before, now) = (self.gateways.get(id)?.last()?, told.gateway.as_ref()?);
        let of = |stats: &GatewayStats| {
            let answered = stats.answers.get(&StatusClass::ServerError).copied().unwrap_or(0);
            answered + stats.failed.get(&FailCause::AnswerBroken).copied().unwrap_or(0)
        };
        of(now).checked_sub(of(before)).map(count)
    }

    fn latencies(&self, id: &WorkloadId, told: &Told) -> Vec<(Signal, Option<f64>)> {
        let recent = || -> Option<Histogram> {
            let before = self.gateways.get(id)?.first()?;
            told.gateway.as_ref()?.latency.since(&before.latency)
        };
        let Some(latency) = recent() else { return Vec::new() };
        let quantiles = [(Signal::LatencyP50, 0.5), (Signal::LatencyP95, 0.95), (Signal::LatencyP99, 0.99)];
        quantiles.map(|(signal, p)| (signal, latency.quantile(p))).into()
    }

    fn metrics(&self, machine: &Machine, brain: &Brain, told: &Told) {
        let id = brain.id().as_str();
        let workload = (Label::Workload, id);
        let registry = &machine.registry;
        if let Some(decision) = &told.decision {
            told::decision(registry, brain.id(), decision);
            told::record(&machine.store, brain.id(), decision);
        }
        if told.lost > 0 {
            registry.counter(Metric::ReplicaRestarts, &[workload]).add(f64::from(told.lost));
        }
        if let Some(stats) = &told.gateway {
            gateway_metrics(
                machine,
                workload,
                stats,
                self.gateways.get(brain.id()).and_then(|kept| kept.last()),
            );
        }
    }

    fn rivals(&self, machine: &Machine, brain: &Brain, told: &Told, at: Timestamp) {
        let mut all = lock(&machine.rivals);
        let Some(rivals) = all.iter_mut().find(|rivals| rivals.workload() == brain.id()) else { return };
        if let (Some(before), Some(now)) =
            (self.gateways.get(brain.id()).and_then(|kept| kept.last()), &told.gateway)
        {
            rivals.learn_service(before, now);
            let counts = brain.counts();
            let amount = |now: u64, before: u64| count(now.saturating_sub(before));
            let second = Second {
                at,
                arrivals: amount(now.arrivals, before.arrivals),
                ended: amount(now.judged, before.judged),
                missed: amount(now.missed, before.missed),
                held: counts.held(),
                ready: counts.ready,
            };
            rivals.step(second, brain.capacity(), brain.lead());
        }
        rival_metrics(machine, rivals);
    }

    /// Puts samples into the history; counts what it refuses.
    pub(super) fn keep(&mut self, machine: &Machine, samples: &[Sample]) {
        let appended = machine.store.append(samples);
        machine.registry.counter(Metric::HistorySamples, &[]).add(count(appended.stored as u64));
        let refused = [
            ("late", appended.late),
            ("ahead", appended.ahead),
            ("not_finite", appended.not_finite),
            ("no_room", appended.no_room),
        ];
        for (cause, n) in refused.into_iter().filter(|(_, n)| *n > 0) {
            machine.registry.counter(Metric::HistoryErrors, &[(Label::Cause, cause)]).add(count(n as u64));
        }
    }

    /// Makes the history durable, and tidies it now and then. A failure is told once, and again when it is over.
    pub(super) fn flush(&mut self, machine: &Machine, now: Timestamp, tidy: bool) {
        let flushed = machine.store.flush(now);
        let tidied = if tidy { machine.store.maintain(now).map(drop) } else { Ok(()) };
        match flushed.and(tidied) {
            Ok(()) if self.history_fails => tracing::info!("the history is written again"),
            Ok(()) => {}
            Err(error) => {
                machine.registry.counter(Metric::HistoryErrors, &[(Label::Cause, "write")]).inc();
                if !self.history_fails {
                    tracing::error!(
                        error = format!("{:#}", anyhow::Error::new(error)),
                        "the history cannot be written; it is kept in memory"
                    );
                }
                self.history_fails = true;
                return;
            }
        }
        self.history_fails = false;
        let bytes =
            machine.store.path().and_then(|path| std::fs::metadata(path).ok()).map(|file| count(file.len()));
        machine.registry.gauge(Metric::HistoryBytes, &[]).set(bytes);
    }

    /// Tells how long the round took.
    pub(super) fn took(&self, machine: &Machine, took: Duration) {
        machine.registry.gauge(Metric::DecisionSeconds, &[]).set(Some(took.as_secs_f64()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
fn count(n: u64) -> f64 {
    n as f64
}

/// Workers' worth of speed that is missing while a job is being resized; `None` when it is not, or its speed is unknown.
fn workers_lost(brain: &Brain) -> Option<f64> {
    let progress = brain.progress()?;
    let counts = progress.workers;
    let held = f64::from(counts.held());
    if !progress.resizing && counts.starting == 0 && counts.draining == 0 {
        return Some(0.0);
    }
    let best = brain
        .speeds()
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, rate)| rate / f64::from(n))
        .reduce(f64::max)?;
    // Nothing read is nothing done that can be counted as done.
    let working = progress.samples_per_second.unwrap_or(0.0) / best;
    Some((held - working).clamp(0.0, held))
}

/// Updates the card and tells of it. Gives the share of the requests of the last hour that were in time.
fn card(machine: &Machine, brain: &Brain, told: &Told, now: Timestamp) -> Option<f64> {
    let faults = machine.demo.as_ref().map(|demo| demo.running_names(brain.id())).unwrap_or_default();
    let mut cards = lock(&machine.cards);
    let card = cards.get_mut(brain.id())?;
    let changes = card.update(brain, told, &faults, now);
    let (view, attained) = (card.view.clone(), card.attained());
    drop(cards);
    told::conditions(&machine.registry, &machine.news, brain.id(), changes);
    if let Some(decision) = &told.decision {
        told::decision_news(&machine.news, brain.id(), decision);
    }
    machine.tell(Event::Workload(Box::new(view)));
    attained
}

fn gateway_metrics(
    machine: &Machine,
    workload: (Label, &str),
    stats: &GatewayStats,
    before: Option<&GatewayStats>,
) {
    let registry = &machine.registry;
    for (class, n) in &stats.answers {
        registry
            .counter(Metric::GatewayRequests, &[workload, (Label::Code, class.as_str())])
            .raise_to(count(*n));
    }
    for (cause, n) in &stats.dropped {
        registry
            .counter(Metric::GatewayDropped, &[workload, (Label::Cause, cause.as_str())])
            .raise_to(count(*n));
    }
    let added =
        before.map_or_else(|| Some(stats.latency.clone()), |before| stats.latency.since(&before.latency));
    if let Some(added) = added {
        registry.histogram(Metric::GatewaySeconds, &[workload]).merge(&added);
    }
}

fn rival_metrics(machine: &Machine, rivals: &rivals::Rivals) {
    for (policy, totals) in rivals.totals() {
        let labels = [(Label::Workload, rivals.workload().as_str()), (Label::Policy, policy)];
        machine.registry.counter(Metric::ReplicaHours, &labels).raise_to(totals.replica_seconds / 3600.0);
        machine.registry.counter(Metric::PolicyMisses, &labels).raise_to(totals.missed);
    }
}

fn pool_metrics(machine: &Machine, control: &Control) {
    let Some(pool) = show::pool(control.fleet()) else { return };
    let held = |role: &str| {
        pool.held.iter().filter(|holder| holder.role == role).map(|holder| holder.slots).sum::<u32>()
    };
    for (role, slots) in [("serving", held("serving")), ("training", held("training")), ("free", pool.free)] {
        machine.registry.gauge(Metric::PoolSlots, &[(Label::Role, role)]).set(Some(f64::from(slots)));
    }
}

fn log_metrics(machine: &Machine) {
    if let Some(stats) = lock(&machine.logs).as_ref().map(|logs| logs.stats()) {
        stats.tell(&machine.registry);
    }
}

/// Keeps the list of scrape targets: the ready replicas of workloads that have a metrics page, and addresses given whole.
fn follow_targets(machine: &Machine, round: &Round) {
    let mut targets = Vec::new();
    for setting in &machine.settings.workloads {
        let Some(metrics) = &setting.metrics else { continue };
        let target = |name: String, url: String| ScrapeTarget {
            workload: setting.id.clone(),
            name,
            url,
            rules: metrics.rules.clone(),
            select: metrics.select.clone(),
            objective: setting.objective,
            deadline: SCRAPE_DEADLINE,
            rarely: false,
        };
        targets.extend(metrics.urls.iter().map(|url| target(url.clone(), url.clone())));
        for (name, addr) in replicas(setting, round) {
            targets.push(target(name, format!("http://{addr}{}", metrics.path)));
        }
    }
    machine.targets.send_if_modified(|known| {
        let changed = *known != targets;
        *known = targets;
        changed
    });
}

fn replicas(setting: &Setting, round: &Round) -> Vec<(String, std::net::SocketAddr)> {
    use tidegate_actuator::targets::local::ReplicaState;
    let target = round.workloads.get(&setting.id).and_then(|told| told.target.as_ref());
    let ready = target.iter().flat_map(|target| &target.replicas).filter(|r| r.state == ReplicaState::Ready);
    ready.filter_map(|r| Some((format!("{}-{}", setting.id.name(), r.index), r.addr?))).collect()
}
