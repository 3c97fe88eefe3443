//! A page of metrics as it arrives: cut into lines, bounded in size, series and line length. Good lines of a bad page are
//! kept; bad ones are counted by cause. Memory is one line, whatever the page's size.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use memchr::memchr;

use super::text::Line;
use super::{openmetrics, text};
use crate::collect::Cause;

/// Bounds on what one target may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// Bytes of the body, after which the rest is left.
    pub body_bytes_max: u64,
    /// Series, after which the rest is left.
    pub series_max: u64,
    /// Bytes of one line; a longer one is skipped.
    pub line_bytes_max: usize,
}

impl Default for ScrapeLimits {
    /// 16 MiB and 50,000 series: ten times what a large serving runtime exposes. 64 KiB a line.
    fn default() -> Self {
        Self { body_bytes_max: 16 * 1024 * 1024, series_max: 50_000, line_bytes_max: 64 * 1024 }
    }
}

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
}

impl Dialect {
    /// By the content type of an answer; what is not known is read as text.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim_ascii();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    fn line(self, line: &str) -> Result<Line<'_>, Cause> {
        match self {
            Self::Text => text::line(line),
            Self::OpenMetrics => openmetrics::line(line),
        }
    }
}

/// What is to be said of a page after its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageEnd {
    /// Series read.
    pub series: u64,
    /// What was refused, how often.
    pub causes: BTreeMap<Cause, u64>,
    /// Whether the page ended early, so that series may be missing.
    pub cut: bool,
}

/// Reads a page from its chunks.
#[derive(Debug)]
pub struct PageReader {
    dialect: Dialect,
    limits: ScrapeLimits,
    /// The start of a line whose end has not come yet.
    carry: Vec<u8>,
    /// The present line is too long: everything up to its end is skipped.
    skipping: bool,
    bytes: u64,
    ended: bool,
    end: PageEnd,
}

impl PageReader {
    /// Nothing read yet.
    #[must_use]
    pub fn new(dialect: Dialect, limits: ScrapeLimits) -> Self {
        Self {
            dialect,
            limits,
            carry: Vec::new(),
            skipping: false,
            bytes: 0,
            ended: false,
            end: PageEnd::default(),
        }
    }

    /// Reads one chunk; gives each series and comment to `take`. Breaks when a bound is reached: the rest of the body is not wanted.
    pub fn feed(&mut self, chunk: &[u8], take: &mut impl FnMut(&Line<'_>)) -> ControlFlow<()> {
        let left = self.limits.body_bytes_max.saturating_sub(self.bytes);
        let keep = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        self.bytes += keep as u64;
        let mut rest = &chunk[..keep];
        while let Some(end) = memchr(b'\n', rest) {
            self.end_line(&rest[..end], take);
            rest = &rest[end + 1..];
            if self.end.cut {
                return ControlFlow::Break(());
            }
        }
        self.begin_line(rest);
        if keep < chunk.len() {
            self.cut(Cause::TooLarge);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// The page ended early for an outer cause: the connection broke off.
    pub fn cut(&mut self, cause: Cause) {
        self.count(cause);
        self.end.cut = true;
    }

    /// Ends the page. A last line without a newline counts, unless the page was cut.
    pub fn finish(mut self, take: &mut impl FnMut(&Line<'_>)) -> PageEnd {
        if !self.end.cut && !self.carry.is_empty() {
            self.end_line(&[], take);
        }
        if self.dialect == Dialect::OpenMetrics && !self.ended && !self.end.cut {
            self.cut(Cause::NoEof);
        }
        self.end
    }

    /// Keeps the start of a line for later.
    fn begin_line(&mut self, start: &[u8]) {
        if self.skipping {
            return;
        }
        if self.carry.len() + start.len() > self.limits.line_bytes_max {
            self.count(Cause::TooLong);
            self.carry = Vec::new();
            self.skipping = true;
        } else {
            self.carry.extend_from_slice(start);
        }
    }

    fn end_line(&mut self, tail: &[u8], take: &mut impl FnMut(&Line<'_>)) {
        if self.skipping {
            self.skipping = false;
        } else if self.carry.is_empty() {
            self.line(tail, take);
        } else {
            let mut line = std::mem::take(&mut self.carry);
            line.extend_from_slice(tail);
            self.line(&line, take);
            line.clear();
            self.carry = line;
        }
    }

    fn line(&mut self, bytes: &[u8], take: &mut impl FnMut(&Line<'_>)) {
        if bytes.len() > self.limits.line_bytes_max {
            return self.count(Cause::TooLong);
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.count(Cause::NotUtf8);
        };
        match self.dialect.line(text) {
            Ok(Line::Nothing) => {}
            Ok(_) if self.ended => self.count(Cause::AfterEof),
            Ok(Line::Series(_)) if self.end.series >= self.limits.series_max => {
                self.cut(Cause::TooManySeries)
            }
            Ok(Line::Eof) => self.ended = true,
            Ok(line) => {
                self.end.series += u64::from(matches!(line, Line::Series(_)));
                take(&line);
            }
            Err(cause) => self.count(cause),
        }
    }

    fn count(&mut self, cause: Cause) {
        *self.end.causes.entry(cause).or_insert(0) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(
        dialect: Dialect,
        limits: ScrapeLimits,
        body: &[u8],
        chunk: usize,
    ) -> (Vec<(String, f64)>, PageEnd) {
        let mut series = Vec::new();
        let mut take = |line: &Line<'_>| {
            if let Line::Series(line) = line {
                series.push((line.name.to_string(), line.value));
            }
        };
        let mut page = PageReader::new(dialect, limits);
        for chunk in body.chunks(chunk.max(1)) {
            if page.feed(chunk, &mut take).is_break() {
                break;
            }
        }
        let end = page.finish(&mut take);
        (series, end)
    }

    fn causes(end: &PageEnd) -> Vec<(Cause, u64)> {
        end.causes.iter().map(|(cause, count)| (*cause, *count)).collect()
    }

    #[test]
    fn keeps_good_lines_of_a_bad_page() {
        let body = b"a 1\nbroken{a= 2\n\xff\xfe 3\nb 4\nc five\nd 6";
        for chunk in [1, 3, 1000] {
            let (series, end) = read(Dialect::Text, ScrapeLimits::default(), body, chunk);
            assert_eq!(series, [("a".into(), 1.0), ("b".into(), 4.0), ("d".into(), 6.0)]);
            let expected = [(Cause::NotUtf8, 1), (Cause::BadLabels, 1), (Cause::BadValue, 1)];
            assert_eq!(end.causes, BTreeMap::from(expected));
            assert!(!end.cut);
        }
    }

    #[test]
    fn a_page_too_large_is_cut_at_a_whole_line() {
        let limits = ScrapeLimits { body_bytes_max: 10, ..ScrapeLimits::default() };
        let (series, end) = read(Dialect::Text, limits, b"a 1\nb 2\nc 300\nd 4\n", 4);
        assert_eq!(series.len(), 2, "`c 3` would have been a lie");
        assert_eq!(causes(&end), [(Cause::TooLarge, 1)]);
        assert!(end.cut);
    }

    #[test]
    fn a_page_of_too_many_series_is_cut() {
        let limits = ScrapeLimits { series_max: 2, ..ScrapeLimits::default() };
        let (series, end) = read(Dialect::Text, limits, b"a 1\nb 2\nc 3\nd 4\n", 100);
        assert_eq!(series.len(), 2);
        assert_eq!(causes(&end), [(Cause::TooManySeries, 1)]);
    }

    #[test]
    fn a_line_too_long_is_skipped_and_the_next_one_read() {
        let limits = ScrapeLimits { line_bytes_max: 20, ..ScrapeLimits::default() };
        let body = format!("a 1\nlong{{x=\"{}\"}} 2\nb 3\n", "y".repeat(50));
        for chunk in [1, 7, 1000] {
            let (series, end) = read(Dialect::Text, limits, body.as_bytes(), chunk);
            assert_eq!(series.len(), 2, "in chunks of {chunk}");
            assert_eq!(causes(&end), [(Cause::TooLong, 1)]);
        }
    }

    #[test]
    fn openmetrics_needs_its_end_and_nothing_after_it() {
        let whole = read(Dialect::OpenMetrics, ScrapeLimits::default(), b"a 1\n# EOF\n", 100).1;
        assert_eq!(whole, PageEnd { series: 1, ..PageEnd::default() });
        let cut = read(Dialect::OpenMetrics, ScrapeLimits::default(), b"a 1\n", 100).1;
        assert_eq!(causes(&cut), [(Cause::NoEof, 1)]);
        assert!(cut.cut);
        let (series, late) = read(Dialect::OpenMetrics, ScrapeLimits::default(), b"a 1\n# EOF\nb 2\n", 100);
        assert_eq!(series.len(), 1);
        assert_eq!(causes(&late), [(Cause::AfterEof, 1)]);
    }

    #[test]
    fn the_content_type_names_the_dialect() {
        let of = Dialect::of_content_type;
        assert_eq!(of("application/openmetrics-text; version=1.0.0; charset=utf-8"), Dialect::OpenMetrics);
        assert_eq!(of("text/plain; version=0.0.4"), Dialect::Text);
        assert_eq!(of(""), Dialect::Text);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..50) {
            for dialect in [Dialect::Text, Dialect::OpenMetrics] {
                let _ = read(dialect, ScrapeLimits::default(), &body, chunk);
            }
        }

        #[test]
        fn chunks_do_not_matter(
            lines in prop::collection::vec(prop_oneof!["[a-z]{1,5} [0-9]{1,3}", "[a-z]{1,3}\\{[a-z]=\"[^\"\\\\\n]{0,4}\"\\} 1", "[^\n]{0,20}"], 0..20),
            chunk in 1usize..30,
        ) {
            let body = lines.join("\n");
            let whole = read(Dialect::Text, ScrapeLimits::default(), body.as_bytes(), usize::MAX);
            let parts = read(Dialect::Text, ScrapeLimits::default(), body.as_bytes(), chunk);
            // Debug text, because NaN is a value and is not equal to itself.
            prop_assert_eq!(format!("{whole:?}"), format!("{parts:?}"));
        }
    }
}
