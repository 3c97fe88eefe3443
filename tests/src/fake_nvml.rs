//! A driver for GPUs that are not there, beside the agent of a test. What it says is a script: see the crate of the library.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libtidegate_fake_nvml.so";

/// Puts the driver's library into a directory, with a script of GPUs at work that have these UUIDs; `split`: the instances (MIG) that the
/// last of them is split into, by UUID. Gives its path.
///
/// # Panics
/// When cargo has not built the library beside this program: it does so for the tests, examples and benchmarks of this crate.
#[must_use]
pub fn driver(dir: &Path, uuids: &[String], split: &[String]) -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let near = program
        .ancestors()
        .skip(1)
        .take(2)
        .flat_map(|dir| [dir.join(LIBRARY), dir.join("deps").join(LIBRARY)]);
    let built = near.into_iter().find(|path| path.exists()).expect("cargo has built the fake library");
    let library = dir.join("libnvidia-ml.so.1");
    fs::copy(built, &library).expect("the directory is writable");
    let mut script = String::new();
    for (gpu, uuid) in uuids.iter().enumerate() {
        writeln!(
            script,
            "[[gpu]]\nuuid = \"{uuid}\"\nname = \"NVIDIA H100\"\npci = \"00000000:{gpu:02X}:00.0\"\nminor = {gpu}\nutilization = [50, 40]\npower = 350000\n"
        )
        .expect("writing to a string succeeds");
    }
    if !split.is_empty() {
        // It tells no use of the whole, as the real one.
        script = script.replace("utilization = [50, 40]", "").replacen(
            "\npower",
            "\nutilization = [50, 40]\npower",
            uuids.len() - 1,
        );
        writeln!(script, "split = true\ninstance = [").expect("writing to a string succeeds");
        for (slot, uuid) in split.iter().enumerate() {
            let id = slot + 7;
            writeln!(
                script,
                "{{ slot = {slot}, uuid = \"{uuid}\", id = {id}, name = \"NVIDIA H100 MIG 1g.10gb\", memory = [100, 10, 60, 30] }},"
            )
            .expect("writing to a string succeeds");
        }
        writeln!(script, "]").expect("writing to a string succeeds");
    }
    fs::write(dir.join("fake-nvml.toml"), script).expect("the directory is writable");
    library
}
