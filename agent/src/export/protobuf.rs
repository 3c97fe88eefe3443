//! Writes families in Prometheus' protobuf exposition: the only format that carries native histograms. No I/O.
//!
//! Field numbers are those of `io.prometheus.client.MetricFamily`; messages follow each other, each behind its length.
//! Written by hand: seven small messages need no code generator.

use tidegate_core::{Family, Histogram, Kind};

use super::encode::{Points, classic_buckets};

/// How a field is written.
const VARINT: u64 = 0;
/// Eight bytes, little-endian.
const FIXED64: u64 = 1;
/// A length and that many bytes.
const BYTES: u64 = 2;

/// A page of all families.
pub(super) fn page(families: &[(Family, Points)]) -> Vec<u8> {
    let mut page = Vec::new();
    for (family, points) in families {
        let message = message_of(family, points);
        varint(&mut page, message.len() as u64);
        page.extend_from_slice(&message);
    }
    page
}

/// `MetricFamily`: name = 1, help = 2, type = 3, metric = 4.
fn message_of(family: &Family, points: &Points) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, family.name.as_bytes());
    bytes(&mut out, 2, family.help.as_bytes());
    let kind = match family.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Histogram => 4,
    };
    number(&mut out, 3, kind);
    match points {
        Points::Numbers(points) => {
            // `Metric`: label = 1, gauge = 2, counter = 3, histogram = 7. A `Gauge` or `Counter` has its value at 1.
            let field = if family.kind == Kind::Counter { 3 } else { 2 };
            for point in points {
                let mut value = Vec::new();
                double(&mut value, 1, point.value);
                metric(&mut out, family, &point.labels, field, &value);
            }
        }
        Points::Histograms(points) => {
            for (labels, histogram) in points {
                metric(&mut out, family, labels, 7, &histogram_of(histogram));
            }
        }
    }
    out
}

fn metric(out: &mut Vec<u8>, family: &Family, labels: &[Box<str>], field: u64, value: &[u8]) {
    let mut message = Vec::new();
    for (label, value) in family.labels.iter().zip(labels) {
        // `LabelPair`: name = 1, value = 2.
        let mut pair = Vec::new();
        bytes(&mut pair, 1, label.name().as_bytes());
        bytes(&mut pair, 2, value.as_bytes());
        bytes(&mut message, 1, &pair);
    }
    bytes(&mut message, field, value);
    bytes(out, 4, &message);
}

/// `Histogram`: count = 1, sum = 2, classic buckets = 3, schema = 5, zero threshold = 6, zero count = 7, spans = 12, deltas = 13.
fn histogram_of(histogram: &Histogram) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, histogram.count());
    double(&mut out, 2, histogram.sum());
    for (bound, count) in classic_buckets(histogram) {
        // `Bucket`: cumulative count = 1, upper bound = 2.
        let mut bucket = Vec::new();
        number(&mut bucket, 1, count);
        double(&mut bucket, 2, bound);
        bytes(&mut out, 3, &bucket);
    }
    number(&mut out, 5, zigzag(i64::from(Histogram::SCHEMA)));
    double(&mut out, 6, 0.0);
    number(&mut out, 7, histogram.zero_count());
    native_buckets(&mut out, histogram);
    out
}

/// Runs of neighbouring buckets, each with its distance from the last; then the difference of every count from the one before.
fn native_buckets(out: &mut Vec<u8>, histogram: &Histogram) {
    // `BucketSpan`: offset = 1, length = 2. One without buckets tells an empty native histogram from a classic one.
    let mut spans: Vec<(i64, u64)> = Vec::new();
    let mut next = 0i64;
    for (index, _) in histogram.buckets() {
        let gap = i64::from(index) - next;
        match spans.last_mut() {
            Some((_, length)) if gap == 0 => *length += 1,
            _ => spans.push((gap, 1)),
        }
        next = i64::from(index) + 1;
    }
    if spans.is_empty() {
        spans.push((0, 0));
    }
    for (offset, length) in spans {
        let mut span = Vec::new();
        number(&mut span, 1, zigzag(offset));
        number(&mut span, 2, length);
        bytes(out, 12, &span);
    }
    let mut before = 0i64;
    for (_, count) in histogram.buckets() {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        number(out, 13, zigzag(count - before));
        before = count;
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

const fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Signed numbers near zero as small unsigned ones.
const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3 | VARINT);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::encode::Point;
    use proptest::prelude::*;
    use tidegate_core::Metric;

    /// A field as read: numbers and doubles as their bits.
    #[derive(Debug, Clone, PartialEq)]
    enum Field {
        Bits(u64),
        Bytes(Vec<u8>),
    }

    fn take_varint(from: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = from[0];
            *from = &from[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn take_bytes(from: &mut &[u8]) -> Vec<u8> {
        let length = usize::try_from(take_varint(from)).unwrap();
        let (taken, rest) = from.split_at(length);
        *from = rest;
        taken.to_vec()
    }

    fn fields(mut message: &[u8]) -> Vec<(u64, Field)> {
        let mut fields = Vec::new();
        while !message.is_empty() {
            let tag = take_varint(&mut message);
            let field = match tag & 7 {
                VARINT => Field::Bits(take_varint(&mut message)),
                FIXED64 => {
                    let (taken, rest) = message.split_at(8);
                    message = rest;
                    Field::Bits(u64::from_le_bytes(taken.try_into().unwrap()))
                }
                _ => Field::Bytes(take_bytes(&mut message)),
            };
            fields.push((tag >> 3, field));
        }
        fields
    }

    fn messages(fields: &[(u64, Field)], number: u64) -> Vec<Vec<(u64, Field)>> {
        let of = fields.iter().filter(|(field, _)| *field == number);
        of.map(|(_, field)| match field {
            Field::Bytes(bytes) => self::fields(bytes),
            Field::Bits(_) => panic!("field {number} is no message"),
        })
        .collect()
    }

    fn signed(bits: u64) -> i64 {
        (bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()
    }

    fn numbers(fields: &[(u64, Field)], number: u64) -> Vec<u64> {
        let bits = |(field, value): &(u64, Field)| match value {
            Field::Bits(bits) if *field == number => Some(*bits),
            _ => None,
        };
        fields.iter().filter_map(bits).collect()
    }

    #[test]
    fn writes_a_gauge_as_its_bytes() {
        let point = Point { labels: vec!["x".into()], value: 1.0 };
        let page = page(&[(Metric::SourceUp.family(), Points::Numbers(vec![point]))]);
        let mut rest = page.as_slice();
        let family = fields(&take_bytes(&mut rest));
        assert!(rest.is_empty());
        assert_eq!(family[0], (1, Field::Bytes(Metric::SourceUp.family().name.into())));
        assert_eq!(family[2], (3, Field::Bits(1)));
        let Field::Bytes(metric) = &family[3].1 else { panic!() };
        assert_eq!(metric, b"\x0a\x0b\x0a\x06source\x12\x01x\x12\x09\x09\0\0\0\0\0\0\xf0\x3f");
    }

    #[test]
    fn an_empty_histogram_is_still_a_native_one() {
        let histogram = fields(&histogram_of(&Histogram::default()));
        assert_eq!(messages(&histogram, 12), [[(1, Field::Bits(0)), (2, Field::Bits(0))]]);
    }

    proptest! {
        #[test]
        fn native_buckets_read_back(values in prop::collection::vec(0.0f64..1e4, 0..100)) {
            let mut seen = Histogram::default();
            values.iter().for_each(|value| seen.observe(*value));
            let histogram = fields(&histogram_of(&seen));
            let mut deltas = numbers(&histogram, 13).into_iter().map(signed);
            let (mut index, mut count, mut found) = (0, 0, Vec::new());
            for span in messages(&histogram, 12) {
                index += signed(numbers(&span, 1)[0]);
                for _ in 0..numbers(&span, 2)[0] {
                    count += deltas.next().unwrap();
                    found.push((i32::try_from(index).unwrap(), u64::try_from(count).unwrap()));
                    index += 1;
                }
            }
            prop_assert_eq!(found, seen.buckets().collect::<Vec<_>>());
            prop_assert_eq!(numbers(&histogram, 1), [values.len() as u64]);
        }
    }
}
