//! The gateway with real connections on loopback, before replicas that live in the test.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::*;

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// A replica that lives in the test. It answers by path: `/echo` at once, `/gate` when a permit is added, `/stream` with
/// parts of a second each.
struct Replica {
    backend: Backend,
    gate: Arc<Semaphore>,
    served: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Counts itself when it is dropped before its end.
struct Unfinished(Option<Arc<AtomicUsize>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn replica(index: u32) -> Replica {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let backend = Backend { index, addr: listener.local_addr().unwrap() };
    let gate = Arc::new(Semaphore::new(0));
    let (served, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate2, served2, cancelled2) = (Arc::clone(&gate), Arc::clone(&served), Arc::clone(&cancelled));
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (gate, served, cancelled) =
                (Arc::clone(&gate2), Arc::clone(&served2), Arc::clone(&cancelled2));
            let service = service_fn(move |request| {
                let (gate, served, cancelled) =
                    (Arc::clone(&gate), Arc::clone(&served), Arc::clone(&cancelled));
                async move { Ok::<_, Infallible>(reply(index, request, &gate, &served, cancelled).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Replica { backend, gate, served, cancelled, server }
}

async fn reply(
    index: u32,
    request: Request<Incoming>,
    gate: &Semaphore,
    served: &AtomicUsize,
    cancelled: Arc<AtomicUsize>,
) -> Reply {
    served.fetch_add(1, Ordering::SeqCst);
    let mut unfinished = Unfinished(Some(cancelled));
    let body = match request.uri().path() {
        "/gate" => {
            gate.acquire().await.unwrap().forget();
            Full::new(Bytes::from(index.to_string())).boxed()
        }
        "/stream" => {
            let (parts, stream) = mpsc::channel(1);
            tokio::spawn(async move {
                let _unfinished = unfinished;
                while parts.send(Ok(Frame::data(Bytes::from_static(b"part")))).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            return Response::new(BodyExt::boxed(StreamBody::new(ReceiverStream::new(stream))));
        }
        _ => Full::new(request.into_body().collect().await.unwrap().to_bytes()).boxed(),
    };
    unfinished.0 = None;
    Response::new(body)
}

async fn gateway(change: impl FnOnce(&mut GatewaySpec)) -> Gateway {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut spec = GatewaySpec::new(WorkloadId::local("x").unwrap(), listen);
    change(&mut spec);
    Gateway::start(spec).await.unwrap()
}

async fn ask(to: SocketAddr, method: Method, path: &str, body: impl Into<Bytes>) -> Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder().method(method).uri(format!("http://{to}{path}"));
    let answer = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

async fn get(to: SocketAddr, path: &'static str) -> Response<Bytes> {
    ask(to, Method::GET, path, "").await
}

/// Waits until it holds, for at most 10 s.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

fn balances(stats: &GatewayStats) -> bool {
    let ended = stats.completed + stats.failed_all() + stats.dropped_all();
    stats.arrivals == ended + stats.in_flight + stats.queued
}

#[tokio::test]
async fn passes_bodies_both_ways_and_counts_exactly() {
    let (one, gate) =
        (replica(0).await, gateway(|spec| spec.objective = Some(Duration::from_secs(10))).await);
    gate.set_backends(&[one.backend]);
    for size in [0usize, 10, 1 << 20] {
        let body = vec![7u8; size];
        let answer = ask(gate.addr(), Method::POST, "/echo", body.clone()).await;
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::OK, size));
    }
    until("all ended", || gate.stats().completed == 3).await;
    let stats = gate.stats();
    assert!(balances(&stats));
    assert_eq!((stats.arrivals, stats.in_flight, stats.latency.count()), (3, 0, 3));
    assert_eq!((stats.judged, stats.missed), (3, 0));
    assert_eq!(stats.answers[&StatusClass::Success], 3);
}

#[tokio::test]
async fn least_in_flight_wins_and_the_limit_holds() {
    let replicas = [replica(0).await, replica(1).await];
    let gate = gateway(|spec| spec.concurrency = 2).await;
    gate.set_backends(&replicas.each_ref().map(|r| r.backend));
    let addr = gate.addr();
    let asked: Vec<_> = (0..6).map(|_| tokio::spawn(get(addr, "/gate"))).collect();
    until("four in flight, two waiting", || {
        let stats = gate.stats();
        stats.in_flight == 4 && stats.queued == 2
    })
    .await;
    assert!(gate.stats().backends.iter().all(|load| load.in_flight == 2));
    until("each replica has two", || replicas.iter().all(|r| r.served.load(Ordering::SeqCst) == 2)).await;
    replicas.iter().for_each(|r| r.gate.add_permits(4));
    for asked in asked {
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    }
    until("all ended", || gate.stats().completed == 6).await;
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_refused_and_missed() {
    let gate = gateway(|spec| {
        spec.queue_max = 1;
        spec.queue_wait = Duration::from_millis(200);
        spec.objective = Some(Duration::from_secs(10));
    })
    .await;
    let waiting = tokio::spawn(get(gate.addr(), "/echo"));
    until("one waits", || gate.stats().queued == 1).await;
    let refused = get(gate.addr(), "/echo").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert!(refused.headers().contains_key("retry-after"));
    assert!(String::from_utf8_lossy(refused.body()).contains("queue_full"));
    assert_eq!(waiting.await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let stats = gate.stats();
    assert_eq!((stats.dropped[&DropCause::QueueFull], stats.dropped[&DropCause::QueueTimeout]), (1, 1));
    assert_eq!((stats.judged, stats.missed), (2, 2));
    assert!(balances(&stats));
}

#[tokio::test]
async fn requests_wait_for_the_first_replica() {
    let (one, gate) = (replica(0).await, gateway(|_| {}).await);
    let waiting = tokio::spawn(ask(gate.addr(), Method::POST, "/echo", "body"));
    until("it waits", || gate.stats().queued == 1).await;
    gate.set_backends(&[one.backend]);
    assert_eq!(waiting.await.unwrap().body(), "body");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let (one, gate) = (replica(0).await, gateway(|spec| spec.concurrency = 1).await);
    gate.set_backends(&[one.backend]);
    let mut served = TcpStream::connect(gate.addr()).await.unwrap();
    served.write_all(b"POST /gate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    until("it is served", || one.served.load(Ordering::SeqCst) == 1).await;
    let mut queued = TcpStream::connect(gate.addr()).await.unwrap();
    queued.write_all(b"POST /gate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    until("the other waits", || gate.stats().queued == 1).await;
    drop(queued);
    until("it waits no more", || gate.stats().queued == 0).await;
    drop(served);
    until("the replica is free", || gate.stats().in_flight == 0).await;
    until("the replica was told", || one.cancelled.load(Ordering::SeqCst) == 1).await;
    let stats = gate.stats();
    assert_eq!(stats.dropped[&DropCause::ClientGone], 2);
    assert!(balances(&stats));
}

#[tokio::test]
async fn a_stream_flows_at_once_and_ends_with_its_client() {
    let (one, gate) = (replica(0).await, gateway(|_| {}).await);
    gate.set_backends(&[one.backend]);
    let mut client = TcpStream::connect(gate.addr()).await.unwrap();
    client.write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut read = vec![0; 4096];
    let mut text = String::new();
    while text.matches("part").count() < 3 {
        let n = client.read(&mut read).await.unwrap();
        assert!(n > 0, "the answer ended early: {text}");
        text.push_str(&String::from_utf8_lossy(&read[..n]));
    }
    assert_eq!(gate.stats().in_flight, 1);
    drop(client);
    until("the request is gone", || gate.stats().in_flight == 0).await;
    until("the replica was told", || one.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(gate.stats().dropped[&DropCause::ClientGone], 1);
}

#[tokio::test]
async fn a_dead_replica_costs_no_request_while_another_lives() {
    let (one, gate) = (replica(1).await, gateway(|_| {}).await);
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    gate.set_backends(&[Backend { index: 0, addr: free }, one.backend]);
    for _ in 0..8 {
        let answer = ask(gate.addr(), Method::POST, "/echo", "body").await;
        assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, b"body".as_slice()));
    }
    let stats = gate.stats();
    assert_eq!(stats.retries, 1, "once refused, it is passed over");
    gate.set_backends(&[Backend { index: 0, addr: free }]);
    let answer = ask(gate.addr(), Method::POST, "/echo", "body").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(gate.stats().failed[&FailCause::Connect], 1);
    assert!(balances(&gate.stats()));
}

#[tokio::test]
async fn a_request_that_a_replica_may_have_seen_is_repeated_only_when_harmless() {
    // Closes each connection as soon as it has read something.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let rude = Backend { index: 0, addr: listener.local_addr().unwrap() };
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_u8().await.unwrap();
        }
    });
    let gate = gateway(|_| {}).await;
    gate.set_backends(&[rude]);
    let answer = ask(gate.addr(), Method::POST, "/echo", "body").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(gate.stats().retries, 0);
    let one = replica(1).await;
    gate.set_backends(&[rude, one.backend]);
    for _ in 0..2 {
        assert_eq!(get(gate.addr(), "/echo").await.status(), StatusCode::OK);
    }
    assert_eq!(gate.stats().retries, 1);
    server.abort();
}

#[tokio::test]
async fn a_replica_that_does_not_answer_in_time_is_a_504() {
    let (one, gate) =
        (replica(0).await, gateway(|spec| spec.answer_timeout = Duration::from_millis(100)).await);
    gate.set_backends(&[one.backend]);
    assert_eq!(get(gate.addr(), "/gate").await.status(), StatusCode::GATEWAY_TIMEOUT);
    until("the replica was told", || one.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(gate.stats().failed[&FailCause::AnswerTimeout], 1);
}

#[tokio::test]
async fn an_answer_that_stands_still_is_broken_off() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let still = Backend { index: 0, addr: listener.local_addr().unwrap() };
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        std::future::pending::<()>().await;
    });
    let gate = gateway(|spec| spec.answer_timeout = Duration::from_millis(100)).await;
    gate.set_backends(&[still]);
    let mut client = TcpStream::connect(gate.addr()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("half"), "{text}");
    until("it is counted", || gate.stats().failed[&FailCause::AnswerBroken] == 1).await;
    assert!(balances(&gate.stats()));
    server.abort();
}

#[tokio::test]
async fn stopping_finishes_what_is_in_flight() {
    let (one, gate) = (replica(0).await, gateway(|_| {}).await);
    gate.set_backends(&[one.backend]);
    let addr = gate.addr();
    let asked = tokio::spawn(get(addr, "/gate"));
    until("it is served", || one.served.load(Ordering::SeqCst) == 1).await;
    let stopping = tokio::spawn(async move { gate.stop(Duration::from_secs(10)).await });
    until("nothing more is accepted", || std::net::TcpStream::connect(addr).is_err()).await;
    one.gate.add_permits(1);
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    stopping.await.unwrap();
}

#[tokio::test]
async fn listens_on_loopback_only_and_says_when_the_port_is_taken() {
    let spec = |addr: &str| GatewaySpec::new(WorkloadId::local("x").unwrap(), addr.parse().unwrap());
    let wide = Gateway::start(spec("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(wide, GatewayError::NotLoopback(_)));
    let first = Gateway::start(spec("127.0.0.1:0")).await.unwrap();
    let taken = Gateway::start(spec(&first.addr().to_string())).await.unwrap_err();
    assert!(matches!(taken, GatewayError::Listen { .. }));
}

#[tokio::test]
async fn arrivals_are_kept_by_the_second() {
    let (one, gate) = (replica(0).await, gateway(|_| {}).await);
    gate.set_backends(&[one.backend]);
    let from = gate.stats().at;
    for _ in 0..5 {
        get(gate.addr(), "/echo").await;
    }
    let seen = || gate.arrivals_since(from).counts.iter().sum::<u32>() == 5;
    until("the running second is over", seen).await;
}
