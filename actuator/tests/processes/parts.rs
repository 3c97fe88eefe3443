//! The parts that this program plays when a target starts it as a replica: a little HTTP server, or a Tidegate that will
//! be killed.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_actuator::LocalTarget;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::support::server_spec;

/// Names the part; absent in an ordinary test run.
pub(crate) const PART: &str = "TEST_PART";
/// Folder of the state and logs of a supervisor that will be killed.
pub(crate) const FOLDER: &str = "TEST_FOLDER";

/// Does nothing in an ordinary run.
#[test]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match part.as_str() {
        "server" => runtime.block_on(server(false)),
        "trainer" => runtime.block_on(server(true)),
        "supervisor" => runtime.block_on(supervisor()),
        other => panic!("no part {other}"),
    }
}

/// Runs two servers until it is killed.
async fn supervisor() {
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let target = LocalTarget::start(server_spec("orphan", &folder), &folder, None).await.unwrap();
    target.set_replicas(2);
    std::future::pending::<()>().await;
}

/// Serves on `PORT` until SIGTERM, and cuts then what it has: only a drain before it can save a request.
async fn server(trains: bool) {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut term = signal(SignalKind::terminate()).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    if trains {
        let steps = Arc::clone(&steps);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if !std::fs::exists(flag("stall")).unwrap() {
                    steps.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = term.recv() => break,
        };
        let steps = Arc::clone(&steps);
        let service = service_fn(move |request| {
            let steps = Arc::clone(&steps);
            async move { Ok::<_, Infallible>(answer(request, &steps).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
    std::process::exit(0);
}

fn flag(name: &str) -> PathBuf {
    PathBuf::from(std::env::var(FOLDER).unwrap_or_default()).join(name)
}

async fn answer(request: Request<Incoming>, steps: &AtomicU64) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
    match request.uri().path() {
        "/never" => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        "/work" => tokio::time::sleep(Duration::from_millis(30)).await,
        "/steps" => *response.body_mut() = Full::new(steps.load(Ordering::SeqCst).to_string().into()),
        "/checkpoint" if std::fs::exists(flag("fail")).unwrap() => {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        "/checkpoint" => std::fs::write(flag("saved"), b"").unwrap(),
        _ => {}
    }
    response
}
