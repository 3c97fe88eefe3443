//! The two streams through the gateway: a request body that can be sent again as long as that is possible, and an
//! answer that records how it ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::dispatch::Lease;
use super::stats::{FailCause, Visit};

/// A body of at most this many bytes is read before its request waits for a replica: it can be sent again then, and a
/// client that leaves while it waits is noticed. With the bound on connections this bounds the memory.
const SMALL_BYTES: u64 = 64 << 10;

/// A client's body, until a replica really begins to read it.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Small(Bytes),
    Large(Arc<Mutex<Option<Incoming>>>, SizeHint),
}

impl Held {
    /// Reads a small body whole, and leaves a large one, or one of unknown length, where it is.
    ///
    /// # Errors
    /// When the client goes away in the middle of a small one.
    pub(super) async fn hold(body: Incoming) -> Result<Self, hyper::Error> {
        let size = body.size_hint();
        if size.upper().is_some_and(|upper| upper <= SMALL_BYTES) {
            return Ok(Self::Small(body.collect().await?.to_bytes()));
        }
        Ok(Self::Large(Arc::new(Mutex::new(Some(body))), size))
    }

    /// A body for one try.
    pub(super) fn lend(&self) -> Lent {
        match self {
            Self::Small(bytes) => Lent::Small(Full::new(bytes.clone())),
            Self::Large(body, size) => Lent::Large { held: Arc::clone(body), taken: None, size: *size },
        }
    }

    /// Whether another try would send the same bytes.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Small(_) => true,
            Self::Large(body, _) => body.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
        }
    }
}

/// A body for one try; takes a large one when its first bytes are asked for.
#[derive(Debug)]
pub(super) enum Lent {
    Small(Full<Bytes>),
    Large { held: Arc<Mutex<Option<Incoming>>>, taken: Option<Incoming>, size: SizeHint },
}

/// Why a body could not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum LentError {
    #[error("the body was already read")]
    Gone,
    #[error("failed to read the body of the request")]
    Read(#[source] hyper::Error),
}

impl Body for Lent {
    type Data = Bytes;
    type Error = LentError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LentError>>> {
        match self.get_mut() {
            Self::Small(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Large { held, taken, .. } => {
                if taken.is_none() {
                    *taken = held.lock().unwrap_or_else(PoisonError::into_inner).take();
                }
                match taken {
                    Some(body) => Pin::new(body).poll_frame(cx).map_err(LentError::Read),
                    None => Poll::Ready(Some(Err(LentError::Gone))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Small(body) => body.is_end_stream(),
            Self::Large { taken, .. } => taken.as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Small(body) => body.size_hint(),
            Self::Large { taken, size, .. } => taken.as_ref().map_or_else(|| *size, Body::size_hint),
        }
    }
}

/// The body of an answer to a client.
#[derive(Debug)]
pub(super) enum Answer {
    /// Of the gateway itself.
    Own(Full<Bytes>),
    /// Passed on from a replica.
    Relayed(Box<Relay>),
}

/// A replica's answer on its way to the client.
#[derive(Debug)]
pub(super) struct Relay {
    inner: Incoming,
    status: StatusCode,
    /// Given back when the answer is whole.
    lease: Option<Lease>,
    visit: Visit,
    pause_max: Duration,
    pause: Pin<Box<Sleep>>,
    /// The next part was asked for and has not come. A client that reads slowly asks late: its pauses do not count.
    waiting: bool,
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error("failed to read the answer of the replica")]
    Read(#[source] hyper::Error),
    #[error("the answer of the replica stood still for too long")]
    Still,
}

impl Relay {
    pub(super) fn new(
        inner: Incoming,
        status: StatusCode,
        lease: Lease,
        visit: Visit,
        pause_max: Duration,
    ) -> Self {
        let pause = Box::pin(tokio::time::sleep(pause_max));
        let mut relay = Self { inner, status, lease: Some(lease), visit, pause_max, pause, waiting: false };
        if relay.inner.is_end_stream() {
            relay.complete();
        }
        relay
    }

    fn complete(&mut self) {
        self.visit.completed(self.status);
        self.lease = None;
    }

    fn break_off(&mut self, error: RelayError) -> RelayError {
        self.visit.failed(FailCause::AnswerBroken);
        self.lease = None;
        error
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if !std::mem::replace(&mut self.waiting, true) {
                self.pause.as_mut().reset(Instant::now() + self.pause_max);
            }
            ready!(self.pause.as_mut().poll(cx));
            return Poll::Ready(Some(Err(self.break_off(RelayError::Still))));
        };
        self.waiting = false;
        match frame {
            Some(Ok(frame)) => {
                // After the last byte of a known length the body may never be asked again.
                if self.inner.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(self.break_off(RelayError::Read(error))))),
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Relayed(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Relayed(relay) => relay.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Relayed(relay) => relay.inner.size_hint(),
        }
    }
}
