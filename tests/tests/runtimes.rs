//! Serving runtimes as they run on this machine: what the agent tells of them is held against what was sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_agent::collect::agent::{Agent, AgentHandle, Paces};
use tidegate_agent::collect::{Batch, Objective, ScrapeTarget, SourceName};
use tidegate_core::{Signal, Timestamp, WorkloadId};
use tidegate_tests::servers::Runtime;
use tokio::sync::{broadcast, watch};

/// Ray gathers its metrics once a second here, and a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many readings without an answer, five times as long as Ray takes to tell one, and all are told.
const REST: u32 = 10;
/// Within this many seconds a request is in time, also on a busy machine; all runtimes have a bucket that ends there.
const LIMIT_S: f64 = 5.0;
/// What is late takes this long.
const LATE_S: f64 = 6.0;

/// The agent at work on one runtime, and the sums over time of the rates that it told.
struct Watch<'a> {
    runtime: &'a Runtime,
    agent: AgentHandle,
    batches: broadcast::Receiver<Arc<Batch>>,
    _targets: watch::Sender<Vec<ScrapeTarget>>,
    before: Option<Timestamp>,
    /// Readings in a row in which nothing was answered.
    at_rest: u32,
    sums: BTreeMap<Signal, f64>,
    last: BTreeMap<Signal, f64>,
}

impl<'a> Watch<'a> {
    fn start(runtime: &'a Runtime, select: &[(&str, &str)]) -> Self {
        let target = ScrapeTarget {
            workload: WorkloadId::local("served").expect("the name is right"),
            name: "served-0".into(),
            url: runtime.metrics().into(),
            rules: Vec::new(),
            select: select.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            objective: Some(Objective { latency_seconds: LIMIT_S, per_output_token_seconds: None }),
            deadline: ScrapeTarget::DEADLINE_DEFAULT,
            rarely: false,
        };
        let (targets, list) = watch::channel(vec![target]);
        let paces = Paces { scrape: Duration::from_millis(500), ..Paces::default() };
        let agent = Agent::builder().scrape(list).paces(paces).start();
        let batches = agent.subscribe();
        let (sums, last) = (BTreeMap::new(), BTreeMap::new());
        Self { runtime, agent, batches, _targets: targets, before: None, at_rest: 0, sums, last }
    }

    /// Takes in batches until `holds`.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                let batch = self.batches.recv().await.expect("the agent runs");
                self.take(&batch);
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(in_time, "waited in vain for {what}; sums {:?}, last {:?}", self.sums, self.last);
    }

    fn take(&mut self, batch: &Batch) {
        if batch.source != SourceName::Scrape {
            return;
        }
        let seconds =
            self.before.replace(batch.at).map_or(0.0, |before| batch.at.since(before).as_secs_f64());
        self.last = batch.samples.iter().map(|sample| (sample.signal, sample.value)).collect();
        let is_at_rest = self.last.get(&Signal::CompletionsPerSecond) == Some(&0.0);
        self.at_rest = if is_at_rest { self.at_rest + 1 } else { 0 };
        for (signal, value) in &self.last {
            *self.sums.entry(*signal).or_default() += value * seconds;
        }
    }

    /// Waits until what was sent before is told and over, and begins to sum anew.
    async fn settle(&mut self) {
        self.until("rest", |seen| seen.at_rest >= REST).await;
        self.sums.clear();
        self.at_rest = 0;
    }

    /// Waits until `count` events of a rate have been told, and not one more.
    async fn counted(&mut self, signal: Signal, count: u32) {
        let expected = f64::from(count);
        // Rates are over the time of the agent's steady clock, the sums over that of the calendar.
        let slack = 0.5 + 0.02 * expected;
        self.until(signal.name(), |seen| seen.sums.get(&signal).is_some_and(|sum| *sum > expected - slack))
            .await;
        assert!(
            self.sums[&signal] < expected + slack,
            "{}: {} for {count}",
            signal.name(),
            self.sums[&signal]
        );
    }

    fn runtimes(&self) -> Vec<String> {
        self.agent.status().targets[0].runtimes.clone()
    }

    /// Sends `count` requests, four at a time.
    async fn send(&self, count: u32, delay: f64, status: u16) {
        use futures::StreamExt;
        let answers = futures::stream::iter(0..count).map(|_| self.runtime.predict(delay, status));
        let answers: Vec<_> = answers.buffer_unordered(4).collect().await;
        assert!(answers.iter().all(|answer| *answer == Some(status)), "{answers:?}");
    }

    /// 40 requests in time, 8 that fail and 4 that are late; then what was told of them.
    async fn check_counts(&mut self) {
        self.settle().await;
        self.send(40, 0.0, 200).await;
        self.send(8, 0.0, 503).await;
        self.send(4, LATE_S, 200).await;
        self.counted(Signal::CompletionsPerSecond, 52).await;
        self.counted(Signal::ErrorsPerSecond, 8).await;
        self.counted(Signal::SloMissesPerSecond, 4).await;
    }

    /// Six requests that take their time: where they are, and that they are demand before they are answered.
    async fn check_demand(&mut self, in_flight: f64, queued: Option<f64>) {
        self.settle().await;
        // The last two wait for the first four where those fill the replica.
        let runtime = self.runtime;
        let slow = futures::future::join_all((0..6).map(|_| runtime.predict(12.0, 200)));
        let watching = async {
            self.until("requests in flight", |seen| {
                let last = |signal| seen.last.get(&signal).copied();
                last(Signal::InFlight) == Some(in_flight) && last(Signal::Queued) == queued
            })
            .await;
            self.counted(Signal::RequestsPerSecond, 6).await;
            assert!(self.sums[&Signal::CompletionsPerSecond] < 0.5, "none is answered yet");
        };
        let (answers, ()) = futures::future::join(slow, watching).await;
        assert_eq!(answers, [Some(200); 6]);
    }
}

#[tokio::test]
async fn flask_tells_latencies_and_no_demand() {
    let runtime = Runtime::flask().await;
    let mut seen = Watch::start(&runtime, &[]);
    seen.check_counts().await;
    assert_eq!(seen.runtimes(), ["flask"]);
    assert_eq!(seen.sums.get(&Signal::RequestsPerSecond), None, "completions are no demand");
}

#[tokio::test]
async fn fastapi_tells_demand_before_it_is_served() {
    let runtime = Runtime::fastapi().await;
    let mut seen = Watch::start(&runtime, &[]);
    seen.check_counts().await;
    assert_eq!(seen.runtimes(), ["fastapi"]);
    seen.check_demand(6.0, None).await;
}

#[tokio::test]
async fn ray_serve_tells_what_waits_in_front_of_a_full_replica() {
    let runtime = Runtime::ray_serve().await;
    let mut seen = Watch::start(&runtime, &[("application", "shop")]);
    seen.check_counts().await;
    assert_eq!(seen.runtimes(), ["ray-serve"]);
    seen.check_demand(4.0, Some(2.0)).await;
    assert_eq!(seen.agent.status().targets[0].causes, BTreeMap::new(), "every line of its page was read");
}
