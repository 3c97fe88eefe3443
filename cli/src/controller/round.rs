//! Once a second: a round of the cluster's loop, then telling everybody: history, metrics, cards, events, statuses.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tidegate_actuator::cluster::entry::PolicyKey;
use tidegate_actuator::cluster::status::{self, Book, Status};
use tidegate_actuator::cluster::{Cluster, ClusterRound, Part};
use tidegate_agent::collect::latest::Giver;
use tidegate_brain::Brain;
use tidegate_core::{Label, Metric, Mode, Policy, Sample, Signal, Subject, Timestamp};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, lock};
use super::published::Sizes;
use super::write::{Announcement, Writer};
use crate::api::views::Event;
use crate::board::Card;
use crate::{clock, keep, told};

/// How often the loop looks, decides and acts.
const EVERY: Duration = Duration::from_secs(1);
/// The history is flushed this often: what a kill can lose.
const FLUSH_EVERY: u64 = 5;
/// What a brain has learned is kept, and the history tidied, this often. Brains take turns: a share of them each round.
const KEEP_EVERY: u64 = 30;
/// The giver under which the loop puts what it knows.
const LOOP: Giver = Giver::Part("loop");

/// Runs rounds until told to stop.
pub(super) async fn run(hub: Arc<Hub>, client: Client, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut hand = Hand { book: Book::default(), writer: Writer::new(client), rounds: 0 };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let hub = Arc::clone(&hub);
        // A round of thousands of workloads, or a flush, takes a while: never on a thread that others wait for.
        let done = tokio::task::spawn_blocking(move || {
            hand.round(&hub);
            hand
        });
        hand = match done.await {
            Ok(hand) => hand,
            Err(error) => {
                tracing::error!(%error, "a round panicked; sizes stay as they are and the loop ends");
                return;
            }
        };
    }
}

/// What is carried from round to round.
struct Hand {
    book: Book,
    writer: Writer,
    rounds: u64,
}

impl Hand {
    fn round(&mut self, hub: &Hub) {
        let now = clock::now();
        self.rounds += 1;
        let leader = *hub.leading.borrow();
        let leads = leader.is_this();
        super::digests::gather(hub);
        let (samples, statuses) = {
            let mut cluster = lock(&hub.cluster);
            let Some(cluster) = cluster.as_mut() else { return };
            let round = cluster.round(now, leads);
            if cluster.is_synced() {
                hub.sizes.send_replace(Arc::new(Sizes::new(now, cluster.published(leader, now))));
            }
            let told = self.tell(hub, cluster, &round, leads);
            let turn = |(i, _): &(u64, _)| i % KEEP_EVERY == self.rounds % KEEP_EVERY;
            (0..).zip(cluster.brains()).filter(turn).for_each(|(_, brain)| keep::brain(&hub.store, brain));
            told
        };
        let appended = hub.store.append(&samples);
        #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
        hub.registry.counter(Metric::HistorySamples, &[]).add(appended.stored as f64);
        if leads {
            for key in self.writer.failed() {
                self.book.failed(&key);
            }
            self.writer.statuses(self.book.due(statuses, now));
        }
        if self.rounds.is_multiple_of(FLUSH_EVERY) {
            flush(hub, now, self.rounds.is_multiple_of(KEEP_EVERY));
        }
        let took = clock::now().since(now);
        hub.registry.gauge(Metric::DecisionSeconds, &[]).set(Some(took.as_secs_f64()));
    }

    fn tell(
        &mut self,
        hub: &Hub,
        cluster: &Cluster,
        round: &ClusterRound,
        leads: bool,
    ) -> (Vec<Sample>, Vec<(PolicyKey, Status)>) {
        let mut samples = Vec::new();
        let mut statuses = Vec::new();
        let mut cards = lock(&hub.cards);
        for (id, part) in &round.parts {
            let Some(brain) = cluster.brain(id) else { continue };
            samples.extend(part_samples(hub, brain, part, round.at));
            let card = cards.entry(id.clone()).or_insert_with(|| Card::new(brain));
            let changes = card.update(brain, &part.told, &[], round.at);
            card.view.mode = mode(part, round.at).to_owned();
            let attained = card.attained();
            told::card(&hub.registry, &hub.news, id, attained, changes);
            if let Some(decision) = &part.told.decision {
                told::decision(&hub.registry, &hub.store, id, decision);
                told::decision_news(&hub.news, id, decision);
                if leads && decision.from != decision.to {
                    self.writer.announce(Announcement::decided(part, decision));
                }
            }
            if let Policy::Serving(policy) = brain.policy() {
                let target = hub.registry.gauge(Metric::SloTarget, &[(Label::Workload, id.as_str())]);
                target.set(Some(policy.slo.target.get()));
            }
            told::forecast(&hub.registry, brain, round.at);
            // Nobody need listen.
            drop(hub.news.send(Event::Workload(Box::new(card.view.clone()))));
            let key = part.intent.key.clone();
            let before = self.book.conditions(&key).map(<[_]>::to_vec).unwrap_or_default();
            let status = status::of_part(part, brain, attained, &before, round.at);
            statuses.push((key, status));
        }
        for id in &round.gone {
            cards.remove(id);
        }
        drop(cards);
        for idle in &round.idle {
            let key = idle.intent.key.clone();
            let before = self.book.conditions(&key).map(<[_]>::to_vec).unwrap_or_default();
            statuses.push((key, status::of_idle(idle, &before, round.at)));
        }
        for policy in &round.unreadable {
            let before = self.book.conditions(&policy.key).map(<[_]>::to_vec).unwrap_or_default();
            statuses.push((policy.key.clone(), status::of_unreadable(policy, &before, round.at)));
        }
        if !round.gone.is_empty() {
            let policies = Hub::policies(cluster);
            self.book.retain(|key| policies.contains(key));
        }
        round.resizes.iter().for_each(|resized| told::resized(&hub.registry, resized));
        self.tell_writes(hub, round);
        hub.latest.replace(LOOP, &samples, |_| None);
        (samples, statuses)
    }

    fn tell_writes(&mut self, hub: &Hub, round: &ClusterRound) {
        for (id, order, outcome) in &round.writes {
            let cause = outcome.refused.as_ref().map_or("ok", |refused| refused.cause.as_str());
            let labels = [(Label::Workload, id.as_str()), (Label::Outcome, cause)];
            hub.registry.counter(Metric::ClusterWrites, &labels).inc();
            match &outcome.refused {
                None => tracing::info!(workload = %id, %order, "written"),
                Some(refused) => {
                    tracing::warn!(workload = %id, %order, error = %refused, "a write was refused")
                }
            }
        }
        let failing = round.failing.as_ref().map(|failing| round.at.since(failing.since).as_secs_f64());
        hub.registry.gauge(Metric::ClusterBlindSeconds, &[]).set(Some(failing.unwrap_or(0.0)));
        let leads = f64::from(u8::from(hub.leads()));
        hub.registry.gauge(Metric::ControllerLeads, &[]).set(Some(leads));
    }
}

/// The mode as the user has it, whatever keeps it from acting.
fn mode(part: &Part, now: Timestamp) -> &'static str {
    match part.intent.policy.mode() {
        Mode::Active if part.intent.is_paused(now) => "paused",
        Mode::Active => "active",
        Mode::Shadow => "shadow",
    }
}

/// What is known of a workload, for its history and its metrics.
fn part_samples(hub: &Hub, brain: &Brain, part: &Part, at: Timestamp) -> Vec<Sample> {
    let mut found: Vec<(Signal, Option<f64>)> =
        vec![(Signal::ReplicasWanted, Some(f64::from(part.told.plan.replicas)))];
    if part.missing.is_none() {
        let counts = part.gathered.counts;
        found.push((Signal::ReplicasReady, Some(f64::from(counts.ready))));
        found.push((Signal::ReplicasStarting, Some(f64::from(counts.starting))));
        found.push((Signal::ReplicasDraining, Some(f64::from(counts.draining))));
    }
    found.push((Signal::CapacityPerReplica, brain.capacity().map(|capacity| capacity.mid)));
    found.push((Signal::LeadSeconds, brain.lead().map(|lead| lead.p90.as_secs_f64())));
    let fresh = |(signal, (value, told)): (Signal, (f64, Timestamp))| {
        (at.since(told) <= SAMPLE_FRESH).then_some((signal, Some(value)))
    };
    found.extend(hub.demand.of(brain.id()).into_iter().filter_map(fresh));
    let subject = Subject::Workload(brain.id().clone());
    let sample = |(signal, value): (Signal, Option<f64>)| Sample::new(subject.clone(), signal, at, value?);
    found.into_iter().filter_map(sample).collect()
}

/// A reading is held for so long: the longest pause between two scrapes of a server that is set up with care.
const SAMPLE_FRESH: Duration = Duration::from_secs(60);

fn flush(hub: &Hub, now: Timestamp, tidy: bool) {
    let flushed = hub.store.flush(now);
    let tidied = if tidy { hub.store.maintain(now).map(drop) } else { Ok(()) };
    if let Err(error) = flushed.and(tidied) {
        hub.registry.counter(Metric::HistoryErrors, &[(Label::Cause, "write")]).inc();
        tracing::error!(error = format!("{:#}", anyhow::Error::new(error)), "the history cannot be written");
    }
}
