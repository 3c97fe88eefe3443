//! A history that cannot be used: it is said, and `up` goes on.

use std::fs;
use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_core::Metric;
use tidegate_tests::servers::{Program, Tidegate, binary, http};
use tidegate_tests::waiting;

use super::written::folder;

const LIMIT: Duration = Duration::from_secs(20);
/// The history is written every five seconds, and what it has room for in its own file goes on for a while.
const FULL_LIMIT: Duration = Duration::from_secs(90);

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

/// `up` on a small file system of its own, which vanishes with the process; as root, or as one in a namespace of the user's.
fn on_small_disk() -> Command {
    let mut command = Command::new("unshare");
    command.arg(if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" });
    command.args(["sh", "-c", "mount -t tmpfs -o size=12m tmpfs data && exec \"$0\" \"$@\""]).arg(binary());
    command
}

#[tokio::test]
async fn a_full_disk_is_told_once_and_room_again_is_used() {
    let dir = folder();
    fs::create_dir_all(dir.path().join("data")).expect("the directory is writable");
    let mut command = on_small_disk();
    command.args(["up", "--listen", "127.0.0.1:0", "--data", "data"]).current_dir(dir.path());
    let mut program = Program::start("tidegate", command.env("HOME", dir.path()), dir.path());
    let url = waiting::until("its address", LIMIT, async || {
        assert!(program.ended().is_none(), "it ended: {}", program.errors());
        program.output().lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
    })
    .await;
    let inside = format!("/proc/{}/root{}/data/filler", program.id(), dir.path().display());
    let mut filler = fs::File::create(&inside).expect("there is room at first");
    let full = std::io::copy(&mut std::io::repeat(7).take(64 << 20), &mut filler);
    assert!(full.is_err(), "the disk takes more than it has");
    // An open file keeps its room also when it is removed.
    drop(filler);
    waiting::until("the failure to be told", FULL_LIMIT, async || {
        program.errors().contains("the history cannot be written").then_some(())
    })
    .await;
    let page =
        http().get(format!("{url}/metrics")).send().await.expect("it answers").text().await.expect("text");
    let failed = format!("{}{{cause=\"write\"}}", Metric::HistoryErrors.family().name);
    assert!(page.lines().any(|line| line.starts_with(&failed) && !line.ends_with(" 0")), "{page}");
    let node = http().get(format!("{url}/api/v1/node")).send().await.expect("it answers");
    assert!(node.status().is_success(), "it goes on");
    fs::remove_file(&inside).expect("it is the test's own");
    waiting::until("the history to be written again", FULL_LIMIT, async || {
        program.errors().contains("the history is written again").then_some(())
    })
    .await;
    assert_eq!(program.errors().matches("the history cannot be written").count(), 1, "{}", program.errors());
    assert_eq!(program.stop().code(), Some(0), "{}", program.errors());
}
