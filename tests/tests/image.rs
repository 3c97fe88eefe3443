//! The Dockerfile really builds, by each of its ways, and what it builds runs. Bases come from Debian packages: no registry is asked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tidegate_tests::images::{Images, local};
use tidegate_tests::repository::root;
use tidegate_tests::servers::binary;

/// What the distroless base has, too: glibc, libgcc, certificates; no shell.
const RUNTIME_PACKAGES: [&str; 3] = ["ca-certificates", "libc6", "libgcc-s1"];
/// A shell for the build stage's commands, and what the stand-in for cargo calls.
const SHELL_PACKAGES: [&str; 4] = ["coreutils", "dash", "libc6", "libgcc-s1"];
/// What Rust needs to link, and C parts of dependencies to compile.
const COMPILER_PACKAGES: [&str; 7] = ["coreutils", "dash", "gcc", "g++", "libc6-dev", "libgcc-s1", "make"];
const PATH: &str = "PATH=/toolchain/bin:/usr/local/bin:/usr/bin:/bin";

/// Stands in for cargo, so that the binary is not compiled twice: it holds the Dockerfile to what the real one would need.
const STAND_IN: &str = "#!/bin/sh
set -eu
test \"$*\" = 'build --release --locked --package tidegate'
test -f Cargo.lock && test -f cli/src/main.rs && test -f core/Cargo.toml
test ! -e target && test ! -e .git
mkdir -p target/release
cp /prebuilt/tidegate target/release/tidegate
";

/// Debian makes this name when it configures the compiler, which nobody does here.
const CC: &str = "#!/bin/sh\nexec gcc \"$@\"\n";

/// What the binary says on this machine, to be compared with what it says in the image.
fn help_here() -> String {
    let output = Command::new(binary()).arg("--help").output().expect("the binary was built");
    String::from_utf8(output.stdout).expect("help is UTF-8")
}

fn assert_works(images: &Images, image: &str) {
    let output = images.run(image, &["/usr/bin/tidegate", "--help"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{image}: {errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), help_here().trim());
}

fn store_with_runtime() -> Images {
    let images = Images::new();
    images.from_packages("runtime", &RUNTIME_PACKAGES, &[], &[]);
    images
}

#[test]
fn a_prebuilt_binary_becomes_an_image_that_runs_as_nobody_in_particular() {
    let images = store_with_runtime();
    let context = images.folder("context");
    fs::copy(binary(), context.join("tidegate")).expect("the binary was built");
    let runtime = format!("RUNTIME={}", local("runtime"));
    images.build(
        "prebuilt",
        &context,
        &["--target", "prebuilt", "--build-arg", &runtime, "--build-arg", "BINARY=tidegate"],
    );
    assert_works(&images, "prebuilt");

    let configuration = images.configuration("prebuilt");
    assert_eq!(configuration["User"], "65532:65532");
    assert_eq!(configuration["Entrypoint"], json!(["/usr/bin/tidegate"]));
    assert_eq!(configuration["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
    assert_eq!(configuration["StopSignal"], "SIGTERM");
    let shell = images.run("prebuilt", &["/bin/sh", "-c", "true"]);
    assert!(!shell.status.success(), "the image needs no shell and has none");
}

#[test]
fn the_whole_file_builds_from_the_repository() {
    let images = store_with_runtime();
    images.from_packages("builder", &SHELL_PACKAGES, &[("/usr/local/bin/cargo", STAND_IN)], &[PATH]);
    let prebuilt = images.folder("prebuilt");
    fs::copy(binary(), prebuilt.join("tidegate")).expect("the binary was built");
    let volume = format!("{}:/prebuilt:ro", prebuilt.display());
    build_whole(&images, &["--volume", &volume]);
    assert_works(&images, "whole");
}

#[test]
fn the_whole_file_compiles_when_asked_in_full() {
    if std::env::var_os("TIDEGATE_TEST_FULL").is_none() {
        println!(
            "not asked for: `cargo xtask test --suite image --full` compiles Tidegate in the image's builder"
        );
        return;
    }
    let images = store_with_runtime();
    let offline = ["CARGO_HOME=/cargo", "CARGO_NET_OFFLINE=true"];
    images.from_packages(
        "builder",
        &COMPILER_PACKAGES,
        &[("/usr/local/bin/cc", CC)],
        &[&[PATH], &offline[..]].concat(),
    );
    let toolchain = format!("{}:/toolchain:ro", sysroot().display());
    // Crates that this machine has fetched already; the build stage then needs no certificates of its own.
    let registry = format!("{}:/cargo/registry:ro", cargo_home().join("registry").display());
    build_whole(&images, &["--volume", &toolchain, "--volume", &registry]);
    assert_works(&images, "whole");
}

fn build_whole(images: &Images, arguments: &[&str]) {
    let (builder, runtime) =
        (format!("BUILDER={}", local("builder")), format!("RUNTIME={}", local("runtime")));
    images.build("whole", root(), &[&["--build-arg", &builder, "--build-arg", &runtime], arguments].concat());
}

fn sysroot() -> PathBuf {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(root())
        .output()
        .expect("rustc is installed");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn cargo_home() -> PathBuf {
    let default = || std::env::home_dir().expect("there is a home directory").join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(default, PathBuf::from)
}
