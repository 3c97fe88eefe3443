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
        delimited(&mut page, &message_of(family, points));
    }
    page
}

/// Adds a message to a page, behind its length.
pub(super) fn delimited(page: &mut Vec<u8>, message: &[u8]) {
    varint(page, message.len() as u64);
    page.extend_from_slice(message);
}

/// The beginning of a `MetricFamily`: name = 1, help = 2, type = 3, metric = 4.
pub(super) fn family(name: &str, help: &str, kind: u64) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, help.as_bytes());
    number(&mut out, 3, kind);
    out
}

fn message_of(family: &Family, points: &Points) -> Vec<u8> {
    let kind = match family.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Histogram => 4,
    };
    let mut out = self::family(family.name, family.help, kind);
    let named = |labels: &[Box<str>]| -> Vec<_> {
        family.labels.iter().zip(labels).map(|(label, value)| (label.name(), value.to_string())).collect()
    };
    match points {
        Points::Numbers(points) => {
            let field = if family.kind == Kind::Counter { 3 } else { 2 };
            for point in points {
                metric(&mut out, named(&point.labels), field, &value(point.value));
            }
        }
        Points::Histograms(points) => {
            for (labels, histogram) in points {
                metric(&mut out, named(labels), 7, &histogram_of(histogram));
            }
        }
    }
    out
}

/// Adds a `Metric` to its family: label = 1, gauge = 2, counter = 3, summary = 4, histogram = 7.
pub(super) fn metric<'a, V: AsRef<str>>(
    out: &mut Vec<u8>,
    labels: impl IntoIterator<Item = (&'a str, V)>,
    field: u64,
    value: &[u8],
) {
    let mut message = Vec::new();
    for (name, value) in labels {
        // `LabelPair`: name = 1, value = 2.
        let mut pair = Vec::new();
        bytes(&mut pair, 1, name.as_bytes());
        bytes(&mut pair, 2, value.as_ref().as_bytes());
        bytes(&mut message, 1, &pair);
    }
    bytes(&mut message, field, value);
    bytes(out, 4, &message);
}

/// A `Gauge` or a `Counter`: its value = 1.
pub(super) fn value(value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 1, value);
    out
}

/// `Summary`: count = 1, sum = 2, quantiles = 3.
pub(super) fn summary(quantiles: &[(f64, f64)], sum: f64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, count);
    double(&mut out, 2, sum);
    for (level, value) in quantiles {
        // `Quantile`: level = 1, value = 2.
        let mut quantile = Vec::new();
        double(&mut quantile, 1, *level);
        double(&mut quantile, 2, *value);
        bytes(&mut out, 3, &quantile);
    }
    out
}

/// The classic part of a `Histogram`: count = 1, sum = 2, buckets = 3, each with its cumulative count.
pub(super) fn classic(count: u64, sum: f64, buckets: &[(f64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, count);
    double(&mut out, 2, sum);
    for (bound, count) in buckets {
        // `Bucket`: cumulative count = 1, upper bound = 2.
        let mut bucket = Vec::new();
        number(&mut bucket, 1, *count);
        double(&mut bucket, 2, *bound);
        bytes(&mut out, 3, &bucket);
    }
    out
}

/// `Histogram`, classic and native: besides the classic part, schema = 5, zero threshold = 6, zero count = 7, spans = 12, deltas = 13.
pub(super) fn histogram_of(histogram: &Histogram) -> Vec<u8> {
    let mut out = classic(histogram.count(), histogram.sum(), &classic_buckets(histogram));
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
