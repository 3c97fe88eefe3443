//! Readers beside a writer: none waits for the disk for long, and each sees every sample exactly once at every moment.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidegate_core::{Sample, Signal, Subject, Timestamp};
use tidegate_history::{Aggregate, Store, StoreOptions};

const SECONDS: i64 = 6000;

#[test]
fn readers_see_every_sample_once_while_it_is_written_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), StoreOptions::default(), Timestamp::EPOCH).unwrap();
    let (begun, done) = (AtomicI64::new(0), AtomicI64::new(0));
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        for step in [1, 60, 300] {
            let (store, begun, done, reads) = (&store, &begun, &done, &reads);
            scope.spawn(move || {
                while done.load(Ordering::SeqCst) < SECONDS {
                    let before = done.load(Ordering::SeqCst);
                    let counts = store
                        .read(
                            &Subject::Node,
                            Signal::Load1,
                            Timestamp::EPOCH,
                            Timestamp::from_secs(SECONDS),
                            Duration::from_secs(step),
                            Aggregate::Count,
                        )
                        .unwrap();
                    let after = begun.load(Ordering::SeqCst);
                    let seen: f64 = counts.values().iter().flatten().sum();
                    assert!((before as f64..=after as f64).contains(&seen), "{before} <= {seen} <= {after}");
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for at in 0..SECONDS {
            begun.store(at + 1, Ordering::SeqCst);
            let sample = Sample::new(Subject::Node, Signal::Load1, Timestamp::from_secs(at), 1.0).unwrap();
            assert_eq!(store.append(&[sample]).stored, 1);
            done.store(at + 1, Ordering::SeqCst);
            if at % 25 == 24 {
                store.flush(Timestamp::from_secs(at)).unwrap();
            }
            if at % 100 == 99 {
                store.checkpoint().unwrap();
            }
        }
    });
    assert!(reads.load(Ordering::SeqCst) >= 3);
}
