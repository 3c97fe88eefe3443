//! How a policy acts on its target, and when it must not: two hands on one size are worse than either.

use std::collections::BTreeMap;

use kube::api::{ApiResource, GroupVersionKind};

use super::facts::{AutoscalerFacts, TargetFacts};
use super::watch::Known;
use crate::crds::Via;

/// Managers of fields that belong to tools which put their own state back: what they own is not Tidegate's to change.
const GITOPS: [&str; 8] = [
    "argocd-controller",
    "argocd-application-controller",
    "argocd",
    "kustomize-controller",
    "helm-controller",
    "fleetagent",
    "config-sync",
    "applier.config-sync",
];
/// Other autoscalers that write sizes. Not here: the controller manager, by whose name HPAs write, and `keda`. Both are known by their
/// objects, and write nothing without them.
const AUTOSCALERS: [&str; 3] = ["autoscaler", "custom-pod-autoscaler", "kubeai"];

/// Which kind of autoscaler has the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AutoscalerKind {
    /// A HorizontalPodAutoscaler (autoscaling/v2).
    Hpa,
    /// KEDA's ScaledObject (keda.sh/v1alpha1).
    ScaledObject,
}

impl AutoscalerKind {
    /// Its kind, as in the object.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Hpa => "HorizontalPodAutoscaler",
            Self::ScaledObject => "ScaledObject",
        }
    }

    /// How the API server knows it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (group, version, plural) = match self {
            Self::Hpa => ("autoscaling", "v2", "horizontalpodautoscalers"),
            Self::ScaledObject => ("keda.sh", "v1alpha1", "scaledobjects"),
        };
        let gvk = GroupVersionKind::gvk(group, version, self.kind());
        ApiResource::from_gvk_with_plural(&gvk, plural)
    }

    /// The floor where none is given.
    #[must_use]
    pub const fn floor_default(self) -> u32 {
        match self {
            Self::Hpa => 1,
            Self::ScaledObject => 0,
        }
    }

    /// Name of the field of its spec that holds the floor.
    #[must_use]
    pub const fn floor_field(self) -> &'static str {
        match self {
            Self::Hpa => "minReplicas",
            Self::ScaledObject => "minReplicaCount",
        }
    }
}

/// An autoscaler on the same target.
#[derive(Debug, Clone, Copy)]
pub struct Rival<'a> {
    /// Which kind.
    pub kind: AutoscalerKind,
    /// Its name; the namespace is the target's.
    pub name: &'a str,
    /// What is known of it.
    pub facts: &'a AutoscalerFacts,
}

/// The autoscalers of a cluster by what they target: namespace, kind and name.
pub(super) struct Autoscalers<'a>(BTreeMap<(&'a str, &'a str, &'a str), Vec<Rival<'a>>>);

impl<'a> Autoscalers<'a> {
    /// Of these HorizontalPodAutoscalers and ScaledObjects.
    pub(super) fn of(hpas: &'a Known<AutoscalerFacts>, scaled_objects: &'a Known<AutoscalerFacts>) -> Self {
        let mut by_target: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (kind, table) in [(AutoscalerKind::Hpa, hpas), (AutoscalerKind::ScaledObject, scaled_objects)] {
            for ((namespace, name), facts) in table.all() {
                let target = (namespace, facts.target_kind.as_str(), facts.target_name.as_str());
                by_target.entry(target).or_default().push(Rival { kind, name, facts });
            }
        }
        Self(by_target)
    }

    /// Those on one target.
    pub(super) fn on<'b>(&'b self, namespace: &'b str, kind: &'b str, name: &'b str) -> &'b [Rival<'b>] {
        self.0.get(&(namespace, kind, name)).map_or(&[], Vec::as_slice)
    }
}

/// How a size is put into effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Written to the target.
    Scale,
    /// As the floor of this autoscaler.
    Floor(AutoscalerKind, String),
    /// Published; an HPA or ScaledObject of the user's asks for it.
    Publish,
}

/// Why a policy must not act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another policy was there first.
    #[error("{0} targets it too and was there first")]
    Policy(String),
    /// An autoscaler writes the size.
    #[error("{kind} {name} writes its size; use `act.via: auto` to raise its floor instead, or remove it")]
    Autoscaler {
        /// Kind of the autoscaler.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// More than one autoscaler has the target.
    #[error("{0} autoscalers have the same target")]
    Autoscalers(usize),
    /// A tool puts the field back to its own state.
    #[error(
        "{0} owns the field and would put it back; let it ignore the field, or act by the floor of an HPA"
    )]
    GitOps(String),
    /// Another program writes the size.
    #[error("{0} writes its size, too")]
    Writer(String),
    /// Kueue admits the job.
    #[error("Kueue admits it; its size is left to Kueue")]
    Kueue,
    /// The autoscaler that the policy names is not there.
    #[error("there is no {0} on the target to raise the floor of")]
    NoAutoscaler(&'static str),
}

/// The way that a policy acts by. An elder policy on the same target is another matter: it never comes so far.
///
/// # Errors
/// Why it must not act.
pub fn way(via: Via, target: &TargetFacts, rivals: &[Rival<'_>]) -> Result<Way, Conflict> {
    if target.queued {
        return Err(Conflict::Kueue);
    }
    // The HPA that KEDA keeps for a ScaledObject is KEDA's; who wants to be heard speaks to the ScaledObject.
    let own: Vec<_> =
        rivals.iter().filter(|rival| !rival.facts.of_scaled_object && !rival.facts.deleting).collect();
    let only = |kind: AutoscalerKind| match own.as_slice() {
        [rival] if rival.kind == kind => Ok(Way::Floor(kind, rival.name.to_owned())),
        [] | [_] => Err(Conflict::NoAutoscaler(kind.kind())),
        many => Err(Conflict::Autoscalers(many.len())),
    };
    match via {
        Via::HpaFloor => only(AutoscalerKind::Hpa),
        Via::ScaledObjectFloor => only(AutoscalerKind::ScaledObject),
        Via::ExternalMetric => Ok(Way::Publish),
        Via::Auto if own.len() == 1 => Ok(Way::Floor(own[0].kind, own[0].name.to_owned())),
        Via::Auto | Via::Scale => match own.as_slice() {
            [] => writers(target).map(|()| Way::Scale),
            [rival] => Err(Conflict::Autoscaler { kind: rival.kind.kind(), name: rival.name.to_owned() }),
            many => Err(Conflict::Autoscalers(many.len())),
        },
    }
}

/// Who else writes the size, by the object's managed fields. What an HPA or ScaledObject that is gone has written is
/// nobody's any more.
fn writers(target: &TargetFacts) -> Result<(), Conflict> {
    for owner in &target.owners {
        let manager = owner.manager.as_str();
        if GITOPS.contains(&manager) {
            return Err(Conflict::GitOps(manager.to_owned()));
        }
        if AUTOSCALERS.contains(&manager) {
            return Err(Conflict::Writer(manager.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::facts::Owner;

    fn target(owners: &[&str]) -> TargetFacts {
        let owner = |manager: &&str| Owner { manager: (*manager).to_owned(), subresource: None };
        TargetFacts {
            uid: "t".into(),
            size: Some(2),
            group_index: None,
            selector: None,
            owners: owners.iter().map(owner).collect(),
            devices: BTreeMap::new(),
            queued: false,
            deleting: false,
        }
    }

    fn autoscaler() -> AutoscalerFacts {
        AutoscalerFacts {
            uid: "h".into(),
            target_kind: "Deployment".into(),
            target_name: "chat".into(),
            min: Some(1),
            min_default: 1,
            max: Some(9),
            desired: None,
            raised: None,
            of_scaled_object: false,
            version: None,
            deleting: false,
        }
    }

    #[test]
    fn an_autoscaler_keeps_its_target_and_its_floor_is_raised() {
        let facts = autoscaler();
        let hpa = [Rival { kind: AutoscalerKind::Hpa, name: "h", facts: &facts }];
        let floor = Ok(Way::Floor(AutoscalerKind::Hpa, "h".into()));
        assert_eq!(way(Via::Auto, &target(&[]), &hpa), floor);
        assert_eq!(way(Via::HpaFloor, &target(&["argocd-controller"]), &hpa), floor);
        assert!(matches!(way(Via::Scale, &target(&[]), &hpa), Err(Conflict::Autoscaler { .. })));
        assert_eq!(way(Via::ExternalMetric, &target(&[]), &hpa), Ok(Way::Publish));
        assert!(matches!(way(Via::ScaledObjectFloor, &target(&[]), &hpa), Err(Conflict::NoAutoscaler(_))));
    }

    #[test]
    fn of_keda_and_its_hpa_keda_is_spoken_to() {
        let (scaled, mut hpa) = (autoscaler(), autoscaler());
        hpa.of_scaled_object = true;
        let both = [
            Rival { kind: AutoscalerKind::Hpa, name: "keda-hpa-s", facts: &hpa },
            Rival { kind: AutoscalerKind::ScaledObject, name: "s", facts: &scaled },
        ];
        let floor = Ok(Way::Floor(AutoscalerKind::ScaledObject, "s".into()));
        assert_eq!(way(Via::Auto, &target(&[]), &both), floor);
    }

    #[test]
    fn nobody_is_fought() {
        let facts = autoscaler();
        let two = [
            Rival { kind: AutoscalerKind::Hpa, name: "a", facts: &facts },
            Rival { kind: AutoscalerKind::Hpa, name: "b", facts: &facts },
        ];
        assert_eq!(way(Via::Auto, &target(&[]), &two), Err(Conflict::Autoscalers(2)));
        assert!(matches!(way(Via::Auto, &target(&["argocd-controller"]), &[]), Err(Conflict::GitOps(_))));
        assert!(matches!(way(Via::Auto, &target(&["kubeai"]), &[]), Err(Conflict::Writer(_))));
        assert_eq!(
            way(Via::Auto, &target(&["kubectl", "kube-controller-manager", "keda"]), &[]),
            Ok(Way::Scale)
        );
        let queued = TargetFacts { queued: true, ..target(&[]) };
        assert_eq!(way(Via::Auto, &queued, &[]), Err(Conflict::Kueue));
    }
}
