//! The queue and the ways, against collectors of the test's own.

use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::export::Exporter;
use crate::otlp::{Inbox, Receiver};

fn options(url: String, protocol: Protocol) -> PushOptions {
    PushOptions { url, protocol, every: Duration::from_mins(1), ca_file: None, headers_file: None }
}

fn page() -> Vec<ExportMetricsServiceRequest> {
    let exporter = Exporter::new(Arc::default(), Arc::default(), Duration::from_secs(30));
    exporter.requests(&[("service.name", "tidegate".into())])
}

fn outcome(registry: &Registry, outcome: &str) -> f64 {
    registry.counter(Metric::OtlpPushed, &[(Label::Outcome, outcome)]).get()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("no {what}"));
}

#[test]
fn the_oldest_go_when_the_queue_is_full() {
    let queue = Queue::default();
    let requests = |count| vec![ExportMetricsServiceRequest::default(); count];
    assert_eq!(queue.add(requests(QUEUE_MAX)), 0);
    assert_eq!(queue.add(requests(3)), 3);
    assert_eq!(queue.len(), QUEUE_MAX);
}

#[test]
fn headers_are_read_and_a_wrong_line_is_named_without_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("headers");
    std::fs::write(&path, "# of the tenant\nAuthorization: Bearer a:b\n\nX-Scope-OrgID: ml\n").unwrap();
    let read = headers(&path).unwrap();
    assert_eq!((read.len(), read["authorization"].to_str().unwrap()), (2, "Bearer a:b"));
    std::fs::write(&path, "a: b\nsecret\n").unwrap();
    let error = headers(&path).unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    let pusher = |url: &str| Pusher::new(options(url.into(), Protocol::Http), Arc::default());
    assert!(pusher("collector:4318").is_err() && pusher("ftp://collector").is_err());
}

#[tokio::test]
async fn what_is_pushed_by_grpc_arrives() {
    let inbox = Arc::new(Inbox::new());
    let receiver = Receiver::new(Arc::clone(&inbox), None, Arc::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().add_service(receiver.metrics());
    tokio::spawn(serving.serve_with_incoming(incoming));
    let registry = Arc::new(Registry::new());
    let pusher = Pusher::new(options(url, Protocol::Grpc), Arc::clone(&registry)).unwrap();
    let (stop, stopped) = watch::channel(false);
    let pushing = tokio::spawn(pusher.run(page, stopped));
    until("answer", || outcome(&registry, "ok") >= 1.0).await;
    assert!(
        inbox
            .lock()
            .senders
            .values()
            .any(|sender| sender.families.contains_key(Metric::BuildInfo.family().name))
    );
    stop.send_replace(true);
    pushing.await.unwrap();
    assert!(outcome(&registry, "ok") >= 2.0, "a last page is told at the end");
}

/// Answers each request of a connection with the next of `answers`, the last one over and over; tells how many came.
async fn collector(answers: &'static [&'static str], came: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let (head, length) = loop {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
                let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                if let Some(head) = text.find("\r\n\r\n") {
                    let length = text[..head].split("content-length: ").nth(1).unwrap();
                    break (head + 4, length.lines().next().unwrap().parse::<usize>().unwrap());
                }
            };
            while request.len() < head + length {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            let mut body = Vec::new();
            let mut packed = flate2::read::GzDecoder::new(&request[head..]);
            std::io::Read::read_to_end(&mut packed, &mut body).unwrap();
            ExportMetricsServiceRequest::decode(&*body).unwrap();
            let at = came.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let answer =
                format!("HTTP/1.1 {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", answers[at]);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let came = Arc::new(AtomicUsize::new(0));
    let answers = &["503 Busy\r\nRetry-After: 0", "429 Many\r\nRetry-After: 0", "400 Bad", "200 OK"];
    let url = collector(answers, Arc::clone(&came)).await;
    let registry = Arc::new(Registry::new());
    let pusher = Pusher::new(options(url, Protocol::Http), Arc::clone(&registry)).unwrap();
    let (stop, stopped) = watch::channel(false);
    let pushing = tokio::spawn(pusher.run(page, stopped));
    until("refusal", || outcome(&registry, "refused") >= 1.0).await;
    assert_eq!(came.load(Ordering::SeqCst), 3);
    let retries = |cause| registry.counter(Metric::OtlpPushRetries, &[(Label::Cause, cause)]).get();
    assert_eq!((retries("unavailable"), retries("too_many")), (1.0, 1.0));
    stop.send_replace(true);
    pushing.await.unwrap();
    assert_eq!(outcome(&registry, "ok"), 1.0, "the next page is sent all the same");
}
