//! The built binary as a process: what a shell sees of it. What it does once it runs is in the other files of this suite.

use std::process::{Command, Output};
use std::time::Duration;

use tidegate_tests::servers::{Tidegate, binary, http};

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("the binary was built")
}

#[test]
fn help_and_version_are_printed_on_standard_output() {
    for argument in ["--help", "--version"] {
        let output = tidegate(&[argument]);
        assert!(output.status.success() && output.stderr.is_empty(), "{argument}: {:?}", output.status);
        assert!(String::from_utf8_lossy(&output.stdout).contains("tidegate"), "{argument}");
    }
}

#[test]
fn bad_usage_exits_64_and_says_why_on_standard_error() {
    let output = tidegate(&["up", "--no-such-option"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-option"));
}

#[tokio::test]
async fn up_without_a_file_answers_and_ends_well_when_interrupted() {
    let mut server = Tidegate::up(&[]).await;
    let health = http().get(format!("{}/healthz", server.url())).send().await.expect("it answers");
    assert!(health.status().is_success());
    assert!(server.get("/api/v1/workloads").await.is_some_and(|answer| answer["workloads"].is_array()));
    let status = server.interrupt();
    assert_eq!(status.code(), Some(0), "{}", server.program().errors());
    assert!(server.program().descendants().is_empty(), "it left processes behind");
    assert!(server.program().wait(Duration::ZERO).is_some());
}
