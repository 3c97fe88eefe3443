//! Once a second: a round of the cluster's loop, then telling everybody: history, metrics, cards, events, statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tidegate_actuator::cluster::book::Book;
use tidegate_actuator::cluster::entry::PolicyKey;
use tidegate_actuator::cluster::status::{self, Status};
use tidegate_actuator::cluster::{Cluster, ClusterRound, Part};
use tidegate_agent::collect::latest::Giver;
use tidegate_agent::collect::process::own;
use tidegate_core::{Label, Metric, Mode, Subject, Timestamp, WorkloadId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, lock};
use super::keeper::{Batch, Keeper};
use super::published::Sizes;
use super::row::{Row, Turns};
use super::write::{Announcement, Read, Stored, Writer};
use crate::api::views::Event;
use crate::board::Card;
use crate::{clock, told};

/// How often the loop looks, decides and acts.
const EVERY: Duration = Duration::from_secs(1);
/// What a brain has learned is kept this often, or at its turn where there are many.
const KEEP_EVERY: u64 = 30;
/// The giver under which the loop puts what it knows.
const LOOP: Giver = Giver::Part("loop");

/// Runs rounds until told to stop, on a thread of their own: a round of thousands of workloads takes a while, and what it allocates
/// and frees every second then lies together, not in the reserves of many threads.
pub(super) fn start(
    hub: Arc<Hub>,
    client: Client,
    stop: CancellationToken,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::current();
    let (end, ended) = oneshot::channel();
    let rounds = move || {
        runtime.block_on(run(hub, client, stop));
        if end.send(()).is_err() {
            tracing::debug!("nobody waits for the end of the loop");
        }
    };
    std::thread::Builder::new().name("rounds".into()).spawn(rounds)?;
    Ok(tokio::spawn(async move {
        if ended.await.is_err() {
            tracing::error!("a round panicked; sizes stay as they are and the loop ends");
        }
    }))
}

async fn run(hub: Arc<Hub>, client: Client, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut hand = Hand {
        book: Book::default(),
        stored: None,
        writer: Writer::new(client),
        keeper: Keeper::start(Arc::clone(&hub.store), Arc::clone(&hub.registry)),
        rows: BTreeMap::new(),
        rounds: 0,
    };
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        hand.round(&hub);
    }
    hand.keeper.stop();
}

/// What is carried from round to round.
struct Hand {
    book: Book,
    /// What the server's statuses said when this controller began to lead; none while it does not.
    stored: Option<Stored>,
    writer: Writer,
    keeper: Keeper,
    rows: BTreeMap<WorkloadId, Row>,
    rounds: u64,
}

impl Hand {
    fn round(&mut self, hub: &Hub) {
        let now = clock::now();
        self.rounds += 1;
        let leader = *hub.leading.borrow();
        let leads = leader.is_this();
        super::digests::gather(hub);
        let (batch, statuses) = {
            let mut cluster = lock(&hub.cluster);
            let Some(cluster) = cluster.as_mut() else { return };
            let round = cluster.round(now, leads);
            if cluster.is_synced() {
                hub.sizes.send_replace(Arc::new(Sizes::new(now, cluster.published(leader, now))));
            }
            let (mut batch, statuses) = self.tell(hub, cluster, &round, leads);
            let turns = Turns::of(round.parts.len(), self.rounds).at_least(KEEP_EVERY);
            let brains = cluster.brains().enumerate().filter(|(place, _)| turns.has(*place));
            batch.learned = brains.map(|(_, brain)| (brain.id().clone(), brain.snapshot())).collect();
            (batch, statuses)
        };
        self.keeper.keep(batch);
        if leads {
            self.write(hub, statuses, now);
        } else {
            self.stored = None;
        }
        own::note(&hub.registry);
        let took = clock::now().since(now);
        hub.registry.gauge(Metric::DecisionSeconds, &[]).set(Some(took.as_secs_f64()));
    }

    /// Writes the statuses that are due, from what the server has on: whoever led before has told of the same policies.
    fn write(&mut self, hub: &Hub, statuses: Vec<(PolicyKey, Status)>, now: Timestamp) {
        let stored = self.stored.get_or_insert_with(|| {
            self.book = Book::default();
            self.writer.read(lock(&hub.cluster).as_ref().map(Cluster::scope))
        });
        match stored.take() {
            Read::Waiting => return,
            Read::Now(found) => {
                found.into_iter().for_each(|(key, status)| self.book.know(key, status, now));
                // What was made before is made again, from this.
                self.rows.values_mut().for_each(Row::stir);
                return;
            }
            Read::Before => {}
        }
        for (key, written) in self.writer.ended() {
            match written {
                Ok(()) if self.book.succeeded(&key) => {
                    tracing::info!(policy = key.path(), "its status could be written again");
                }
                Ok(()) => {}
                Err(error) if self.book.failed(&key, now) => {
                    tracing::warn!(policy = key.path(), error, "a status could not be written");
                }
                Err(error) => {
                    tracing::debug!(policy = key.path(), error, "a status could still not be written");
                }
            }
        }
        self.writer.statuses(self.book.due(statuses, now));
    }

    fn tell(
        &mut self,
        hub: &Hub,
        cluster: &Cluster,
        round: &ClusterRound,
        leads: bool,
    ) -> (Batch, Vec<(PolicyKey, Status)>) {
        let mut batch = Batch { at: round.at, ..Batch::default() };
        let mut statuses = Vec::new();
        let turns = Turns::of(round.parts.len(), self.rounds);
        let listened = hub.news.receiver_count() > 0;
        let mut cards = lock(&hub.cards);
        for (place, (id, part)) in round.parts.iter().enumerate() {
            let Some(brain) = cluster.brain(id) else { continue };
            let card = cards.entry(id.clone()).or_insert_with(|| Card::new(brain));
            let changes = card.update(brain, &part.told, &[], round.at);
            card.view.mode = mode(part, round.at).to_owned();
            let attained = card.attained();
            told::conditions(&hub.registry, &hub.news, id, changes);
            if let Some(decision) = &part.told.decision {
                told::decision(&hub.registry, id, decision);
                batch.decisions.push((id.clone(), decision.clone()));
                told::decision_news(&hub.news, id, decision);
                if leads && decision.from != decision.to {
                    self.writer.announce(Announcement::decided(part, decision));
                }
            }
            if listened {
                // Whoever listened may be gone.
                drop(hub.news.send(Event::Workload(Box::new(card.view.clone()))));
            }
            let row = self.rows.entry(id.clone()).or_insert_with(|| Row::new(&hub.registry, brain));
            row.shown.tell(&hub.registry, brain, attained, round.at);
            row.note(&hub.demand, brain);
            if turns.has(place) {
                batch.samples.extend(row.samples(brain, part, round.at));
            }
            if row.is_stirred(part, round.at) || turns.has(place) {
                let key = part.intent.key.clone();
                let before = self.book.last(&key).map(Status::conditions).unwrap_or_default();
                let besides = status::Besides { attained, source: hub.demand.source(id) };
                let status = status::of_part(part, brain, besides, before, round.at);
                statuses.push((key, status));
            }
        }
        for id in &round.gone {
            cards.remove(id);
            self.rows.remove(id);
            hub.registry.forget(Label::Workload, id.as_str());
            hub.latest.forget(LOOP, &Subject::Workload(id.clone()));
        }
        drop(cards);
        for idle in &round.idle {
            let key = idle.intent.key.clone();
            let status = status::of_idle(idle, self.book.last(&key), round.at);
            statuses.push((key, status));
        }
        for policy in &round.unreadable {
            let status = status::of_unreadable(policy, self.book.last(&policy.key), round.at);
            statuses.push((policy.key.clone(), status));
        }
        if leads {
            let before = |key: &PolicyKey| {
                self.book.last(key).map(|status| status.conditions().to_vec()).unwrap_or_default()
            };
            statuses.extend(cluster.pool_statuses(before, round.at));
        }
        if !round.gone.is_empty() {
            let policies = Hub::policies(cluster);
            self.book.retain(|key| policies.contains(key));
        }
        round.resizes.iter().for_each(|resized| told::resized(&hub.registry, resized));
        self.tell_writes(hub, round);
        hub.latest.replace_subjects(LOOP, &batch.samples);
        (batch, statuses)
    }

    fn tell_writes(&mut self, hub: &Hub, round: &ClusterRound) {
        for (id, order, outcome) in &round.writes {
            let cause = outcome.refused.as_ref().map_or("ok", |refused| refused.cause.as_str());
            let labels = [(Label::Workload, id.as_str()), (Label::Outcome, cause)];
            // What is given back for a policy that is gone has no series any more.
            if self.rows.contains_key(id) {
                hub.registry.counter(Metric::ClusterWrites, &labels).inc();
            }
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
