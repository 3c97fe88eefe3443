//! A history that cannot be used: it is said, and `up` goes on.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::servers::{Program, Tidegate, binary};
use tidegate_tests::waiting;

use super::written::folder;

const LIMIT: Duration = Duration::from_secs(20);

async fn note(server: &Tidegate) -> String {
    let about = server.get("/api/v1/about").await.expect("it answers");
    let notes = about["notes"].as_array().expect("it has notes");
    notes
        .iter()
        .filter_map(Value::as_str)
        .find(|note| note.contains("history"))
        .unwrap_or_default()
        .to_owned()
}

/// Waits until something of the machine has been kept and can be read back.
async fn remembers(server: &Tidegate) {
    waiting::until("a series of this machine", LIMIT, async || {
        let series = server.get("/api/v1/node/series?signal=load1").await?;
        let known = series["points"].as_array()?.iter().filter(|point| !point[1].is_null()).count();
        (known > 0).then_some(())
    })
    .await;
}

fn with_history(prepare: impl FnOnce(&std::path::Path)) -> TempDir {
    let dir = folder();
    fs::create_dir_all(dir.path().join("data")).expect("the directory is writable");
    prepare(&dir.path().join("data/history"));
    dir
}

#[tokio::test]
async fn a_damaged_one_is_moved_aside_and_a_new_one_begun() {
    let dir = with_history(|history| {
        fs::create_dir_all(history).expect("the directory is writable");
        fs::write(history.join("history.redb"), b"this is no database".repeat(1000)).expect("writable");
    });
    let mut server = Tidegate::up_in(dir, &[]).await;
    let note = note(&server).await;
    assert!(note.contains("moved aside"), "{note}");
    assert!(server.program().errors().contains("moved aside"), "{}", server.program().errors());
    let names = fs::read_dir(server.data().join("history")).expect("it is there").flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.contains("corrupt")), "the damaged one is gone: {names:?}");
    remembers(&server).await;
    assert_eq!(server.interrupt().code(), Some(0));
}

#[tokio::test]
async fn one_that_cannot_be_made_is_kept_in_memory() {
    let dir = with_history(|history| fs::write(history, b"a file is in the way").expect("writable"));
    let mut server = Tidegate::up_in(dir, &[]).await;
    let note = note(&server).await;
    assert!(note.contains("memory only") && note.contains("data/history"), "{note}");
    assert!(server.program().errors().contains("going on in memory"), "{}", server.program().errors());
    remembers(&server).await;
    assert_eq!(server.interrupt().code(), Some(0));
}

/// Permissions say nothing to root, so the process runs without the right to pass them by.
fn unprivileged() -> Command {
    let mut command = Command::new("setpriv");
    let dropped = "-dac_override,-dac_read_search";
    command.args(["--bounding-set", dropped, "--inh-caps", dropped]).arg(binary());
    if nix::unistd::geteuid().is_root() { command } else { Command::new(binary()) }
}

#[tokio::test]
async fn one_that_is_read_only_is_kept_in_memory() {
    let dir = with_history(|history| {
        fs::create_dir_all(history).expect("the directory is writable");
        let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        fs::set_permissions(history, read_only).expect("the directory is the test's own");
    });
    let mut command = unprivileged();
    command.args(["up", "--listen", "127.0.0.1:0", "--data", "data"]).current_dir(dir.path());
    let mut program = Program::start("tidegate", command.env("HOME", dir.path()), dir.path());
    waiting::until("its address", LIMIT, async || {
        assert!(program.ended().is_none(), "it ended: {}", program.errors());
        program.output().contains("listening on http://").then_some(())
    })
    .await;
    assert!(program.errors().contains("going on in memory"), "{}", program.errors());
    assert!(program.errors().contains("Permission denied"), "{}", program.errors());
    assert_eq!(program.stop().code(), Some(0), "{}", program.errors());
}
