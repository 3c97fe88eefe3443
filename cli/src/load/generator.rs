//! Sends a load: waits for each arrival, sends it on a kept-alive connection if there is room, and counts what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tidegate_digits::pattern::{Arrivals, Next};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shape::Shape;
use super::tally::{Outcome, Snapshot, Tally};
use super::target::Target;

/// An arrival later than this (the process was stopped, the machine overloaded) is not sent: made up for, it would be a burst of its own.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Idle connections are closed after this: sooner than most servers do, so that few requests meet a closing one.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Time for answers after the last request was sent.
const DRAIN: Duration = Duration::from_secs(3);

/// Bounds of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests under way at once, each on a connection of its own.
    pub(crate) in_flight_max: usize,
    /// Time for an answer.
    pub(crate) timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight_max: 256, timeout: Duration::from_secs(10) }
    }
}

/// A load under way. Dropped, it ends at once.
#[derive(Debug)]
pub(crate) struct Generator {
    tally: Arc<Tally>,
    stop: CancellationToken,
    task: JoinHandle<Duration>,
}

impl Generator {
    /// Starts to send what `shape` says from `begins` on.
    pub(crate) fn start(target: Target, shape: Shape, begins: Duration, seed: u64, limits: Limits) -> Self {
        let (tally, stop) = (Arc::new(Tally::start()), CancellationToken::new());
        let sender = Arc::new(Sender { client: client(limits), target, limits, tally: Arc::clone(&tally) });
        let task = tokio::spawn(sender.run(shape.arrivals(seed, begins), begins, stop.clone()));
        Self { tally, stop, task }
    }

    /// Starts to send digit images to the sample service or a gateway in front of it, with the usual limits.
    pub(crate) fn start_digits(addr: SocketAddr, shape: Shape, begins: Duration, seed: u64) -> Self {
        Self::start(Target::digits(addr, seed), shape, begins, seed, Limits::default())
    }

    /// The counts so far.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.tally.snapshot(None)
    }

    /// Sends no more, waits a little for the answers under way, and gives the final counts.
    pub(crate) async fn stop(mut self) -> Snapshot {
        self.stop.cancel();
        let sending = (&mut self.task).await.ok();
        self.tally.snapshot(sending)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What every request is sent with.
#[derive(Debug)]
struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    target: Target,
    limits: Limits,
    tally: Arc<Tally>,
}

fn client(limits: Limits) -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    // Small requests: without this they wait for the peer's delayed acknowledgement.
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(limits.timeout));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(limits.in_flight_max)
        .build(connector)
}

impl Sender {
    /// Sends until `stop`, then waits for answers; gives the time that it sent for.
    async fn run(
        self: Arc<Self>,
        mut arrivals: Arrivals,
        begins: Duration,
        stop: CancellationToken,
    ) -> Duration {
        let started = Instant::now();
        let places = Arc::new(Semaphore::new(self.limits.in_flight_max));
        let (mut under_way, mut number) = (JoinSet::new(), 0);
        loop {
            let (at, arrives) = match arrivals.advance() {
                Next::Arrival(at) => (at, true),
                Next::Quiet(at) => (at, false),
            };
            let due = started + Duration::try_from_secs_f64(at - begins.as_secs_f64()).unwrap_or_default();
            if stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none() {
                break;
            }
            while under_way.try_join_next().is_some() {}
            if !arrives {
                continue;
            }
            self.tally.count_due();
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) if due.elapsed() <= LATE_MAX => {
                    let sender = Arc::clone(&self);
                    under_way.spawn(async move {
                        sender.send(number, due).await;
                        drop(place);
                    });
                    number += 1;
                }
                _ => self.tally.count_not_sent(),
            }
        }
        let sending = self.tally.elapsed();
        // What is not answered by then stays in flight in the counts.
        drop(tokio::time::timeout(DRAIN, async { while under_way.join_next().await.is_some() {} }).await);
        sending
    }

    async fn send(&self, number: usize, due: Instant) {
        let exchange = tokio::time::timeout(self.limits.timeout, self.exchange(number)).await;
        self.tally.count_end(exchange.unwrap_or(Outcome::Timeout), due.elapsed());
    }

    async fn exchange(&self, number: usize) -> Outcome {
        let answer = match self.client.request(self.target.request(number)).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Outcome::Connect,
            Err(_) => return Outcome::Broken,
        };
        let outcome = Outcome::of_status(answer.status().as_u16());
        // Read to its end, so that the connection can be used again.
        match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(_) => outcome,
            Err(_) => Outcome::Broken,
        }
    }
}
