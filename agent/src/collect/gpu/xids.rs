//! The book of GPU errors, shared between those who tell of errors and those who show them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_core::Timestamp;

use super::xid::{PciId, Xid, XidBook, XidCount, XidEvent};

/// Every GPU error that was told of. Cheap to clone; all clones are the same book.
#[derive(Debug, Clone, Default)]
pub struct Xids(Arc<Mutex<XidBook>>);

impl Xids {
    fn book(&self) -> MutexGuard<'_, XidBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns which GPU is where.
    pub fn learn(&self, uuid: &str, pci: PciId) {
        self.book().learn(uuid, pci);
    }

    /// An event of the driver.
    pub fn note_driver(&self, uuid: &str, xid: Xid, at: Timestamp) {
        tracing::warn!(
            gpu = uuid,
            xid = xid.code,
            class = xid.class().as_str(),
            "the driver tells of a GPU error"
        );
        self.book().note_driver(uuid, xid, at);
    }

    /// A line of the kernel log.
    pub fn note_kernel(&self, pci: PciId, xid: Xid, at: Timestamp) {
        tracing::warn!(gpu = %pci, xid = xid.code, class = xid.class().as_str(), "the kernel log tells of a GPU error");
        self.book().note_kernel(pci, xid, at);
    }

    /// How often each GPU told of each error.
    #[must_use]
    pub fn counts(&self) -> Vec<XidCount> {
        self.book().counts()
    }

    /// The last error that this GPU told of.
    #[must_use]
    pub fn last_of(&self, uuid: &str) -> Option<XidCount> {
        self.book().last_of(uuid)
    }

    /// The last events, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<XidEvent> {
        self.book().recent()
    }
}
