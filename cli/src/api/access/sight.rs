//! Which workloads a caller may see where an answer is about several: those of the namespaces that they may look into.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::review::{Asked, Reviewer, Verdict};

/// Namespaces asked about for one answer: more than clusters have where one team runs models.
const NAMESPACES_MAX: usize = 1000;
/// Questions at once.
const AT_ONCE: usize = 16;

/// What is about several workloads, and is answered with those that the caller may see.
const ABOUT_SEVERAL: [&str; 7] = [
    "/api/v1/about",
    "/api/v1/events",
    "/api/v1/logs",
    "/api/v1/node",
    "/api/v1/pool",
    "/api/v1/summary",
    "/api/v1/workloads",
];

/// What a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Namespaces; `None`: all, and what belongs to none.
    namespaces: Option<Arc<BTreeSet<String>>>,
    /// Somebody else knows the caller, and may take the right back at any time.
    pub(crate) may_end: bool,
}

impl Sight {
    /// Of somebody who is known here.
    pub(super) const WHOLE: Self = Self { namespaces: None, may_end: false };
    /// Of somebody whom the reviewer lets see all.
    pub(super) const REVIEWED: Self = Self { namespaces: None, may_end: true };

    /// Whether it is all that there is.
    pub(crate) const fn is_whole(&self) -> bool {
        self.namespaces.is_none()
    }

    /// Whether it holds the workload of this id.
    pub(crate) fn sees(&self, workload: &str) -> bool {
        let Some(namespaces) = &self.namespaces else { return true };
        workload.split_once('/').is_some_and(|(namespace, _)| namespaces.contains(namespace))
    }
}

/// Whether what is asked for at this path can be answered in part.
pub(super) fn is_divisible(path: &str) -> bool {
    ABOUT_SEVERAL.contains(&path)
}

/// What of these namespaces the token's owner may look into.
pub(super) async fn of(
    reviewer: &dyn Reviewer,
    token: &str,
    namespaces: BTreeSet<String>,
) -> Result<Sight, Verdict> {
    if namespaces.len() > NAMESPACES_MAX {
        tracing::warn!(
            namespaces = namespaces.len(),
            asked = NAMESPACES_MAX,
            "too many to ask about all of them"
        );
    }
    let verdicts: Vec<_> = stream::iter(namespaces.into_iter().take(NAMESPACES_MAX))
        .map(async |namespace| {
            let asked = Asked { acts: false, namespace: Some(namespace.clone()) };
            (namespace, reviewer.review(token, asked).await)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    if let Some((_, verdict)) =
        verdicts.iter().find(|(_, verdict)| matches!(verdict, Verdict::NoAnswer | Verdict::Unknown))
    {
        return Err(*verdict);
    }
    let seen = verdicts.into_iter().filter(|(_, verdict)| *verdict == Verdict::Allowed);
    let seen: BTreeSet<_> = seen.map(|(namespace, _)| namespace).collect();
    if seen.is_empty() {
        return Err(Verdict::Refused);
    }
    Ok(Sight { namespaces: Some(Arc::new(seen)), may_end: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_seen_in_its_namespace_alone() {
        let sight = Sight { namespaces: Some(Arc::new(BTreeSet::from(["ml".to_owned()]))), may_end: true };
        assert!(sight.sees("ml/deployment/chat") && !sight.is_whole());
        for other in ["ml-two/deployment/chat", "other/deployment/ml", "ml", ""] {
            assert!(!sight.sees(other), "{other}");
        }
        assert!(Sight::WHOLE.sees("other/deployment/chat") && Sight::WHOLE.is_whole());
    }

    #[test]
    fn what_changes_something_is_whole() {
        assert!(is_divisible("/api/v1/workloads"));
        for path in
            ["/api/v1/alerts", "/metrics", "/api/v1/workloads/ml/deployment/chat", "/api/v1/node/series"]
        {
            assert!(!is_divisible(path), "{path}");
        }
    }
}
