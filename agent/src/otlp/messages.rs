//! OpenTelemetry's messages and both ends of the services, made from `proto/` when this crate is built.

#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
#![allow(clippy::struct_field_names, clippy::large_enum_variant, reason = "generated code")]
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "generated code")]

pub mod metrics {
    pub mod v1 {
        tonic::include_proto!("opentelemetry.proto.collector.metrics.v1");
    }
}

pub mod logs {
    pub mod v1 {
        tonic::include_proto!("opentelemetry.proto.collector.logs.v1");
    }
}

pub use metrics::v1::*;
