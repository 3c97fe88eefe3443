//! One HTTP/1.1 request with a deadline, for health checks and checkpoint hooks. Not a client for anything else: it
//! connects anew each time, follows nothing and reads no body.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer within {}s", .0.as_secs_f64())]
    Late(Duration),
    #[error("failed to connect to {addr}")]
    Connect { addr: SocketAddr, source: std::io::Error },
    #[error("{path:?} is not a path that can be asked for")]
    Path { path: String, source: http::Error },
    #[error("failed to exchange request and answer with {addr}")]
    Exchange { addr: SocketAddr, source: hyper::Error },
}

/// Sends one request without a body and returns the status of the answer.
pub(crate) async fn call(
    addr: SocketAddr,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<StatusCode, CallError> {
    let exchange = exchange(addr, method, path);
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(CallError::Late(limit)))
}

async fn exchange(addr: SocketAddr, method: Method, path: &str) -> Result<StatusCode, CallError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, addr.to_string())
        .header(hyper::header::CONNECTION, "close")
        .header(hyper::header::CONTENT_LENGTH, "0")
        .body(Empty::<Bytes>::new())
        .map_err(|source| CallError::Path { path: path.to_owned(), source })?;
    let stream = connect(addr).await?;
    let failed = |source| CallError::Exchange { addr, source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => return answer.map(|a| a.status()).map_err(failed),
        // The connection may end in the same poll in which it hands over the answer.
        _ = &mut connection => {}
    }
    answer.await.map(|a| a.status()).map_err(failed)
}

/// Whether a connection is accepted within `limit`.
pub(crate) async fn accepts(addr: SocketAddr, limit: Duration) -> Result<(), CallError> {
    let connected = tokio::time::timeout(limit, connect(addr)).await;
    connected.unwrap_or(Err(CallError::Late(limit))).map(drop)
}

async fn connect(addr: SocketAddr) -> Result<TcpStream, CallError> {
    TcpStream::connect(addr).await.map_err(|source| CallError::Connect { addr, source })
}
