//! Makes the messages of the kubelet's device plugin API from `proto/`, with a compiler written in Rust: no `protoc` has to be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let api = protox::compile(["deviceplugin.proto"], ["proto"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(api)?;
    Ok(())
}
