//! Metrics as Prometheus text: a histogram with fixed buckets, and a page that is written from top to bottom.

use std::fmt::{Display, Write};

use crate::names::label;

/// Content type of the page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A histogram with fixed upper bounds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One count per bound, and one for what is above them all.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(crate) fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Number of values.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(name, "", value);
    }

    /// A counter with one label.
    pub(crate) fn counters<V: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (V, u64)>,
    ) {
        self.head(name, help, "counter");
        for (value, count) in values {
            self.line(name, &format!("{{{label}=\"{value}\"}}"), count);
        }
    }

    /// A gauge; one that is unknown is left out.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.head(name, help, "gauge");
            self.line(name, "", value);
        }
    }

    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            total += count;
            self.line(&bucket, &format!("{{{}=\"{bound}\"}}", label::LE), total);
        }
        self.line(&bucket, &format!("{{{}=\"+Inf\"}}", label::LE), histogram.count());
        self.line(&format!("{name}_sum"), "", histogram.sum);
        self.line(&format!("{name}_count"), "", histogram.count());
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        self.write(format_args!("{name}{labels} {value}\n"));
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a string takes all that is written to it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_an_unknown_gauge_is_left_out() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        page.histogram("h", "Seconds.", &histogram);
        page.gauge("g", "Unknown.", None);
        page.counters("c", "By code.", "code", [(200, 3u64)]);
        let text = page.into_text();
        let expected = "# HELP h Seconds.\n# TYPE h histogram\nh_bucket{le=\"0.1\"} 2\nh_bucket{le=\"1\"} 3\n\
                        h_bucket{le=\"+Inf\"} 4\nh_sum 7.65\nh_count 4\n\
                        # HELP c By code.\n# TYPE c counter\nc{code=\"200\"} 3\n";
        assert_eq!(text, expected);
    }
}
