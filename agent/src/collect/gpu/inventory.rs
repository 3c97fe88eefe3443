//! Which GPUs and instances there are: what the driver counts now, beside what was ever seen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::cause::{GpuCause, cause_of};
use super::device::{KnownDevice, Remembered};
use super::raw;
use super::reading::{GpuIdentity, GpuInstance, GpuReading};
use super::xid::PciId;

/// Most GPUs of one machine: several times the most that are built.
const GPUS_MAX: u32 = 64;
/// Most instances of one GPU: twice the most that there are.
const INSTANCES_MAX: u32 = 16;
/// Where the kernel lists the devices that are bound to the driver, by their place on the bus.
const BOUND: &str = "sys/bus/pci/drivers/nvidia";

/// A GPU with its instances.
pub(super) struct Card<'nvml> {
    pub(super) whole: KnownDevice<'nvml>,
    pub(super) instances: Vec<KnownDevice<'nvml>>,
}

/// What the driver counts.
#[derive(Default)]
pub(super) struct Inventory<'nvml> {
    pub(super) cards: Vec<Card<'nvml>>,
    /// GPUs that the driver counts and does not hand out, by index.
    pub(super) refused: BTreeMap<u32, GpuCause>,
}

impl<'nvml> Inventory<'nvml> {
    /// Asks the driver. What is remembered of a device in `before` goes to the one of the same UUID.
    ///
    /// # Errors
    /// When the driver does not even count.
    pub(super) fn take(nvml: &'nvml Nvml, before: Self) -> Result<Self, GpuCause> {
        let count = nvml.device_count().map_err(|error| cause_of(&error).unwrap_or(GpuCause::Other))?;
        let mut memories = before.memories();
        let mut taken = Self::default();
        for index in 0..count.min(GPUS_MAX) {
            match card(nvml, index, &mut memories) {
                Ok(card) => taken.cards.push(card),
                Err(error) => {
                    taken.refused.insert(index, cause_of(&error).unwrap_or(GpuCause::Other));
                }
            }
        }
        Ok(taken)
    }

    /// GPUs that the driver counts.
    pub(super) fn counted(&self) -> usize {
        self.cards.len() + self.refused.len()
    }

    fn memories(self) -> BTreeMap<String, Remembered<'nvml>> {
        let devices =
            self.cards.into_iter().flat_map(|card| std::iter::once(card.whole).chain(card.instances));
        devices.map(|known| (known.gpu.uuid.clone(), known.into_memory())).collect()
    }
}

type Memories<'nvml> = BTreeMap<String, Remembered<'nvml>>;

fn card<'nvml>(
    nvml: &'nvml Nvml,
    index: u32,
    memories: &mut Memories<'nvml>,
) -> Result<Card<'nvml>, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let uuid = device.uuid()?;
    // What a GPU is called and where it is may be unknown; that alone is no reason to leave it out.
    let gpu = GpuIdentity {
        index,
        model: device.name().ok(),
        pci: device.pci_info().ok().and_then(|pci| pci.bus_id.parse::<PciId>().ok()),
        minor: device.minor_number().ok(),
        instance: None,
        uuid,
    };
    let instances = instances(&device, &gpu, memories);
    let memory = memories.remove(&gpu.uuid).unwrap_or_default();
    Ok(Card { whole: KnownDevice::new(device, Arc::new(gpu), memory), instances })
}

/// The instances of a GPU that is split into some.
fn instances<'nvml>(
    whole: &Device<'nvml>,
    gpu: &GpuIdentity,
    memories: &mut Memories<'nvml>,
) -> Vec<KnownDevice<'nvml>> {
    let is_split = whole.mig_mode().is_ok_and(|mode| mode.current == 1);
    let count = if is_split { whole.mig_device_count().unwrap_or_default() } else { 0 };
    // Slots without an instance answer that there is none.
    let slots = (0..count.min(INSTANCES_MAX)).filter_map(|slot| whole.mig_device_by_index(slot).ok());
    let known = slots.filter_map(|device| {
        let identity = instance(&device, gpu)?;
        let memory = memories.remove(&identity.uuid).unwrap_or_default();
        Some(KnownDevice::new(device, Arc::new(identity), memory))
    });
    known.collect()
}

fn instance(device: &Device<'_>, gpu: &GpuIdentity) -> Option<GpuIdentity> {
    let name = device.name().ok();
    let instance = GpuInstance {
        parent: gpu.uuid.clone(),
        gpu_instance: raw::gpu_instance_id(device).ok(),
        compute_instance: raw::compute_instance_id(device).ok(),
        profile: name.as_deref().and_then(profile),
    };
    Some(GpuIdentity { uuid: device.uuid().ok()?, instance: Some(instance), ..gpu.clone() })
}

/// The profile in the name that the driver gives an instance: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
fn profile(name: &str) -> Option<String> {
    name.rsplit_once(" MIG ").map(|(_, profile)| profile.to_owned())
}

/// Devices that are bound to the driver; `None` where the kernel does not list them.
pub(super) fn bound(root: &Path) -> Option<usize> {
    let entries = std::fs::read_dir(root.join(BOUND)).ok()?;
    let is_device = |name: &str| name.parse::<PciId>().is_ok();
    Some(
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|n| is_device(n))
            .count(),
    )
}

/// Every whole GPU that ever answered, whether it does now or not.
#[derive(Debug, Default)]
pub(super) struct Seen {
    gpus: BTreeMap<String, Arc<GpuIdentity>>,
    most_counted: usize,
}

impl Seen {
    /// Notes what the driver counts now.
    pub(super) fn note(&mut self, inventory: &Inventory<'_>) {
        self.most_counted = self.most_counted.max(inventory.counted());
        for card in &inventory.cards {
            if self.gpus.len() < GPUS_MAX as usize || self.gpus.contains_key(&card.whole.gpu.uuid) {
                self.gpus.insert(card.whole.gpu.uuid.clone(), Arc::clone(&card.whole.gpu));
            }
        }
    }

    /// GPUs that should answer, when the kernel has bound so many.
    pub(super) fn expected(&self, bound: Option<usize>) -> u32 {
        let most = self.most_counted.max(self.gpus.len()).max(bound.unwrap_or_default());
        u32::try_from(most).unwrap_or(u32::MAX)
    }

    /// Readings of those that were seen and are not in the inventory: why, as far as the driver says.
    pub(super) fn missing(&self, inventory: &Inventory<'_>) -> Vec<GpuReading> {
        let here = |uuid: &str| inventory.cards.iter().any(|card| card.whole.gpu.uuid == uuid);
        let gone = self.gpus.values().filter(|gpu| !here(&gpu.uuid));
        let reading = |gpu: &Arc<GpuIdentity>| {
            let cause = inventory.refused.get(&gpu.index).copied().unwrap_or(GpuCause::Missing);
            GpuReading { gpu: Arc::clone(gpu), down: Some(cause), ..GpuReading::default() }
        };
        gone.map(reading).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_stands_at_the_end_of_the_name() {
        assert_eq!(profile("NVIDIA H100 80GB HBM3 MIG 1g.10gb").as_deref(), Some("1g.10gb"));
        assert_eq!(profile("NVIDIA H100 80GB HBM3"), None);
    }

    #[test]
    fn only_devices_count_as_bound() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(bound(root.path()), None);
        let folder = root.path().join(BOUND);
        for name in ["0000:3b:00.0", "0000:86:00.0", "module", "bind", "new_id"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        assert_eq!(bound(root.path()), Some(2));
    }

    #[test]
    fn what_was_counted_is_expected_from_then_on() {
        let mut seen = Seen::default();
        let mut inventory = Inventory::default();
        inventory.refused.insert(0, GpuCause::Lost);
        seen.note(&inventory);
        seen.note(&Inventory::default());
        assert_eq!((seen.expected(None), seen.expected(Some(8))), (1, 8));
        assert!(seen.missing(&inventory).is_empty(), "nobody knows which one it was");
    }
}
