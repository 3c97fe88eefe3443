//! Series ready to be written, and the two text formats. No I/O.

use std::fmt::Write;

use tidegate_core::{Family, Histogram, Kind, Unit};

use super::Format;

/// Classic buckets are told at every fourth bound of the native ones, so that their counts are exact: two per doubling.
const BOUND_EVERY: usize = 4;
/// From 2⁻¹⁰ s, about a millisecond.
const INDEX_MIN: i32 = -80;
/// To 2⁶ s, about a minute. What is above stands under `+Inf`.
const INDEX_MAX: i32 = 48;
/// How many that are, `+Inf` included.
pub(crate) const CLASSIC_BUCKETS: usize = 34;

/// One series with its value; label values in the family's order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) labels: Vec<Box<str>>,
    pub(super) value: f64,
}

/// The series of one family.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Points {
    /// Of a gauge or a counter.
    Numbers(Vec<Point>),
    /// Of a histogram.
    Histograms(Vec<(Vec<Box<str>>, Histogram)>),
}

impl Points {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Numbers(points) => points.len(),
            Self::Histograms(points) => points.len(),
        }
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A page of all families in one of the two text formats, without the end of OpenMetrics.
pub(super) fn page(format: Format, families: &[(Family, Points)]) -> String {
    let mut page = Page::new(format);
    for (family, points) in families {
        page.family(family, points);
    }
    page.text
}

/// A page in the making.
#[derive(Debug)]
struct Page {
    format: Format,
    text: String,
}

impl Page {
    const fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    fn family(&mut self, family: &Family, points: &Points) {
        self.head(family);
        match points {
            Points::Numbers(points) => {
                for point in points {
                    self.series(family.name, "", family, &point.labels, None);
                    self.value(point.value);
                }
            }
            Points::Histograms(points) => {
                for (labels, histogram) in points {
                    self.histogram(family, labels, histogram);
                }
            }
        }
    }

    fn head(&mut self, family: &Family) {
        // OpenMetrics names a counter's family without the suffix that its series bear.
        let name = match self.format {
            Format::OpenMetrics if family.kind == Kind::Counter => {
                family.name.strip_suffix("_total").unwrap_or(family.name)
            }
            _ => family.name,
        };
        put(&mut self.text, format_args!("# HELP {name} "));
        escape(&mut self.text, family.help, self.format == Format::OpenMetrics);
        // A counter under another project's name, without the suffix that OpenMetrics asks for, has no type there.
        let kind = match (self.format, family.kind) {
            (Format::OpenMetrics, Kind::Counter) if name == family.name => "unknown",
            (_, kind) => kind.as_str(),
        };
        put(&mut self.text, format_args!("\n# TYPE {name} {kind}\n"));
        if self.format == Format::OpenMetrics
            && let Some(unit) = unit_word(family.unit)
            && name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'))
        {
            put(&mut self.text, format_args!("# UNIT {name} {unit}\n"));
        }
    }

    /// Name and labels of a series, up to its value.
    fn series(&mut self, name: &str, suffix: &str, family: &Family, labels: &[Box<str>], le: Option<f64>) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (label, value) in family.labels.iter().zip(labels) {
            self.text.push(before);
            self.text.push_str(label.name());
            self.text.push_str("=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            before = ',';
        }
        if let Some(bound) = le {
            self.text.push(before);
            self.text.push_str("le=\"");
            number(&mut self.text, bound);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
    }

    fn value(&mut self, value: f64) {
        self.text.push(' ');
        number(&mut self.text, value);
        self.text.push('\n');
    }

    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are out of reach")]
    fn histogram(&mut self, family: &Family, labels: &[Box<str>], histogram: &Histogram) {
        for (bound, count) in classic_buckets(histogram) {
            self.series(family.name, "_bucket", family, labels, Some(bound));
            self.value(count as f64);
        }
        self.series(family.name, "_sum", family, labels, None);
        self.value(histogram.sum());
        self.series(family.name, "_count", family, labels, None);
        self.value(histogram.count() as f64);
    }
}

/// Upper bounds and cumulative counts of the classic buckets, `+Inf` last.
pub(crate) fn classic_buckets(histogram: &Histogram) -> Vec<(f64, u64)> {
    let mut filled = histogram.buckets().peekable();
    let mut below = histogram.zero_count();
    let mut buckets = Vec::new();
    for index in (INDEX_MIN..=INDEX_MAX).step_by(BOUND_EVERY) {
        while let Some((_, count)) = filled.next_if(|(at, _)| *at <= index) {
            below += count;
        }
        buckets.push((Histogram::upper_bound(index), below));
    }
    buckets.push((f64::INFINITY, histogram.count()));
    buckets
}

/// The word of a unit in OpenMetrics, where it has one that names end in.
const fn unit_word(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Seconds => Some("seconds"),
        Unit::Bytes => Some("bytes"),
        Unit::Ratio => Some("ratio"),
        Unit::Watts => Some("watts"),
        Unit::Joules => Some("joules"),
        Unit::Celsius => Some("celsius"),
        Unit::Hertz => Some("hertz"),
        _ => None,
    }
}

/// Writes `text` with what must not stand as it is escaped; `quotes` too, where it stands in quotes.
pub(crate) fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// A number as it stands on a page.
pub(crate) fn number_text(value: f64) -> String {
    let mut text = String::new();
    number(&mut text, value);
    text
}

/// Above and below these a number is written with an exponent, to keep it short.
const PLAIN: std::ops::Range<f64> = 1e-5..1e15;

fn number(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value == 0.0 || PLAIN.contains(&value.abs()) {
        put(out, format_args!("{value}"));
    } else {
        put(out, format_args!("{value:e}"));
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}
