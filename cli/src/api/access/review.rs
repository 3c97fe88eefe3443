//! Tokens that are nobody's here: whoever runs the API may name somebody who knows them.

use futures::future::BoxFuture;
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    /// To change something; else to look.
    pub(crate) acts: bool,
    /// In which namespace; `None`: in all of them.
    pub(crate) namespace: Option<String>,
}

/// What is said of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may.
    Allowed,
    /// It is known, and may not.
    Refused,
    /// It is nobody's.
    Unknown,
    /// Nobody could be asked.
    NoAnswer,
}

/// Somebody who knows tokens.
pub(crate) trait Reviewer: Send + Sync + 'static {
    /// Whether the owner of a token may do what is asked.
    fn review<'a>(&'a self, token: &'a str, asked: Asked) -> BoxFuture<'a, Verdict>;
}

/// The namespace that a path is about: that of the one workload it names, whose slashes may be percent-encoded. `None`: it is about all of them.
pub(super) fn namespace_of(path: &str) -> Option<String> {
    let id = percent_decode_str(path.strip_prefix("/api/v1/workloads/")?).decode_utf8().ok()?;
    let namespace = id.split('/').next()?;
    (!namespace.is_empty()).then(|| namespace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_about_the_namespace_of_its_workload_or_about_all() {
        for one in ["ml/deployment/chat/forecast", "ml%2Fdeployment%2fchat", "ml%2Fdeployment/chat"] {
            assert_eq!(namespace_of(&format!("/api/v1/workloads/{one}")).as_deref(), Some("ml"), "{one}");
        }
        for all in
            ["/api/v1/workloads", "/api/v1/workloads/", "/api/v1/workloads/%ff/a/b", "/api/v1/logs", "/"]
        {
            assert_eq!(namespace_of(all), None, "{all}");
        }
    }
}
