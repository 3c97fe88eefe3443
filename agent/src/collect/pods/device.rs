//! What the id of a device means, in the forms that device plugins for GPUs give them. Pure.
//!
//! ```text
//! GPU-UUID                     a whole GPU                    MIG-UUID               an instance of one
//! GPU-UUID::3                  a share of it (time-slicing or MPS), likewise MIG-UUID::3
//! MIG-GPU-UUID/1/0             an instance, as older drivers call it
//! nvidia0, nvidia0/gi3         a GPU, or an instance, by number (GKE's plugin)
//! nvidia0/vgpu1, nvidia0/gi3/vgpu0                            a share of it
//! ```

/// A GPU or an instance of one, and which share of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The id without its share: the UUID, or what stands for it.
    pub id: String,
    /// Which share; `None` for all of it.
    pub share: Option<String>,
}

/// Between a device and its share, in NVIDIA's plugin.
const SHARE: &str = "::";
/// Before the number of a share, in GKE's plugin.
const GKE_SHARE: &str = "vgpu";
/// Before the number of an instance, in GKE's plugin.
const GKE_INSTANCE: &str = "gi";
/// Before the number of a GPU, in GKE's plugin and in `/dev`.
const GKE_GPU: &str = "nvidia";

/// What `id` means; `None` when it is no GPU's. `resource` is the name of what it was given out as: numbers are only taken
/// for GPUs where it is NVIDIA's.
#[must_use]
pub fn parse(resource: &str, id: &str) -> Option<Device> {
    if id.starts_with("GPU-") || id.starts_with("MIG-") {
        let (id, share) = match id.split_once(SHARE) {
            Some((id, share)) => (id, Some(share.to_owned())),
            None => (id, None),
        };
        return Some(Device { id: id.to_owned(), share });
    }
    if !resource.starts_with("nvidia.com/") {
        return None;
    }
    let mut parts = id.split('/').peekable();
    let gpu = parts.next().filter(|gpu| is_numbered(gpu, GKE_GPU))?;
    let instance = parts.next_if(|part| is_numbered(part, GKE_INSTANCE));
    let share = parts.next_if(|part| is_numbered(part, GKE_SHARE));
    if parts.next().is_some() {
        return None;
    }
    let id = instance.map_or_else(|| gpu.to_owned(), |instance| format!("{gpu}/{instance}"));
    Some(Device { id, share: share.map(ToOwned::to_owned) })
}

/// Id of a GPU by its number, as [`parse`] gives it.
#[must_use]
pub fn by_number(gpu: u32) -> String {
    format!("{GKE_GPU}{gpu}")
}

/// Id of an instance by its numbers, as [`parse`] gives it.
#[must_use]
pub fn instance_by_number(gpu: u32, instance: u32) -> String {
    format!("{GKE_GPU}{gpu}/{GKE_INSTANCE}{instance}")
}

/// Id of an instance as older drivers call it.
#[must_use]
pub fn instance_of_gpu(gpu_uuid: &str, instance: u32, compute: u32) -> String {
    format!("MIG-{gpu_uuid}/{instance}/{compute}")
}

fn is_numbered(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GPU: &str = "GPU-8f6c2f4e-0b5d-4c1e-9b5a-7f0d2c9e8b41";

    fn check(resource: &str, id: &str, expected: Option<(&str, Option<&str>)>) {
        let device = parse(resource, id);
        let found = device.as_ref().map(|device| (device.id.as_str(), device.share.as_deref()));
        assert_eq!(found, expected, "{resource} {id}");
    }

    #[test]
    fn every_form_of_a_device_id() {
        let mig = GPU.replace("GPU-", "MIG-");
        check("nvidia.com/gpu", GPU, Some((GPU, None)));
        check("nvidia.com/gpu", &format!("{GPU}::3"), Some((GPU, Some("3"))));
        check("nvidia.com/gpu.shared", &format!("{GPU}::a::b"), Some((GPU, Some("a::b"))));
        check("nvidia.com/mig-1g.10gb", &mig, Some((&mig, None)));
        check("nvidia.com/mig-1g.10gb", &format!("{mig}::0"), Some((&mig, Some("0"))));
        let old = instance_of_gpu(GPU, 1, 0);
        check("nvidia.com/mig-1g.5gb", &old, Some((&format!("MIG-{GPU}/1/0"), None)));
        check("example.com/renamed", GPU, Some((GPU, None)));
        check("nvidia.com/gpu", "nvidia0", Some((&by_number(0), None)));
        check("nvidia.com/gpu", "nvidia12/vgpu1", Some((&by_number(12), Some("vgpu1"))));
        check("nvidia.com/gpu", "nvidia0/gi3", Some((&instance_by_number(0, 3), None)));
        check("nvidia.com/gpu", "nvidia0/gi3/vgpu0", Some(("nvidia0/gi3", Some("vgpu0"))));
    }

    #[test]
    fn other_devices_are_no_gpus() {
        for id in
            ["", "nvidia", "nvidiax", "nvidia0/x", "nvidia0/gi3/vgpu0/x", "nvidia0/vgpu0/gi3", "0000:3b:00.0"]
        {
            check("nvidia.com/gpu", id, None);
        }
        check("intel.com/sriov", "nvidia0", None);
        check("rdma/hca", "mlx5_0", None);
    }

    proptest! {
        #[test]
        fn an_id_without_its_share_is_read_as_itself(id in "\\PC{0,20}") {
            for resource in ["nvidia.com/gpu", "x"] {
                for id in [id.clone(), format!("GPU-{id}"), format!("nvidia0/{id}")] {
                    if let Some(device) = parse(resource, &id) {
                        let again = parse(resource, &device.id).unwrap();
                        prop_assert_eq!(again, Device { id: device.id, share: None });
                    }
                }
            }
        }
    }
}
