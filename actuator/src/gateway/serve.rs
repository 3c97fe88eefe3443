//! Accepts connections and serves them, until told to stop. What a request is answered with is the proxy's part.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::proxy::Proxy;

/// A client that does not finish the head of its request within this is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Most bytes buffered per connection; a request head must fit.
const BUFFER_BYTES: usize = 64 << 10;
/// After a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` turns true, then until the last request is answered. Aborted, it cuts every connection.
pub(super) async fn serve(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    loop {
        tokio::select! {
            (stream, client, place) = accept(&listener, &places) => {
                connections.spawn(connection(stream, client, place, Arc::clone(&proxy), graceful.watcher()));
            }
            Some(_) = connections.join_next() => {}
            // Also when the gateway itself is gone.
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, client)) => return (stream, client, place),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    place: OwnedSemaphorePermit,
    proxy: Arc<Proxy>,
    watcher: Watcher,
) {
    // Small answers are not to wait for more; where that cannot be set they are merely later.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.answer(client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        // Clients come and go; what became of their requests is counted.
        tracing::debug!(%client, %error, "a connection ended");
    }
    drop(place);
}
