//! Makes the messages of the kubelet and of OpenTelemetry from `proto/`, with a compiler written in Rust: no `protoc` has to be
//! installed.

use std::error::Error;

use tonic_prost_build::Builder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let kubelet = protox::compile(["podresources.proto", "pods.proto", "pod.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        // The kubelet's side is played by the tests alone.
        .server_mod_attribute(".", "#[cfg(test)]")
        .btree_map(".core")
        .message_attribute(
            ".core",
            "#[derive(serde::Deserialize)] #[serde(rename_all = \"camelCase\", default)]",
        )
        .field_attribute(".core.PodStatus.podIP", "#[serde(rename = \"podIP\")]")
        .field_attribute(".core.ContainerStatus.containerID", "#[serde(rename = \"containerID\")]")
        .compile_fds(kubelet)?;
    let otlp = protox::compile(["otlp.proto", "otlp_logs.proto"], ["proto"])?;
    as_json(tonic_prost_build::configure().build_transport(false)).compile_fds(otlp)?;
    Ok(())
}

/// OTLP's JSON: names in camel case, numbers of 64 bits as text, doubles that are none as words, ids in hexadecimal and other bytes in
/// base64.
fn as_json(builder: Builder) -> Builder {
    const TEXTUAL: [(&str, &[&str]); 6] = [
        (
            "u64",
            &[
                "NumberDataPoint.time_unix_nano",
                "NumberDataPoint.start_time_unix_nano",
                "HistogramDataPoint.time_unix_nano",
                "HistogramDataPoint.start_time_unix_nano",
                "HistogramDataPoint.count",
                "ExponentialHistogramDataPoint.time_unix_nano",
                "ExponentialHistogramDataPoint.start_time_unix_nano",
                "ExponentialHistogramDataPoint.count",
                "ExponentialHistogramDataPoint.zero_count",
                "SummaryDataPoint.time_unix_nano",
                "SummaryDataPoint.start_time_unix_nano",
                "SummaryDataPoint.count",
                "LogRecord.time_unix_nano",
                "LogRecord.observed_time_unix_nano",
            ],
        ),
        ("i64", &["NumberDataPoint.value.as_int", "AnyValue.value.int_value"]),
        (
            "u64s",
            &["HistogramDataPoint.bucket_counts", "ExponentialHistogramDataPoint.Buckets.bucket_counts"],
        ),
        ("f64", &["NumberDataPoint.value.as_double", "SummaryDataPoint.sum"]),
        ("hex", &["LogRecord.trace_id", "LogRecord.span_id"]),
        ("base64", &["AnyValue.value.bytes_value"]),
    ];
    let mut builder = builder
        .message_attribute(".", "#[derive(serde::Deserialize)] #[serde(rename_all = \"camelCase\", default)]")
        .enum_attribute(".", "#[derive(serde::Deserialize)] #[serde(rename_all = \"camelCase\")]");
    for oneof in ["Metric.data", "NumberDataPoint.value", "AnyValue.value"] {
        builder = builder.field_attribute(oneof, "#[serde(flatten)]");
    }
    for (helper, fields) in TEXTUAL {
        for field in fields {
            let attribute = format!("#[serde(deserialize_with = \"crate::otlp::json::{helper}\")]");
            builder = builder.field_attribute(field, attribute);
        }
    }
    builder
}
