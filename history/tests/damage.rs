//! What happens to a store whose directory or file is not as it should be. It never panics, and never loses in silence.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use tidegate_core::{Sample, Signal, Subject, Timestamp};
use tidegate_history::{Aggregate, OpenError, Opened, Store, StoreOptions};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn open(dir: &Path) -> (Store, Opened) {
    Store::open(dir, StoreOptions::default(), NOW).unwrap()
}

fn append(store: &Store, seconds: std::ops::Range<i64>) {
    let samples: Vec<Sample> = seconds
        .map(|at| {
            let value = (at % 97) as f64;
            Sample::new(Subject::Node, Signal::Load1, Timestamp::from_secs(at), value).unwrap()
        })
        .collect();
    assert_eq!(store.append(&samples).stored, samples.len());
}

fn count(store: &Store, to: i64) -> f64 {
    let (from, to, step) = (Timestamp::EPOCH, Timestamp::from_secs(to), Duration::from_secs(300));
    let counts = store.read(&Subject::Node, Signal::Load1, from, to, step, Aggregate::Count).unwrap();
    counts.values().iter().flatten().sum()
}

/// A database with chunks and a write-ahead table.
fn filled(dir: &Path) {
    let (store, _) = open(dir);
    append(&store, 0..20_000);
    store.checkpoint().unwrap();
    append(&store, 20_000..20_100);
    store.flush(Timestamp::from_secs(20_100)).unwrap();
}

#[test]
fn garbage_is_moved_aside_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let garbage: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.path().join("history.redb"), &garbage).unwrap();
    let (store, opened) = open(dir.path());
    let aside = opened.moved_aside.unwrap();
    assert_eq!(fs::read(&aside.path).unwrap(), garbage);
    assert_eq!(aside.path.file_name().unwrap(), "history.redb.corrupt-1000000000");
    assert!(!aside.cause.is_empty());
    append(&store, 0..10);
    assert_eq!(count(&store, 300), 10.0);
}

#[test]
fn a_torn_or_altered_file_is_repaired_or_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let whole = fs::read(dir.path().join("history.redb")).unwrap();
    let mut moved = 0;
    for attempt in 0..24usize {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        fs::write(&path, &whole).unwrap();
        let place = (whole.len() - 1) * attempt / 24;
        if attempt % 2 == 0 {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(place as u64).unwrap();
        } else {
            overwrite(&path, place as u64, 512);
        }
        let (store, opened) = open(dir.path());
        if opened.moved_aside.is_some() {
            moved += 1;
            assert_eq!(store.subjects(), []);
        } else if opened.series == 1 {
            assert_eq!(count(&store, 21_000), 20_100.0, "attempt {attempt}: it opened, so it is whole");
        }
        append(&store, 30_000..30_010);
        store.checkpoint().unwrap();
        let (from, to) = (Timestamp::from_secs(30_000), Timestamp::from_secs(30_010));
        let step = Duration::from_secs(1);
        let read = store.read(&Subject::Node, Signal::Load1, from, to, step, Aggregate::Mean).unwrap();
        assert_eq!(read.known_len(), 10);
    }
    assert!(moved > 5, "the damage was noticed: {moved}");
}

fn overwrite(path: &Path, place: u64, length: usize) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(place)).unwrap();
    let mut old = vec![0; length];
    let read = file.read(&mut old).unwrap();
    old.iter_mut().for_each(|byte| *byte = !*byte);
    file.seek(SeekFrom::Start(place)).unwrap();
    file.write_all(&old[..read]).unwrap();
}

#[test]
fn a_directory_in_use_names_itself_and_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = open(dir.path());
    let error = Store::open(dir.path(), StoreOptions::default(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
    let text = error.to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_and_memory_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Store::open(&file.join("history"), StoreOptions::default(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::CreateDirectory { .. }), "{error}");
    fs::create_dir(dir.path().join("history.lock")).unwrap();
    let error = Store::open(dir.path(), StoreOptions::default(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::Lock { .. }), "{error}");
    let store = Store::in_memory(StoreOptions::default());
    append(&store, 0..1000);
    store.flush(Timestamp::from_secs(1000)).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(count(&store, 1200), 1000.0);
    assert_eq!(store.path(), None);
}

#[test]
fn what_was_flushed_is_there_after_an_end_without_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for _ in 0..2 {
        let (store, opened) = open(dir.path());
        assert_eq!((opened.series, opened.replayed, opened.moved_aside), (1, 100, None));
        assert_eq!(count(&store, 21_000), 20_100.0);
    }
}
