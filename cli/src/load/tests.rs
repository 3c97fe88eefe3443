//! A load against the real sample service, on loopback.

use std::net::SocketAddr;

use tidegate_digits::serve::Server;
use tidegate_digits::{Log, ServeArgs, learn};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::load::tally::Outcome;
use crate::load::target::Target;

struct Service {
    addr: SocketAddr,
    // Dropped, they stop the service and remove its model.
    _stop: DropGuard,
    _dir: tempfile::TempDir,
}

impl Service {
    async fn start(service_time: Duration, queue: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.bin");
        learn::train_to(&model, 3).unwrap();
        let args = ServeArgs {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
            model,
            service_time,
            concurrency: 4,
            queue,
            load_time: Duration::ZERO,
            faults: None,
        };
        let server = Server::bind(args, Log::to(std::io::sink())).await.unwrap();
        let (addr, stop) = (server.addr(), CancellationToken::new());
        tokio::spawn(server.run(stop.clone()));
        Self { addr, _stop: stop.drop_guard(), _dir: dir }
    }
}

/// Waits until the load shows what is waited for; then ends it.
async fn run_until(generator: Generator, mut holds: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let waiting = async {
        while !holds(&generator.snapshot()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    let end = generator.stop().await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {end:?}"));
    end
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_load_that_fits_is_served() {
    let service = Service::start(Duration::from_millis(10), 64).await;
    let generator = Generator::start_digits(service.addr, Shape::steady(100.0), Duration::ZERO, 1);
    let end = run_until(generator, |now| now.due >= 200).await;
    assert_eq!((end.ok, end.not_sent, end.in_flight), (end.due, 0, 0), "{end:?}");
    assert!(end.failed.is_empty());
    // 200 Poisson arrivals: six standard deviations to either side, and room for a slow start.
    assert!((50.0..150.0).contains(&end.due_rps), "{}", end.due_rps);
    let latency = end.latency_s;
    assert!(
        latency.p50.unwrap() >= 0.005 && latency.p50 <= latency.p95 && latency.p95 <= latency.p99,
        "{latency:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_or_not_sent_and_never_queued_here() {
    let service = Service::start(Duration::from_millis(400), 2).await;
    let limits = Limits { in_flight_max: 12, ..Limits::default() };
    let target = Target::digits(service.addr, 1);
    let generator = Generator::start(target, Shape::steady(2000.0), Duration::ZERO, 1, limits);
    let refused = |now: &Snapshot| now.failed.get(&Outcome::Unavailable).copied().unwrap_or(0);
    let end = run_until(generator, |now| {
        assert!(now.in_flight <= 12, "{now:?}");
        now.ok > 0 && refused(now) > 0 && now.due > 500
    })
    .await;
    assert_eq!(end.due, end.sent + end.not_sent);
    // On a busy machine a connection may fail besides; each request has one outcome all the same.
    assert_eq!(end.sent, end.ok + end.failed.values().sum::<u64>(), "{end:?}");
    assert_eq!(end.answered(), end.sent, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_generator_sends_no_more() {
    let service = Service::start(Duration::from_secs(2), 64).await;
    let limits = Limits { in_flight_max: 3, ..Limits::default() };
    let generator =
        Generator::start(Target::digits(service.addr, 1), Shape::steady(200.0), Duration::ZERO, 1, limits);
    let end = run_until(generator, |now| now.not_sent > 10).await;
    assert!(end.sent < end.due && end.sent >= 3, "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_no_answer_in_time_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let generator = Generator::start_digits(free, Shape::steady(100.0), Duration::ZERO, 1);
    let end = run_until(generator, |now| now.failed.contains_key(&Outcome::Connect)).await;
    assert_eq!((end.ok, end.answered(), end.latency_s.p50), (0, 0, None));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits { timeout: Duration::from_millis(100), ..Limits::default() };
    let target = Target::digits(silent.local_addr().unwrap(), 1);
    let generator = Generator::start(target, Shape::steady(100.0), Duration::ZERO, 1, limits);
    run_until(generator, |now| now.failed.contains_key(&Outcome::Timeout)).await;
}
