//! The HTTP API and the page: routes, shapes, who may call. Not what it shows: that comes from a [`Backend`].

mod access;
mod assets;
mod backend;
mod document;
mod events;
mod listen;
mod params;
mod problem;
mod router;
mod routes;
pub(crate) mod views;

#[cfg(test)]
mod tests;

pub(crate) use access::review::{Asked, Reviewer, Verdict};
pub(crate) use assets::plotly_source;
pub(crate) use backend::{Backend, LogFilter, Refusal, SeriesQuery};
pub(crate) use listen::{Bound, Bounded, Listen, ListenError, TlsFiles, tls_config};

/// Why a request was refused before it reached a route: the value of the `cause` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Denied {
    /// No token where one is needed.
    Missing,
    /// A token that is not known.
    Invalid,
    /// A token that does not allow this.
    Scope,
    /// A `Host` that is not this machine: DNS rebinding, or a proxy that was not configured.
    Host,
    /// A change asked for by a page of another origin.
    Origin,
}

impl Denied {
    /// The word used in labels.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Scope => "scope",
            Self::Host => "host",
            Self::Origin => "origin",
        }
    }
}
