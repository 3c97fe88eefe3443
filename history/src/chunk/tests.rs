//! Chunks read back as they were written, for any buckets.

use proptest::prelude::*;

use super::*;
use crate::bucket::Aggregate;

const CHUNK: i64 = 86_400 * 20_000;

fn buckets(singles: bool) -> impl Strategy<Value = BTreeMap<i64, Bucket>> {
    let bucket = prop::collection::vec(-1e6f64..1e6, 1..if singles { 2 } else { 5 }).prop_map(|values| {
        let mut bucket = Bucket::of(values[0]);
        values[1..].iter().for_each(|value| bucket.absorb(&Bucket::of(*value)));
        bucket
    });
    prop::collection::btree_map((0i64..720).prop_map(|place| CHUNK + place * 60), bucket, 0..200)
}

proptest! {
    #[test]
    fn a_chunk_reads_what_was_written(buckets in any::<bool>().prop_flat_map(buckets)) {
        let bytes = Bucket::encode(Tier::Minute, CHUNK, &buckets);
        prop_assert_eq!(&Bucket::decode(Tier::Minute, CHUNK, &bytes).unwrap(), &buckets);
        prop_assert_eq!(first_start(Tier::Minute, CHUNK, &bytes).unwrap(), buckets.keys().next().copied());
        prop_assert_eq!(last_start(Tier::Minute, CHUNK, &bytes).unwrap(), buckets.keys().next_back().copied());
    }

    #[test]
    fn a_chunk_of_histograms_reads_what_was_written(
        seen in prop::collection::btree_map(0i64..720, prop::collection::vec(-0.1f64..100.0, 0..40), 0..30)
    ) {
        let histograms: BTreeMap<i64, Histogram> = seen.into_iter().map(|(place, values)| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.observe(*value));
            (CHUNK + place * 60, histogram)
        }).collect();
        let bytes = Histogram::encode(Tier::Minute, CHUNK, &histograms);
        prop_assert_eq!(Histogram::decode(Tier::Minute, CHUNK, &bytes).unwrap(), histograms);
    }

    #[test]
    fn a_torn_or_changed_chunk_is_damage_and_never_a_panic(
        buckets in buckets(false), cut in any::<prop::sample::Index>(), flip in any::<u8>()
    ) {
        let mut bytes = Bucket::encode(Tier::Minute, CHUNK, &buckets);
        let at = cut.index(bytes.len());
        prop_assert!(buckets.is_empty() || Bucket::decode(Tier::Minute, CHUNK, &bytes[..at]).is_err());
        bytes[at] ^= flip;
        // A changed number cannot be told from a right one here; `redb` has the checksums.
        drop(Bucket::decode(Tier::Minute, CHUNK, &bytes));
    }
}

#[test]
fn a_figure_that_was_not_asked_for_is_not_read() {
    let buckets: BTreeMap<i64, Bucket> =
        (0..100).map(|i| (CHUNK + i * 60, Bucket { count: 3, sum: 6.0, min: 1.0, max: 3.0 })).collect();
    let bytes = Bucket::encode(Tier::Minute, CHUNK, &buckets);
    let max = Figures::decode(Tier::Minute, CHUNK, &bytes, Wanted::Only(Aggregate::Max)).unwrap();
    assert!(max.buckets().all(|(_, bucket)| bucket.max == 3.0 && bucket.min == 0.0));
    let mean = Figures::decode(Tier::Minute, CHUNK, &bytes, Wanted::Only(Aggregate::Mean)).unwrap();
    assert!(mean.buckets().all(|(_, bucket)| (bucket.sum, bucket.count) == (6.0, 3)));
}
