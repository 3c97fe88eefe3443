//! What a script says. What is not said is not supported by the GPU.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Version of the driver; `580.95.05` when it is not said.
    pub driver: Option<String>,
    /// Functions that fail on every device, by name, with the return code.
    pub errors: BTreeMap<String, u32>,
    /// A function that does not return while the script says so.
    pub hang: Option<String>,
    /// Whether every call is noted, by name, in `fake-nvml.calls` beside the script.
    pub journal: bool,
    /// GPUs, by index.
    pub gpu: Vec<Gpu>,
    /// Errors that GPUs tell of, in order. Only those that are added after somebody listens are delivered.
    pub event: Vec<Event>,
}

/// A GPU.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    /// UUID.
    pub uuid: String,
    /// Product name.
    pub name: Option<String>,
    /// Where it is on the PCI bus, as the driver writes it.
    pub pci: Option<String>,
    /// Number of its device file.
    pub minor: Option<u32>,
    /// Functions that fail on it, by name, with the return code.
    pub errors: BTreeMap<String, u32>,
    /// After so many calls it is lost.
    pub lost_after: Option<u64>,
    /// GPU and memory, percent.
    pub utilization: Option<[u32; 2]>,
    /// Percent.
    pub encoder: Option<u32>,
    /// Percent.
    pub decoder: Option<u32>,
    /// Total, reserved, free and used, in bytes.
    pub memory: Option<[u64; 4]>,
    /// mW.
    pub power: Option<u32>,
    /// mW.
    pub power_limit: Option<u32>,
    /// °C.
    pub temperature: Option<u32>,
    /// MHz.
    pub sm_clock: Option<u32>,
    /// MHz.
    pub memory_clock: Option<u32>,
    /// Bits of the reasons for which clocks are held down.
    pub throttle: Option<u64>,
    /// Values by number.
    pub field: Vec<Field>,
    /// Processes; an empty list is one.
    pub process: Option<Vec<Process>>,
    /// Clients of MPS.
    pub mps: Option<Vec<Process>>,
    /// Metrics of the performance monitor by number.
    pub monitor: Option<BTreeMap<String, f64>>,
    /// Whether it is split into instances.
    pub split: bool,
    /// Its instances.
    pub instance: Vec<Instance>,
}

/// A value by number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Number, as the scripted driver numbers it.
    pub id: u32,
    /// Scope; 4294967295 is all links.
    #[serde(default)]
    pub scope: u32,
    /// Value.
    #[serde(default)]
    pub value: u64,
    /// How wide it is: `u32` or `u64`.
    #[serde(default)]
    pub kind: Option<String>,
    /// Return code of this value.
    #[serde(default)]
    pub code: u32,
}

/// A process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Bytes; absent when the driver does not know.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Use of the multiprocessors in each sample that the driver has of it, percent.
    #[serde(default)]
    pub used: Vec<u32>,
}

/// An instance of a GPU.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// Slot; others are empty.
    pub slot: u32,
    /// UUID.
    pub uuid: String,
    /// Name, with the profile at its end.
    pub name: Option<String>,
    /// Id of the GPU instance.
    pub id: u32,
    /// Id of the compute instance within it.
    pub compute: u32,
    /// Total, reserved, free and used, in bytes.
    pub memory: Option<[u64; 4]>,
    /// Processes.
    pub process: Option<Vec<Process>>,
    /// Metrics of the performance monitor by number.
    pub monitor: Option<BTreeMap<String, f64>>,
}

/// A GPU error.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Index of the GPU.
    pub gpu: usize,
    /// Number of the error.
    pub xid: u64,
}
