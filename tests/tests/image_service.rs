//! The systemd unit is valid, exposes little, and stops Tidegate the way it wants to be stopped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tidegate_tests::repository::{root, text};
use tidegate_tests::servers::binary;

const UNIT: &str = "deploy/systemd/tidegate.service";
/// Upper end of what `systemd-analyze` calls OK for a service that reaches the network is 4.9; this one has no need of it. In tenths.
const EXPOSURE_MAX: &str = "--threshold=30";

/// A copy whose program exists on this machine.
fn unit_of_this_machine(dir: &Path, change: impl FnOnce(String) -> String) -> PathBuf {
    let unit = text(Path::new(UNIT)).expect("the unit is text");
    let unit = unit.replace("/usr/bin/tidegate", &binary().display().to_string());
    let path = dir.join("tidegate.service");
    std::fs::write(&path, change(unit)).expect("the directory is writable");
    path
}

fn analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let output: Output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .current_dir(root())
        .output()
        .expect("it is installed");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_unit_is_valid_and_exposes_little() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let unit = unit_of_this_machine(dir.path(), |unit| unit);
    let (valid, said) = analyze(&["verify"], &unit);
    // Complaints about other units of this machine stand in the same output; those about ours name it.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("tidegate.service")).collect();
    assert!(valid && ours.is_empty(), "{said}");
    let (within, said) = analyze(&["security", "--offline=true", "--no-pager", EXPOSURE_MAX], &unit);
    assert!(within, "{said}");
}

#[test]
fn the_check_sees_a_wrong_and_an_exposed_unit() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let wrong = unit_of_this_machine(dir.path(), |unit| unit.replace("KillMode=mixed", "KillMood=mixed"));
    let (_, said) = analyze(&["verify"], &wrong);
    assert!(said.contains("KillMood"), "{said}");
    let exposed = unit_of_this_machine(dir.path(), |unit| {
        unit.replace("ProtectSystem=strict", "").replace("CapabilityBoundingSet=", "")
    });
    let exposed_more =
        |unit: &Path| !analyze(&["security", "--offline=true", "--no-pager", EXPOSURE_MAX], unit).0;
    assert!(exposed_more(&exposed));
}

#[test]
fn tidegate_gets_the_signal_first_and_time_to_drain() {
    let unit = text(Path::new(UNIT)).expect("the unit is text");
    let lines: Vec<_> = unit.lines().collect();
    for line in ["KillMode=mixed", "KillSignal=SIGTERM", "RestartPreventExitStatus=64"] {
        assert!(lines.contains(&line), "{line}");
    }
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("it is bounded");
    assert!(stop.trim_end_matches('s').parse::<u32>().is_ok_and(|seconds| seconds >= 60), "{stop}");
}
