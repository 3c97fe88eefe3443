//! What is kept of the cluster's objects: plain facts, taken from them by pure functions. The objects themselves are not kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ManagedFieldsEntry, Time};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use tidegate_core::Timestamp;

use super::devices::{self, Devices};
use super::kinds::{PodsBy, SizePath, TargetKind};
use super::victims;
use super::way::AutoscalerKind;

/// Namespace and name.
pub type Key = (String, String);

/// Groups of one object that are looked at.
const GROUPS_MAX: usize = 64;
/// What marks a job that Kueue admits and suspends.
const KUEUE_LABELS: [&str; 2] = ["kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/managed"];

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFacts {
    /// Unique for all time.
    pub uid: String,
    /// Labels, by which it belongs to a workload.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created: Timestamp,
    /// Since when it is ready.
    pub ready_since: Option<Timestamp>,
    /// On its way out: asked to end.
    pub deleting: bool,
    /// Ended, well or not.
    pub ended: bool,
    /// A container ends again and again.
    pub crash_loop: bool,
    /// Containers started anew, all together.
    pub restarts: i32,
    /// Why no node takes it, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// When a node was found for it.
    pub scheduled: Option<Timestamp>,
    /// Node that runs it.
    pub node: Option<String>,
    /// Address.
    pub ip: Option<IpAddr>,
    /// Marked by Tidegate as one that goes first when the size falls.
    pub marked: bool,
}

impl PodFacts {
    /// From the object; `None` for one without a uid, which no server sends.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref();
        let condition = |kind: &str| {
            status
                .iter()
                .flat_map(|s| s.conditions.iter().flatten())
                .find(|condition| condition.type_ == kind)
        };
        let ready = condition("Ready").filter(|condition| condition.status == "True");
        let placed = condition("PodScheduled");
        let scheduled = placed.filter(|c| c.status == "True").and_then(|c| c.last_transition_time.as_ref());
        let refused = placed.filter(|c| c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
        let containers = || status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        let created = pod.metadata.creation_timestamp.as_ref().map(timestamp)?;
        Some(Self {
            uid: pod.uid()?,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            created,
            ready_since: ready.map(|c| c.last_transition_time.as_ref().map_or(created, timestamp)),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            ended: matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")),
            crash_loop: containers().any(crashes),
            restarts: containers().map(|c| c.restart_count).sum(),
            unschedulable: refused.map(|c| c.message.clone().unwrap_or_else(|| "no node takes it".into())),
            scheduled: scheduled.map(timestamp),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            ip: status.and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok()),
            marked: pod.annotations().get(victims::ANNOTATION).is_some_and(|cost| cost == victims::COST),
        })
    }
}

fn crashes(container: &ContainerStatus) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
}

pub(super) fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_millis(time.0.as_millisecond())
}

/// What is kept of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whole units of each extended resource that pods may have, such as `nvidia.com/gpu`.
    pub extended: BTreeMap<String, u32>,
    /// Ready, and open for new pods.
    pub open: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
}

impl NodeFacts {
    /// From the object.
    #[must_use]
    pub fn of(node: &Node) -> Option<Self> {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref()).into_iter().flatten();
        // Extended resources have a domain, and are whole numbers; CPU, memory and storage have none.
        let extended = allocatable.filter(|(name, _)| name.contains('/'));
        let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let closed = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        Some(Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            extended: extended.filter_map(|(name, n)| Some((name.clone(), n.0.parse().ok()?))).collect(),
            open: ready && !closed,
            created: node.metadata.creation_timestamp.as_ref().map(timestamp),
        })
    }
}

/// What tells a workload's pods from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
    /// An operator that is not known: nothing is selected rather than too much.
    Never,
}

impl Selector {
    /// Of a label selector; `None` for one that is empty: it would select everything.
    #[must_use]
    pub fn of(selector: &LabelSelector) -> Option<Self> {
        let labels = selector.match_labels.iter().flatten();
        let mut all: Vec<_> = labels.map(|(k, v)| Requirement::In(k.clone(), vec![v.clone()])).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            all.push(match expression.operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::Absent(key),
                _ => Requirement::Never,
            });
        }
        (!all.is_empty()).then_some(Self(all))
    }

    /// Pods with all of these labels.
    #[must_use]
    pub fn labels(labels: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(labels.into_iter().map(|(key, value)| Requirement::In(key, vec![value])).collect())
    }

    /// Labels that whoever is selected has, with these values.
    pub(super) fn single_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|requirement| match requirement {
            Requirement::In(key, values) => match values.as_slice() {
                [value] => Some((key.as_str(), value.as_str())),
                _ => None,
            },
            _ => None,
        })
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
            Requirement::Never => false,
        })
    }
}

/// Who wrote an object's size last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Name of the field manager.
    pub manager: String,
    /// Through which subresource.
    pub subresource: Option<String>,
}

/// What is kept of an object that a policy targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFacts {
    /// Unique for all time.
    pub uid: String,
    /// The size that its spec asks for; `None`: the field is absent.
    pub size: Option<u32>,
    /// Place of the group in its list, where the kind has groups.
    pub group_index: Option<usize>,
    /// Whose pods are its.
    pub selector: Option<Selector>,
    /// Who owns the size field, by the object's managed fields.
    pub owners: Vec<Owner>,
    /// What one replica asks for of the devices that nodes have.
    pub devices: Devices,
    /// Kueue admits it.
    pub queued: bool,
    /// Asked to end.
    pub deleting: bool,
}

impl TargetFacts {
    /// From the object, for the group named, or its only one, where the kind has groups. `None`: there is no such group, or no uid.
    #[must_use]
    pub fn of(object: &DynamicObject, kind: &TargetKind, group: Option<&str>) -> Option<Self> {
        let (mut own_group, mut own_entry) = (None, None);
        let (path, group_index) = match kind.size {
            SizePath::Scale(path) | SizePath::Field(path) => {
                (path.iter().map(ToString::to_string).collect(), None)
            }
            SizePath::Group { list, key, size } => {
                let entries = at(&object.data, list)?.as_array()?;
                let name = |entry: &Value| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                let index = match group {
                    Some(group) => entries.iter().position(|entry| name(entry).as_deref() == Some(group))?,
                    None => (entries.len() == 1).then_some(0)?,
                };
                own_group = name(&entries[index]);
                own_entry = Some(&entries[index]);
                let mut path: Vec<String> = list.iter().map(ToString::to_string).collect();
                path.push(index.to_string());
                path.extend(size.iter().map(ToString::to_string));
                (path, Some(index))
            }
        };
        let path: Vec<String> = path;
        let size = object.data.pointer(&pointer(&path)).and_then(Value::as_u64);
        let labels = object.labels();
        Some(Self {
            uid: object.uid()?,
            size: size.and_then(|size| u32::try_from(size).ok()),
            group_index,
            selector: selector(object, kind, own_group.as_deref()),
            owners: owners(object.managed_fields(), &path),
            devices: devices::per_replica(kind, &object.data, own_entry),
            queued: KUEUE_LABELS.iter().any(|label| labels.contains_key(*label)),
            deleting: object.metadata.deletion_timestamp.is_some(),
        })
    }
}

impl TargetFacts {
    /// The facts of each of an object's groups, and under `None` those of an object without, or of its only one.
    #[must_use]
    pub fn groups(object: &DynamicObject, kind: &TargetKind) -> BTreeMap<Option<String>, Self> {
        let mut names = vec![None];
        if let SizePath::Group { list, key, .. } = kind.size {
            let entries = at(&object.data, list).and_then(Value::as_array);
            let name = |entry: &Value| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            names.extend(entries.into_iter().flatten().take(GROUPS_MAX).map(name).filter(Option::is_some));
        }
        let of = |name: Option<String>| Some((name.clone(), Self::of(object, kind, name.as_deref())?));
        names.into_iter().filter_map(of).collect()
    }
}

/// JSON pointer (RFC 6901) of a path of plain names.
pub(super) fn pointer(path: &[String]) -> String {
    path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, part| value.get(part))
}

fn selector(object: &DynamicObject, kind: &TargetKind, group: Option<&str>) -> Option<Selector> {
    match kind.pods {
        PodsBy::Selector => {
            let selector = at(&object.data, &["spec", "selector"])?;
            Selector::of(&serde_json::from_value(selector.clone()).ok()?)
        }
        PodsBy::Labels { name, group: group_label, fixed } => {
            let mut labels = vec![(name.to_owned(), object.name_any())];
            labels.extend(group_label.zip(group).map(|(label, group)| (label.to_owned(), group.to_owned())));
            labels.extend(fixed.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())));
            Some(Selector::labels(labels))
        }
    }
}

/// The managers whose managed fields (fieldsV1) hold the field at `path`. A list's entries are keyed by content there, so that
/// for a field inside a list the list itself counts.
fn owners(entries: &[ManagedFieldsEntry], path: &[String]) -> Vec<Owner> {
    let plain = path.iter().take_while(|part| part.parse::<usize>().is_err());
    let steps: Vec<String> = plain.map(|part| format!("f:{part}")).collect();
    let holds = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| steps.iter().try_fold(fields, |fields, step| fields.get(step)).is_some())
    };
    let owner = |entry: &ManagedFieldsEntry| Owner {
        manager: entry.manager.clone().unwrap_or_default(),
        subresource: entry.subresource.clone().filter(|name| !name.is_empty()),
    };
    entries.iter().filter(holds).map(owner).collect()
}

/// What is kept of an autoscaler that somebody else runs: a HorizontalPodAutoscaler, or KEDA's ScaledObject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoscalerFacts {
    /// Unique for all time.
    pub uid: String,
    /// Kind of its target.
    pub target_kind: String,
    /// Name of its target.
    pub target_name: String,
    /// Its floor; `None`: its kind's default.
    pub min: Option<u32>,
    /// The floor of its kind where none is given.
    pub min_default: u32,
    /// Its ceiling.
    pub max: Option<u32>,
    /// What it wants at present.
    pub desired: Option<u32>,
    /// The record of a floor that was raised, as Tidegate's annotation has it.
    pub raised: Option<String>,
    /// Made by KEDA for a ScaledObject: that one is the user's.
    pub of_scaled_object: bool,
    /// Version of the object: a write that was made from an older one is refused.
    pub version: Option<String>,
    /// Asked to end.
    pub deleting: bool,
}

impl AutoscalerFacts {
    /// From a HorizontalPodAutoscaler.
    #[must_use]
    pub fn of_hpa(hpa: &HorizontalPodAutoscaler) -> Option<Self> {
        let spec = &hpa.spec;
        let count = |n: i32| u32::try_from(n).ok();
        Some(Self {
            uid: hpa.uid()?,
            target_kind: spec.scale_target_ref.kind.clone(),
            target_name: spec.scale_target_ref.name.clone(),
            min: spec.min_replicas.and_then(count),
            min_default: AutoscalerKind::Hpa.floor_default(),
            max: count(spec.max_replicas),
            desired: hpa.status.as_ref().and_then(|status| count(status.desired_replicas)),
            raised: hpa.annotations().get(super::floor::ANNOTATION).cloned(),
            of_scaled_object: hpa.owner_references().iter().any(|owner| owner.kind == "ScaledObject"),
            version: hpa.resource_version(),
            deleting: hpa.metadata.deletion_timestamp.is_some(),
        })
    }

    /// From KEDA's ScaledObject (keda.sh/v1alpha1).
    #[must_use]
    pub fn of_scaled_object(object: &DynamicObject) -> Option<Self> {
        let spec = object.data.get("spec")?;
        let target = spec.get("scaleTargetRef")?;
        let count = |name: &str| spec.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        Some(Self {
            uid: object.uid()?,
            target_kind: target.get("kind").and_then(Value::as_str).unwrap_or("Deployment").to_owned(),
            target_name: target.get("name")?.as_str()?.to_owned(),
            min: count("minReplicaCount"),
            min_default: AutoscalerKind::ScaledObject.floor_default(),
            // KEDA's own default: a floor above it is refused.
            max: count("maxReplicaCount").or(Some(100)),
            desired: None,
            raised: object.annotations().get(super::floor::ANNOTATION).cloned(),
            of_scaled_object: false,
            version: object.resource_version(),
            deleting: object.metadata.deletion_timestamp.is_some(),
        })
    }
}

#[cfg(test)]
mod tests;
