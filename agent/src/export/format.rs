//! Which format a scraper gets: content negotiation by `Accept` (RFC 9110). No I/O.

/// The formats that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4: what a browser or curl gets.
    Text,
    /// OpenMetrics 1.0 text.
    OpenMetrics,
    /// Prometheus protobuf, length-delimited: with native histograms.
    Protobuf,
}

/// The message that protobuf pages are made of.
const PROTO: &str = "io.prometheus.client.MetricFamily";

impl Format {
    /// The value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format to answer with: the one that the scraper prefers, of those it names; plain text for whoever names none.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.unwrap_or_default().split(',').map(Range::parse) {
            if let Some(format) = range.format()
                && range.weight > best.0
            {
                best = (range.weight, format);
            }
        }
        best.1
    }
}

/// One range of an `Accept` header.
struct Range<'a> {
    media: &'a str,
    version: Option<&'a str>,
    proto: Option<&'a str>,
    encoding: Option<&'a str>,
    weight: f64,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim_ascii);
        let mut range = Self {
            media: parts.next().unwrap_or_default(),
            version: None,
            proto: None,
            encoding: None,
            weight: 1.0,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("q", weight)) => range.weight = weight.parse().unwrap_or(0.0),
                Some(("version", version)) => range.version = Some(version),
                Some(("proto", proto)) => range.proto = Some(proto),
                Some(("encoding", encoding)) => range.encoding = Some(encoding),
                _ => {}
            }
        }
        range
    }

    /// The format that this range names, in a version that can be made.
    fn format(&self) -> Option<Format> {
        let is = |media: &str| self.media.eq_ignore_ascii_case(media);
        if is("application/vnd.google.protobuf") {
            let right = self.proto == Some(PROTO) && self.encoding == Some("delimited");
            right.then_some(Format::Protobuf)
        } else if is("application/openmetrics-text") {
            matches!(self.version, None | Some("1.0.0")).then_some(Format::OpenMetrics)
        } else if is("text/plain") {
            matches!(self.version, None | Some("0.0.4")).then_some(Format::Text)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_what_the_scraper_prefers() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let native =
            format!("application/vnd.google.protobuf;proto={PROTO};encoding=delimited;q=0.6,{prometheus_3}");
        for (accept, format) in [
            (Some(prometheus_3), Format::OpenMetrics),
            (Some(native.as_str()), Format::Protobuf),
            (Some("application/vnd.google.protobuf;proto=other;encoding=delimited"), Format::Text),
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
