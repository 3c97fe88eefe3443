//! The messages and both ends of KEDA's external scaler, as made from `proto/externalscaler.proto`. Who answers is no matter of this
//! module.

#![allow(clippy::allow_attributes_without_reason, clippy::too_many_lines, reason = "generated code")]
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "generated code")]

tonic::include_proto!("externalscaler");
