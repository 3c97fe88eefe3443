//! The kubelet's messages, made from `proto/` when this crate is built.

#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
#![allow(missing_docs, unreachable_pub, reason = "generated code")]

/// Devices given to containers.
pub(super) mod podresources {
    tonic::include_proto!("v1");
}

/// The Pods API.
pub(super) mod pods {
    tonic::include_proto!("v1alpha1");
}

/// The part of a pod that is read.
pub(super) mod core {
    tonic::include_proto!("core");
}
