//! Where the API listens, and under which conditions. Beyond loopback only with TLS and tokens.

mod bounded;
mod tls;

pub(crate) use bounded::Bounded;
pub(crate) use tls::config as tls_config;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};

use super::Denied;
use super::access::review::Reviewer;
use super::access::tokens::{Tokens, TokensError};
use super::access::{self, Gate, Guard};
use super::backend::Backend;
use super::router;

/// Most connections at once: pages, scrapers and webhooks of one machine are tens.
const CONNECTIONS_MAX: usize = 256;
/// Most requests at once within one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// A client that does not send its headers within this is gone or hostile.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long answers under way may take after the request to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Where to listen.
#[derive(Clone)]
pub(crate) struct Listen {
    /// Asked about tokens that are not in the file; beyond loopback it will do instead of one.
    pub(crate) reviewer: Option<Arc<dyn Reviewer>>,
    /// Address; port 0 takes any free one.
    pub(crate) addr: SocketAddr,
    /// Certificate and key; needed beyond loopback.
    pub(crate) tls: Option<TlsFiles>,
    /// File of tokens; needed beyond loopback. On loopback it is made when it is not there.
    pub(crate) tokens: Option<PathBuf>,
    /// Whether a token is needed on loopback too.
    pub(crate) token_always: bool,
    /// Whether `/metrics` needs no token.
    pub(crate) metrics_open: bool,
    /// Further names of this machine that a `Host` header may bear on loopback.
    pub(crate) hosts: Vec<String>,
}

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    /// The chain, own certificate first.
    pub(crate) cert: PathBuf,
    /// The key.
    pub(crate) key: PathBuf,
}

/// Why the API does not listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("refusing to listen on {addr}, which is beyond loopback, without {missing}")]
    Exposed { addr: SocketAddr, missing: String },
    #[error("failed to load the tokens")]
    Tokens(#[source] TokensError),
    #[error("failed to read {path}")]
    ReadPem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("failed to use {cert} with {key}")]
    UseTls { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("failed to listen on {addr}")]
    Bind { addr: SocketAddr, source: io::Error },
}

/// An address taken, not yet served.
pub(crate) struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
    tls: Option<RustlsConfig>,
    guard: Guard,
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listen").field("addr", &self.addr).field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl Listen {
    /// Loopback without TLS, open to this machine.
    pub(crate) fn loopback(addr: SocketAddr, tokens: PathBuf) -> Self {
        Self {
            reviewer: None,
            addr,
            tls: None,
            tokens: Some(tokens),
            token_always: false,
            metrics_open: true,
            hosts: Vec::new(),
        }
    }

    /// Checks the conditions and takes the address.
    ///
    /// # Errors
    /// When the address is beyond loopback and TLS or tokens are missing, or anything cannot be read or taken.
    pub(crate) fn bind(self) -> Result<Bound, ListenError> {
        let addr = self.addr;
        let beyond = !addr.ip().is_loopback();
        let missing: Vec<_> = [
            ("TLS (certificate and key)", self.tls.is_some()),
            ("tokens", self.tokens.is_some() || self.reviewer.is_some()),
        ]
        .into_iter()
        .filter_map(|(what, there)| (beyond && !there).then_some(what))
        .collect();
        if !missing.is_empty() {
            return Err(ListenError::Exposed { addr, missing: missing.join(" and ") });
        }
        let tokens = match &self.tokens {
            Some(path) if beyond => Tokens::load(path),
            Some(path) => Tokens::load_or_create(path),
            None => Ok(Tokens::default()),
        };
        let guard = Guard {
            reviewer: self.reviewer,
            tokens: tokens.map_err(ListenError::Tokens)?,
            open: !beyond && !self.token_always,
            metrics_open: self.metrics_open,
            hosts: self.hosts,
        };
        let tls = self.tls.as_ref().map(tls::config).transpose()?.map(RustlsConfig::from_config);
        let taken = |source| ListenError::Bind { addr, source };
        let listener = TcpListener::bind(addr).map_err(taken)?;
        let addr = listener.local_addr().map_err(taken)?;
        Ok(Bound { listener, addr, tls, guard })
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Bound {
    /// The address as people open it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.addr)
    }

    /// What it serves TLS with: another certificate may be put into it at any time, for connections that come then.
    pub(crate) fn tls(&self) -> Option<RustlsConfig> {
        self.tls.clone()
    }

    /// Serves until `stop` ends, then lets answers under way end.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub(crate) async fn serve(
        self,
        backend: Arc<dyn Backend>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let api = router::Api::new(backend, self.guard);
        let closing = api.closing.clone();
        let stop = async move {
            stop.await;
            closing.cancel();
        };
        run(self.listener, self.tls, router::app(api), stop).await
    }

    /// Serves `routes` to those who may push, until `stop` ends; `denied` is told of the others.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub(crate) async fn serve_senders(
        self,
        routes: axum::Router,
        denied: impl Fn(Denied) + Send + Sync + 'static,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let gate = Arc::new(Gate { guard: self.guard, denied: Box::new(denied) });
        let app = routes.layer(axum::middleware::from_fn_with_state(gate, access::check_sender));
        run(self.listener, self.tls, app, stop).await
    }
}

async fn run(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    app: axum::Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let handle = Handle::new();
    let ending = handle.clone();
    tokio::spawn(async move {
        stop.await;
        ending.graceful_shutdown(Some(DRAIN_WITHIN));
    });
    let bounded = Bounded::new(CONNECTIONS_MAX);
    match tls {
        Some(config) => {
            let tls = RustlsAcceptor::new(config).acceptor(bounded);
            server(listener, handle, tls)?.serve(app.into_make_service()).await
        }
        None => server(listener, handle, bounded)?.serve(app.into_make_service()).await,
    }
}

fn server<A>(
    listener: TcpListener,
    handle: Handle<SocketAddr>,
    acceptor: A,
) -> io::Result<axum_server::Server<SocketAddr, A>>
where
    A: Accept<tokio::net::TcpStream, axum::Router>,
{
    let mut server = axum_server::from_tcp(listener)?
        .handle(handle)
        .first_request_timeout(HEADERS_WITHIN)
        .acceptor(acceptor);
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEADERS_WITHIN);
    builder.http2().max_concurrent_streams(STREAMS_MAX);
    Ok(server)
}
