//! Which file is which, through renames, truncations and reused inodes, and the id of each line. No file is opened here.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many bytes of a file's start are compared: enough to hold a timestamp even behind a long banner.
pub(crate) const HEAD_BYTES: usize = 1024;

/// Names an inode of this machine. May be reused by another file once the first is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Inode {
    pub(crate) device: u64,
    pub(crate) number: u64,
}

/// One life of a file: from its creation, or from a truncation, to the next truncation.
///
/// The same file has the same life when seen again after a restart, even without a checkpoint, as long as the filesystem
/// knows when it was made; that time tells it from a later file on the same inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) inode: Inode,
    /// When the file was made, in nanoseconds since the epoch; where the filesystem does not know, when it was first seen.
    pub(crate) born_ns: i64,
    /// How often it was truncated since.
    pub(crate) generation: u32,
}

/// A short name of a life, unique on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LifeKey([u8; 16]);

impl Life {
    pub(crate) fn key(&self) -> LifeKey {
        let mut hash = Sha256::new();
        for part in
            [self.inode.device, self.inode.number, self.born_ns.cast_unsigned(), self.generation.into()]
        {
            hash.update(part.to_le_bytes());
        }
        LifeKey(half(hash))
    }

    /// The life after a truncation.
    pub(crate) fn next(&self) -> Self {
        Self { generation: self.generation + 1, ..self.clone() }
    }
}

impl Inode {
    pub(crate) fn of(meta: &std::fs::Metadata) -> Self {
        Self { device: meta.dev(), number: meta.ino() }
    }
}

/// When the file was made; `None` where the filesystem does not say.
pub(crate) fn born_ns(meta: &std::fs::Metadata) -> Option<i64> {
    let since = meta.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// A digest of the start of a file, to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Print(u64);

impl Print {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let first: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
        Self(u64::from_le_bytes(first))
    }

    /// The digest as a number, where something is to differ by the bytes.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// Gives ids to the lines of one life.
#[derive(Debug, Clone)]
pub(crate) struct Namer {
    prefix: Sha256,
}

impl Namer {
    pub(crate) fn new(host: &str, key: LifeKey) -> Self {
        let mut prefix = Sha256::new();
        prefix.update((host.len() as u64).to_le_bytes());
        prefix.update(host.as_bytes());
        prefix.update(key.0);
        Self { prefix }
    }

    /// The id of a line: the same for the same line of the same life, and 128 bits apart for any other.
    pub(crate) fn id(&self, offset: u64, line: &[u8]) -> EventId {
        let mut hash = self.prefix.clone();
        hash.update(offset.to_le_bytes());
        hash.update(line);
        EventId(half(hash))
    }
}

/// The id of one line. Written in the alphabet of URLs, 22 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct EventId([u8; 16]);

impl EventId {
    /// The id of a record that was pushed: the same when the same request comes again.
    pub(crate) fn pushed(request: &[u8], index: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(request);
        hash.update(index.to_le_bytes());
        Self(half(hash))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for EventId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("expected the 22 characters of an event id")
    }
}

fn half(hash: Sha256) -> [u8; 16] {
    hash.finalize()[..16].try_into().expect("a SHA-256 digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn life(number: u64) -> Life {
        Life { inode: Inode { device: 1, number }, born_ns: 7, generation: 0 }
    }

    #[test]
    fn any_difference_gives_another_id_and_none_gives_the_same() {
        let namer = Namer::new("a", life(1).key());
        let ids = [
            namer.id(0, b"line"),
            namer.id(1, b"line"),
            namer.id(0, b"lime"),
            Namer::new("b", life(1).key()).id(0, b"line"),
            Namer::new("a", life(2).key()).id(0, b"line"),
            Namer::new("a", life(1).next().key()).id(0, b"line"),
        ];
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        assert_eq!(Namer::new("a", life(1).key()).id(0, b"line"), ids[0]);
        assert_eq!(ids[0].to_string().len(), 22);
        assert_eq!(EventId::try_from(ids[0].to_string()), Ok(ids[0]));
    }
}
