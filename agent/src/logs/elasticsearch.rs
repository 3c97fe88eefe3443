//! The Elasticsearch sink: `_bulk` with `create` into a data stream, and what sets the server up for it.
//!
//! Written to the documented HTTP interface of versions 8 and 9. Querying logs is the user's, with their own tools.

mod bulk;
mod check;
mod client;
mod found;
mod install;
mod sink;
mod template;

use std::path::PathBuf;
use std::time::Duration;

pub use check::{Finding, Report, Verdict, check};
pub use client::ClientError;
pub use found::{Finder, IDS_MAX};
pub use install::{InstallError, install};
pub(crate) use sink::Elasticsearch;

/// Data stream that is written when the user names none: the naming scheme of Elastic's own integrations.
pub const STREAM: &str = "logs-tidegate-default";

/// How a server is reached and what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticsearchConfig {
    /// Base address, such as `https://logs.example.org:9200`. Without credentials.
    pub url: String,
    /// Data stream that is written.
    pub stream: String,
    /// How Tidegate shows who it is.
    pub auth: Auth,
    /// Certificate of the authority that the server's certificate must be signed by, PEM; the system's authorities otherwise.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long logs are kept, in days, where the server has a data-stream lifecycle; `None` leaves that to the user.
    pub retention_days: Option<u32>,
}

impl ElasticsearchConfig {
    /// The defaults for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            stream: STREAM.to_owned(),
            auth: Auth::None,
            ca_file: None,
            // A server under load may take as long; giving up sooner only makes it do the work twice.
            timeout: Duration::from_secs(60),
            retention_days: Some(30),
        }
    }
}

/// How Tidegate shows the server who it is. Secrets are read from files, at the start and again when they are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// It does not.
    #[default]
    None,
    /// User and password.
    Basic {
        /// Name of the user.
        user: String,
        /// File that holds the password, and a line end at most.
        password_file: PathBuf,
    },
    /// An API key.
    ApiKey {
        /// File that holds the key in its encoded form.
        key_file: PathBuf,
    },
}
