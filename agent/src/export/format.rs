//! Which text format a scraper gets: content negotiation by `Accept` (RFC 9110). No I/O.

/// The formats that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4: what a browser or curl gets.
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
}

impl Format {
    /// The value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format to answer with. OpenMetrics only for who names it and prefers it at least as much as plain text.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or("*/*");
        let weight = |wanted: fn(&str) -> bool| {
            let ranges = accept.split(',').map(Range::parse);
            ranges
                .filter(|range| wanted(range.media) && range.version_is_known())
                .map(|range| range.weight)
                .fold(0.0, f64::max)
        };
        let open = weight(|media| media.eq_ignore_ascii_case("application/openmetrics-text"));
        let text = weight(|media| media.eq_ignore_ascii_case("text/plain"));
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }
}

/// One range of an `Accept` header.
struct Range<'a> {
    media: &'a str,
    version: Option<&'a str>,
    weight: f64,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim_ascii);
        let mut range = Self { media: parts.next().unwrap_or_default(), version: None, weight: 1.0 };
        for part in parts {
            match part.split_once('=') {
                Some(("q", weight)) => range.weight = weight.parse().unwrap_or(0.0),
                Some(("version", version)) => range.version = Some(version),
                _ => {}
            }
        }
        range
    }

    fn version_is_known(&self) -> bool {
        matches!(self.version, None | Some("1.0.0" | "0.0.1" | "0.0.4"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_what_the_scraper_prefers() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, format) in [
            (Some(prometheus_3), Format::OpenMetrics),
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Text),
            (Some("application/openmetrics-text; version=1.0.0"), Format::OpenMetrics),
            (Some("application/openmetrics-text;q=0.2, text/plain;q=0.8"), Format::Text),
            (Some("application/openmetrics-text; version=2.0.0"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some(";;;,,q=,"), Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
