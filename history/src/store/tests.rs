//! The store as a whole: what is appended is read, kept, refused and survives.

use std::fs;

use super::*;
use crate::bucket::Aggregate;

const SIGNAL: Signal = Signal::RequestsPerSecond;

fn subject() -> Subject {
    Subject::NodePart("sda".into())
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn sample(secs: i64, value: f64) -> Sample {
    Sample { subject: subject(), signal: SIGNAL, at: at(secs), value }
}

fn sum_of_counts(store: &Store, from: i64, to: i64, step: u64) -> f64 {
    let step = Duration::from_secs(step);
    let series = store.read(&subject(), SIGNAL, at(from), at(to), step, Aggregate::Count).unwrap();
    series.values().iter().flatten().sum()
}

#[test]
fn what_is_refused_is_counted() {
    let store = Store::in_memory(StoreOptions { series_max: 1, ..StoreOptions::default() });
    store.flush(at(1000)).unwrap();
    let other = Sample { subject: Subject::Node, ..sample(1000, 1.0) };
    let appended = store.append(&[
        sample(1000, 1.0),
        sample(700, 1.0),
        sample(699, 1.0),
        sample(1601, 1.0),
        sample(1000, f64::NAN),
        other,
    ]);
    assert_eq!(appended, Appended { stored: 2, late: 1, ahead: 1, not_finite: 1, no_room: 1 });
}

#[test]
fn a_late_sample_merges_into_a_bucket_that_a_chunk_holds_already() {
    let store = Store::in_memory(StoreOptions::default());
    assert_eq!(store.append(&[sample(600, 1.0), sample(660, 5.0)]).stored, 2);
    store.checkpoint().unwrap();
    assert_eq!(store.append(&[sample(610, 3.0)]).stored, 1);
    for _ in 0..2 {
        let mean = store
            .read(&subject(), SIGNAL, at(600), at(720), Duration::from_secs(60), Aggregate::Mean)
            .unwrap();
        assert_eq!(mean.values(), [Some(2.0), Some(5.0)]);
        store.checkpoint().unwrap();
    }
}

#[test]
fn a_clock_set_back_does_not_make_what_follows_late() {
    let store = Store::in_memory(StoreOptions::default());
    store.flush(at(100_000)).unwrap();
    assert_eq!(store.append(&[sample(100_000, 1.0)]).stored, 1);
    store.flush(at(50_000)).unwrap();
    assert_eq!(store.append(&[sample(50_000, 2.0)]).stored, 1);
}

#[test]
fn a_fine_step_beyond_the_fine_tiers_repeats_the_coarse_ones() {
    let store = Store::in_memory(StoreOptions::default());
    let samples: Vec<Sample> = (0..37 * 1440).map(|minute| sample(minute * 60, 2.0)).collect();
    assert_eq!(store.append(&samples).stored, samples.len());
    store.checkpoint().unwrap();
    let end = 37 * 86_400;
    let mut removed = 0;
    loop {
        let done = store.maintain(at(end)).unwrap();
        removed += done.chunks_expired;
        if done.chunks_expired == 0 {
            break;
        }
    }
    assert!(removed > 0);
    let step = Duration::from_secs(60);
    let mean = store.read(&subject(), SIGNAL, at(0), at(end), step, Aggregate::Mean).unwrap();
    assert!(mean.values().iter().all(|value| *value == Some(2.0)), "nothing is missing at the seam");
    assert!((sum_of_counts(&store, 0, end, 60) - 53_280.0).abs() < 1e-6, "nothing counts twice at the seam");
    let hour = sum_of_counts(&store, end - 3600, end, 1);
    assert_eq!(hour, 60.0);
}

#[test]
fn when_there_is_too_much_the_oldest_fine_chunks_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { bytes_max: 2 << 20, ..StoreOptions::default() };
    let (store, _) = Store::open(dir.path(), options, at(0)).unwrap();
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from((seed >> 33) as u32)
    };
    let mut now = 0;
    for _ in 0..40 {
        let samples: Vec<Sample> = (0..3600).map(|second| sample(now + second, noise())).collect();
        now += 3600;
        assert_eq!(store.append(&samples).stored, 3600);
        store.checkpoint().unwrap();
        // As if nothing ever aged: only the size cuts.
        let done = store.maintain(at(now - 3600).min(at(3600))).unwrap();
        assert_eq!(done.chunks_expired, 0);
        assert!(done.chunk_bytes <= options.bytes_max / 4, "{done:?}");
    }
    let length = fs::metadata(store.path().unwrap()).unwrap().len();
    assert!(length <= options.bytes_max, "{length}");
    assert_eq!(sum_of_counts(&store, 0, now, 300), 40.0 * 3600.0, "the coarsest tier is whole");
    assert!(store.memory().ids.len() == 1);
}

#[test]
fn a_series_with_nothing_left_is_forgotten() {
    let store = Store::in_memory(StoreOptions::default());
    assert_eq!(store.append(&[sample(0, 1.0)]).stored, 1);
    store.checkpoint().unwrap();
    store.maintain(at(100 * 86_400)).unwrap();
    assert_eq!(store.subjects(), [subject()]);
    store.maintain(at(200 * 86_400)).unwrap();
    assert_eq!(store.subjects(), []);
    assert_eq!(store.append(&[sample(200 * 86_400, 1.0)]).stored, 1);
    assert_eq!(store.signals(&subject()), [SIGNAL]);
}

#[test]
fn histograms_merge_over_any_range_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), at(0)).unwrap();
    let mut all = Histogram::default();
    for second in 0..900 {
        let mut seen = Histogram::default();
        seen.observe(0.1 + f64::from(second) / 1000.0);
        all.merge(&seen);
        let appended = store.append_histogram(&subject(), Signal::LatencyP95, at(i64::from(second)), &seen);
        assert_eq!(appended.stored, 1);
        if second == 500 {
            store.checkpoint().unwrap();
        }
    }
    store.flush(at(900)).unwrap();
    drop(store);
    let (store, opened) = Store::open(dir.path(), StoreOptions::default(), at(900)).unwrap();
    assert_eq!((opened.series, opened.replayed, opened.damaged), (1, 399, 0));
    let read = store.read_histogram(&subject(), Signal::LatencyP95, at(0), at(900)).unwrap();
    assert_eq!((read.count(), read.quantile(0.95)), (all.count(), all.quantile(0.95)));
    let step = Duration::from_secs(300);
    let p50 = store.read_quantile(&subject(), Signal::LatencyP95, at(0), at(1200), step, 0.5).unwrap();
    assert!(p50.get(0) < p50.get(1) && p50.get(1) < p50.get(2) && p50.get(3).is_none(), "{p50:?}");
    assert_eq!(store.signals(&subject()), [], "a histogram is no plain signal");
}

#[test]
fn the_latest_sample_is_known_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), at(0)).unwrap();
    assert_eq!(store.latest(&subject(), SIGNAL).unwrap(), None);
    assert_eq!(store.append(&[sample(100, 1.0), sample(160, 7.0), sample(130, 3.0)]).stored, 3);
    assert_eq!(store.latest(&subject(), SIGNAL).unwrap(), Some((at(160), 7.0)));
    store.checkpoint().unwrap();
    drop(store);
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), at(200)).unwrap();
    assert_eq!(store.latest(&subject(), SIGNAL).unwrap(), Some((at(160), 7.0)));
    assert_eq!(store.append(&[sample(161, 1.0)]).stored, 1);
}

#[test]
fn blobs_and_records_are_kept_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { records_max: 3, ..StoreOptions::default() };
    let (store, _) = Store::open(dir.path(), options, at(0)).unwrap();
    store.put_blob("brain/chat", b"one").unwrap();
    store.put_blob("brain/chat", b"two").unwrap();
    assert!(matches!(store.put_blob("big", &vec![0; 5 << 20]), Err(StoreError::TooLarge { .. })));
    store.put_blobs([("brain/a", &b"a"[..]), ("brain/b", b"b")]).unwrap();
    let big = vec![0; 5 << 20];
    assert!(store.put_blobs([("brain/a", &b"new"[..]), ("brain/c", &big)]).is_err());
    assert_eq!(store.get_blob("brain/a").unwrap().as_deref(), Some(&b"a"[..]), "all of them or none");
    for second in 0..10u8 {
        store.append_record("chat", at(second.into()), &[second]).unwrap();
        store.append_record("chat2", at(second.into()), &[second + 100]).unwrap();
    }
    assert_eq!(store.records("chat", 9).unwrap().len(), 3);
    store.flush(at(10)).unwrap();
    drop(store);
    let (store, _) = Store::open(dir.path(), options, at(0)).unwrap();
    assert_eq!(store.get_blob("brain/chat").unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.get_blob("nothing").unwrap(), None);
    let newest = store.records("chat", 2).unwrap();
    assert_eq!(newest.iter().map(|record| record.bytes[0]).collect::<Vec<_>>(), [9, 8]);
    assert_eq!(store.records("none", 2).unwrap(), []);
    store.remove_blob("brain/chat").unwrap();
    assert_eq!(store.get_blob("brain/chat").unwrap(), None);
}

#[test]
fn a_read_that_asks_too_much_is_refused() {
    let store = Store::in_memory(StoreOptions::default());
    let read = |step| store.read(&subject(), SIGNAL, at(0), at(10_000_000), step, Aggregate::Mean);
    assert!(matches!(read(Duration::from_secs(1)), Err(StoreError::Range { .. })));
    assert!(matches!(read(Duration::ZERO), Err(StoreError::Range { .. })));
    assert_eq!(read(Duration::from_secs(3600)).unwrap().known_len(), 0, "an unknown series is all gaps");
}

#[test]
fn memory_without_a_flush_is_bounded() {
    let store = Store::in_memory(StoreOptions::default());
    let samples: Vec<Sample> = (0..400_000).map(|second| sample(second, 1.0)).collect();
    for part in samples.chunks(50_000) {
        assert_eq!(store.append(part).stored, part.len());
        assert!(store.memory().weight() < WEIGHT_MAX + 5 * SLICE);
    }
    assert_eq!(sum_of_counts(&store, 0, 400_000, 300), 4e5);
}

/// Leaves the store as a checkpoint does whose commit failed, whether or not it reached the disk.
fn fail_a_checkpoint(store: &Store, landed: bool) {
    let open = store.memory().open.clone();
    let pending = store.memory().pending.clone();
    let before = store.writer.lock().unwrap().checkpoint;
    if landed {
        store.checkpoint().unwrap();
    }
    let mut writer = store.writer.lock().unwrap();
    let mut memory = store.memory();
    memory.open = Default::default();
    memory.pending = Default::default();
    memory.sealing =
        Some(std::sync::Arc::new(crate::memory::Sealing { checkpoint: before + 1, buckets: open }));
    writer.checkpoint = before;
    writer.limbo = Some(pending);
    writer.broken = true;
}

#[test]
fn a_failed_checkpoint_counts_once_whether_or_not_it_reached_the_disk() {
    for landed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), StoreOptions::default(), at(0)).unwrap();
        assert_eq!(store.append(&[sample(1, 1.0), sample(2, 1.0)]).stored, 2);
        fail_a_checkpoint(&store, landed);
        assert_eq!(sum_of_counts(&store, 0, 300, 1), 2.0, "landed {landed}");
        assert_eq!(store.append(&[sample(2, 1.0)]).stored, 1);
        assert_eq!(sum_of_counts(&store, 0, 300, 1), 3.0, "landed {landed}");
        store.flush(at(3)).unwrap();
        assert_eq!(sum_of_counts(&store, 0, 300, 1), 3.0, "landed {landed}");
        drop(store);
        let (store, _) = Store::open(dir.path(), StoreOptions::default(), at(0)).unwrap();
        assert_eq!(sum_of_counts(&store, 0, 300, 1), 3.0, "landed {landed}");
        store.checkpoint().unwrap();
        assert_eq!(sum_of_counts(&store, 0, 300, 300), 3.0, "landed {landed}");
    }
}
