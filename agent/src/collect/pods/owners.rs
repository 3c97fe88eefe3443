//! Who has which GPU: from the devices that the kubelet gave out, joined with the table of pods. Pure.

use std::collections::BTreeMap;

use tidegate_core::{Label, WorkloadId};

use super::device;
use super::messages::podresources::{ContainerResources, ListPodResourcesResponse, PodResources};
use super::table::PodTable;

/// Most containers with devices that are looked at: far above what a node runs.
const HOLDERS_MAX: usize = 4096;
/// Parts are rounded down to one of this many. A power of two, so that they add up without rounding, and never above 1.
const STEPS: f64 = 1_048_576.0;
/// DRA driver of NVIDIA's GPUs.
const DRA_DRIVER: &str = "gpu.nvidia.com";

/// A container that a GPU, or an instance of one, was given to.
#[derive(Debug, Clone, PartialEq)]
pub struct Owner {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod; `None` when the table does not know it, or knows two of this name.
    pub pod_uid: Option<String>,
    /// Name of the container.
    pub container: String,
    /// The workload that the pod is part of.
    pub workload: Option<WorkloadId>,
    /// Whether others may have it too, by time-slicing or MPS.
    pub shared: bool,
    /// Part of the device that is put down to this container: 1 when it has it alone. For a shared one an estimate, equal for
    /// each share given out, since nobody measures it; all parts of a device together are never above 1.
    pub part: f64,
}

impl Owner {
    /// Labels of the metrics of what it has.
    #[must_use]
    pub fn names(&self) -> Vec<(Label, Box<str>)> {
        let mut names: Vec<(Label, Box<str>)> = vec![
            (Label::Namespace, self.namespace.as_str().into()),
            (Label::Pod, self.pod.as_str().into()),
            (Label::Container, self.container.as_str().into()),
        ];
        names.extend(self.pod_uid.as_ref().map(|uid| (Label::PodUid, uid.as_str().into())));
        names.extend(self.workload.as_ref().map(|id| (Label::Workload, id.as_str().into())));
        names
    }
}

/// Who has which GPU.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Owners {
    by_device: BTreeMap<String, Vec<Owner>>,
}

impl Owners {
    /// By device, as [`device::parse`] calls it.
    #[must_use]
    pub const fn new(by_device: BTreeMap<String, Vec<Owner>>) -> Self {
        Self { by_device }
    }

    /// By device, as [`device::parse`] calls it.
    #[must_use]
    pub const fn by_device(&self) -> &BTreeMap<String, Vec<Owner>> {
        &self.by_device
    }

    /// Owners of a whole GPU, by its UUID and, for plugins that give GPUs by number, its number.
    #[must_use]
    pub fn of_gpu(&self, uuid: &str, number: Option<u32>) -> &[Owner] {
        self.any([Some(uuid.to_owned()), number.map(device::by_number)])
    }

    /// Owners of an instance (MIG), by its UUID or by its place on its GPU, which has a UUID and a number.
    #[must_use]
    pub fn of_instance(&self, uuid: &str, gpu: (&str, u32), instance: u32, compute: u32) -> &[Owner] {
        self.any([
            Some(uuid.to_owned()),
            Some(device::instance_of_gpu(gpu.0, instance, compute)),
            Some(device::instance_by_number(gpu.1, instance)),
        ])
    }

    /// Whether a pod that lives has lost a device in `next`. That does not happen: a kubelet that has just started says so, for about a
    /// second, until it has read back what it gave out.
    pub(super) fn are_forgotten(&self, next: &Self, pods: &PodTable) -> bool {
        let lives = |owner: &Owner| {
            let pod = pods.named(&owner.namespace, &owner.pod);
            pod.is_some_and(|pod| !pod.ended && owner.pod_uid.as_ref() == Some(&pod.uid))
        };
        let lost = |id: &str, owner: &Owner| {
            let now = next.by_device.get(id).into_iter().flatten();
            lives(owner) && !now.into_iter().any(|other| other.pod_uid == owner.pod_uid)
        };
        self.by_device.iter().any(|(id, owners)| owners.iter().any(|owner| lost(id, owner)))
    }

    fn any(&self, ids: impl IntoIterator<Item = Option<String>>) -> &[Owner] {
        ids.into_iter().flatten().find_map(|id| self.by_device.get(&id)).map_or(&[], Vec::as_slice)
    }
}

/// A container's hold on a device.
#[derive(Debug)]
struct Hold {
    owner: Owner,
    shares: u32,
}

/// Joins what the kubelet gave out with the table. Pods that have ended hold nothing, whatever an older kubelet lists.
#[must_use]
pub(super) fn join(list: &ListPodResourcesResponse, pods: &PodTable) -> Owners {
    let mut holds: BTreeMap<String, Vec<Hold>> = BTreeMap::new();
    let containers = list
        .pod_resources
        .iter()
        .flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
    for (of, container) in containers.take(HOLDERS_MAX) {
        let pod = pods.named(&of.namespace, &of.name);
        if pod.is_some_and(|pod| pod.ended) {
            continue;
        }
        for device in devices(container) {
            let owner = Owner {
                namespace: of.namespace.clone(),
                pod: of.name.clone(),
                pod_uid: pod.map(|pod| pod.uid.clone()),
                container: container.name.clone(),
                workload: pod.and_then(|pod| pod.workload.clone()),
                shared: device.share.is_some(),
                part: 1.0,
            };
            note(holds.entry(device.id).or_default(), owner);
        }
    }
    Owners { by_device: holds.into_iter().map(|(id, holds)| (id, settle(holds))).collect() }
}

/// How many pods have a GPU or an instance of one.
#[must_use]
pub(super) fn holders(list: &ListPodResourcesResponse) -> usize {
    let holds = |pod: &&PodResources| pod.containers.iter().any(|container| !devices(container).is_empty());
    list.pod_resources.iter().filter(holds).count()
}

fn note(holds: &mut Vec<Hold>, owner: Owner) {
    match holds.iter_mut().find(|hold| hold.owner == owner) {
        Some(hold) => hold.shares = hold.shares.saturating_add(1),
        None => holds.push(Hold { owner, shares: 1 }),
    }
}

/// Splits a device among its holders. That a plugin gave it to several without calling it shared makes it shared too.
fn settle(holds: Vec<Hold>) -> Vec<Owner> {
    let shared = holds.len() > 1 || holds.iter().any(|hold| hold.owner.shared);
    let all: f64 = holds.iter().map(|hold| f64::from(hold.shares)).sum();
    let part = |hold: &Hold| (f64::from(hold.shares) / all * STEPS).floor() / STEPS;
    let settled = holds.into_iter().map(|hold| {
        let part = if shared { part(&hold) } else { 1.0 };
        Owner { shared, part, ..hold.owner }
    });
    settled.collect()
}

/// The GPUs of a container: from device plugins, and from DRA, whose CDI names end in the UUID where the driver gives it.
fn devices(container: &ContainerResources) -> Vec<device::Device> {
    let plugins = container
        .devices
        .iter()
        .flat_map(|given| given.device_ids.iter().filter_map(|id| device::parse(&given.resource_name, id)));
    let claims = container.dynamic_resources.iter().flat_map(|resource| &resource.claim_resources);
    let claimed = claims.filter(|claim| claim.driver_name == DRA_DRIVER).flat_map(|claim| {
        let cdi =
            claim.cdi_devices.iter().filter_map(|device| device.name.split_once('=').map(|(_, name)| name));
        let names = cdi.chain([claim.device_name.as_str()]);
        names.filter_map(|name| device::parse(DRA_DRIVER, name)).take(1)
    });
    plugins.chain(claimed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::messages::podresources::ContainerDevices;
    use super::super::table::Pod;
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    const GPU: &str = "GPU-8f6c2f4e-0b5d-4c1e-9b5a-7f0d2c9e8b41";

    fn given(pod: &str, container: &str, ids: &[&str]) -> PodResources {
        let devices = ContainerDevices {
            resource_name: "nvidia.com/gpu".into(),
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let container =
            ContainerResources { name: container.into(), devices: vec![devices], ..Default::default() };
        PodResources { name: pod.into(), namespace: "ml".into(), containers: vec![container] }
    }

    fn table() -> PodTable {
        let pod = |uid: &str, name: &str, ended| {
            let workload = Some("ml/deployment/chat".parse().unwrap());
            let pod = Pod {
                uid: uid.into(),
                namespace: "ml".into(),
                name: name.into(),
                ended,
                workload,
                ..Pod::default()
            };
            (uid.to_owned(), Arc::new(pod))
        };
        PodTable::new([pod("u-1", "chat-1", false), pod("u-2", "old", true)].into())
    }

    fn owners(list: Vec<PodResources>) -> Owners {
        join(&ListPodResourcesResponse { pod_resources: list }, &table())
    }

    fn parts(owners: &[Owner]) -> Vec<(&str, bool, f64)> {
        owners.iter().map(|owner| (owner.pod.as_str(), owner.shared, owner.part)).collect()
    }

    #[test]
    fn a_whole_gpu_has_one_owner() {
        let owners = owners(vec![given("chat-1", "vllm", &[GPU]), given("old", "vllm", &[GPU])]);
        let [owner] = owners.of_gpu(GPU, None) else { panic!("{owners:?}") };
        assert_eq!((owner.pod_uid.as_deref(), owner.container.as_str()), (Some("u-1"), "vllm"));
        assert_eq!(owner.workload.as_ref().unwrap().as_str(), "ml/deployment/chat");
        assert_eq!((owner.shared, owner.part), (false, 1.0), "a pod that has ended holds nothing");
    }

    #[test]
    fn shares_are_estimated_by_how_many_are_given_out() {
        let (a, b, c) = (format!("{GPU}::0"), format!("{GPU}::1"), format!("{GPU}::2"));
        let shared = owners(vec![given("chat-1", "vllm", &[&a]), given("b", "x", &[&b, &c])]);
        let parts = parts(shared.of_gpu(GPU, Some(0)));
        assert!(
            matches!(parts[..], [("chat-1", true, one), ("b", true, two)] if (one - 1.0 / 3.0).abs() < 1e-5 && (two - 2.0 / 3.0).abs() < 1e-5),
            "{parts:?}"
        );
        let alone = owners(vec![given("b", "x", &[&a])]);
        assert_eq!(self::parts(alone.of_gpu(GPU, None)), [("b", true, 1.0)], "nobody else has a share now");
        assert_eq!(alone.of_gpu(GPU, None)[0].pod_uid, None, "the table does not know it");
        let twice = owners(vec![given("a", "x", &[GPU]), given("b", "x", &[GPU])]);
        assert_eq!(self::parts(twice.of_gpu(GPU, None)), [("a", true, 0.5), ("b", true, 0.5)]);
    }

    #[test]
    fn a_pod_that_lives_does_not_lose_its_device() {
        let share = format!("{GPU}::0");
        let before = owners(vec![given("chat-1", "vllm", &[&share]), given("unknown", "x", &["GPU-2"])]);
        let forgotten = |next: Vec<PodResources>| before.are_forgotten(&owners(next), &table());
        assert!(forgotten(vec![]) && forgotten(vec![given("chat-1", "vllm", &["GPU-3"])]));
        let kept = || given("chat-1", "vllm", &[&share]);
        assert!(!forgotten(vec![kept()]), "nobody knows whether the other one lives");
        assert!(!forgotten(vec![kept(), given("b", "x", &[&format!("{GPU}::1")])]), "a smaller part is one");
        assert!(!before.are_forgotten(&Owners::default(), &PodTable::new(BTreeMap::new())), "it has gone");
    }

    #[test]
    fn pods_without_a_gpu_hold_none() {
        let pod_resources = vec![given("a", "x", &[GPU]), given("b", "x", &[]), given("c", "x", &["sda"])];
        assert_eq!(holders(&ListPodResourcesResponse { pod_resources }), 1);
    }

    #[test]
    fn instances_and_numbers_are_found() {
        let old = device::instance_of_gpu(GPU, 1, 0);
        let owners = owners(vec![
            given("a", "x", &[&old]),
            given("b", "x", &["nvidia3"]),
            given("c", "x", &["nvidia0/gi2"]),
        ]);
        assert_eq!(owners.of_instance("MIG-1", (GPU, 0), 1, 0)[0].pod, "a");
        assert_eq!(owners.of_instance("MIG-2", ("GPU-other", 0), 2, 0)[0].pod, "c");
        assert_eq!(owners.of_gpu("GPU-other", Some(3))[0].pod, "b");
        assert!(owners.of_gpu("GPU-other", None).is_empty());
        assert_eq!(owners.by_device().len(), 3);
    }

    #[test]
    fn a_claim_names_the_gpu_by_its_cdi_device() {
        use super::super::messages::podresources::{CdiDevice, ClaimResource, DynamicResource};
        let claim = |driver: &str, cdi: &str, device: &str| ClaimResource {
            cdi_devices: vec![CdiDevice { name: cdi.into() }],
            driver_name: driver.into(),
            device_name: device.into(),
        };
        let claims = vec![
            claim("gpu.nvidia.com", &format!("k8s.gpu.nvidia.com/device={GPU}"), "gpu-0"),
            claim("gpu.nvidia.com", "k8s.gpu.nvidia.com/claim=other", "gpu-1"),
            claim("other.example", &format!("x/y={GPU}"), "gpu-2"),
        ];
        let container = ContainerResources {
            name: "x".into(),
            dynamic_resources: vec![DynamicResource { claim_resources: claims }],
            ..Default::default()
        };
        let pod = PodResources { name: "a".into(), namespace: "ml".into(), containers: vec![container] };
        let owners = owners(vec![pod]);
        assert_eq!(parts(owners.of_gpu(GPU, None)), [("a", false, 1.0)]);
        assert_eq!(owners.by_device().len(), 1);
    }

    proptest! {
        #[test]
        fn parts_never_sum_above_one(shares in prop::collection::vec((0u8..40, 1usize..9), 1..60)) {
            let list = shares.iter().enumerate().map(|(at, (pod, count))| {
                let ids: Vec<_> = (0..*count).map(|share| format!("{GPU}::{at}-{share}")).collect();
                given(&format!("p{pod}"), "x", &ids.iter().map(String::as_str).collect::<Vec<_>>())
            });
            let owners = owners(list.collect());
            let parts: Vec<f64> = owners.of_gpu(GPU, None).iter().map(|owner| owner.part).collect();
            prop_assert!(parts.iter().all(|part| *part > 0.0));
            let sum: f64 = parts.iter().sum();
            prop_assert!(sum <= 1.0 && sum > 0.999, "{sum}");
        }
    }
}
