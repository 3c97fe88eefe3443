//! The messages and both ends of the service, as made from `proto/digest.proto`.

#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "generated code")]

tonic::include_proto!("tidegate.digest.v1");
