//! Pushing to a collector of the user's: a page every so often, queued while the collector is away, sent again by the rules of the
//! protocol. What does not fit into the queue is dropped, oldest first: the next page says more.

mod answer;
mod grpc;
mod http;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_core::{Label, Metric};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use super::messages::ExportMetricsServiceRequest;
use crate::backoff::Backoff;
use crate::clock;
use crate::export::Registry;
use answer::Ending;

/// Requests that may wait; a page of a node with 200 pods is some five.
const QUEUE_MAX: usize = 64;
/// Waits between tries, from the first on; what the collector asks for comes before them, up to the most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// An answer that has not come by then will not come.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of a file of headers.
const HEADERS_BYTES_MAX: usize = 64 * 1024;

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, usually at port 4317.
    Grpc,
    /// HTTP with protobuf, usually at port 4318; the path is that of metrics where the address has none.
    Http,
}

/// Where metrics are pushed, and how often.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// `http://` or `https://`.
    pub url: String,
    /// How.
    pub protocol: Protocol,
    /// From one page to the next.
    pub every: Duration,
    /// Certificates that the collector is trusted by instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Headers to send, one a line, `NAME: VALUE`: for who may push, which is nobody else's to know.
    pub headers_file: Option<PathBuf>,
}

/// Why nothing can be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The address is none.
    #[error("expected http://… or https://…, got {url}")]
    Address {
        /// As given.
        url: String,
    },
    /// A file cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the file of headers is none.
    #[error("{path}: line {line} is no `NAME: VALUE`")]
    Header {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
    /// TLS cannot be set up.
    #[error("failed to set up TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Pushes what `page` gives, until `stop`.
#[derive(Debug)]
pub struct Pusher {
    options: PushOptions,
    way: Way,
    registry: Arc<Registry>,
    queue: Queue,
}

#[derive(Debug)]
enum Way {
    Grpc(grpc::Way),
    Http(http::Way),
}

/// Requests that wait, oldest first.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<ExportMetricsServiceRequest>>,
    more: Notify,
}

impl Queue {
    /// Adds requests; tells how many had to go for them.
    fn add(&self, requests: Vec<ExportMetricsServiceRequest>) -> usize {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(requests);
        let gone = waiting.len().saturating_sub(QUEUE_MAX);
        waiting.drain(..gone);
        drop(waiting);
        self.more.notify_one();
        gone
    }

    fn take(&self) -> Option<ExportMetricsServiceRequest> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn len(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Pusher {
    /// Reads the files and prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// When the address or a file is wrong.
    pub fn new(options: PushOptions, registry: Arc<Registry>) -> Result<Self, PushError> {
        let url: ::http::Uri =
            options.url.parse().map_err(|_| PushError::Address { url: options.url.clone() })?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(PushError::Address { url: options.url });
        }
        let headers = options.headers_file.as_deref().map(headers).transpose()?.unwrap_or_default();
        let ca = options.ca_file.as_deref().map(read).transpose()?;
        let way = match options.protocol {
            Protocol::Grpc => Way::Grpc(grpc::Way::new(&options.url, ca, headers)?),
            Protocol::Http => Way::Http(http::Way::new(&url, ca, headers)?),
        };
        Ok(Self { options, way, registry, queue: Queue::default() })
    }

    /// Pushes until `stop` holds true or its sender is gone; then sends once more what waits, within a few seconds.
    pub async fn run(
        self,
        page: impl Fn() -> Vec<ExportMetricsServiceRequest> + Send,
        mut stop: watch::Receiver<bool>,
    ) {
        let making = async {
            let mut ticks = tokio::time::interval(self.options.every.max(Duration::from_secs(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                self.add(page());
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = making => {}
            () = self.send() => {}
        }
        self.add(page());
        // What a collector that is away does not take now is gone with this process.
        drop(tokio::time::timeout(RETRY.0 * 2, self.send_waiting()).await);
    }

    fn add(&self, requests: Vec<ExportMetricsServiceRequest>) {
        let gone = self.queue.add(requests);
        if gone > 0 {
            self.count("dropped", gone);
            tracing::warn!(requests = gone, "metrics were dropped, for the collector does not take them");
        }
        self.tell();
    }

    async fn send(&self) {
        loop {
            self.queue.more.notified().await;
            self.send_waiting().await;
        }
    }

    async fn send_waiting(&self) {
        while let Some(request) = self.queue.take() {
            self.send_one(&request).await;
            self.tell();
        }
    }

    /// Sends one request until the collector has taken or refused it. New ones wait meanwhile; when they do not fit, this one is let go.
    async fn send_one(&self, request: &ExportMetricsServiceRequest) {
        let seed = u64::try_from(clock::wall().as_millis()).unwrap_or_default();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, seed);
        loop {
            let sending = async {
                match &self.way {
                    Way::Grpc(way) => way.send(request).await,
                    Way::Http(way) => way.send(request).await,
                }
            };
            let ended = tokio::time::timeout(ANSWER_WITHIN, sending).await;
            match ended.unwrap_or(Ending::Again { cause: "timeout", after: None }) {
                Ending::Taken { rejected, message } => {
                    self.count(if rejected > 0 { "partial" } else { "ok" }, 1);
                    if !message.is_empty() {
                        tracing::warn!(rejected, message, "the collector says of pushed metrics");
                    }
                    return;
                }
                Ending::Refused { message } => {
                    self.count("refused", 1);
                    tracing::warn!(message, "the collector refused pushed metrics");
                    return;
                }
                Ending::Again { cause, after } => {
                    self.registry.counter(Metric::OtlpPushRetries, &[(Label::Cause, cause)]).inc();
                    if self.queue.len() >= QUEUE_MAX {
                        self.count("dropped", 1);
                        return;
                    }
                    tracing::info!(cause, "pushed metrics are sent again later");
                    let usual = backoff.next();
                    tokio::time::sleep(after.unwrap_or(usual).min(RETRY.1)).await;
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a bounded number")]
    fn count(&self, outcome: &str, requests: usize) {
        self.registry.counter(Metric::OtlpPushed, &[(Label::Outcome, outcome)]).add(requests as f64);
    }

    #[expect(clippy::cast_precision_loss, reason = "a bounded number")]
    fn tell(&self) {
        self.registry.gauge(Metric::OtlpPushWaiting, &[]).set(Some(self.queue.len() as f64));
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PushError> {
    std::fs::read(path).map_err(|source| PushError::Read { path: path.to_owned(), source })
}

/// Headers of a file; blank lines and those that begin with `#` are left out. An error names the line and never what it holds.
fn headers(path: &Path) -> Result<::http::HeaderMap, PushError> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(HEADERS_BYTES_MAX)]).into_owned();
    let mut headers = ::http::HeaderMap::new();
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
        let header = || {
            let (name, value) = text.split_once(':')?;
            let mut value: ::http::HeaderValue = value.trim().parse().ok()?;
            value.set_sensitive(true);
            Some((name.trim().parse::<::http::HeaderName>().ok()?, value))
        };
        let (name, value) = header().ok_or_else(|| PushError::Header { path: path.to_owned(), line })?;
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
