//! What a target and whatever sends requests to its replicas must know of each other.

use std::net::SocketAddr;

/// A replica that takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Its index within the workload.
    pub index: u32,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// Sends requests to replicas. Both calls are quick and never wait.
pub trait Routing: Send + Sync {
    /// From the return of this call on, no request is given to a replica that is not in `backends`. Requests that one
    /// already has are left to finish.
    fn route(&self, backends: &[Backend]);

    /// Requests that a replica has at present; `None` when it was never known here.
    fn in_flight(&self, backend: &Backend) -> Option<u32>;
}
