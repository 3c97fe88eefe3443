//! Properties over random samples: every read equals a naive model of all samples, whatever was flushed, merged or reopened in between.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_core::{Sample, Signal, Subject, Timestamp};
use tidegate_history::{Aggregate, Store, StoreOptions};

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(i64, f64)>),
    Flush,
    Checkpoint,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Multiples of 1/8 add up exactly in any order.
    let sample = (0i64..20_000_000, (-8000i32..8000).prop_map(|eighths| f64::from(eighths) / 8.0));
    let step = prop_oneof![
        6 => prop::collection::vec(sample, 1..60).prop_map(Step::Append),
        2 => Just(Step::Flush),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..12)
}

const LATE_MAX: Duration = Duration::from_secs(3600);

fn options() -> StoreOptions {
    StoreOptions { late_max: LATE_MAX, ..StoreOptions::default() }
}

/// All samples that were stored, in a list.
#[derive(Default)]
struct Model {
    samples: Vec<(i64, f64)>,
}

impl Model {
    fn read(&self, from: i64, to: i64, step: i64, aggregate: Aggregate) -> Vec<Option<f64>> {
        let first = from.div_euclid(step) * step;
        let mut steps = Vec::new();
        for start in (first..to).step_by(usize::try_from(step).expect("a step is positive")) {
            let inside = self.samples.iter().filter(|s| (start..start + step).contains(&s.0)).map(|s| s.1);
            let inside: Vec<f64> = inside.collect();
            steps.push((!inside.is_empty()).then(|| match aggregate {
                Aggregate::Mean => inside.iter().sum::<f64>() / inside.len() as f64,
                Aggregate::Min => inside.iter().copied().fold(f64::INFINITY, f64::min),
                Aggregate::Max => inside.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Aggregate::Sum => inside.iter().sum(),
                Aggregate::Count => inside.len() as f64,
            }));
        }
        steps
    }
}

fn sample((at, value): (i64, f64)) -> Sample {
    Sample { subject: Subject::Node, signal: Signal::Load1, at: Timestamp::from_millis(at), value }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_read_equals_the_model(
        steps in steps(),
        (from, length) in (0i64..20_000_000, 0i64..20_000_000),
        step in prop::sample::select(vec![1000i64, 7000, 10_000, 30_000, 60_000, 300_000, 3_600_000]),
        aggregate in prop::sample::select(vec![
            Aggregate::Mean, Aggregate::Min, Aggregate::Max, Aggregate::Sum, Aggregate::Count
        ]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), options(), Timestamp::EPOCH).unwrap().0;
        let mut store = Some(open());
        let mut model = Model::default();
        for step in steps {
            let live = store.as_ref().unwrap();
            match step {
                Step::Append(mut samples) => {
                    // Mostly in order, as samples come; some late within the window and some too late.
                    samples.sort_by_key(|s| s.0 / 600_000);
                    for one in samples {
                        let appended = live.append(&[sample(one)]);
                        prop_assert_eq!(appended.stored + appended.late, 1);
                        if appended.stored == 1 {
                            model.samples.push(one);
                        }
                    }
                }
                Step::Flush => live.flush(Timestamp::from_secs(30_000)).unwrap(),
                Step::Checkpoint => live.checkpoint().unwrap(),
                Step::Reopen => {
                    live.flush(Timestamp::from_secs(30_000)).unwrap();
                    store = None;
                    drop(store.take());
                    store = Some(open());
                }
            }
        }
        let (from_time, to_time) = (Timestamp::from_millis(from), Timestamp::from_millis(from + length));
        let width = Duration::from_millis(step.unsigned_abs());
        let store = store.unwrap();
        let read = store.read(&Subject::Node, Signal::Load1, from_time, to_time, width, aggregate).unwrap();
        let wanted = if length == 0 { Vec::new() } else { model.read(from, from + length, step, aggregate) };
        let wanted = if model.samples.is_empty() { vec![None; read.len()] } else { wanted };
        prop_assert_eq!(read.values(), wanted.as_slice());
        for tier in [1, 10, 60, 300] {
            let all = store.read(
                &Subject::Node, Signal::Load1, Timestamp::EPOCH, Timestamp::from_secs(20_100), Duration::from_secs(tier),
                Aggregate::Count,
            ).unwrap();
            prop_assert_eq!(all.values().iter().flatten().sum::<f64>(), model.samples.len() as f64);
        }
    }
}
