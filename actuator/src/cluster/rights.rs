//! What each of Tidegate's identities must be allowed to do in a cluster, and why: the one table that the chart's roles, the checks,
//! the documentation and a running controller are held against. How a cluster is asked about it is in [`review`].

pub mod review;

use std::fmt;

use super::kinds::{SizePath, TARGET_KINDS};
use crate::crds::GROUP;

/// As whom a part of Tidegate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// Decides and writes.
    Controller,
    /// Collects on a node.
    Agent,
    /// Gives back floors that nobody renews.
    Restore,
}

impl Identity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Controller, Self::Agent, Self::Restore];

    /// Name of the ServiceAccount that the chart makes for it.
    #[must_use]
    pub const fn account(self) -> &'static str {
        match self {
            Self::Controller => "tidegate-controller",
            Self::Agent => "tidegate-agent",
            Self::Restore => "tidegate-restore",
        }
    }
}

/// Where Kubernetes keeps what it tells its own parts.
pub const KUBE_SYSTEM: &str = "kube-system";

/// Where a right must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the whole cluster.
    Cluster,
    /// In the namespaces that are watched; in the whole cluster where all are.
    Watched,
    /// In the namespace that Tidegate runs in.
    Own,
    /// In `kube-system`.
    KubeSystem,
}

/// A row of the table: verbs on one kind of object, for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Whose.
    pub identity: Identity,
    /// Where.
    pub place: Place,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Name in paths.
    pub resource: &'static str,
    /// Part of the object, such as `scale`.
    pub subresource: Option<&'static str>,
    /// What is done.
    pub verbs: &'static [&'static str],
    /// The only objects that it is done to; empty: any.
    pub names: &'static [&'static str],
    /// What it is for, as in "… is needed for WHY".
    pub why: &'static str,
    /// The chart's value by which alone it is granted; `None`: always.
    pub option: Option<&'static str>,
}

/// One verb on one kind of object: what the API server can be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// Whose.
    pub identity: Identity,
    /// Where.
    pub place: Place,
    /// API group.
    pub group: &'static str,
    /// Name in paths.
    pub resource: &'static str,
    /// Part of the object.
    pub subresource: Option<&'static str>,
    /// What is done.
    pub verb: &'static str,
    /// The only object that it is done to.
    pub name: Option<&'static str>,
    /// What it is for.
    pub why: &'static str,
    /// The chart's value by which alone it is granted.
    pub option: Option<&'static str>,
}

impl fmt::Display for Permission {
    /// As in `patch deployments.apps/scale` or `get secrets tidegate-tls`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(part) = self.subresource {
            write!(f, "/{part}")?;
        }
        if let Some(name) = self.name {
            write!(f, " {name}")?;
        }
        Ok(())
    }
}

impl Right {
    /// Its verbs and names one by one.
    pub fn each(&self) -> impl Iterator<Item = Permission> {
        let Self { identity, place, group, resource, subresource, why, option, .. } = *self;
        let names: Vec<_> =
            if self.names.is_empty() { vec![None] } else { self.names.iter().copied().map(Some).collect() };
        self.verbs.iter().copied().flat_map(move |verb| {
            let one = move |name| Permission {
                identity,
                place,
                group,
                resource,
                subresource,
                verb,
                name,
                why,
                option,
            };
            names.clone().into_iter().map(one)
        })
    }
}

/// The definitions of Tidegate's own kinds.
const DEFINITIONS: &[&str] =
    &["gpupools.tidegate.io", "servingpolicies.tidegate.io", "trainingpolicies.tidegate.io"];
const READS: &[&str] = &["list", "watch"];
const PATCHES: &[&str] = &["patch"];
const TARGETS: &str = "the sizes of what policies target";

const fn right(
    (identity, place): (Identity, Place),
    (group, resource): (&'static str, &'static str),
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { identity, place, group, resource, subresource: None, verbs, names: &[], why, option: None }
}

const fn part(right: Right, subresource: &'static str) -> Right {
    Right { subresource: Some(subresource), ..right }
}

const fn only(right: Right, names: &'static [&'static str]) -> Right {
    Right { names, ..right }
}

const fn by_option(right: Right, option: &'static str) -> Right {
    Right { option: Some(option), ..right }
}

/// Value of the chart that lets the controller run commands in pods.
const EXEC: &str = "controller.checkpointExec";
const CHECKPOINTS: &str = "checkpoints of training jobs by a command or a signal";

/// Value of the chart that has the controller serve the External Metrics API.
const EXTERNAL: &str = "externalMetrics.enabled";
const EXTERNAL_METRICS: &str = "external metrics: who the API server's front proxy is, and what it trusts";
/// Value of the chart that has the controller answer KEDA.
const KEDA: &str = "keda.enabled";

const CLUSTER: (Identity, Place) = (Identity::Controller, Place::Cluster);
const WATCHED: (Identity, Place) = (Identity::Controller, Place::Watched);
const OWN: (Identity, Place) = (Identity::Controller, Place::Own);
const RESTORE: (Identity, Place) = (Identity::Restore, Place::Watched);
const HPAS: (&str, &str) = ("autoscaling", "horizontalpodautoscalers");
const SCALED_OBJECTS: (&str, &str) = ("keda.sh", "scaledobjects");

/// All but the rights on kinds that policies target.
const FIXED: &[Right] = &[
    right(CLUSTER, (GROUP, "gpupools"), READS, "the sizes of pools that policies share"),
    part(right(CLUSTER, (GROUP, "gpupools"), PATCHES, "to tell who holds a pool"), "status"),
    right(CLUSTER, ("", "nodes"), READS, "GPUs of pools, and to know which nodes agents may speak for"),
    only(
        right(
            CLUSTER,
            ("apiextensions.k8s.io", "customresourcedefinitions"),
            &["get"],
            "to notice definitions of an older version",
        ),
        DEFINITIONS,
    ),
    right(
        CLUSTER,
        ("authentication.k8s.io", "tokenreviews"),
        &["create"],
        "to know who calls the API and who sends digests",
    ),
    right(
        CLUSTER,
        ("authorization.k8s.io", "subjectaccessreviews"),
        &["create"],
        "to know what callers of the API may",
    ),
    right(WATCHED, (GROUP, "servingpolicies"), READS, "policies of serving"),
    right(WATCHED, (GROUP, "trainingpolicies"), READS, "policies of training"),
    part(right(WATCHED, (GROUP, "servingpolicies"), PATCHES, "to tell what was seen and decided"), "status"),
    part(right(WATCHED, (GROUP, "trainingpolicies"), PATCHES, "to tell what was seen and decided"), "status"),
    right(WATCHED, ("", "pods"), READS, "replicas, and how long they take to be ready"),
    right(WATCHED, ("", "pods"), PATCHES, "to mark the pods that go first"),
    by_option(part(right(WATCHED, ("", "pods"), &["get", "create"], CHECKPOINTS), "exec"), EXEC),
    by_option(part(right(WATCHED, ("", "pods"), &["get"], CHECKPOINTS), "log"), EXEC),
    right(WATCHED, HPAS, READS, "autoscalers that have a target already"),
    right(WATCHED, HPAS, PATCHES, "to raise floors and give them back"),
    right(WATCHED, SCALED_OBJECTS, READS, "autoscalers that have a target already"),
    right(WATCHED, SCALED_OBJECTS, PATCHES, "to raise floors and give them back"),
    right(WATCHED, ("events.k8s.io", "events"), &["create", "patch"], "to tell decisions as Events"),
    right(OWN, ("coordination.k8s.io", "leases"), &["create"], "to be the only one that writes"),
    only(
        right(OWN, ("coordination.k8s.io", "leases"), &["get", "update"], "to be the only one that writes"),
        &["tidegate-controller"],
    ),
    right(OWN, ("", "secrets"), &["create"], "a certificate that its replicas share"),
    only(
        right(OWN, ("", "secrets"), &["get", "update"], "a certificate that its replicas share"),
        &["tidegate-tls"],
    ),
    only(right(OWN, ("", "configmaps"), PATCHES, "to tell agents what they trust it by"), &["tidegate-ca"]),
    by_option(
        only(
            right(
                (Identity::Controller, Place::KubeSystem),
                ("", "configmaps"),
                &["get", "list", "watch"],
                EXTERNAL_METRICS,
            ),
            &["extension-apiserver-authentication"],
        ),
        EXTERNAL,
    ),
    by_option(
        only(
            right(CLUSTER, ("apiregistration.k8s.io", "apiservices"), PATCHES, EXTERNAL_METRICS),
            &["v1beta1.external.metrics.k8s.io"],
        ),
        EXTERNAL,
    ),
    by_option(
        only(right(OWN, ("", "secrets"), &["get", "update"], "answers to KEDA"), &["tidegate-keda"]),
        KEDA,
    ),
    right(
        (Identity::Agent, Place::Cluster),
        ("", "pods"),
        READS,
        "the node's pods, while the kubelet does not tell of them",
    ),
    right(RESTORE, HPAS, &["list", "patch"], "to give back floors that nobody has renewed"),
    right(RESTORE, SCALED_OBJECTS, &["list", "patch"], "to give back floors that nobody has renewed"),
];

/// Every right that Tidegate needs.
#[must_use]
pub fn rights() -> Vec<Right> {
    let mut all = FIXED.to_vec();
    for kind in TARGET_KINDS {
        all.extend(of_kind(kind.group, kind.plural, matches!(kind.size, SizePath::Scale(_))));
    }
    all
}

/// What the controller needs on a kind that policies target: to look at it whole, and to write its size, by a subresource alone where
/// there is one for it.
fn of_kind(group: &'static str, plural: &'static str, by_scale: bool) -> [Right; 2] {
    let look = right(WATCHED, (group, plural), READS, TARGETS);
    let write = right(WATCHED, (group, plural), PATCHES, "to set sizes");
    [look, if by_scale { part(write, "scale") } else { write }]
}

/// Every single permission that an identity always needs.
#[must_use]
pub fn permissions(identity: Identity) -> Vec<Permission> {
    each(|right| right.identity == identity && right.option.is_none())
}

/// Those that are granted by a value of the chart alone.
#[must_use]
pub fn optional(identity: Identity) -> Vec<Permission> {
    each(|right| right.identity == identity && right.option.is_some())
}

fn each(wanted: impl Fn(&Right) -> bool) -> Vec<Permission> {
    rights().iter().filter(|right| wanted(right)).flat_map(|right| right.each().collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crds::definitions;
    use std::collections::BTreeSet;

    #[test]
    fn no_permission_stands_twice() {
        for identity in Identity::ALL {
            let all = [permissions(identity), optional(identity)].concat();
            let texts: BTreeSet<_> = all.iter().map(|one| (one.place, one.to_string())).collect();
            assert_eq!(texts.len(), all.len(), "{identity:?}");
            assert!(!all.is_empty());
        }
    }

    #[test]
    fn the_definitions_that_are_read_are_those_that_there_are() {
        let names: BTreeSet<_> = definitions().into_iter().filter_map(|one| one.metadata.name).collect();
        assert_eq!(names, DEFINITIONS.iter().map(|name| (*name).to_owned()).collect());
    }

    #[test]
    fn a_permission_reads_as_one_would_ask_kubectl() {
        let texts: Vec<_> = permissions(Identity::Controller).iter().map(ToString::to_string).collect();
        for text in
            ["patch deployments.apps/scale", "list nodes", "get secrets tidegate-tls", "patch jobs.batch"]
        {
            assert!(texts.iter().any(|one| one == text), "{text}: {texts:?}");
        }
        assert!(
            !texts.iter().any(|one| one == "patch deployments.apps"),
            "a size is written by its subresource alone"
        );
    }
}
