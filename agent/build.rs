//! Makes the kubelet's messages from `proto/`, with a compiler written in Rust: no `protoc` has to be installed.

use std::error::Error;

const FILES: [&str; 3] = ["podresources.proto", "pods.proto", "pod.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
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
        .compile_fds(files)?;
    Ok(())
}
