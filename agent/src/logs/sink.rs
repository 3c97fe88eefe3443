//! Where lines go: the boundary between the shipper, which decides what is sent again, and what stores.

use std::future::Future;
use std::time::Duration;

use super::record::Entry;

/// Why something was not stored. The closed set behind the `cause` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// No connection.
    Connect,
    /// The answer did not come in time.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// The server cannot now: a status of 5xx.
    Unavailable,
    /// The server asks for patience: 429.
    TooMany,
    /// The request, or one line, is too large: 413.
    TooLarge,
    /// Credentials are missing, wrong or not enough: 401 or 403.
    Denied,
    /// The target is not there: 404.
    Missing,
    /// The server does not understand the line, or not its types: 400.
    Invalid,
    /// The server put the line into its failure store.
    FailureStore,
    /// Any other refusal.
    Refused,
    /// The answer is none that a sink of this kind gives.
    BadAnswer,
    /// A local file could not be written.
    Io,
}

impl Cause {
    /// Value of the `cause` label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::Unavailable => "unavailable",
            Self::TooMany => "too_many",
            Self::TooLarge => "too_large",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::FailureStore => "failure_store",
            Self::Refused => "refused",
            Self::BadAnswer => "bad_answer",
            Self::Io => "io",
        }
    }
}

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is stored for good.
    Stored,
    /// It is to be sent again.
    Again(Cause),
    /// It will never be stored. The reason may quote the line: it goes to the dead-letter file and not to logs.
    Refused { cause: Cause, reason: String },
}

/// A request that failed as a whole.
#[derive(Debug, thiserror::Error)]
#[error("the log sink did not store a batch ({})", .cause.as_str())]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// Whether smaller batches may fare better.
    pub(crate) split: bool,
    /// Whether lines may have been stored all the same.
    pub(crate) answer_lost: bool,
    /// How long the server asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) const fn new(cause: Cause) -> Self {
        Self { cause, split: false, answer_lost: false, retry_after: None, source: None }
    }
}

/// Stores lines.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Stores a batch and says for each line, by position, what became of it.
    ///
    /// `uncertain` says that some of the lines may be stored already, by a request whose answer never came.
    fn store(
        &self,
        batch: &[Entry],
        uncertain: bool,
    ) -> impl Future<Output = Result<Vec<Outcome>, Failure>> + Send;
}
