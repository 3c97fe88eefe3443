//! The pods of this node: who they are, which workload they are part of, which containers they have.

pub mod table;
pub mod workload;

pub use table::{Pod, PodContainer, PodTable};
