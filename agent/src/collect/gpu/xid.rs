//! GPU errors as the kernel module numbers them (Xid): what each code means, lines of the kernel log that tell of one, and a book of
//! those that were told. No I/O.
//!
//! Codes and what to do about them: NVIDIA, "Xid Errors" and "Analyzing Xid Errors with the Xid Catalog".

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use tidegate_core::Timestamp;

/// Events kept for whoever asks what happened lately.
const RECENT_MAX: usize = 256;
/// Most pairs of a GPU and a code; more are left out. There are fewer than 200 codes, and a GPU that tells of many is beyond counting.
const COUNTS_MAX: usize = 1024;

/// Where a GPU is on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciId {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device; the function of a GPU is 0.
    pub device: u8,
}

impl fmt::Display for PciId {
    /// As the driver writes it: `00000000:3B:00.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

/// A text is not a place on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a place on the PCI bus such as 0000:3b:00.0")]
pub struct PciIdError;

impl FromStr for PciId {
    type Err = PciIdError;
    /// Reads `DOMAIN:BUS:DEVICE`, with or without a function, in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().split(':');
        let mut next = || parts.next().ok_or(PciIdError);
        let (domain, bus, device) = (next()?, next()?, next()?);
        let device = device.split_once('.').map_or(device, |(device, _)| device);
        if parts.next().is_some() {
            return Err(PciIdError);
        }
        Ok(Self {
            domain: u32::from_str_radix(domain, 16).map_err(|_| PciIdError)?,
            bus: u8::from_str_radix(bus, 16).map_err(|_| PciIdError)?,
            device: u8::from_str_radix(device, 16).map_err(|_| PciIdError)?,
        })
    }
}

/// Whose fault an error is, and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XidClass {
    /// The program's: it has to be started again; the GPU is well.
    Application,
    /// The hardware's, noted or repaired: the GPU goes on, and is worth watching.
    Hardware,
    /// The GPU, or the machine, has to be reset before it is of use again.
    Reset,
    /// Not in the catalogue, or without a verdict in it.
    Other,
}

impl XidClass {
    /// The value of the `class` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Hardware => "hardware",
            Self::Reset => "reset",
            Self::Other => "other",
        }
    }
}

/// One entry of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XidEntry {
    /// The number.
    pub code: u32,
    /// Its class.
    pub class: XidClass,
    /// What happened, in a few words.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    xid: Vec<XidEntry>,
}

/// The catalogue, by code.
#[must_use]
pub fn catalogue() -> &'static BTreeMap<u32, XidEntry> {
    static CATALOGUE: LazyLock<BTreeMap<u32, XidEntry>> = LazyLock::new(|| {
        let read: Catalogue = toml::from_str(include_str!("../../../data/xids.toml"))
            .expect("the built-in catalogue is checked by a test");
        read.xid.into_iter().map(|entry| (entry.code, entry)).collect()
    });
    &CATALOGUE
}

/// An error that a GPU told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xid {
    /// The number.
    pub code: u32,
    /// Errors of NVLink (144 to 150) say whether they are fatal.
    pub fatal: Option<bool>,
    /// Errors of NVLink: which link.
    pub link: Option<u32>,
    /// On a GPU that is split: which GPU instance.
    pub instance: Option<u32>,
}

impl Xid {
    /// A code by itself, which is all that the driver's events tell.
    #[must_use]
    pub const fn of(code: u32) -> Self {
        Self { code, fatal: None, link: None, instance: None }
    }

    /// Its class. What NVLink says of itself comes before the catalogue.
    #[must_use]
    pub fn class(&self) -> XidClass {
        match self.fatal {
            Some(true) => XidClass::Reset,
            Some(false) => XidClass::Hardware,
            None => catalogue().get(&self.code).map_or(XidClass::Other, |entry| entry.class),
        }
    }
}

/// Codes of NVLink errors whose lines carry a severity and a link.
const NVLINK_CODES: std::ops::RangeInclusive<u32> = 144..=150;
/// What a GPU that has fallen off the bus means, said or not.
const FALLEN_OFF: u32 = 79;

/// A line of the kernel log that tells of an error, with the GPU that it names.
#[must_use]
pub fn kernel_line(line: &str) -> Option<(PciId, Xid)> {
    static XID: LazyLock<Regex> =
        LazyLock::new(|| regex(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)(?: GPU-I:(\d+))?\).*?: (\d+),(.*)"));
    static FALLEN: LazyLock<Regex> = LazyLock::new(|| {
        regex(r"NVRM:.*?([0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.[0-7])?.*?fallen off the bus")
    });
    // Nearly every line of the log is somebody else's.
    if !line.contains("NVRM:") {
        return None;
    }
    if let Some(found) = XID.captures(line) {
        let mut xid = Xid::of(found[3].parse().ok()?);
        xid.instance = found.get(2).and_then(|id| id.as_str().parse().ok());
        if NVLINK_CODES.contains(&xid.code) {
            (xid.fatal, xid.link) = nvlink(&found[4]);
        }
        return Some((found[1].parse().ok()?, xid));
    }
    let found = FALLEN.captures(line)?;
    Some((found[1].parse().ok()?, Xid::of(FALLEN_OFF)))
}

/// Severity and link of an NVLink error.
fn nvlink(text: &str) -> (Option<bool>, Option<u32>) {
    static LINK: LazyLock<Regex> = LazyLock::new(|| regex(r"\bLink (\d+)"));
    let is_fatal = text.split_whitespace().find_map(|word| match word {
        "Fatal" => Some(true),
        "Nonfatal" | "NonFatal" | "Non-fatal" => Some(false),
        _ => None,
    });
    (is_fatal, LINK.captures(text).and_then(|found| found[1].parse().ok()))
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is constant")
}

/// Who told of an error. Both tell of nearly every one, so that neither's count may be added to the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XidTeller {
    /// The driver's events: from the time on that they are listened to, with no more than the code.
    Driver,
    /// The kernel log.
    KernelLog,
}

/// An error that was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XidEvent {
    /// When.
    pub at: Timestamp,
    /// UUID of the GPU, where it is known.
    pub uuid: Option<String>,
    /// Where the GPU is, where that is known.
    pub pci: Option<PciId>,
    /// What.
    pub xid: Xid,
    /// By whom.
    pub teller: XidTeller,
}

/// How often a GPU told of one error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XidCount {
    /// UUID of the GPU, where it is known.
    pub uuid: Option<String>,
    /// Where the GPU is, where that is known.
    pub pci: Option<PciId>,
    /// The number.
    pub code: u32,
    /// Its class.
    pub class: XidClass,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
}

/// What tells GPUs apart: their place, which both tellers lead to, or the UUID where the driver did not know the place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Pci(PciId),
    Uuid(String),
}

#[derive(Debug, Default)]
struct Told {
    counts: BTreeMap<XidTeller, u64>,
    last: Timestamp,
}

/// Every error that was told of since the program started, and what the kernel log still knew of the time before. It outlives the
/// driver: a GPU that fell off the bus is gone, and what it told last is here.
#[derive(Debug, Default)]
pub struct XidBook {
    uuids: BTreeMap<PciId, String>,
    told: BTreeMap<(Place, u32, XidClass), Told>,
    recent: VecDeque<XidEvent>,
}

impl XidBook {
    /// Learns which GPU is where.
    pub fn learn(&mut self, uuid: &str, pci: PciId) {
        self.uuids.insert(pci, uuid.to_owned());
    }

    /// An event of the driver.
    pub fn note_driver(&mut self, uuid: &str, xid: Xid, at: Timestamp) {
        let pci = self.uuids.iter().find(|(_, known)| *known == uuid).map(|(pci, _)| *pci);
        let place = pci.map_or_else(|| Place::Uuid(uuid.to_owned()), Place::Pci);
        self.note(place, xid, at, XidTeller::Driver);
    }

    /// A line of the kernel log.
    pub fn note_kernel(&mut self, pci: PciId, xid: Xid, at: Timestamp) {
        self.note(Place::Pci(pci), xid, at, XidTeller::KernelLog);
    }

    fn note(&mut self, place: Place, xid: Xid, at: Timestamp, teller: XidTeller) {
        let (uuid, pci) = self.names(&place);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(XidEvent { at, uuid, pci, xid, teller });
        let key = (place, xid.code, xid.class());
        if self.told.len() < COUNTS_MAX || self.told.contains_key(&key) {
            let told = self.told.entry(key).or_default();
            *told.counts.entry(teller).or_default() += 1;
            told.last = told.last.max(at);
        }
    }

    fn names(&self, place: &Place) -> (Option<String>, Option<PciId>) {
        match place {
            Place::Pci(pci) => (self.uuids.get(pci).cloned(), Some(*pci)),
            Place::Uuid(uuid) => (Some(uuid.clone()), None),
        }
    }

    /// How often each GPU told of each error: as often as the teller says that knows of more.
    #[must_use]
    pub fn counts(&self) -> Vec<XidCount> {
        let count = |((place, code, class), told): (&(Place, u32, XidClass), &Told)| {
            let (uuid, pci) = self.names(place);
            let count = told.counts.values().copied().max().unwrap_or_default();
            XidCount { uuid, pci, code: *code, class: *class, count, last: told.last }
        };
        self.told.iter().map(count).collect()
    }

    /// The last error that this GPU told of.
    #[must_use]
    pub fn last_of(&self, uuid: &str) -> Option<XidCount> {
        let of_gpu = self.counts().into_iter().filter(|count| count.uuid.as_deref() == Some(uuid));
        of_gpu.max_by_key(|count| count.last)
    }

    /// The last events, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<XidEvent> {
        self.recent.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
