//! Writes families in the two text formats. No I/O.

use std::fmt::Write;

use tidegate_core::{Family, Histogram, Kind, Unit};

use super::Format;

/// Classic buckets are told at every fourth bound of the native ones, so that their counts are exact: two per doubling.
const BOUND_EVERY: usize = 4;
/// From 2⁻¹⁰ s, about a millisecond.
const INDEX_MIN: i32 = -80;
/// To 2⁶ s, about a minute. What is above stands under `+Inf`.
const INDEX_MAX: i32 = 48;

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

/// A page in the making.
#[derive(Debug)]
pub(super) struct Page {
    format: Format,
    text: String,
}

impl Page {
    pub(super) const fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// Adds a family; one without series is left out.
    pub(super) fn family(&mut self, family: &Family, points: &Points) {
        match points {
            Points::Numbers(points) if !points.is_empty() => {
                self.head(family);
                for point in points {
                    self.series(family.name, "", family, &point.labels, None);
                    self.value(point.value);
                }
            }
            Points::Histograms(points) if !points.is_empty() => {
                self.head(family);
                for (labels, histogram) in points {
                    self.histogram(family, labels, histogram);
                }
            }
            _ => {}
        }
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
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
        put(&mut self.text, format_args!("\n# TYPE {name} {}\n", family.kind.as_str()));
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
        let mut filled = histogram.buckets().peekable();
        let mut below = histogram.zero_count();
        for index in (INDEX_MIN..=INDEX_MAX).step_by(BOUND_EVERY) {
            while let Some((_, count)) = filled.next_if(|(at, _)| *at <= index) {
                below += count;
            }
            self.series(family.name, "_bucket", family, labels, Some(Histogram::upper_bound(index)));
            self.value(below as f64);
        }
        self.series(family.name, "_bucket", family, labels, Some(f64::INFINITY));
        self.value(histogram.count() as f64);
        self.series(family.name, "_sum", family, labels, None);
        self.value(histogram.sum());
        self.series(family.name, "_count", family, labels, None);
        self.value(histogram.count() as f64);
    }
}

/// The word of a unit in OpenMetrics, where it has one that names end in.
const fn unit_word(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Seconds => Some("seconds"),
        Unit::Bytes => Some("bytes"),
        Unit::Ratio => Some("ratio"),
        _ => None,
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
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
