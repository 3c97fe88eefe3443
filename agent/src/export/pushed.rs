//! What others have pushed here, on the page as it came: under their names, with their labels. No I/O.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use tidegate_core::Dcgm;
use tidegate_core::metrics::families;

use super::encode::{escape, number_text};
use super::{Format, protobuf};
use crate::clock::Moment;
use crate::collect::scrape::pushed::lines;
use crate::collect::scrape::text::{Labels, Line};
use crate::otlp::Inbox;
use crate::otlp::inbox::{Contents, Family, Series};
use crate::otlp::points::{Kind, Value};

/// Appends the families of `inbox` to a page; tells how many series were left off, for a family of that name is there already, or a
/// series of those labels.
pub(super) fn append(page: &mut Vec<u8>, format: Format, inbox: &Arc<Inbox>, now: Moment) -> usize {
    let mut contents = inbox.lock();
    contents.expire(now);
    let (families, refused) = merged(&contents);
    match format {
        Format::Protobuf => families.iter().for_each(|(name, family)| protobuf_family(page, name, family)),
        Format::Text | Format::OpenMetrics => {
            let mut text = String::new();
            families.iter().for_each(|(name, family)| text_family(&mut text, format, name, family));
            page.extend_from_slice(text.as_bytes());
        }
    }
    refused
}

/// A family of all senders.
struct Merged<'a> {
    kind: Kind,
    help: &'a str,
    series: BTreeMap<&'a str, &'a Series>,
}

fn merged(contents: &Contents) -> (BTreeMap<&str, Merged<'_>>, usize) {
    let mut all: BTreeMap<&str, Merged<'_>> = BTreeMap::new();
    let mut refused = 0;
    for (name, family) in contents.senders.values().flat_map(|sender| &sender.families) {
        let known = all.entry(name).or_insert_with(|| Merged {
            kind: family.kind,
            help: &family.help,
            series: BTreeMap::new(),
        });
        if known.kind != family.kind || is_ours(name) {
            refused += family.series.len();
            continue;
        }
        for (labels, series) in &family.series {
            // Senders that nothing tells apart on a page: the first one stands for both.
            match known.series.entry(labels) {
                Entry::Vacant(place) => drop(place.insert(series)),
                Entry::Occupied(_) => refused += 1,
            }
        }
    }
    all.retain(|_, family| !family.series.is_empty());
    (all, refused)
}

/// Whether the page may have a family of this name without any sender.
fn is_ours(name: &str) -> bool {
    static OURS: OnceLock<HashSet<&'static str>> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        families().map(|family| family.name).chain(Dcgm::ALL.iter().map(|of| of.family().name)).collect()
    });
    ours.contains(name)
}

fn text_family(out: &mut String, format: Format, name: &str, merged: &Merged<'_>) {
    let is_open = format == Format::OpenMetrics;
    let bare = if is_open && merged.kind == Kind::Counter {
        name.strip_suffix("_total").unwrap_or(name)
    } else {
        name
    };
    if !merged.help.is_empty() {
        put(out, format_args!("# HELP {bare} "));
        escape(out, merged.help, is_open);
        out.push('\n');
    }
    put(out, format_args!("# TYPE {bare} {}\n", merged.kind.as_str()));
    let family = |labels: &str, series: &Series| Family {
        kind: merged.kind,
        help: Box::default(),
        series: [(labels.into(), series.clone())].into(),
    };
    for (labels, series) in &merged.series {
        lines(name, &family(labels, series), &mut |line| {
            if let Line::Series(series) = line {
                let raw = series.labels.raw();
                let (open, close) = if raw.is_empty() { ("", "") } else { ("{", "}") };
                put(out, format_args!("{}{open}{raw}{close} {}\n", series.name, number_text(series.value)));
            }
        });
    }
}

fn protobuf_family(page: &mut Vec<u8>, name: &str, merged: &Merged<'_>) {
    let kind = match merged.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Summary => 2,
        Kind::Histogram => 4,
    };
    let mut family = protobuf::family(name, merged.help, kind);
    for (labels, series) in &merged.series {
        let (field, value) = match &series.value {
            Value::Number(value) => {
                (if merged.kind == Kind::Counter { 3 } else { 2 }, protobuf::value(*value))
            }
            Value::Summary(quantiles, sum, count) => (4, protobuf::summary(quantiles, *sum, *count)),
            Value::Classic(classic) => {
                let mut below = 0;
                let bounds = classic.bounds.iter().copied().chain([f64::INFINITY]);
                let buckets = bounds.zip(&classic.counts).map(|(bound, count)| {
                    below += count;
                    (bound, below)
                });
                let buckets: Vec<_> = buckets.collect();
                (7, protobuf::classic(below, classic.sum.unwrap_or(f64::NAN), &buckets))
            }
            Value::Exponential(histogram) => (7, protobuf::histogram_of(histogram)),
        };
        protobuf::metric(&mut family, Labels::of_checked(labels).iter(), field, &value);
    }
    protobuf::delimited(page, &family);
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}
